//! Messages out of a stream, of which only the beginning is kept.

use super::NotifyError;
use crate::qrexec::fill;

/// The beginning of a message.
#[derive(Debug)]
pub(super) struct Framed<'a> {
    pub(super) bytes: &'a [u8],
    /// Bytes that came behind it.
    pub(super) behind: usize,
}

/// Takes messages off a stream. Holds at most so many bytes as are kept of one.
#[derive(Debug)]
pub(super) struct Framer {
    longest: usize,
    kept_max: usize,
    length: [u8; 4],
    have: usize,
    kept: Vec<u8>,
    /// Bytes of the message that have come.
    come: usize,
}

impl Framer {
    /// Of messages up to `longest`, `kept_max` bytes are kept.
    pub(super) fn new(longest: usize, kept_max: usize) -> Self {
        Self {
            longest,
            kept_max,
            length: [0; 4],
            have: 0,
            kept: Vec::new(),
            come: 0,
        }
    }

    pub(super) fn is_between_messages(&self) -> bool {
        self.have == 0
    }

    /// The next message, once it is whole.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Framed<'_>>, NotifyError> {
        if self.have == 0 {
            self.kept.clear();
            self.come = 0;
        }
        if !fill(&mut self.length, &mut self.have, input) {
            return Ok(None);
        }
        let length = usize::try_from(u32::from_le_bytes(self.length)).unwrap_or(usize::MAX);
        if length > self.longest {
            return Err(NotifyError::TooLong(length));
        }
        let (part, rest) = input.split_at(input.len().min(length - self.come));
        *input = rest;
        self.come += part.len();
        let room = self.kept_max - self.kept.len();
        let kept = part.get(..room.min(part.len())).unwrap_or_default();
        self.kept.extend_from_slice(kept);
        if self.come < length {
            return Ok(None);
        }
        self.have = 0;
        Ok(Some(Framed {
            bytes: &self.kept,
            behind: length - self.kept.len(),
        }))
    }
}
