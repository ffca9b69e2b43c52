//! One daemon per machine: a lock in the state folder and one in the runtime folder.
//!
//! Both, because either may be shared without the other: two daemons with one state folder would
//! write one journal, and two with one runtime folder would serve one socket. The locks are the
//! kernel's (`flock`), so a daemon that was killed leaves none behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Name of the lock file in both folders.
pub const FILE_NAME: &str = "lock";

/// Why a folder cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another daemon has it.
    #[error("another bulkheadd{} uses `{}`", holder(.pid), .folder.display())]
    Taken {
        /// Its process id, as it wrote it down.
        pid: Option<u32>,
        /// The folder.
        folder: PathBuf,
    },
    /// The folder or its lock cannot be made.
    #[error("cannot claim `{}`", .folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn holder(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

/// Both folders are ours until this is dropped or the process ends.
#[derive(Debug)]
pub struct Instance {
    _state: File,
    _runtime: File,
}

impl Instance {
    /// Makes both folders where they are missing and claims them.
    pub fn claim(state_dir: &Path, runtime_dir: &Path) -> Result<Self, InstanceError> {
        Ok(Self {
            _state: claim(state_dir, 0o700)?,
            // The group connects to the socket in it; the socket has its own mode.
            _runtime: claim(runtime_dir, 0o755)?,
        })
    }
}

fn claim(folder: &Path, mode: u32) -> Result<File, InstanceError> {
    let failed = |source: io::Error| InstanceError::Io {
        folder: folder.to_owned(),
        source,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)
        .map_err(failed)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(FILE_NAME))
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Who holds it is good to know and no more.
            let _ = file.read_to_string(&mut text);
            return Err(InstanceError::Taken {
                pid: text.trim().parse().ok(),
                folder: folder.to_owned(),
            });
        }
        Err(error) => return Err(failed(error.into())),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_by_either_folder_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let first = Instance::claim(&path("state"), &path("run")).unwrap();
        let me = std::process::id();
        for (state, runtime, taken) in [
            ("state", "run2", "state"),
            ("state2", "run", "run"),
            ("state", "run", "state"),
        ] {
            let error = Instance::claim(&path(state), &path(runtime)).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "another bulkheadd (process {me}) uses `{}`",
                    path(taken).display()
                )
            );
        }
        drop(first);
        Instance::claim(&path("state"), &path("run")).unwrap();
    }
}
