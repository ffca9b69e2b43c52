//! The sizes of the files in a folder, looked up by two threads where there are many.
//!
//! The second thread begins while the first still reads the folder. Nobody is asked before both
//! are done, so this is time that a person waits.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

/// Names that one thread takes at a time: many for each turn, few enough that both end together.
const BATCH: usize = 128;
/// Batches that wait. With more, the thread that reads the folder looks up sizes itself.
const WAITING: usize = 64;

/// What was found.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Found {
    pub(super) bytes: u64,
    /// A file whose size was not looked up, because the time was over.
    pub(super) left: bool,
    /// Why a size could not be looked up.
    pub(super) failed: Option<Errno>,
}

/// Names, each ended by a NUL, which is in none.
#[derive(Debug, Default)]
struct Batch {
    names: Vec<u8>,
    count: usize,
}

#[derive(Debug)]
struct Work<'a> {
    folder: BorrowedFd<'a>,
    until: Option<Instant>,
    waiting: Mutex<Receiver<Batch>>,
    found: Mutex<Found>,
}

/// Takes the names of files whose sizes are wanted.
#[derive(Debug)]
pub(super) struct Sizes<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    work: &'scope Work<'scope>,
    waiting: SyncSender<Batch>,
    batch: Batch,
    helped: bool,
}

/// Runs `list`, which says whose sizes are wanted, and looks these up until a moment, if there is
/// one. Returns what `list` does.
pub(super) fn of<T>(
    folder: BorrowedFd<'_>,
    until: Option<Instant>,
    list: impl FnOnce(&mut Sizes<'_, '_>) -> T,
) -> (T, Found) {
    let (sender, waiting) = sync_channel(WAITING);
    let work = Work {
        folder,
        until,
        waiting: Mutex::new(waiting),
        found: Mutex::default(),
    };
    let listed = thread::scope(|scope| {
        let mut sizes = Sizes {
            scope,
            work: &work,
            waiting: sender,
            batch: Batch::default(),
            helped: false,
        };
        let listed = list(&mut sizes);
        sizes.hand_over();
        // The end of what waits.
        drop(sizes);
        work.run();
        listed
    });
    (listed, *lock(&work.found))
}

impl Sizes<'_, '_> {
    /// The size of the file `name` is wanted.
    pub(super) fn add(&mut self, name: &[u8]) {
        self.batch.names.extend_from_slice(name);
        self.batch.names.push(0);
        self.batch.count += 1;
        if self.batch.count >= BATCH {
            self.hand_over();
            self.help();
        }
    }

    fn hand_over(&mut self) {
        match self.waiting.try_send(std::mem::take(&mut self.batch)) {
            Ok(()) => {}
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                self.work.look_up(&batch);
            }
        }
    }

    fn help(&mut self) {
        let alone = || thread::available_parallelism().is_ok_and(|it| it == NonZeroUsize::MIN);
        if !std::mem::replace(&mut self.helped, true) && !alone() {
            let work = self.work;
            let thread = thread::Builder::new().name("sizes".to_owned());
            // Without one, this thread does it all.
            let _ = thread.spawn_scoped(self.scope, || work.run());
        }
    }
}

impl Work<'_> {
    /// Looks up what waits, until no more can come.
    fn run(&self) {
        loop {
            let batch = lock(&self.waiting).recv();
            match batch {
                Ok(batch) => self.look_up(&batch),
                Err(_) => return,
            }
        }
    }

    fn look_up(&self, batch: &Batch) {
        let mut here = Found::default();
        let names = batch.names.split(|byte| *byte == 0);
        for name in names.take(batch.count) {
            if self.until.is_some_and(|until| Instant::now() >= until) {
                here.left = true;
                break;
            }
            match statat(
                self.folder,
                OsStr::from_bytes(name),
                AtFlags::SYMLINK_NOFOLLOW,
            ) {
                // What is something else by now is for the transfer to notice.
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    here.bytes += u64::try_from(stat.st_size).unwrap_or(0);
                }
                Ok(_) => {}
                Err(error) => here.failed = Some(error),
            }
        }
        let mut found = lock(&self.found);
        found.bytes += here.bytes;
        found.left |= here.left;
        found.failed = found.failed.or(here.failed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use super::*;

    fn found(until: Option<Instant>, name: &str, times: usize) -> Found {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("three"), "123").unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let open = File::open(folder.path()).unwrap();
        let add = |sizes: &mut Sizes<'_, '_>| (0..times).for_each(|_| sizes.add(name.as_bytes()));
        of(open.as_fd(), until, add).1
    }

    #[test]
    fn every_size_is_found_whatever_number_waits() {
        for times in [
            0,
            1,
            BATCH - 1,
            BATCH,
            BATCH + 1,
            2 * BATCH * (WAITING + 2) + 1,
        ] {
            let found = found(None, "three", times);
            assert_eq!(found.bytes, 3 * times as u64, "{times}");
            assert_eq!((found.left, found.failed), (false, None), "{times}");
        }
    }

    #[test]
    fn only_files_have_a_size() {
        let found = found(None, "folder", 2);
        assert_eq!((found.bytes, found.left, found.failed), (0, false, None));
    }

    #[test]
    fn what_is_not_looked_up_is_told() {
        for times in [1, 3 * BATCH] {
            let gone = found(None, "missing", times);
            assert_eq!(
                (gone.bytes, gone.failed),
                (0, Some(Errno::NOENT)),
                "{times}"
            );
            let late = found(Some(Instant::now()), "three", times);
            assert_eq!((late.bytes, late.left), (0, true), "{times}");
        }
    }
}
