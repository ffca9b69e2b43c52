//! What is in a folder, and remembering it for as long as it is so.
//!
//! The names of what is to be sent are looked at before the call is asked for, and are needed again
//! when they are sent. Reading a folder of ten thousand files takes milliseconds in which nothing
//! else can happen, so it is read once if it has not changed.

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Dir, FileType, Stat, fstat};
use rustix::io::Errno;

/// Bytes that are remembered: some hundred thousand files. Folders beyond it are read again.
const REMEMBERED_MAX: usize = 8 * 1024 * 1024;
/// A folder that changed this short before it was read may change once more without another time of
/// change: file systems take that from a clock that ticks every 10 ms at the slowest.
const SETTLED: Duration = Duration::from_millis(50);

/// The names in a folder, sorted, without `.` and `..`.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    bytes: Vec<u8>,
    names: Vec<Range<usize>>,
}

impl Listing {
    /// Reads the folder `directory`, and shows every name as it comes.
    pub(crate) fn read(
        directory: BorrowedFd<'_>,
        mut visit: impl FnMut(&[u8], FileType),
    ) -> Result<Self, Errno> {
        let mut listing = Self::default();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                visit(name, entry.file_type());
                let start = listing.bytes.len();
                listing.bytes.extend_from_slice(name);
                listing.names.push(start..listing.bytes.len());
            }
        }
        let bytes = &listing.bytes;
        let key = |range: &Range<usize>| bytes.get(range.clone());
        listing
            .names
            .sort_unstable_by(|one, other| key(one).cmp(&key(other)));
        Ok(listing)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        let name = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        self.names.iter().map(name)
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.names.len() * size_of::<Range<usize>>()
    }
}

/// Which state of which folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    device: u64,
    inode: u64,
    changed: (i64, u64),
}

impl State {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Whether any later change shows.
    fn is_settled(&self, now: SystemTime) -> bool {
        let (seconds, nanos) = self.changed;
        let since = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
        let since = since.map(|(seconds, nanos)| Duration::new(seconds, nanos));
        let settled = since.and_then(|since| UNIX_EPOCH.checked_add(since + SETTLED));
        settled.is_some_and(|settled| settled <= now)
    }
}

/// Folders that were read.
#[derive(Debug, Default)]
pub(crate) struct Listings {
    known: HashMap<State, Listing>,
    size: usize,
}

impl Listings {
    /// Reads the folder `directory` and remembers it if that is worth anything.
    pub(crate) fn read(
        &mut self,
        directory: BorrowedFd<'_>,
        visit: impl FnMut(&[u8], FileType),
    ) -> Result<(), Errno> {
        // All three in this order: a change in between shows.
        let state = State::of(&fstat(directory)?);
        let now = SystemTime::now();
        let listing = Listing::read(directory, visit)?;
        let size = self.size.saturating_add(listing.size());
        if state.is_settled(now) && size <= REMEMBERED_MAX {
            self.size = size;
            self.known.insert(state, listing);
        }
        Ok(())
    }

    /// What is in the folder that has this `stat` now. None: not known.
    pub(crate) fn of(&self, stat: &Stat) -> Option<&Listing> {
        self.known.get(&State::of(stat))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::thread::sleep;

    use super::*;

    fn read(listings: &mut Listings, folder: &Path) -> File {
        let open = File::open(folder).unwrap();
        listings.read(open.as_fd(), |_, _| {}).unwrap();
        open
    }

    fn known<'l>(listings: &'l Listings, folder: &File) -> Option<Vec<&'l [u8]>> {
        let listing = listings.of(&fstat(folder).unwrap())?;
        Some(listing.names().collect())
    }

    #[test]
    fn a_folder_is_known_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a", "c"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        sleep(SETTLED * 2);
        let mut listings = Listings::default();
        let open = read(&mut listings, folder.path());
        let names: [&[u8]; 3] = [b"a", b"b", b"c"];
        assert_eq!(known(&listings, &open), Some(names.to_vec()));
        fs::write(folder.path().join("d"), "").unwrap();
        assert_eq!(known(&listings, &open), None);
    }

    #[test]
    fn a_folder_that_changed_just_now_is_not_relied_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut listings = Listings::default();
        let open = read(&mut listings, folder.path());
        let stat = fstat(&open).unwrap();
        let state = State::of(&stat);
        let changed = UNIX_EPOCH + Duration::new(stat.st_ctime as u64, stat.st_ctime_nsec as u32);
        assert!(!state.is_settled(changed + SETTLED - Duration::from_nanos(1)));
        assert!(state.is_settled(changed + SETTLED));
    }

    #[test]
    fn no_more_is_remembered_than_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("name"), "").unwrap();
        sleep(SETTLED * 2);
        let one = Listing::read(File::open(folder.path()).unwrap().as_fd(), |_, _| {}).unwrap();
        let mut full = Listings {
            size: REMEMBERED_MAX - one.size() + 1,
            ..Listings::default()
        };
        let open = read(&mut full, folder.path());
        assert_eq!(known(&full, &open), None);
        full.size -= 1;
        let open = read(&mut full, folder.path());
        assert!(known(&full, &open).is_some());
    }
}
