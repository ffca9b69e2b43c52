//! Messages and their framing: a header of 72 bytes, then `data_len` bytes.

use thiserror::Error;
use zeroize::Zeroize;

use super::path::DbPath;

/// Bytes of a header.
pub const HEADER_LEN: usize = 72;

/// Longest value in bytes: a whole message then fits a vchan ring of one page.
pub const VALUE_MAX: usize = 3071;

const PATH_FIELD: std::ops::Range<usize> = 1..65;
const LENGTH_FIELD: std::ops::Range<usize> = 68..72;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Asks for the value of a key.
    Read = 0,
    /// Sets a key.
    Write = 1,
    /// Asks for all keys with a prefix, and their values.
    MultiRead = 2,
    /// Asks for all keys with a prefix.
    List = 3,
    /// Removes a key or a subtree.
    Remove = 4,
    /// Asks to be told of changes.
    Watch = 5,
    /// Takes a watch back.
    Unwatch = 6,
    /// Done.
    Ok = 7,
    /// There is no such key or watch.
    NoEntry = 8,
    /// Refused.
    Error = 9,
    /// The value asked for.
    ReadReply = 10,
    /// One key and its value; an empty path ends the answer.
    MultiReadReply = 11,
    /// One key; an empty path ends the answer.
    ListReply = 12,
    /// A watched key changed.
    WatchEvent = 13,
}

impl Kind {
    /// The kind with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        use Kind::*;
        const ALL: [Kind; 14] = [
            Read,
            Write,
            MultiRead,
            List,
            Remove,
            Watch,
            Unwatch,
            Ok,
            NoEntry,
            Error,
            ReadReply,
            MultiReadReply,
            ListReply,
            WatchEvent,
        ];
        ALL.get(usize::from(number)).copied()
    }
}

/// A value: any bytes, perhaps a secret. Overwritten when dropped.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Value(Vec<u8>);

impl Value {
    /// Takes `bytes`; the machines check the length and the absence of NUL.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// May be stored: no NUL, and at most [`VALUE_MAX`] bytes.
    #[must_use]
    pub fn is_storable(&self) -> bool {
        self.0.len() <= VALUE_MAX && !self.0.contains(&0)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Shows the length alone.
impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

/// A whole message with a valid header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its path, possibly empty.
    pub path: DbPath,
    /// Its data, possibly empty, at most [`VALUE_MAX`] bytes.
    pub data: Value,
}

/// Why a header is bad. Its `data_len` bytes are still skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// No such message.
    #[error("message type {0} is unknown")]
    Kind(u8),
    /// The path has bytes that are not allowed.
    #[error("a path has a byte that is not allowed")]
    Path,
    /// More than [`VALUE_MAX`] bytes of data.
    #[error("{0} bytes of data are past the limit of {VALUE_MAX}")]
    Length(u32),
}

/// What comes out of a [`Framer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Message(Message),
    /// A bad header.
    Bad(HeaderError),
}

/// Appends one message to `out`. `data` longer than [`VALUE_MAX`] is the caller's error and will
/// be refused by the receiver.
pub fn encode(out: &mut Vec<u8>, kind: Kind, path: &DbPath, data: &[u8]) {
    let mut header = [0; HEADER_LEN];
    let path = path.as_str().as_bytes();
    if let Some(field) = header.get_mut(PATH_FIELD.start..PATH_FIELD.start + path.len()) {
        field.copy_from_slice(path);
    }
    let [first, ..] = &mut header;
    *first = kind as u8;
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    if let Some(field) = header.get_mut(LENGTH_FIELD) {
        field.copy_from_slice(&len.to_le_bytes());
    }
    out.extend_from_slice(&header);
    out.extend_from_slice(data);
}

/// Cuts a byte stream into frames; holds at most one message.
#[derive(Debug, Default)]
pub struct Framer {
    header: Vec<u8>,
    body: Option<Body>,
    skip: u32,
}

#[derive(Debug)]
struct Body {
    kind: Kind,
    path: DbPath,
    data: Value,
    missing: usize,
}

impl Framer {
    /// Takes from the front of `input` until a frame is whole; none when `input` ran out first.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Frame> {
        self.skip(input);
        if self.skip > 0 {
            return None;
        }
        if self.body.is_none() {
            let wanted = HEADER_LEN.saturating_sub(self.header.len());
            self.header.extend_from_slice(take(input, wanted));
            if self.header.len() < HEADER_LEN {
                return None;
            }
            let parsed = parse_header(&self.header);
            self.header.clear();
            match parsed {
                Ok((kind, path, missing)) => {
                    let data = Value(Vec::with_capacity(missing));
                    self.body = Some(Body {
                        kind,
                        path,
                        data,
                        missing,
                    });
                }
                Err((error, len)) => {
                    self.skip = len;
                    self.skip(input);
                    return Some(Frame::Bad(error));
                }
            }
        }
        let body = self.body.as_mut()?;
        let part = take(input, body.missing);
        body.data.0.extend_from_slice(part);
        body.missing -= part.len();
        if body.missing > 0 {
            return None;
        }
        let Body {
            kind, path, data, ..
        } = self.body.take()?;
        Some(Frame::Message(Message { kind, path, data }))
    }

    fn skip(&mut self, input: &mut &[u8]) {
        let wanted = usize::try_from(self.skip).unwrap_or(usize::MAX);
        let skipped = take(input, wanted).len();
        self.skip -= u32::try_from(skipped).unwrap_or(self.skip);
    }
}

fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

fn parse_header(header: &[u8]) -> Result<(Kind, DbPath, usize), (HeaderError, u32)> {
    let number = header.first().copied().unwrap_or(u8::MAX);
    let len = header
        .get(LENGTH_FIELD)
        .and_then(|field| field.try_into().ok());
    let len = len.map_or(u32::MAX, u32::from_le_bytes);
    let kind = Kind::from_u8(number).ok_or((HeaderError::Kind(number), len))?;
    // The last byte of the field counts as NUL whatever it is.
    let field = header
        .get(PATH_FIELD.start..PATH_FIELD.end - 1)
        .unwrap_or_default();
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    let path = DbPath::new(text).map_err(|_| (HeaderError::Path, len))?;
    match usize::try_from(len) {
        Ok(data) if data <= VALUE_MAX => Ok((kind, path, data)),
        _ => Err((HeaderError::Length(len), len)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(framer: &mut Framer, mut input: &[u8]) -> Vec<Frame> {
        std::iter::from_fn(|| framer.next(&mut input)).collect()
    }

    fn raw(kind: u8, path: &[u8], len: u32) -> Vec<u8> {
        let mut header = vec![0; HEADER_LEN];
        header[0] = kind;
        header[1..=path.len()].copy_from_slice(path);
        header[68..].copy_from_slice(&len.to_le_bytes());
        header
    }

    #[test]
    fn the_layout_is_that_of_the_page() {
        let mut out = Vec::new();
        encode(&mut out, Kind::Write, &DbPath::new("/a").unwrap(), b"xyz");
        let mut expected = raw(1, b"/a", 3);
        expected.extend_from_slice(b"xyz");
        assert_eq!(out, expected);
        assert_eq!(out.len(), 75);
    }

    #[test]
    fn byte_63_of_the_path_counts_as_nul() {
        let bytes = raw(0, &[b'a'; 64], 0);
        let [Frame::Message(m)] = &frames(&mut Framer::default(), &bytes)[..] else {
            panic!()
        };
        assert_eq!(m.path.as_str(), "a".repeat(63));
    }

    #[test]
    fn padding_and_bytes_after_the_nul_are_ignored() {
        let mut bytes = raw(0, b"/a\0\xff", 0);
        bytes[65..68].fill(0xff);
        let [Frame::Message(m)] = &frames(&mut Framer::default(), &bytes)[..] else {
            panic!()
        };
        assert_eq!(m.path.as_str(), "/a");
    }

    #[test]
    fn bad_headers_are_told_and_their_data_skipped() {
        let cases = [
            (raw(14, b"/a", 5), HeaderError::Kind(14)),
            (raw(1, b"/\xc3", 5), HeaderError::Path),
            (raw(1, b"/a", 3072), HeaderError::Length(3072)),
        ];
        for (mut bytes, error) in cases {
            let len = u32::from_le_bytes(bytes[68..].try_into().unwrap());
            bytes.extend(std::iter::repeat_n(1, len as usize));
            encode(&mut bytes, Kind::Ok, &DbPath::empty(), b"");
            let got = frames(&mut Framer::default(), &bytes);
            assert_eq!(got[0], Frame::Bad(error));
            assert!(matches!(
                &got[1..],
                [Frame::Message(Message { kind: Kind::Ok, .. })]
            ));
        }
    }

    #[test]
    fn the_longest_value_fits() {
        let mut bytes = Vec::new();
        encode(&mut bytes, Kind::Write, &DbPath::empty(), &[7; VALUE_MAX]);
        let [Frame::Message(m)] = &frames(&mut Framer::default(), &bytes)[..] else {
            panic!()
        };
        assert_eq!(m.data.as_bytes().len(), VALUE_MAX);
    }

    #[test]
    fn a_claim_of_4_gib_holds_no_memory() {
        let mut framer = Framer::default();
        frames(&mut framer, &raw(1, b"/a", u32::MAX));
        for _ in 0..100 {
            assert!(frames(&mut framer, &[0; 65536]).is_empty());
        }
        assert_eq!(framer.skip, u32::MAX - 100 * 65536);
        assert!(framer.header.is_empty() && framer.body.is_none());
    }

    fn any_message() -> impl Strategy<Value = (u8, String, Vec<u8>)> {
        let data = prop::collection::vec(any::<u8>(), 0..100);
        (0..14_u8, "(/[a-zA-Z0-9_.:@/-]{0,62})?", data)
    }

    proptest! {
        #[test]
        fn decode_undoes_encode_at_any_split(
            messages in prop::collection::vec(any_message(), 0..8),
            cuts in prop::collection::vec(1..200_usize, 0..60),
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for (kind, path, data) in messages {
                let (kind, path) = (Kind::from_u8(kind).unwrap(), DbPath::new(path).unwrap());
                encode(&mut bytes, kind, &path, &data);
                expected.push(Frame::Message(Message { kind, path, data: Value(data) }));
            }
            let (mut framer, mut got, mut rest) = (Framer::default(), Vec::new(), &bytes[..]);
            for cut in cuts {
                let (part, tail) = rest.split_at(cut.min(rest.len()));
                got.extend(frames(&mut framer, part));
                rest = tail;
            }
            got.extend(frames(&mut framer, rest));
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn garbage_gives_the_same_frames_at_any_split(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            cut in 1..100_usize,
        ) {
            let whole = frames(&mut Framer::default(), &bytes);
            let mut framer = Framer::default();
            let parts: Vec<_> = bytes.chunks(cut).flat_map(|c| frames(&mut framer, c)).collect();
            prop_assert_eq!(whole, parts);
        }
    }
}
