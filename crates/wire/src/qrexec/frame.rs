//! Message headers, and cutting a byte stream into whole messages.

use thiserror::Error;

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// Bytes for the service; empty means end.
    Stdin = 0x190,
    /// Bytes from the service; empty means end.
    Stdout = 0x191,
    /// Diagnostics from the service; empty means end.
    Stderr = 0x192,
    /// How the service ended.
    ExitCode = 0x193,
    /// Run a command with its streams connected.
    ExecCmdline = 0x200,
    /// Run a command with no streams.
    JustExec = 0x201,
    /// A guest's request was allowed.
    ServiceConnect = 0x202,
    /// A guest's request was refused.
    ServiceRefused = 0x203,
    /// Ask for a call (version 2).
    Trigger2 = 0x210,
    /// A data channel has ended.
    ConnectionTerminated = 0x211,
    /// Ask for a call (version 3).
    Trigger3 = 0x212,
    /// Ask for a call (version 4).
    Trigger4 = 0x213,
    /// First message of every link: the version.
    Hello = 0x300,
}

impl Kind {
    /// All kinds there are.
    pub const ALL: [Self; 13] = [
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::ExitCode,
        Self::ExecCmdline,
        Self::JustExec,
        Self::ServiceConnect,
        Self::ServiceRefused,
        Self::Trigger2,
        Self::ConnectionTerminated,
        Self::Trigger3,
        Self::Trigger4,
        Self::Hello,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_number(untrusted: u32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.number() == untrusted)
    }
}

/// What precedes every body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Meaning of the body.
    pub kind: Kind,
    /// Bytes of the body.
    pub len: u32,
}

impl Header {
    /// Writes the header.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let (kind, len) = out.split_at_mut(4);
        kind.copy_from_slice(&self.kind.number().to_le_bytes());
        len.copy_from_slice(&self.len.to_le_bytes());
        out
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`FrameError::UnknownKind`].
    pub fn decode(untrusted: [u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [a, b, c, d, rest @ ..] = untrusted;
        let number = u32::from_le_bytes([a, b, c, d]);
        let kind = Kind::from_number(number).ok_or(FrameError::UnknownKind { number })?;
        Ok(Self {
            kind,
            len: u32::from_le_bytes(rest),
        })
    }
}

/// A message of kind `kind` whose body is the parts of `body` one after the other.
///
/// # Errors
/// [`FrameError::TooLong`] if the body exceeds `max` bytes.
pub fn message(kind: Kind, max: u32, body: &[&[u8]]) -> Result<Vec<u8>, FrameError> {
    let total: usize = body.iter().map(|part| part.len()).sum();
    let len = u32::try_from(total).unwrap_or(u32::MAX);
    if len > max {
        return Err(FrameError::TooLong { kind, len, max });
    }
    let mut out = Vec::with_capacity(HEADER_LEN + total);
    out.extend_from_slice(&Header { kind, len }.encode());
    for part in body {
        out.extend_from_slice(part);
    }
    Ok(out)
}

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// No such kind.
    #[error("unknown qrexec message kind {number:#x}")]
    UnknownKind {
        /// The number.
        number: u32,
    },
    /// The body is longer than the link allows.
    #[error("qrexec message {kind:?} of {len} bytes exceeds {max}")]
    TooLong {
        /// The kind.
        kind: Kind,
        /// Announced length.
        len: u32,
        /// The limit.
        max: u32,
    },
}

/// Cuts a byte stream into messages. Holds at most one message, of at most `max` body bytes.
#[derive(Debug)]
pub struct FrameReader {
    max: u32,
    head: [u8; HEADER_LEN],
    have: usize,
    /// Set once the header is whole.
    header: Option<Header>,
    body: Vec<u8>,
}

impl FrameReader {
    /// A reader that refuses bodies over `max` bytes.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self {
            max,
            head: [0; HEADER_LEN],
            have: 0,
            header: None,
            body: Vec::new(),
        }
    }

    /// Takes bytes off the front of `input`, at most up to the end of the next message, and
    /// returns that message once it is whole. Call again until it returns `None`.
    ///
    /// # Errors
    /// [`FrameError`]; the stream cannot be read any further then.
    pub fn push(&mut self, input: &mut &[u8]) -> Result<Option<(Kind, Vec<u8>)>, FrameError> {
        let header = match self.header {
            Some(header) => header,
            None => match self.push_header(input)? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        let missing = (header.len as usize).saturating_sub(self.body.len());
        self.body.extend_from_slice(take(input, missing));
        if self.body.len() < header.len as usize {
            return Ok(None);
        }
        self.header = None;
        self.have = 0;
        Ok(Some((header.kind, std::mem::take(&mut self.body))))
    }

    fn push_header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, FrameError> {
        if !fill(&mut self.head, &mut self.have, input) {
            return Ok(None);
        }
        let header = Header::decode(self.head)?;
        if header.len > self.max {
            return Err(FrameError::TooLong {
                kind: header.kind,
                len: header.len,
                max: self.max,
            });
        }
        self.header = Some(header);
        Ok(Some(header))
    }

    /// Whether the stream could end here without cutting a message.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.have == 0
    }
}

/// Splits up to `n` bytes off the front of `input`.
pub(crate) fn take<'a>(input: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (front, rest) = input.split_at_checked(n).unwrap_or((*input, &[]));
    *input = rest;
    front
}

/// Moves bytes off the front of `input` into `bytes`, of which there are `have`; whether it is full.
pub(crate) fn fill(bytes: &mut [u8], have: &mut usize, input: &mut &[u8]) -> bool {
    let part = take(input, bytes.len() - *have);
    for (to, from) in bytes.iter_mut().skip(*have).zip(part) {
        *to = *from;
    }
    *have += part.len();
    *have == bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(reader: &mut FrameReader, mut input: &[u8]) -> Vec<(Kind, Vec<u8>)> {
        let mut out = Vec::new();
        while let Some(frame) = reader.push(&mut input).unwrap() {
            out.push(frame);
        }
        assert!(input.is_empty());
        out
    }

    #[test]
    fn a_body_of_the_limit_passes_and_one_more_byte_does_not() {
        let mut reader = FrameReader::new(10);
        let ok = message(Kind::Stdin, 10, &[&[7; 10]]).unwrap();
        assert_eq!(all(&mut reader, &ok), vec![(Kind::Stdin, vec![7; 10])]);
        let long = message(Kind::Stdin, 11, &[&[7; 11]]).unwrap();
        let error = FrameError::TooLong {
            kind: Kind::Stdin,
            len: 11,
            max: 10,
        };
        assert_eq!(reader.push(&mut &long[..]), Err(error));
        assert_eq!(message(Kind::Stdin, 10, &[&[7; 11]]), Err(error));
    }

    #[test]
    fn an_unknown_kind_is_refused_before_its_body() {
        let mut reader = FrameReader::new(10);
        let error = FrameError::UnknownKind { number: 0x199 };
        assert_eq!(
            reader.push(&mut &[0x99, 1, 0, 0, 255, 255, 255, 255][..]),
            Err(error)
        );
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_messages(
            bodies in prop::collection::vec((0usize..13, prop::collection::vec(any::<u8>(), 0..50)), 0..8),
            cuts in prop::collection::vec(1usize..20, 0..60),
        ) {
            let frames: Vec<_> =
                bodies.into_iter().map(|(k, body)| (Kind::ALL[k], body)).collect();
            let mut bytes = Vec::new();
            for (kind, body) in &frames {
                bytes.extend(message(*kind, 50, &[body]).unwrap());
            }
            let mut reader = FrameReader::new(50);
            prop_assert_eq!(&all(&mut reader, &bytes), &frames);
            let mut rest = &bytes[..];
            let mut seen = Vec::new();
            for cut in cuts {
                let part = take(&mut rest, cut);
                seen.extend(all(&mut reader, part));
            }
            seen.extend(all(&mut reader, rest));
            prop_assert_eq!(seen, frames);
            prop_assert!(reader.is_between_messages());
        }
    }
}
