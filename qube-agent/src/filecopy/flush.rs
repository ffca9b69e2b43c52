//! Making received files durable before the sender hears that they are.
//!
//! The sender of a move deletes its files once it hears so. Disk and network work at the same time:
//! a helper thread writes a large file out while more of it arrives.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use rustix::fs::{fdatasync, syncfs};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

/// Bytes of a large file after which they are sent to the disk: so few that it starts early and has
/// little left to do when the last have come, many for each time that it is waited for.
const STEP: u64 = 8 * 1024 * 1024;
/// Small files that are flushed one by one at the end; beyond this the whole file system is, which
/// costs less than the journal commits of so many.
const SINGLE_MAX: usize = 8;

/// Flushes files of one transfer.
#[derive(Debug)]
pub(crate) struct Flusher {
    worker: Option<(SyncSender<OwnedFd>, JoinHandle<()>)>,
    /// First errno that the helper met, or 0. The kernel tells an error only once per open file.
    failed: Arc<AtomicI32>,
    pending: u64,
    singles: Singles,
}

/// The small files of a transfer.
#[derive(Debug)]
enum Singles {
    Few(Vec<OwnedFd>),
    Many,
}

impl Flusher {
    pub(crate) fn new() -> Self {
        Self {
            worker: None,
            failed: Arc::default(),
            pending: 0,
            singles: Singles::Few(Vec::new()),
        }
    }

    /// `bytes` more were written to the large file `file`.
    pub(crate) fn written(&mut self, file: &OwnedFd, bytes: usize) {
        self.pending += bytes as u64;
        if self.pending < STEP {
            return;
        }
        self.pending = 0;
        let (sender, _) = self.worker.get_or_insert_with(|| {
            let (sender, receiver) = sync_channel::<OwnedFd>(1);
            let failed = Arc::clone(&self.failed);
            let work = move || {
                for file in receiver {
                    if let Err(error) = fdatasync(&file) {
                        failed.store(error.raw_os_error(), Ordering::Release);
                    }
                }
            };
            (sender, thread::spawn(work))
        });
        if let Ok(copy) = fcntl_dupfd_cloexec(file, 0) {
            // Busy with the step before: the disk is the slower end, and the next step will do.
            match sender.try_send(copy) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// A large file is complete.
    pub(crate) fn large_done(&mut self, file: &OwnedFd) -> Result<(), Errno> {
        self.pending = 0;
        fdatasync(file)
    }

    /// Whether small files need not be brought to [`Self::small_done`] any more.
    pub(crate) fn has_many(&self) -> bool {
        matches!(self.singles, Singles::Many)
    }

    /// A small file is complete.
    pub(crate) fn small_done(&mut self, file: OwnedFd) {
        match &mut self.singles {
            Singles::Few(files) if files.len() < SINGLE_MAX => files.push(file),
            Singles::Few(_) => self.singles = Singles::Many,
            Singles::Many => {}
        }
    }

    /// Everything is in its place in `folder`.
    pub(crate) fn finish(mut self, folder: &OwnedFd) -> Result<(), Errno> {
        self.stop();
        match self.failed.load(Ordering::Acquire) {
            0 => {}
            errno => return Err(Errno::from_raw_os_error(errno)),
        }
        match &self.singles {
            Singles::Few(files) => {
                files.iter().try_for_each(fdatasync)?;
                rustix::fs::fsync(folder)
            }
            Singles::Many => syncfs(folder),
        }
    }

    fn stop(&mut self) {
        if let Some((sender, worker)) = self.worker.take() {
            drop(sender);
            // It only flushes; a panic there would have been reported by the runtime.
            let _ = worker.join();
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.stop();
    }
}
