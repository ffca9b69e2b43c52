//! The processes that we started ourselves.
//!
//! An init process inherits orphans and must reap them, but never a process that somebody here
//! waits for. Every start goes through [`spawn`], so that the two can be told apart.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_sandbox::spawn::{Process, Program, Stream};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

static OURS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn ours() -> MutexGuard<'static, BTreeSet<u32>> {
    // The set is whole between any two operations on it.
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process that the caller will wait for, and then [`forget`].
///
/// # Errors
/// What starting said.
pub fn spawn(program: &Program, streams: [Stream; 3]) -> io::Result<Process> {
    // Held over the start: a process may end before it is noted.
    let mut ours = ours();
    let child = program.start(streams)?;
    ours.insert(child.id());
    Ok(child)
}

/// Notes that a process was waited for.
pub fn forget(pid: u32) {
    ours().remove(&pid);
}

/// How long somebody may take to wait for a child of ours that has ended, before it is in the way
/// of seeing whether orphans have ended too.
const GRACE: Duration = Duration::from_millis(2);

/// Reaps every dead child that [`spawn`] did not start. For init processes.
pub fn reap_orphans() {
    let dead = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let any = || match waitid(WaitId::All, dead | WaitIdOptions::NOWAIT) {
        Ok(Some(_)) => true,
        Ok(None) | Err(_) => false,
    };
    if !any() {
        return;
    }
    // Almost always it is the service of a call that is about to tell its end, and soon nobody's
    // business any more: looking for orphans now would only be in its way.
    std::thread::sleep(GRACE);
    if !any() {
        return;
    }
    // Listing takes long beside the rest, and whoever ends a call waits for the lock. Who is
    // listed was started before, so once the lock is ours it is noted, or nobody's.
    let children = children();
    let ours = ours();
    for pid in children {
        if let Some(pid) = Pid::from_raw(pid)
            && !ours.contains(&pid.as_raw_nonzero().get().unsigned_abs())
        {
            // Somebody else's may be alive, or gone already.
            let _ = waitid(WaitId::Pid(pid), dead);
        }
    }
}

/// All children, as far as the kernel tells.
#[must_use]
pub fn all() -> Vec<Pid> {
    children().into_iter().filter_map(Pid::from_raw).collect()
}

/// Reaps every dead child, whoever waits for it. For init processes that are about to end.
pub fn reap_all() {
    for pid in all() {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = waitid(WaitId::Pid(pid), options);
    }
}

/// All children of this process, as far as the kernel tells.
fn children() -> Vec<i32> {
    let mut out = Vec::new();
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return out;
    };
    for task in tasks.flatten() {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        out.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_children_are_left_for_those_who_wait() {
        let mut program = Program::new("/bin/sh");
        let streams = [Stream::Inherit, Stream::Inherit, Stream::Inherit];
        let mut child = spawn(program.args(["-c", "exit 7"]), streams).unwrap();
        // Whenever it ends, reaping orphans must not take its exit code.
        for _ in 0..50 {
            reap_orphans();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(child.wait().unwrap(), 7);
        forget(child.id());
    }
}
