//! A domain's console, which `xenconsoled` gives a terminal of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::process::Command;
use tokio::task::AbortHandle;

use crate::hypervisor::DomId;
use crate::hypervisor::console;

/// How often the terminal of a new domain is looked for, and for how long: the console daemon
/// makes it soon after the domain.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS: u32 = 150;

/// How long the console of a domain that has ended is still read: its last words say why, and are on
/// their way through the console daemon.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Copies the console of `domid` to `log` until the handle is aborted or the domain ends.
pub(super) fn follow(domid: DomId, log: PathBuf) -> AbortHandle {
    let task = tokio::spawn(async move {
        match terminal(domid).await {
            Ok(terminal) => {
                if let Err(error) = console::copy_from(terminal, log).await {
                    tracing::debug!(%domid, %error, "console ended");
                }
            }
            Err(error) => tracing::warn!(%domid, %error, "console is not followed"),
        }
    });
    task.abort_handle()
}

/// Ends what [`follow`] began, for a domain that is gone.
pub(super) fn end(follower: AbortHandle) {
    tokio::spawn(async move {
        tokio::time::sleep(LAST_WORDS).await;
        follower.abort();
    });
}

async fn terminal(domid: DomId) -> io::Result<OwnedFd> {
    let key = format!("/local/domain/{domid}/console/tty");
    for _ in 0..LOOKS {
        let mut read = Command::new("xenstore-read");
        let read = read.arg(&key).stdin(Stdio::null()).stderr(Stdio::null());
        let said = read.kill_on_drop(true).output().await?;
        let path = String::from_utf8_lossy(&said.stdout);
        // Written by dom0's console daemon; anything but its terminal is not for us.
        if said.status.success() && path.starts_with("/dev/pts/") {
            let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            return Ok(rustix::fs::open(path.trim(), flags, Mode::empty())?);
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "it has no terminal",
    ))
}
