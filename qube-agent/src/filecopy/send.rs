//! Sending trees of files.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bulkhead_wire::filecopy::offer::{self, Offer};
use bulkhead_wire::filecopy::{
    Dialect, Encoder, Entry, Kind, NAME_MAX, Outcome, OutcomeDecoder, Stamp, code,
};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::CHUNK;
use super::error::SendError;
use super::kept::digest;
use super::listing::{Listing, Listings};

/// Told the bytes of content that have been sent, from time to time.
pub type OnProgress<'a> = &'a mut dyn FnMut(u64);

/// What a complete transfer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Bytes of file content on the wire.
    pub bytes: u64,
    /// Bytes of file content that the receiver had already.
    pub resumed: u64,
}

/// Sends `paths` to a receiver of `qubes.Filecopy`: the stream goes to `out`, the answer comes
/// from `answer`.
pub fn pack(
    paths: &[PathBuf],
    out: OwnedFd,
    answer: OwnedFd,
    progress: OnProgress<'_>,
) -> Result<Sent, SendError> {
    pack_listed(paths, &Listings::default(), out, answer, progress)
}

/// The same, with what is known of the folders.
pub(crate) fn pack_listed(
    paths: &[PathBuf],
    listings: &Listings,
    out: OwnedFd,
    answer: OwnedFd,
    progress: OnProgress<'_>,
) -> Result<Sent, SendError> {
    Stream::new(out, answer, Dialect::Plain, listings, progress).send(paths)
}

/// Sends `paths` to a receiver of `bulkhead.Filecopy`, going on where it offers to.
pub fn pack_resumable(
    paths: &[PathBuf],
    out: OwnedFd,
    answer: OwnedFd,
    progress: OnProgress<'_>,
) -> Result<Sent, SendError> {
    pack_resumable_listed(paths, &Listings::default(), out, answer, progress)
}

/// The same, with what is known of the folders.
pub(crate) fn pack_resumable_listed(
    paths: &[PathBuf],
    listings: &Listings,
    out: OwnedFd,
    answer: OwnedFd,
    progress: OnProgress<'_>,
) -> Result<Sent, SendError> {
    let mut stream = Stream::new(out, answer, Dialect::Resumable, listings, progress);
    stream.offers = read_offers(stream.answer.as_fd())?;
    stream.send(paths)
}

fn read_offers(answer: BorrowedFd<'_>) -> Result<Vec<Offer>, SendError> {
    let mut bytes = Vec::new();
    loop {
        // One by one: what follows the offers is the answer, and is not ours to take.
        let mut byte = [0; 1];
        match rustix::io::read(answer, &mut byte) {
            Ok(0) => return Err(SendError::NoOffers),
            Ok(_) => bytes.extend_from_slice(&byte),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(SendError::Connection(error.into())),
        }
        match offer::decode(&bytes) {
            Ok(None) => {}
            Ok(Some((offers, _))) => return Ok(offers),
            Err(_) => return Err(SendError::NoOffers),
        }
    }
}

/// An item on the way: its path for messages and opening, its name on the wire.
struct Item<'a> {
    path: &'a Path,
    name: &'a [u8],
    stat: &'a Stat,
}

struct Stream<'a> {
    out: OwnedFd,
    answer: OwnedFd,
    received: OutcomeDecoder,
    encoder: Encoder,
    dialect: Dialect,
    offers: Vec<Offer>,
    listings: &'a Listings,
    buffer: Vec<u8>,
    progress: OnProgress<'a>,
    sent: Sent,
    /// Reading leaves the time of last access as it was, which costs a write for each file. Given
    /// up at the first file that belongs to another user.
    quiet: OFlags,
}

impl<'a> Stream<'a> {
    fn new(
        out: OwnedFd,
        answer: OwnedFd,
        dialect: Dialect,
        listings: &'a Listings,
        progress: OnProgress<'a>,
    ) -> Self {
        Self {
            out,
            answer,
            received: OutcomeDecoder::new(),
            encoder: Encoder::new(dialect),
            dialect,
            offers: Vec::new(),
            listings,
            // Room for a header and its name past a full chunk.
            buffer: Vec::with_capacity(CHUNK + NAME_MAX + 64),
            progress,
            sent: Sent {
                bytes: 0,
                resumed: 0,
            },
            quiet: OFlags::NOATIME,
        }
    }

    fn send(mut self, paths: &[PathBuf]) -> Result<Sent, SendError> {
        for path in paths {
            let (path, mut name) = name_of(path)?;
            self.tree(CWD, path.as_os_str(), &mut path.clone(), &mut name)?;
        }
        let crc = self
            .encoder
            .end(&mut self.buffer)
            .map_err(|source| SendError::Encode {
                path: PathBuf::new(),
                source,
            })?;
        self.flush()?;
        let outcome = self.read_answer()?;
        check(&outcome)?;
        if outcome.crc != crc {
            return Err(SendError::Checksum);
        }
        Ok(self.sent)
    }

    /// Sends `leaf` in `parent`, whose path is `path`, as `name`. Both are the same afterwards.
    fn tree(
        &mut self,
        parent: BorrowedFd<'_>,
        leaf: &OsStr,
        path: &mut PathBuf,
        name: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        // Not blocking: it may turn into a pipe before it is opened.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match openat(parent, leaf, flags | self.quiet, Mode::empty()) {
            Err(Errno::PERM) if !self.quiet.is_empty() => {
                self.quiet = OFlags::empty();
                openat(parent, leaf, flags, Mode::empty())
            }
            opened => opened,
        };
        let file = match opened {
            Ok(file) => file,
            // Links and sockets cannot be opened like this.
            Err(Errno::LOOP | Errno::NXIO) => return self.link(parent, leaf, path, name),
            Err(source) => return Err(unreadable(path, source)),
        };
        let stat = fstat(&file).map_err(|source| unreadable(path, source))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(
                &Item {
                    path,
                    name,
                    stat: &stat,
                },
                file,
            ),
            FileType::Directory => self.directory(&file, &stat, path, name),
            _ => Err(SendError::Type(path.clone())),
        }
    }

    fn directory(
        &mut self,
        directory: &OwnedFd,
        stat: &Stat,
        path: &mut PathBuf,
        name: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.header(&Item { path, name, stat }, Kind::Directory)?;
        let read;
        let listing = match self.listings.of(stat) {
            Some(known) => known,
            None => {
                read = Listing::read(directory.as_fd(), |_, _| {})
                    .map_err(|source| unreadable(path, source))?;
                &read
            }
        };
        let length = name.len();
        name.push(b'/');
        for leaf in listing.names() {
            name.truncate(length + 1);
            name.extend_from_slice(leaf);
            let leaf = OsStr::from_bytes(leaf);
            path.push(leaf);
            self.tree(directory.as_fd(), leaf, path, name)?;
            path.pop();
        }
        name.truncate(length);
        // Again: now the receiver sets permissions and times.
        self.header(&Item { path, name, stat }, Kind::Directory)
    }

    fn link(
        &mut self,
        parent: BorrowedFd<'_>,
        leaf: &OsStr,
        path: &Path,
        name: &[u8],
    ) -> Result<(), SendError> {
        let failed = |source| unreadable(path, source);
        let stat = statat(parent, leaf, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Err(SendError::Type(path.to_owned()));
        }
        let target = readlinkat(parent, leaf, Vec::new()).map_err(failed)?;
        let target = target.as_bytes();
        let item = Item {
            path,
            name,
            stat: &stat,
        };
        let length = target.len() as u64;
        self.header(&item, Kind::Link { length })?;
        self.account(&item, target)?;
        self.buffer.extend_from_slice(target);
        Ok(())
    }

    fn file(&mut self, item: &Item<'_>, file: OwnedFd) -> Result<(), SendError> {
        let size = u64::try_from(item.stat.st_size).unwrap_or(0);
        let mut file = File::from(file);
        let offset = self.offset(item, size, &mut file)?;
        self.header(item, Kind::File { size, offset })?;
        self.sent.resumed += offset;
        let mut left = size - offset;
        while left > 0 {
            if self.buffer.len() >= CHUNK {
                self.flush()?;
            }
            let start = self.buffer.len();
            let count = match rustix::io::read(&file, spare_capacity(&mut self.buffer)) {
                Ok(0) => return Err(SendError::Shrunk(item.path.to_owned())),
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(source) => return Err(unreadable(item.path, source)),
            };
            // A file that grew is sent as long as it was said to be.
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(count);
            self.buffer.truncate(start + taken);
            let content = self.buffer.get(start..).unwrap_or_default();
            self.encoder
                .content(content)
                .map_err(|source| SendError::Encode {
                    path: item.path.to_owned(),
                    source,
                })?;
            left -= taken as u64;
            self.sent.bytes += taken as u64;
        }
        Ok(())
    }

    /// Where to go on with this file, if the receiver has its start; `file` stands there then.
    fn offset(&mut self, item: &Item<'_>, size: u64, file: &mut File) -> Result<u64, SendError> {
        if self.dialect == Dialect::Plain {
            return Ok(0);
        }
        let mtime = stamp(item.stat.st_mtime, item.stat.st_mtime_nsec);
        let offer = self.offers.iter().find(|offer| {
            offer.name == item.name
                && offer.size == size
                && offer.mtime == mtime
                && (1..=size).contains(&offer.have)
        });
        let Some(offer) = offer else {
            return Ok(0);
        };
        let failed = |source| SendError::Read {
            path: item.path.to_owned(),
            source,
        };
        let found = digest(file, offer.have).map_err(failed)?;
        let offset = if found == (offer.have, offer.digest) {
            offer.have
        } else {
            0
        };
        use std::io::Seek as _;
        file.seek(std::io::SeekFrom::Start(offset))
            .map_err(failed)?;
        Ok(offset)
    }

    fn header(&mut self, item: &Item<'_>, kind: Kind) -> Result<(), SendError> {
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        let entry = Entry {
            name: item.name,
            kind,
            permissions: item.stat.st_mode,
            atime: stamp(item.stat.st_atime, item.stat.st_atime_nsec),
            mtime: stamp(item.stat.st_mtime, item.stat.st_mtime_nsec),
        };
        self.encoder
            .entry(&entry, &mut self.buffer)
            .map_err(|source| SendError::Encode {
                path: item.path.to_owned(),
                source,
            })
    }

    fn account(&mut self, item: &Item<'_>, content: &[u8]) -> Result<(), SendError> {
        self.encoder
            .content(content)
            .map_err(|source| SendError::Encode {
                path: item.path.to_owned(),
                source,
            })
    }

    /// Sends what is buffered, unless the receiver has said something meanwhile.
    fn flush(&mut self) -> Result<(), SendError> {
        if self.has_answer()? {
            let outcome = self.read_answer()?;
            check(&outcome)?;
            return Err(SendError::Checksum);
        }
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&self.out, rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait(self.out.as_fd(), PollFlags::OUT)?,
                Err(error) => {
                    // The reason is in the answer, if there is one.
                    check(&self.read_answer()?)?;
                    return Err(SendError::Connection(error.into()));
                }
            }
        }
        self.buffer.clear();
        (self.progress)(self.sent.bytes + self.sent.resumed);
        Ok(())
    }

    fn has_answer(&self) -> Result<bool, SendError> {
        let mut fds = [PollFd::new(&self.answer, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match poll(&mut fds, Some(&now)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(SendError::Connection(error.into())),
        }
    }

    fn read_answer(&mut self) -> Result<Outcome, SendError> {
        let mut bytes = [0; 1024];
        loop {
            if let Some(outcome) = self.received.complete()? {
                return Ok(outcome);
            }
            match rustix::io::read(&self.answer, &mut bytes) {
                Ok(0) if self.received.is_empty() => return Err(SendError::NoAnswer),
                Ok(0) => return Ok(self.received.finish()?),
                Ok(count) => self.received.push(bytes.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait(self.answer.as_fd(), PollFlags::IN)?,
                Err(error) => return Err(SendError::Connection(error.into())),
            }
        }
    }
}

fn unreadable(path: &Path, source: Errno) -> SendError {
    SendError::Read {
        path: path.to_owned(),
        source: source.into(),
    }
}

fn wait(fd: BorrowedFd<'_>, flags: PollFlags) -> Result<(), SendError> {
    let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(SendError::Connection(error.into())),
    }
}

fn check(outcome: &Outcome) -> Result<(), SendError> {
    match outcome.code {
        code::OK => Ok(()),
        code => Err(SendError::Refused {
            code,
            last_name: outcome.shown_name(),
        }),
    }
}

/// Seconds and nanoseconds as the stream has them; before 1970 is 0, after 2106 the last second.
fn stamp(seconds: i64, nanos: u64) -> Stamp {
    Stamp {
        seconds: u32::try_from(seconds.max(0)).unwrap_or(u32::MAX),
        nanos: u32::try_from(nanos).unwrap_or(0).min(Stamp::NANOS_MAX),
    }
}

/// The path to open and the name it is sent by: the last component, of what `.` and `..` stand for.
pub(crate) fn name_of(path: &Path) -> Result<(PathBuf, Vec<u8>), SendError> {
    let no_name = || SendError::NoName(path.to_owned());
    let last_is_name = path
        .components()
        .next_back()
        .is_some_and(|last| matches!(last, std::path::Component::Normal(_)));
    let path = if last_is_name {
        // Without a trailing slash, which would follow a link.
        path.components().collect()
    } else {
        path.canonicalize().map_err(|source| SendError::Read {
            path: path.to_owned(),
            source,
        })?
    };
    let name = path.file_name().ok_or_else(no_name)?.as_bytes().to_vec();
    Ok((path, name))
}
