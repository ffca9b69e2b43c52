//! From the channel to local descriptors.

use std::io;
use std::ops::Range;

use bulkhead_vchan::Channel;
use bulkhead_wire::qrexec::data::{DataDecoder, DataError, DataEvent, Role, Sink};

/// Bytes read from the channel at a time: two chunks of the largest kind.
const BUFFER: usize = 128 * 1024;
/// The same until that many came at once: a call that says little touches little memory.
const FIRST: usize = 4 * 1024;

/// What the pump has to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// [`Inbound::part`] waits to be written.
    Part(Sink),
    /// A stream ended, and all of it was written.
    Eof(Sink),
    /// The service ended.
    Exit(i32),
    /// The channel is up.
    Up,
    /// Nothing to do before more arrives.
    Hungry,
    /// The peer is gone, and all it sent was handled.
    Gone,
}

/// Reads, decodes, and holds at most one buffer that is being written out.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) decoder: DataDecoder,
    buffer: Vec<u8>,
    /// Bytes that were read and not decoded.
    raw: Range<usize>,
    /// Bytes that were decoded and not written.
    part: Option<(Sink, Range<usize>)>,
    filter_main: bool,
    filter_errors: bool,
    /// The last read filled the buffer.
    full: bool,
    gone: bool,
}

impl Inbound {
    pub(super) fn new(role: Role, filter_main: bool, filter_errors: bool) -> Self {
        Self {
            decoder: DataDecoder::new(role),
            buffer: vec![0; FIRST],
            raw: 0..0,
            part: None,
            filter_main,
            filter_errors,
            full: false,
            gone: false,
        }
    }

    /// Whether the channel should be polled for reading.
    pub(super) fn wants(&self) -> bool {
        self.part.is_none() && self.raw.start >= self.raw.end && !self.gone
    }

    /// The sink that something waits for.
    pub(super) fn waiting_for(&self) -> Option<Sink> {
        self.part.as_ref().map(|(sink, _)| *sink)
    }

    /// What waits to be written.
    pub(super) fn part(&self) -> &[u8] {
        let range = self.part.as_ref().map_or(0..0, |(_, range)| range.clone());
        self.buffer.get(range).unwrap_or_default()
    }

    /// Notes that `n` bytes of the part were written.
    pub(super) fn written(&mut self, n: usize) {
        if let Some((_, range)) = &mut self.part {
            range.start = range.end.min(range.start.saturating_add(n));
            if range.start >= range.end {
                self.part = None;
            }
        }
    }

    /// Gives up the part: nobody reads it.
    pub(super) fn discard(&mut self) {
        self.part = None;
    }

    /// The next thing to act on, reading from the channel if need be.
    pub(super) fn next(&mut self, channel: &mut dyn Channel) -> Result<Notice, InboundError> {
        if let Some((sink, _)) = self.part {
            return Ok(Notice::Part(sink));
        }
        loop {
            if let Some(notice) = self.decode()? {
                return Ok(notice);
            }
            if self.gone {
                return Ok(Notice::Gone);
            }
            // Nothing is in it that is still needed.
            if self.raw.is_empty() && self.full && self.buffer.len() < BUFFER {
                self.buffer = vec![0; BUFFER];
            }
            match channel.read(&mut self.buffer) {
                Ok(0) => self.gone = true,
                Ok(n) => {
                    self.full = n == self.buffer.len();
                    self.raw = 0..n;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Notice::Hungry),
                Err(e) => return Err(InboundError::Read(e)),
            }
        }
    }

    fn decode(&mut self) -> Result<Option<Notice>, InboundError> {
        let mut rest = self.buffer.get(self.raw.clone()).unwrap_or_default();
        let event = self.decoder.push(&mut rest).map_err(InboundError::Data)?;
        let after = self.raw.end - rest.len();
        self.raw.start = after;
        let (sink, len) = match event {
            None => return Ok(None),
            Some(DataEvent::Hello(_)) => return Ok(Some(Notice::Up)),
            Some(DataEvent::Eof(sink)) => return Ok(Some(Notice::Eof(sink))),
            Some(DataEvent::Exit(code)) => return Ok(Some(Notice::Exit(code))),
            Some(DataEvent::Bytes(sink, bytes)) => (sink, bytes.len()),
        };
        let range = after - len..after;
        let filtered = match sink {
            Sink::Main => self.filter_main,
            Sink::Stderr => self.filter_errors,
        };
        if filtered {
            for byte in self.buffer.get_mut(range.clone()).unwrap_or_default() {
                *byte = harmless(*byte);
            }
        }
        self.part = Some((sink, range));
        Ok(Some(Notice::Part(sink)))
    }
}

/// The byte itself if a terminal only prints it or moves the cursor a little, else `_`.
fn harmless(byte: u8) -> u8 {
    match byte {
        b' '..=b'~' | b'\t' | b'\n' | b'\r' | 8 | 7 => byte,
        _ => b'_',
    }
}

#[derive(Debug)]
pub(super) enum InboundError {
    Read(io::Error),
    Data(DataError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_bytes_pass_the_filter() {
        let kept: Vec<u8> = (0..=255).filter(|&b| harmless(b) == b).collect();
        let mut expected = vec![7, 8, b'\t', b'\n', b'\r'];
        expected.extend(b' '..=b'~');
        assert_eq!(kept, expected);
        assert_eq!(harmless(0x1b), b'_');
    }
}
