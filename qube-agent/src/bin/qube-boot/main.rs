//! The first program of a qube on Xen, alone in a small initrd: loads the disk driver, mounts the
//! root and the private volume, starts the agent, and becomes the system's own init. `qube-boot
//! agent` is for the unit of the agent later.
//!
//! Nothing here waits for more than the disk that it needs. What fails before there is a root ends
//! the qube, with the reason on its console; a private volume that cannot be used does not.

#![forbid(unsafe_code)]

mod agent;
mod devices;
mod disks;
mod line;
mod log;
mod modules;
mod private;
mod root;

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use thiserror::Error;

use crate::line::Line;

/// The qube cannot boot.
#[derive(Debug, Error)]
enum BootError {
    #[error("cannot {doing} `{}`", what.display())]
    Step {
        doing: &'static str,
        what: PathBuf,
        source: io::Error,
    },
    #[error("disk `{}` did not appear within {} s", .0.display(), disks::APPEARS.as_secs())]
    NoDisk(PathBuf),
}

impl BootError {
    /// Of an operation on `what`.
    fn at<E: Into<io::Error>>(doing: &'static str, what: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Step {
            doing,
            what: what.to_owned(),
            source: source.into(),
        }
    }
}

fn main() -> ExitCode {
    let done = match std::process::id() {
        1 => run().map(|never| match never {}),
        _ if std::env::args().skip(1).eq(["agent"]) => agent::join(),
        _ => {
            eprintln!(
                "usage: qube-boot agent; without arguments it is the first program of a qube"
            );
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::chain(&error);
            // The kernel ends the qube with its first process.
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Infallible, BootError> {
    root::system_folders()?;
    log::say("started");
    let line = Line::of_kernel().map_err(BootError::at("read", Path::new(line::PATH)))?;
    modules::load_all()?;
    disks::wait_for(&line.root)?;
    root::enter(&line)?;
    log::say("root mounted");
    if let Err(error) = private::mount_own() {
        // Calls still come through, so dom0 can find out and mend it.
        log::chain(&error);
    }
    devices::share();
    agent::start();
    let source = Command::new(&line.init).exec();
    Err(BootError::at("start", &line.init)(source))
}
