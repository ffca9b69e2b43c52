//! The sender's side.

use crc32fast::Hasher;

use super::header::{Entry, Kind, RawHeader};
use super::{Dialect, NAME_MAX};

/// Why an item cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Name empty or over [`NAME_MAX`].
    #[error("a name of {0} bytes cannot be sent")]
    NameLength(usize),
    /// The content of the item before is not complete.
    #[error("{0} bytes of the last item are missing")]
    Unfinished(u64),
    /// More content than the header said.
    #[error("the item has {0} bytes more than was said")]
    TooMuch(u64),
    /// An offset past the end, or one where the dialect has none.
    #[error("offset {0} cannot be sent")]
    Offset(u64),
}

/// Writes headers and keeps the checksum. Content goes from the caller's buffers to the wire; the
/// encoder only looks at it.
#[derive(Debug, Clone)]
pub struct Encoder {
    dialect: Dialect,
    crc: Hasher,
    left: u64,
}

impl Encoder {
    /// Nothing sent yet.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            crc: Hasher::new(),
            left: 0,
        }
    }

    /// Appends an item's header and name to `out`. Its content follows through
    /// [`Self::content`]: of a file from its offset, of a link the target.
    pub fn entry(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.complete()?;
        let bad_name = EncodeError::NameLength(entry.name.len());
        if entry.name.is_empty() || entry.name.len() > NAME_MAX {
            return Err(bad_name);
        }
        let namelen = u32::try_from(entry.name.len() + 1).map_err(|_| bad_name)?;
        let (left, offset) = match (entry.kind, self.dialect) {
            (Kind::File { size, offset: 0 }, Dialect::Plain) => (size, None),
            (Kind::File { size, offset }, Dialect::Resumable) if offset <= size => {
                (size - offset, Some(offset))
            }
            (Kind::File { offset, .. }, _) => return Err(EncodeError::Offset(offset)),
            (Kind::Directory, _) => (0, None),
            (Kind::Link { length }, _) => (length, None),
        };
        let start = out.len();
        RawHeader::of(entry, namelen).write(out);
        out.extend_from_slice(entry.name);
        out.push(0);
        if let Some(offset) = offset {
            out.extend_from_slice(&offset.to_le_bytes());
        }
        self.crc.update(out.get(start..).unwrap_or_default());
        self.left = left;
        Ok(())
    }

    /// Accounts for `bytes` of content, which the caller sends next.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let length = bytes.len() as u64;
        self.left = self
            .left
            .checked_sub(length)
            .ok_or_else(|| EncodeError::TooMuch(length - self.left))?;
        self.crc.update(bytes);
        Ok(())
    }

    /// Appends the end of the transfer to `out` and returns the checksum of it all.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<u32, EncodeError> {
        self.complete()?;
        let start = out.len();
        RawHeader::default().write(out);
        self.crc.update(out.get(start..).unwrap_or_default());
        Ok(self.crc.clone().finalize())
    }

    fn complete(&self) -> Result<(), EncodeError> {
        match self.left {
            0 => Ok(()),
            left => Err(EncodeError::Unfinished(left)),
        }
    }
}
