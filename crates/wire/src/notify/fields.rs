//! Fields as `bincode` lays them out, with integers of fixed size.

use super::{NotifyError, Unfit};

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The stream cannot go on.
    Malformed(&'static str),
    /// It goes on behind what is looked at.
    Unfit(Unfit),
}

impl From<Wrong> for NotifyError {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Malformed(why) => Self::Malformed(why),
            // Only dom0 reads messages of which not all is there.
            Wrong::Unfit(_) => Self::Malformed("it is too long"),
        }
    }
}

/// Reads fields off the front of a message.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// What is there of it.
    bytes: &'a [u8],
    /// Bytes of it that are not.
    behind: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], behind: usize) -> Self {
        Self { bytes, behind }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Wrong> {
        if count > self.bytes.len().saturating_add(self.behind) {
            return Err(Wrong::Malformed("it ends within a field"));
        }
        let taken = self.bytes.split_at_checked(count);
        let (taken, rest) = taken.ok_or(Wrong::Unfit(Unfit::TooLong))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| Wrong::Malformed("a field"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Wrong> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Wrong> {
        self.array().map(i32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Wrong> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Wrong> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Wrong::Malformed("a flag is neither 0 nor 1")),
        }
    }

    pub(super) fn length(&mut self) -> Result<usize, Wrong> {
        let length = usize::try_from(self.u64()?);
        length.map_err(|_| Wrong::Malformed("it ends within a field"))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Wrong> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        str::from_utf8(bytes).map_err(|_| Wrong::Malformed("a text is not UTF-8"))
    }

    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        self.flag()?.then(|| read(self)).transpose()
    }

    /// The rest has to be so long.
    pub(super) fn end(&self, rest: usize) -> Result<(), Wrong> {
        if self.bytes.len() + self.behind == rest {
            return Ok(());
        }
        Err(Wrong::Malformed("its length is not that of its fields"))
    }
}

/// Appends a message: what `write` writes, behind its length.
pub(super) fn message(output: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = output.len();
    output.extend([0; 4]);
    write(output);
    let length = output.len() - start - 4;
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(field) = output.get_mut(start..start + 4) {
        field.copy_from_slice(&length);
    }
}

pub(super) fn put_length(output: &mut Vec<u8>, length: usize) {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    output.extend(length.to_le_bytes());
}

pub(super) fn put_text(output: &mut Vec<u8>, text: &str) {
    put_length(output, text.len());
    output.extend(text.as_bytes());
}
