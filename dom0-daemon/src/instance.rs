//! One daemon per machine: a lock in the state folder and one in the runtime folder.
//!
//! Both, because either may be shared without the other: two daemons with one state folder would
//! write one journal, and two with one runtime folder would serve one socket. The locks are the
//! kernel's (`flock`), so a daemon that was killed leaves none behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// Name of the lock file in both folders.
pub const FILE_NAME: &str = "lock";

/// How long to wait for a lock whose daemon is dead: a program it was just starting shares the lock
/// until it has become that program.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(2);

/// Between two looks at such a lock.
const LEFTOVER_PAUSE: Duration = Duration::from_millis(5);

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
    let deadline = Instant::now() + LEFTOVER_LIMIT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let mut text = String::new();
        // Who holds it is good to know and no more.
        let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
        let pid: Option<u32> = text.trim().parse().ok();
        let is_leftover = pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
        if !is_leftover || Instant::now() >= deadline {
            return Err(InstanceError::Taken {
                pid,
                folder: folder.to_owned(),
            });
        }
        std::thread::sleep(LEFTOVER_PAUSE);
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
    #[test]
    fn a_lock_that_outlives_its_daemon_for_a_moment_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let first = Instance::claim(&dir.path().join("state"), &dir.path().join("run")).unwrap();
        // No process has this number: the kernel's limit is 2^22.
        let dead = u32::MAX.to_string();
        for folder in ["state", "run"] {
            fs::write(dir.path().join(folder).join(FILE_NAME), &dead).unwrap();
        }
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        Instance::claim(&dir.path().join("state"), &dir.path().join("run")).unwrap();
        late.join().unwrap();
    }
}
