//! Headers, and cutting a byte stream into whole messages.

use super::kind::Body;
use super::picture::PICTURE_PART_MAX;
use super::{GuiError, Kind, PAGES_MAX, Version, WindowId, fields};
use crate::qrexec::{fill, take};

/// Bytes of a header.
pub const HEADER_LEN: usize = 12;

/// A whole message; its length is what its kind may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framed {
    /// What it is.
    pub kind: Kind,
    /// The window that it is about.
    pub window: WindowId,
    /// What it says.
    pub body: Vec<u8>,
    /// Whether its header had the length.
    pub length: Length,
}

/// Whether a header had the length that its message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// It had.
    Right,
    /// It had another, which peers before 1.6 may.
    Wrong,
}

/// What a header means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    kind: Kind,
    window: WindowId,
    len: usize,
    length: Length,
}

/// Whose messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// The agent's: everything is checked.
    Agent,
    /// The daemon's: what is not known is passed over.
    Daemon,
}

/// What a header calls for.
enum Wanted {
    Message(Header),
    /// So many bytes of something that is not known.
    Skip(u32),
}

/// Cuts a byte stream into messages. Holds at most one.
#[derive(Debug)]
pub(super) struct Framer {
    peer: Peer,
    version: Version,
    head: [u8; HEADER_LEN],
    have: usize,
    header: Option<Header>,
    body: Vec<u8>,
    skip: u32,
}

impl Framer {
    pub(super) fn new(peer: Peer, version: Version) -> Self {
        Self {
            peer,
            version,
            head: [0; HEADER_LEN],
            have: 0,
            header: None,
            body: Vec::new(),
            skip: 0,
        }
    }

    /// Whether the stream could end here without cutting a message.
    pub(super) fn is_between_messages(&self) -> bool {
        self.have == 0 && self.header.is_none() && self.skip == 0
    }

    /// Takes bytes off the front of `input`, at most up to the end of the next message, and returns
    /// that message once it is whole.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Framed>, GuiError> {
        loop {
            let skipped = take(input, self.skip as usize).len();
            self.skip -= u32::try_from(skipped).unwrap_or(self.skip);
            if self.skip > 0 {
                return Ok(None);
            }
            let header = match self.header {
                Some(header) => header,
                None => {
                    if !fill(&mut self.head, &mut self.have, input) {
                        return Ok(None);
                    }
                    self.have = 0;
                    match self.judge(self.head)? {
                        Wanted::Message(header) => *self.header.insert(header),
                        Wanted::Skip(len) => {
                            self.skip = len;
                            continue;
                        }
                    }
                }
            };
            let missing = header.len.saturating_sub(self.body.len());
            self.body.extend_from_slice(take(input, missing));
            if self.body.len() < header.len {
                return Ok(None);
            }
            self.header = None;
            return Ok(Some(Framed {
                kind: header.kind,
                window: header.window,
                body: std::mem::take(&mut self.body),
                length: header.length,
            }));
        }
    }

    fn judge(&self, untrusted: [u8; HEADER_LEN]) -> Result<Wanted, GuiError> {
        let [number, window, len] = fields::read(&untrusted);
        let known = Kind::from_number(number).filter(|kind| kind.is_known_to(self.version));
        let kind = known.filter(|kind| match self.peer {
            Peer::Agent => kind.from_agent(),
            Peer::Daemon => kind.from_daemon(),
        });
        let kind = match (kind, self.peer) {
            (Some(kind), _) => kind,
            (None, Peer::Daemon) => return Ok(Wanted::Skip(len)),
            (None, Peer::Agent) => return Err(GuiError::UnknownKind(number)),
        };
        if kind == Kind::MfnDump {
            return Err(GuiError::Refused(kind));
        }
        // The clipboard belongs to no window, and once had its length in that place.
        let len = match kind {
            Kind::ClipboardData if self.version < Version::DUMPS => window,
            _ => len,
        };
        let (len, length) = self.length(kind, len)?;
        Ok(Wanted::Message(Header {
            kind,
            window: WindowId(window),
            len,
            length,
        }))
    }

    fn length(&self, kind: Kind, len: u32) -> Result<(usize, Length), GuiError> {
        let wrong = GuiError::Length { kind, len };
        let announced = usize::try_from(len).map_err(|_| wrong)?;
        match kind.body() {
            Body::Exact(exact) if announced == exact => Ok((exact, Length::Right)),
            Body::Exact(exact) if self.version < Version::LENGTHS => Ok((exact, Length::Wrong)),
            Body::Clipboard if announced <= self.version.clipboard_max() => {
                Ok((announced, Length::Right))
            }
            Body::Part if (1..=PICTURE_PART_MAX).contains(&announced) => {
                Ok((announced, Length::Right))
            }
            Body::Pages(before) => {
                let pages = announced.checked_sub(before).filter(|rest| rest % 4 == 0);
                match pages {
                    Some(rest) if rest / 4 <= PAGES_MAX => Ok((announced, Length::Right)),
                    _ => Err(wrong),
                }
            }
            Body::Exact(_) | Body::Clipboard | Body::Part => Err(wrong),
        }
    }
}

/// Writes a message.
pub(super) fn encode(
    out: &mut Vec<u8>,
    version: Version,
    kind: Kind,
    window: WindowId,
    body: &[u8],
) {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let window = match kind {
        Kind::ClipboardData if version < Version::DUMPS => len,
        _ => window.0,
    };
    fields::write(out, &[kind.number(), window, len]);
    out.extend_from_slice(body);
}
