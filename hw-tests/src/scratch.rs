//! A Bulkhead of a scenario's own on this machine, on the embedded backend.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use bulkhead_testing::TestDaemon;

use crate::spawned::Spawned;

/// What is described, below the folder of the daemon.
const SYSTEM: &str = "system.ron";

/// A daemon on folders of its own. It ends with this, and with it what runs.
#[derive(Debug)]
pub struct Scratch {
    daemon: Mutex<TestDaemon>,
    line: Spawned,
}

impl Scratch {
    /// A daemon to which nothing is described yet.
    pub fn new() -> Result<Self> {
        let mut daemon = TestDaemon::new();
        fs::write(daemon.path(SYSTEM), "()").context("cannot describe a system")?;
        daemon.start(daemon.daemon(SYSTEM));
        let mut path = daemon.programs().folder().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let environment = vec![
            ("PATH", path),
            ("BULKHEAD_SOCKET", daemon.path("run/bus").into()),
        ];
        Ok(Self {
            daemon: Mutex::new(daemon),
            line: Spawned::Here { environment },
        })
    }

    /// Starts programs that find this daemon.
    pub fn line(&self) -> &Spawned {
        &self.line
    }

    /// Something below its folder: `system.ron`, `state`, `run`, `rpc`, `log`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.daemon().path(name)
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.daemon().process().id()
    }

    /// Ends the daemon as a crash does and starts the next one, which takes over what runs.
    pub fn restart(&self) {
        let mut daemon = self.daemon();
        daemon.kill();
        let next = daemon.daemon(SYSTEM);
        daemon.start(next);
    }

    /// Puts what the daemon and the qubes said into a folder.
    pub fn keep_logs(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        fs::copy(self.path("log"), folder.join("bulkheadd.log"))?;
        for log in fs::read_dir(self.path("state/log/qubes"))
            .into_iter()
            .flatten()
        {
            let log = log?;
            fs::copy(log.path(), folder.join(log.file_name()))?;
        }
        Ok(())
    }

    fn daemon(&self) -> MutexGuard<'_, TestDaemon> {
        // A panic of the fixture has ended the scenario already.
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
