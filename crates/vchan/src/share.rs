//! Memory beside a channel, which its peer may read: the contents of windows.
//!
//! ```text
//! owner:  Sharer::make ─> SharedMemory ─> AnyChannel::offer ─> references, put into a message
//! peer:   AnyChannel::expect_memory ─> message ─> Viewer::map ─> PeerMemory
//! ```
//!
//! On Xen the references are those of granted pages, and nothing but them is exchanged. Where
//! channels are sockets, a sealed file rides on the first byte of the message; its references are
//! the numbers of its pages, from 0 on. Messages are the same on both.
//!
//! The owner may change what is in it at any time, also while it is read: what was read once is a
//! copy, and reading twice may give two answers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use thiserror::Error;

use crate::id::DomId;
use crate::transport::AnyChannel;
use crate::xen::device::{Access, AllocDevice, GrantDevice, PAGES_MAX};
use crate::xen::layout::GrantRef;
use crate::xen::memory::{HALF, PAGE, Region};

/// Most pages that are shared as one: a window of 16384 by 6144 pixels of 4 bytes.
pub const SHARED_PAGES_MAX: usize = 98_304;

/// Pages that devices are asked for at once; larger memory is many of these side by side.
const CHUNK: usize = 512;
const _: () = assert!(CHUNK <= PAGES_MAX);

/// What a file can never do again: become shorter under who reads it, become longer, and be
/// allowed to.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// The kind of file system that memory files are on whose pages are of the usual size. Pages of
/// others can go away again, and who looks at such a one is killed.
const TMPFS: u64 = 0x0102_1994;

/// A place outside of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{len} bytes at {offset} are not in shared memory of {all} bytes")]
pub struct OutsideError {
    /// From where on.
    pub offset: usize,
    /// How many bytes.
    pub len: usize,
    /// Bytes that there are.
    pub all: usize,
}

/// Why what a peer shares cannot be looked at.
#[derive(Debug, Error)]
pub enum MapError {
    /// No pages, more than [`SHARED_PAGES_MAX`], or less than the bytes that are to be in them.
    #[error("{pages} pages cannot hold {bytes} bytes")]
    Pages {
        /// How many references there are.
        pages: usize,
        /// How many bytes were asked for.
        bytes: usize,
    },
    /// The message came without a file.
    #[error("no file came with the pages")]
    NoFile,
    /// References of a file are its pages, from the first on.
    #[error("the pages of a file are out of order")]
    Order,
    /// The file could become shorter.
    #[error("the file is not a sealed file of memory")]
    NotSealed,
    /// The file has less pages than references.
    #[error("the file has {bytes} bytes, and is to have {pages} pages")]
    Short {
        /// Its length.
        bytes: u64,
        /// How many references there are.
        pages: usize,
    },
    /// The kernel or Xen refused: where pages are granted, they are not there or not for us.
    #[error("the pages cannot be mapped")]
    Map(#[source] io::Error),
}

/// Makes memory for one peer. By `Transport::sharer`.
#[derive(Debug)]
pub enum Sharer {
    /// Channels are sockets.
    Files,
    /// Granted to this domain.
    Grants(AllocDevice, DomId),
}

/// Memory that the peer of a channel may read. Keep it until the peer said that it looks no more.
#[derive(Debug)]
pub struct SharedMemory {
    memory: Chunks,
    shared: Shared,
}

#[derive(Debug)]
enum Shared {
    File(OwnedFd),
    Grants(Vec<GrantRef>),
}

impl Sharer {
    /// Makes memory of `pages`, all zero.
    ///
    /// # Errors
    /// `InvalidInput` for none or for more than [`SHARED_PAGES_MAX`]; `StorageFull` where domains
    /// were given as many pages as the `limit` of the module `xen-gntalloc`; else the kernel's.
    pub fn make(&self, pages: usize) -> io::Result<SharedMemory> {
        if !(1..=SHARED_PAGES_MAX).contains(&pages) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match self {
            Self::Files => in_file(pages),
            Self::Grants(device, peer) => {
                let (mut parts, mut grants) = (Vec::new(), Vec::new());
                for first in (0..pages).step_by(CHUNK) {
                    let (part, more) = device.show(*peer, CHUNK.min(pages - first))?;
                    parts.push(part);
                    grants.extend(more);
                }
                Ok(SharedMemory {
                    memory: Chunks::new(parts, pages * PAGE),
                    shared: Shared::Grants(grants),
                })
            }
        }
    }
}

fn in_file(pages: usize) -> io::Result<SharedMemory> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("shared", flags)?;
    rustix::fs::ftruncate(&file, (pages * PAGE) as u64)?;
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    let memory = Region::of_file(&file, pages, Access::ReadWrite)?;
    Ok(SharedMemory {
        memory: Chunks::new(vec![memory], pages * PAGE),
        shared: Shared::File(file),
    })
}

impl SharedMemory {
    /// The sealed file that it is, where it is one: for a third process, such as a display.
    #[must_use]
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.shared {
            Shared::File(file) => Some(file.as_fd()),
            Shared::Grants(_) => None,
        }
    }

    /// Its length in bytes: whole pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.len
    }

    /// Never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory.len == 0
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// Where they do not all fit; nothing is copied then.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutsideError> {
        self.memory.check(offset, from.len())?;
        let mut rest = from;
        for (region, at, len) in self.memory.pieces(offset, from.len()) {
            let (piece, more) = rest.split_at(len);
            region.write(at, piece);
            rest = more;
        }
        Ok(())
    }
}

impl AnyChannel {
    /// Has `memory` reach the peer with the message that begins `after` bytes from now: as many
    /// wait to be written before it. Returns the references of its pages, which that message is to have.
    ///
    /// # Errors
    /// `InvalidInput` where the last offer was for that message or a later one, or the memory is
    /// for channels of another kind; what the kernel said.
    pub fn offer(&mut self, memory: &SharedMemory, after: usize) -> io::Result<Vec<u32>> {
        match (self, &memory.shared) {
            (Self::Socket(channel), Shared::File(file)) => {
                channel.send_file(after, file.try_clone()?)?;
                let pages = u32::try_from(memory.len() / PAGE).unwrap_or_default();
                Ok((0..pages).collect())
            }
            (Self::Xen(_), Shared::Grants(grants)) => {
                Ok(grants.iter().map(|grant| grant.0).collect())
            }
            (Self::Socket(_), Shared::Grants(_)) | (Self::Xen(_), Shared::File(_)) => {
                Err(io::ErrorKind::InvalidInput.into())
            }
        }
    }

    /// Takes memory that the peer offers, from now on. Before, what comes is dropped. Reading ends
    /// with `InvalidData` where a peer offers more than `files::FILES_MAX` that no message names.
    pub fn expect_memory(&mut self) {
        match self {
            Self::Socket(channel) => channel.expect_files(),
            Self::Xen(_) => {}
        }
    }
}

/// Maps what one peer shares. By `Transport::viewer`.
#[derive(Debug)]
pub enum Viewer {
    /// Channels are sockets.
    Files,
    /// Granted by this domain.
    Grants(GrantDevice, DomId),
}

/// Memory of a peer, for reading. It stays what it is until it is dropped, whatever the peer does,
/// but for its contents.
#[derive(Debug)]
pub struct PeerMemory(Chunks);

impl Viewer {
    /// Maps the `len` bytes that a message which was just read from `channel` shares by
    /// `references`. To be called for each message that shares memory, in order.
    ///
    /// # Errors
    /// [`MapError`]. The memory that came for this message is given up then.
    pub fn map(
        &self,
        channel: &mut AnyChannel,
        references: &[u32],
        len: usize,
    ) -> Result<PeerMemory, MapError> {
        let file = match channel {
            AnyChannel::Socket(channel) => channel.next_file(),
            AnyChannel::Xen(_) => None,
        };
        let pages = references.len();
        if !(1..=SHARED_PAGES_MAX).contains(&pages) || len > pages * PAGE {
            return Err(MapError::Pages { pages, bytes: len });
        }
        let regions = match self {
            Self::Files => vec![of_file(file.ok_or(MapError::NoFile)?, references)?],
            Self::Grants(device, owner) => {
                let grants: Vec<GrantRef> = references.iter().copied().map(GrantRef).collect();
                let chunks = grants.chunks(CHUNK).map(|chunk| device.view(*owner, chunk));
                chunks.collect::<Result<_, _>>().map_err(MapError::Map)?
            }
        };
        Ok(PeerMemory(Chunks::new(regions, len)))
    }
}

fn of_file(file: OwnedFd, references: &[u32]) -> Result<Region, MapError> {
    let in_order = (0..).zip(references).all(|(n, reference)| n == *reference);
    if !in_order {
        return Err(MapError::Order);
    }
    if !is_sealed(&file) {
        return Err(MapError::NotSealed);
    }
    let pages = references.len();
    let stat = rustix::fs::fstat(&file).map_err(|e| MapError::Map(e.into()))?;
    let bytes = u64::try_from(stat.st_size).unwrap_or_default();
    if bytes < (pages * PAGE) as u64 {
        return Err(MapError::Short { bytes, pages });
    }
    Region::of_file(&file, pages, Access::Read).map_err(MapError::Map)
}

/// Whether it is a file of memory that stays as long as it is.
fn is_sealed(file: impl AsFd) -> bool {
    let on_tmpfs = |stat: rustix::fs::StatFs| u64::try_from(stat.f_type) == Ok(TMPFS);
    rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SEALS))
        && rustix::fs::fstatfs(&file).is_ok_and(on_tmpfs)
}

impl PeerMemory {
    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether no bytes of its pages were asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// Where they are not all inside; nothing is copied then.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), OutsideError> {
        self.0.check(offset, to.len())?;
        let mut rest = to;
        for (region, at, len) in self.0.pieces(offset, rest.len()) {
            let (piece, more) = rest.split_at_mut(len);
            region.read(at, piece);
            rest = more;
        }
        Ok(())
    }
}

impl PeerMemory {
    /// Copies bytes, each once, to memory of our own. Places and length are in whole pixels of 4
    /// bytes.
    ///
    /// # Errors
    /// Where they are not, or not all inside of both; nothing is copied then.
    pub fn copy_to(
        &self,
        offset: usize,
        to: &SharedMemory,
        at: usize,
        len: usize,
    ) -> Result<(), OutsideError> {
        self.0.check(offset, len)?;
        to.memory.check(at, len)?;
        if [offset, at, len].iter().any(|n| !n.is_multiple_of(HALF)) {
            let all = self.0.len;
            return Err(OutsideError { offset, len, all });
        }
        let mut done = 0;
        for (from, from_at, from_len) in self.0.pieces(offset, len) {
            let mut copied = 0;
            for (to, to_at, to_len) in to.memory.pieces(at + done, from_len) {
                from.copy_to(from_at + copied, to, to_at, to_len);
                copied += to_len;
            }
            done += from_len;
        }
        Ok(())
    }
}

/// Regions of the same length, but for the last, side by side.
#[derive(Debug)]
struct Chunks {
    regions: Vec<Region>,
    /// Bytes that may be used.
    len: usize,
}

impl Chunks {
    fn new(regions: Vec<Region>, len: usize) -> Self {
        Self { regions, len }
    }

    fn check(&self, offset: usize, len: usize) -> Result<(), OutsideError> {
        let end = offset.checked_add(len);
        if end.is_some_and(|end| end <= self.len) {
            return Ok(());
        }
        Err(OutsideError {
            offset,
            len,
            all: self.len,
        })
    }

    /// What lies in which region: from where on there, and how much.
    fn pieces(&self, offset: usize, len: usize) -> impl Iterator<Item = (&Region, usize, usize)> {
        let each = self.regions.first().map_or(PAGE, Region::len);
        let (mut at, mut left) = (offset % each, len);
        let regions = self.regions.iter().skip(offset / each);
        regions.map_while(move |region| {
            let piece = left.min(region.len() - at);
            let here = (piece > 0).then_some((region, at, piece));
            (at, left) = (0, left - piece);
            here
        })
    }
}

#[cfg(test)]
mod tests;
