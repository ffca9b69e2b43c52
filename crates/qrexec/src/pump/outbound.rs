//! From local descriptors to the channel.

use std::io::{self, IoSlice};
use std::ops::Range;

use bulkhead_vchan::Channel;
use bulkhead_wire::qrexec::{HEADER_LEN, Header, Kind, Version, data, hello};

use super::ends::Input;

/// Bytes up to which more is put behind what is queued: room for the ends of all streams and the
/// exit code, which then wake the peer once.
const LIGHT: usize = 64;

/// Room for a first chunk; larger ones once one was full. A call that says little touches little
/// memory.
const FIRST: usize = 4 * 1024;

/// What reading a local stream gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// A message is queued.
    Data,
    /// Nothing is there now.
    Nothing,
    /// The stream has ended.
    End,
}

/// At most one large data message, and the few small ones around it.
#[derive(Debug)]
pub(super) struct Outbound {
    buffer: Vec<u8>,
    /// Most bytes that are read at a time, if the version allows as many.
    room: usize,
    /// Bytes of the buffer that are messages.
    end: usize,
    /// Bytes of them that were sent.
    sent: usize,
    /// Where the bytes are that were read last.
    last: Range<usize>,
    /// The peer takes no more.
    dead: bool,
}

impl Outbound {
    /// Starts with our HELLO.
    pub(super) fn new() -> Self {
        let mut it = Self {
            buffer: Vec::new(),
            room: FIRST,
            end: 0,
            sent: 0,
            last: 0..0,
            dead: false,
        };
        it.queue(&hello(Version::NEWEST));
        it
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.end
    }

    /// So little is queued that more may go with it.
    pub(super) fn is_light(&self) -> bool {
        self.is_empty() || self.end <= LIGHT
    }

    /// Gives up what is queued and all that may follow.
    pub(super) fn kill(&mut self) {
        self.dead = true;
        self.sent = self.end;
    }

    fn queue(&mut self, bytes: &[u8]) {
        if self.dead {
            return;
        }
        self.compact();
        self.buffer.truncate(self.end);
        self.buffer.extend_from_slice(bytes);
        self.end = self.buffer.len();
    }

    fn compact(&mut self) {
        if self.is_empty() {
            (self.sent, self.end) = (0, 0);
        }
    }

    pub(super) fn eof(&mut self, kind: Kind) {
        self.queue(&data::eof(kind));
    }

    pub(super) fn exit(&mut self, code: i32) {
        self.queue(&data::exit_code(code));
    }

    /// Takes up to one chunk of bytes that are there already; returns how many.
    pub(super) fn take(&mut self, kind: Kind, version: Version, bytes: &[u8]) -> usize {
        let n = bytes.len().min(version.chunk_max() as usize);
        let len = u32::try_from(n).unwrap_or(version.chunk_max());
        self.queue(&Header { kind, len }.encode());
        self.queue(bytes.get(..n).unwrap_or_default());
        n
    }

    /// Reads one chunk of `input` if little or nothing is queued.
    pub(super) fn fill(
        &mut self,
        kind: Kind,
        version: Version,
        input: &Input,
    ) -> io::Result<Filled> {
        if !self.is_light() {
            return Ok(Filled::Nothing);
        }
        self.compact();
        let room = self.room.min(version.chunk_max() as usize);
        let size = self.end + HEADER_LEN + room;
        if self.buffer.len() < size {
            let mut larger = vec![0; size];
            if let (Some(to), Some(from)) =
                (larger.get_mut(..self.end), self.buffer.get(..self.end))
            {
                to.copy_from_slice(from);
            }
            self.buffer = larger;
        }
        let free = self.buffer.get_mut(self.end..size).unwrap_or_default();
        let Some((head, body)) = free.split_at_mut_checked(HEADER_LEN) else {
            return Ok(Filled::Nothing);
        };
        match input.read(body)? {
            None => Ok(Filled::Nothing),
            Some(0) => Ok(Filled::End),
            Some(n) => {
                if n == body.len() {
                    self.room = usize::MAX;
                }
                let len = u32::try_from(n).unwrap_or(u32::MAX);
                head.copy_from_slice(&Header { kind, len }.encode());
                let body = self.end + HEADER_LEN;
                self.last = body..body + n;
                if !self.dead {
                    self.end += HEADER_LEN + n;
                }
                Ok(Filled::Data)
            }
        }
    }

    /// What the last successful [`Self::fill`] read.
    pub(super) fn filled(&self) -> &[u8] {
        self.buffer.get(self.last.clone()).unwrap_or_default()
    }

    /// Sends what fits.
    ///
    /// # Errors
    /// What the channel said; [`Self::kill`] was called then.
    pub(super) fn flush(&mut self, channel: &mut dyn Channel) -> io::Result<()> {
        while !self.is_empty() {
            let rest = self.buffer.get(self.sent..self.end).unwrap_or_default();
            match channel.write(&[IoSlice::new(rest)]) {
                Ok(n) => self.sent = self.end.min(self.sent + n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => {
                    self.kill();
                    return Err(e);
                }
            }
        }
        Ok(())
    }
}
