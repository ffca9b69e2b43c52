//! The starts of large files that broken transfers left, per source qube.
//!
//! A large file is written here, not into the staging folder, and moved there when the transfer is
//! complete; so nothing has to be rescued when the receiver is killed. Beside the content
//! `<key>` lies `<key>.about`, which says what file it is the start of. The key is a digest of
//! name, length and time of last change. What is kept is bounded in number, bytes and age, and
//! nothing is kept of a transfer that this end refused.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bulkhead_wire::filecopy::offer::{self, OFFERS_MAX, Offer};
use bulkhead_wire::filecopy::{Entry, Kind};
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, flock, fstat, ftruncate, mkdirat, openat, unlinkat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::CHUNK;
use super::place::Place;
use super::tree::{names_in, open_dir};

/// Folder in a source's staging area.
pub(crate) const FOLDER: &str = "kept";
/// Smallest file of which a start is kept: below this, sending it again takes no time.
pub const LARGE: u64 = 16 * 1024 * 1024;
/// Most bytes kept for one source.
pub const BYTES_MAX: u64 = 32 * 1024 * 1024 * 1024;
/// How long a start is kept.
pub const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Most files kept for one source: as many as can be offered.
pub const FILES_MAX: usize = OFFERS_MAX as usize;

const ABOUT: &str = ".about";

/// The kept files of one source.
#[derive(Debug)]
pub struct Kept {
    folder: OwnedFd,
}

/// A large file that is being received.
#[derive(Debug)]
pub(crate) struct KeptFile {
    pub(crate) file: OwnedFd,
    pub(crate) key: String,
    /// Name within the transfer.
    pub(crate) name: Vec<u8>,
}

impl Kept {
    /// Opens the folder, making it if it is missing, and drops what is too old or too much.
    pub fn open(place: &Place) -> Result<Self, Errno> {
        match mkdirat(place.area(), FOLDER, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let folder = open_dir(place.area().as_fd(), FOLDER.as_bytes(), OFlags::RDONLY)?;
        Ok(Self { folder })
    }

    pub(crate) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// Opens the place for a large file that arrives; where its content does not start at 0, what
    /// is there must end just there. None: another transfer writes it now.
    pub(crate) fn start(&self, entry: &Entry<'_>) -> Result<Option<KeptFile>, Errno> {
        let (size, offset) = match entry.kind {
            Kind::File { size, offset } => (size, offset),
            Kind::Directory | Kind::Link { .. } => return Err(Errno::INVAL),
        };
        let key = key_of(entry.name, size, entry);
        let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if offset == 0 {
            flags |= OFlags::CREATE;
        }
        let file = openat(&self.folder, key.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) if offset == 0 => return Ok(None),
            Err(error) => return Err(error),
        }
        if offset == 0 {
            ftruncate(&file, 0)?;
            self.write_about(&key, entry, size)?;
        } else {
            if u64::try_from(fstat(&file)?.st_size) != Ok(offset) {
                return Err(Errno::INVAL);
            }
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(offset))?;
        }
        Ok(Some(KeptFile {
            file,
            key,
            name: entry.name.to_vec(),
        }))
    }

    fn write_about(&self, key: &str, entry: &Entry<'_>, size: u64) -> Result<(), Errno> {
        let about = offer::encode(&[Offer {
            name: entry.name.to_vec(),
            size,
            mtime: entry.mtime,
            have: 0,
            digest: [0; offer::DIGEST_LEN],
        }]);
        let flags =
            OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = format!("{key}{ABOUT}");
        let file = openat(&self.folder, path, flags, Mode::RUSR | Mode::WUSR)?;
        std::fs::File::from(file)
            .write_all(&about)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// What is there to go on from. Damaged pairs are removed.
    pub fn offers(&self) -> Vec<Offer> {
        self.prune(SystemTime::now());
        let mut offers = Vec::new();
        for key in self.keys() {
            match self.offer(&key) {
                Ok(Some(offer)) => offers.push(offer),
                // Being written by another transfer.
                Ok(None) => {}
                Err(_) => self.remove(&key),
            }
        }
        offers
    }

    fn offer(&self, key: &str) -> io::Result<Option<Offer>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open =
            |path: &str| openat(&self.folder, path, flags, Mode::empty()).map(std::fs::File::from);
        let mut about = Vec::new();
        open(&format!("{key}{ABOUT}"))?.read_to_end(&mut about)?;
        let read = offer::decode(&about).ok().flatten();
        let Some(mut offer) = read.and_then(|(offers, _)| offers.into_iter().next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut content = open(key)?;
        match flock(&content, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            other => other?,
        }
        (offer.have, offer.digest) = digest(&mut content, u64::MAX)?;
        if offer.have == 0 || offer.have > offer.size {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Some(offer))
    }

    /// A file has left for its place, or is of no use.
    pub(crate) fn remove(&self, key: &str) {
        for path in [key.to_owned(), format!("{key}{ABOUT}")] {
            // Nothing to remove is what is wanted.
            let _ = unlinkat(&self.folder, path, AtFlags::empty());
        }
    }

    fn keys(&self) -> Vec<String> {
        let names = names_in(self.folder.as_fd()).unwrap_or_default();
        let about = |name: Vec<u8>| {
            let name = String::from_utf8(name).ok()?;
            Some(name.strip_suffix(ABOUT)?.to_owned())
        };
        names.into_iter().filter_map(about).collect()
    }

    /// Keeps the newest within all bounds and removes the rest.
    pub fn prune(&self, now: SystemTime) {
        let mut found: Vec<(SystemTime, u64, String)> = Vec::new();
        for name in names_in(self.folder.as_fd()).unwrap_or_default() {
            if name.ends_with(ABOUT.as_bytes()) {
                continue;
            }
            let path = OsStr::from_bytes(&name);
            let Ok(stat) = rustix::fs::statat(&self.folder, path, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let changed = u64::try_from(stat.st_ctime).unwrap_or(0);
            found.push((
                UNIX_EPOCH + Duration::from_secs(changed),
                u64::try_from(stat.st_size).unwrap_or(u64::MAX),
                String::from_utf8_lossy(&name).into_owned(),
            ));
        }
        found.sort_by(|one, other| other.cmp(one));
        let mut bytes: u64 = 0;
        for (number, (changed, size, key)) in found.into_iter().enumerate() {
            bytes = bytes.saturating_add(size);
            let old = now.duration_since(changed).is_ok_and(|age| age > AGE_MAX);
            if (number >= FILES_MAX || bytes > BYTES_MAX || old || size == 0)
                && !self.is_in_use(&key)
            {
                self.remove(&key);
            }
        }
    }

    fn is_in_use(&self, key: &str) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.folder, key, flags, Mode::empty()).is_ok_and(|file| {
            flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
        })
    }
}

/// Reads up to `most` bytes from the start of `file`: how many there were, and their SHA-256.
pub(crate) fn digest(file: &mut std::fs::File, most: u64) -> io::Result<(u64, [u8; 32])> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    let mut reader = file.take(most);
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok((total, hash.finalize().into()));
        }
        hash.update(buffer.get(..count).unwrap_or_default());
        total += count as u64;
    }
}

fn key_of(name: &[u8], size: u64, entry: &Entry<'_>) -> String {
    let mut hash = Sha256::new();
    hash.update(size.to_le_bytes());
    hash.update(entry.mtime.seconds.to_le_bytes());
    hash.update(entry.mtime.nanos.to_le_bytes());
    hash.update(name);
    let mut key = String::new();
    for byte in hash.finalize().iter().take(16) {
        let _ = write!(key, "{byte:02x}");
    }
    key
}
