//! A `bulkheadd` on folders of its own, and `bulkhead` as its client.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Programs, end_domains, wait_for};

/// How a command ended and what it wrote.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs a command to its end.
pub fn ended(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Folders of a daemon's own, and the daemon while one runs. What runs at the end of the test is
/// ended with it.
///
/// Below the folder: `system.ron` or what the test puts there, `state`, `run`, `log` (what the
/// daemons wrote to their standard error).
#[derive(Debug)]
pub struct TestDaemon {
    folder: tempfile::TempDir,
    programs: Programs,
    process: Option<Child>,
}

impl TestDaemon {
    /// The folders alone.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it makes folders")]
    pub fn new() -> Self {
        // Not TMPDIR, which may be too long for sockets below it; and open to pass through,
        // because a qube of root's daemon runs under a user of its own.
        let folder = tempfile::Builder::new();
        let folder = { folder }.prefix("bh").tempdir_in("/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let programs = Programs::link(folder.path().join("libexec"));
        Self {
            folder,
            programs,
            process: None,
        }
    }

    /// Something below the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The programs of this test.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// A daemon for these folders and the description `system`, not yet started.
    pub fn daemon(&self, system: &str) -> Command {
        self.daemon_at(system, "run")
    }

    /// The same with another runtime folder.
    pub fn daemon_at(&self, system: &str, run: &str) -> Command {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"));
        let mut command = Command::new(self.programs.path("bulkheadd"));
        command
            .arg("--system")
            .arg(self.path(system))
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--runtime-dir")
            .arg(self.path(run))
            .arg("--no-system-bus")
            .arg("--service-path")
            .arg(self.path("rpc"))
            .arg("--service-config-path")
            .arg(self.path("rpc-config"))
            .env("BULKHEAD_LIBEXEC", self.programs.folder())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stderr(log.unwrap());
        command
    }

    /// Starts a daemon and returns when it serves; an earlier one must have ended.
    #[track_caller]
    pub fn start(&mut self, mut command: Command) {
        self.process = Some(command.spawn().unwrap());
        let socket = self.path("run/bus");
        wait_for("the daemon to serve", || {
            let process = self.process.as_mut().unwrap();
            let ended = process.try_wait().unwrap();
            let this = Pid::from_child(process);
            assert!(ended.is_none(), "{ended:?}: {}", self.log());
            let stream = UnixStream::connect(&socket).ok()?;
            // The socket of one that was killed takes connections until the last child that it was
            // starting then has become another program.
            let serves = socket_peercred(&stream).ok()?.pid;
            (serves == this).then_some(())
        });
    }

    /// The daemon's process.
    #[track_caller]
    pub fn process(&mut self) -> &mut Child {
        self.process.as_mut().unwrap()
    }

    /// Takes the process of a daemon that has ended.
    pub fn forget(&mut self) {
        self.process = None;
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            let _ = kill_process(Pid::from_child(process), signal);
        }
    }

    /// Ends the daemon as a crash does: its qubes go on.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut process) = self.process.take() {
            process.wait().unwrap();
        }
    }

    /// What the daemons said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The client, with an environment of its own and no input.
    pub fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.programs.path("bulkhead"));
        command
            .args(words)
            .env_clear()
            .env("BULKHEAD_SOCKET", self.path("run/bus"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the client.
    pub fn run(&self, words: &[&str]) -> Ended {
        ended(self.client(words))
    }

    /// Runs the client, which must succeed; returns what it wrote.
    #[track_caller]
    pub fn must(&self, words: &[&str]) -> String {
        let ended = self.run(words);
        assert_eq!(ended.code, 0, "{words:?}: {ended:?}\n{}", self.log());
        ended.out
    }

    /// The same for what it writes as JSON.
    #[track_caller]
    pub fn json(&self, words: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.must(words)).unwrap()
    }

    /// Waits for a call that needs an answer; returns its number.
    #[track_caller]
    pub fn wait_for_ask(&self) -> String {
        wait_for("a question", || {
            let asks = self.json(&["ask", "list", "--json"]);
            asks[0]["id"].as_u64().map(|id| id.to_string())
        })
    }
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
        end_domains(&self.path("run"));
    }
}
