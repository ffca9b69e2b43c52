//! Messages of xenstore, as bytes.
//!
//! A message is a header of four numbers (kind, request, transaction, length of what follows) in
//! the machine's own order, and a payload. Source: Xen's public header `xen/io/xs_wire.h`.

use thiserror::Error;

/// Bytes of a header.
pub const HEADER_LEN: usize = 16;

/// Most bytes of a payload, by the protocol.
pub const PAYLOAD_MAX: usize = 4096;

/// What a message is: the requests that are used here, and what comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "they are named as in the protocol")]
pub enum Kind {
    Directory = 1,
    Read = 2,
    GetPerms = 3,
    Watch = 4,
    Unwatch = 5,
    TransactionStart = 6,
    TransactionEnd = 7,
    Write = 11,
    Mkdir = 12,
    Rm = 13,
    SetPerms = 14,
    WatchEvent = 15,
    Error = 16,
    IsDomainIntroduced = 17,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Directory,
        Self::Read,
        Self::GetPerms,
        Self::Watch,
        Self::Unwatch,
        Self::TransactionStart,
        Self::TransactionEnd,
        Self::Write,
        Self::Mkdir,
        Self::Rm,
        Self::SetPerms,
        Self::WatchEvent,
        Self::Error,
        Self::IsDomainIntroduced,
    ];
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Number that a reply has of its request. 0 for watch events.
    pub request: u32,
    /// Transaction that it belongs to; 0 for none.
    pub transaction: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// Bytes that are no messages, or a message that cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// The payload is longer than the protocol allows.
    #[error("a message of {0} bytes is longer than the {PAYLOAD_MAX} that xenstore takes")]
    TooLong(usize),
    /// Nothing that we asked for is answered by this.
    #[error("a message of kind {0} is not known")]
    Kind(u32),
}

impl Message {
    /// A request whose payload is `parts`, one after another.
    ///
    /// # Errors
    /// [`WireError::TooLong`].
    pub fn request(
        kind: Kind,
        request: u32,
        transaction: u32,
        parts: &[&[u8]],
    ) -> Result<Self, WireError> {
        let payload = parts.concat();
        if payload.len() > PAYLOAD_MAX {
            return Err(WireError::TooLong(payload.len()));
        }
        Ok(Self {
            kind,
            request,
            transaction,
            payload,
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Checked when it was made.
        let len = u32::try_from(self.payload.len()).unwrap_or_default();
        let header = [self.kind as u32, self.request, self.transaction, len];
        let mut bytes: Vec<u8> = header.iter().flat_map(|n| n.to_ne_bytes()).collect();
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// Makes messages of bytes, however they are cut.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Takes in bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// [`WireError`]; nothing that follows can be understood then.
    pub fn take(&mut self) -> Result<Option<Message>, WireError> {
        let Some((header, rest)) = self.buffer.split_at_checked(HEADER_LEN) else {
            return Ok(None);
        };
        let mut numbers = header
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| u32::from_ne_bytes(*bytes));
        let mut number = || numbers.next().unwrap_or_default();
        let (kind, request, transaction, len) = (number(), number(), number(), number());
        let len = len as usize;
        if len > PAYLOAD_MAX {
            return Err(WireError::TooLong(len));
        }
        let known = Kind::ALL.into_iter().find(|known| *known as u32 == kind);
        let kind = known.ok_or(WireError::Kind(kind))?;
        let Some(payload) = rest.get(..len) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.buffer.drain(..HEADER_LEN + len);
        Ok(Some(Message {
            kind,
            request,
            transaction,
            payload,
        }))
    }
}

/// The strings of a payload, each ended by a zero byte; the last may lack it.
pub fn strings(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let payload = payload.strip_suffix(b"\0").unwrap_or(payload);
    let empty = payload.is_empty();
    payload.split(|&byte| byte == 0).filter(move |_| !empty)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        (
            0..Kind::ALL.len(),
            any::<u32>(),
            any::<u32>(),
            proptest::collection::vec(any::<u8>(), 0..300),
        )
            .prop_map(|(kind, request, transaction, payload)| Message {
                kind: Kind::ALL[kind],
                request,
                transaction,
                payload,
            })
    }

    proptest! {
        #[test]
        fn messages_come_back_however_they_are_cut(
            messages in proptest::collection::vec(message(), 0..5),
            cut in 1_usize..100,
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(Message::encode).collect();
            let mut decoder = Decoder::default();
            let mut back = Vec::new();
            for part in bytes.chunks(cut) {
                decoder.push(part);
                while let Some(message) = decoder.take().unwrap() {
                    back.push(message);
                }
            }
            prop_assert_eq!(back, messages);
        }
    }

    #[test]
    fn a_message_is_as_long_as_the_protocol_allows_and_no_longer() {
        let of = |len: usize| Message::request(Kind::Read, 1, 0, &[&vec![0; len]]);
        let longest = of(PAYLOAD_MAX).unwrap();
        assert_eq!(of(PAYLOAD_MAX + 1), Err(WireError::TooLong(4097)));
        let mut decoder = Decoder::default();
        decoder.push(&longest.encode());
        assert_eq!(decoder.take(), Ok(Some(longest)));
        let header = [2_u32, 1, 0, 4097];
        let bytes: Vec<u8> = header.iter().flat_map(|n| n.to_ne_bytes()).collect();
        decoder.push(&bytes);
        assert_eq!(decoder.take(), Err(WireError::TooLong(4097)));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let mut decoder = Decoder::default();
        let bytes: Vec<u8> = [99_u32, 0, 0, 0]
            .iter()
            .flat_map(|n| n.to_ne_bytes())
            .collect();
        decoder.push(&bytes);
        assert_eq!(decoder.take(), Err(WireError::Kind(99)));
    }

    #[test]
    fn payloads_are_strings() {
        let of = |payload: &'static [u8]| strings(payload).collect::<Vec<_>>();
        assert_eq!(of(b"a\0b\0"), [b"a", b"b"]);
        assert_eq!(of(b"a\0b"), [b"a", b"b"]);
        assert_eq!(of(b"a\0\0"), [&b"a"[..], b""]);
        assert!(of(b"").is_empty());
    }
}
