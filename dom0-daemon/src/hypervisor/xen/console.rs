//! A domain's console, which `xenconsoled` gives a terminal of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bulkhead_vchan::xen::store::{Store, StoreError, Tree};
use bulkhead_wire::causes::chain;
use rustix::fs::{Mode, OFlags};
use tokio::task::AbortHandle;

use crate::hypervisor::DomId;
use crate::hypervisor::console;

/// How long the terminal of a new domain is waited for: the console daemon makes it soon after the
/// domain.
const MADE: Duration = Duration::from_secs(30);

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
    // Its connection blocks.
    let path = tokio::task::spawn_blocking(move || named(domid)).await;
    let path = path.map_err(io::Error::other)??;
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The path of a domain's terminal, when the console daemon has made it.
fn named(domid: DomId) -> io::Result<String> {
    let failed = |error: StoreError| io::Error::other(chain(&error));
    let key = format!("/local/domain/{domid}/console/tty");
    let mut store = Store::open().map_err(failed)?;
    store.watch(&key, "tty").map_err(failed)?;
    let end = Instant::now() + MADE;
    // The first event comes at once.
    while store.next_event(Some(end)).map_err(failed)?.is_some() {
        match store.read(&key) {
            // Written by dom0's console daemon; anything but its terminal is not for us.
            Ok(path) if path.starts_with("/dev/pts/") => return Ok(path),
            Err(error) if error.refusal() != Some(io::ErrorKind::NotFound) => {
                return Err(failed(error));
            }
            _ => {}
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "it has no terminal",
    ))
}
