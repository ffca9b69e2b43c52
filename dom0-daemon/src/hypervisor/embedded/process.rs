//! Processes by identity: a pid alone may by now be another process.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process: its pid and when it began, in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pub(super) pid: i32,
    pub(super) started: u64,
}

/// Field 22 of `/proc/PID/stat`; the second one is a name in parentheses and may hold anything.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// The parent of a process, field 4.
fn parent(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn stat(pid: i32) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/stat"))
}

/// An open process: signals reach it or nobody.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: ProcessId,
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Opens a child of a child, which cannot be reaped unseen: its parent keeps it a zombie.
    pub(super) fn open(pid: i32) -> io::Result<Self> {
        let fd = open_pidfd(pid)?;
        let started = start_time(&stat(pid)?).ok_or(io::ErrorKind::InvalidData)?;
        Self::with(fd, ProcessId { pid, started })
    }

    /// Opens the very process that `id` names; `NotFound` if it is gone.
    pub(super) fn reopen(id: ProcessId) -> io::Result<Self> {
        let fd = open_pidfd(id.pid)?;
        let now = start_time(&stat(id.pid)?);
        if now != Some(id.started) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Self::with(fd, id)
    }

    fn with(fd: OwnedFd, id: ProcessId) -> io::Result<Self> {
        let fd = crate::aio::watch(fd, Interest::READABLE)?;
        Ok(Self { id, fd })
    }

    /// Sends a signal; a process that is gone counts as reached.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(self.fd.get_ref(), signal) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Returns when it has ended, and with it all of its pid namespace.
    pub(super) async fn ended(&self) {
        // An error means that it cannot be watched; then it is as good as gone.
        let _ = self.fd.readable().await;
    }

    /// Stops or continues it and all below it. Without a freezer new ones may appear meanwhile,
    /// so this goes on until a pass finds nobody new.
    pub(super) fn signal_tree(&self, signal: Signal) -> io::Result<()> {
        let mut reached = std::collections::BTreeSet::new();
        // Bounded: a qube has at most as many tasks as its limit, each pass reaches at least one.
        for _ in 0..super::cgroup::QUBE_TASKS_MAX {
            let before = reached.len();
            for pid in self.tree()? {
                if reached.insert(pid)
                    && let Ok(process) = open_pidfd(pid)
                {
                    // Gone meanwhile is as good.
                    let _ = rustix::process::pidfd_send_signal(&process, signal);
                }
            }
            if reached.len() == before {
                break;
            }
        }
        Ok(())
    }

    fn tree(&self) -> io::Result<Vec<i32>> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else {
                continue;
            };
            if let Ok(text) = stat(pid)
                && let Some(of) = parent(&text)
            {
                parents.push((pid, of));
            }
        }
        let mut tree = vec![self.id.pid];
        let mut at = 0;
        while let Some(of) = tree.get(at).copied() {
            tree.extend(parents.iter().filter(|(_, p)| *p == of).map(|(c, _)| *c));
            at += 1;
        }
        Ok(tree)
    }
}

fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in ["sh", "a) b (c", ") R 9 9"] {
            let text = format!("77 ({name}) {tail}");
            assert_eq!(start_time(&text), Some(4711), "{name}");
            assert_eq!(parent(&text), Some(1), "{name}");
        }
        assert_eq!(start_time("77 sh S 1"), None);
    }

    #[tokio::test]
    async fn another_process_under_the_same_pid_is_not_taken_for_it() {
        let own = i32::try_from(std::process::id()).unwrap();
        let process = Process::open(own).unwrap();
        assert!(Process::reopen(process.id).is_ok());
        let other = ProcessId {
            started: process.id.started + 1,
            ..process.id
        };
        let e = Process::reopen(other).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::NotFound);
    }
}
