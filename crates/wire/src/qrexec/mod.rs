//! qrexec: calls between qubes, versions 2, 3 and 4.
//!
//! - [`control`]: the link between a guest's agent and dom0 (vchan port 512), both sides.
//! - [`data`]: the channel that carries one call's streams, both sides.
//! - [`announced`]: what a caller says it will send.
//! - [`trigger`]: what a guest sends to ask for a call; untrusted until validated.
//! - [`local`]: the sockets on which local clients talk to a daemon or an agent.
//! - [`command`]: command lines and service descriptors.
//! - [`config`]: per-service configuration files.
//! - [`vmexec`]: how an argument vector travels in a service argument.
//!
//! All integers are 32-bit little-endian. Every message is an 8-byte [`Header`] (kind, length of
//! what follows) and a body.

pub mod announced;
pub mod command;
pub mod config;
pub mod control;
pub mod data;
pub mod frame;
pub mod local;
pub mod trigger;
pub mod vmexec;

pub use frame::{FrameError, FrameReader, HEADER_LEN, Header, Kind};
pub(crate) use frame::{fill, take};

use announced::Announced;
use thiserror::Error;

/// Service not run because of a problem with qrexec itself.
pub const EXIT_PROBLEM: u8 = 125;
/// Call refused by policy.
pub const EXIT_REFUSED: u8 = 126;
/// Call allowed, but the qube has no such service.
pub const EXIT_NOT_FOUND: u8 = 127;
/// Exit code of a caller whose peer vanished without saying how the service ended.
pub const EXIT_DISCONNECTED: u8 = 255;

/// vchan port on which a guest's agent waits for dom0.
pub const CONTROL_PORT: u32 = 512;
/// First port of data channels.
pub const DATA_PORT_MIN: u32 = 513;
/// Last port of data channels: 256 calls at a time per qube.
pub const DATA_PORT_MAX: u32 = 768;
/// Calls of one guest that may wait for an answer; more are refused at once.
pub const PENDING_REQUESTS_MAX: usize = 256;

/// Longest body of a control message: what the daemon accepts as a command line message.
pub const CONTROL_BODY_MAX: u32 = 65_535;
/// Longest service field (name, `+`, argument and the NUL) in a trigger.
pub const SERVICE_FIELD_MAX: usize = 65_000;
/// Longest service name (before the `+`): it is a file name.
pub const SERVICE_NAME_MAX: usize = 255;

/// A protocol version that both ends of a link speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// R3.0 to R4.0: chunks of 4 KiB, fixed-size triggers.
    V2,
    /// R4.1 and R4.2: chunks of 64 KiB, long service names.
    V3,
    /// R4.3: triggers may claim a source (relayed calls).
    V4,
}

impl Version {
    /// The newest version this code speaks.
    pub const NEWEST: Self = Self::V4;
    /// What the daemon's socket for local clients speaks.
    pub const LOCAL: Self = Self::V3;

    /// The version of a link whose peer announced `untrusted`: the smaller of both sides'.
    ///
    /// # Errors
    /// [`VersionError`] if the peer is older than any version we speak.
    pub fn negotiate(untrusted: u32) -> Result<Self, VersionError> {
        match untrusted {
            0 | 1 => Err(VersionError { theirs: untrusted }),
            2 => Ok(Self::V2),
            3 => Ok(Self::V3),
            _ => Ok(Self::V4),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }

    /// Most bytes of a stream in one data message.
    #[must_use]
    pub const fn chunk_max(self) -> u32 {
        match self {
            Self::V2 => 4096,
            Self::V3 | Self::V4 => 65_536,
        }
    }
}

/// The peer speaks only versions that we do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("peer speaks qrexec version {theirs}, at least 2 is needed")]
pub struct VersionError {
    /// What the peer announced.
    pub theirs: u32,
}

/// A HELLO message announcing `version`.
#[must_use]
pub fn hello(version: Version) -> [u8; 12] {
    let mut out = [0; 12];
    let (head, body) = out.split_at_mut(HEADER_LEN);
    head.copy_from_slice(
        &Header {
            kind: Kind::Hello,
            len: 4,
        }
        .encode(),
    );
    body.copy_from_slice(&version.number().to_le_bytes());
    out
}

/// Where the other end of a data channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Domain id.
    pub domain: u32,
    /// vchan port.
    pub port: u32,
}

impl Endpoint {
    /// Bytes on the wire.
    pub const LEN: usize = 8;

    /// Writes domain and port.
    #[must_use]
    pub fn encode(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let (domain, port) = out.split_at_mut(4);
        domain.copy_from_slice(&self.domain.to_le_bytes());
        port.copy_from_slice(&self.port.to_le_bytes());
        out
    }

    /// Takes domain and port off the front of `bytes`.
    #[must_use]
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (domain, rest) = bytes.split_first_chunk::<4>()?;
        let (port, rest) = rest.split_first_chunk::<4>()?;
        let here = Self {
            domain: u32::from_le_bytes(*domain),
            port: u32::from_le_bytes(*port),
        };
        Some((here, rest))
    }
}

/// Bytes of the request identifier field.
pub const IDENT_LEN: usize = 32;

/// Names a guest's request to its own agent; opaque to dom0, which hands it back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ident(String);

impl Ident {
    /// The identifier that a caller puts in its trigger; its agent replaces it.
    #[must_use]
    pub fn placeholder() -> Self {
        Self("SOCKET".into())
    }

    /// The identifier that an agent gives to the request waiting in `slot`.
    #[must_use]
    pub fn for_slot(slot: u32) -> Self {
        Self(format!("SOCKET{slot}"))
    }

    /// The same for a request whose caller says what it will send.
    #[must_use]
    pub fn announcing(slot: u32, announced: Announced) -> Self {
        let slot = announced::digits(slot.into());
        Self(format!("B{slot}{}", announced.encode()))
    }

    /// What the caller says it will send, if its agent has put that here.
    #[must_use]
    pub fn announced(&self) -> Option<Announced> {
        self.parts().map(|(_, announced)| announced)
    }

    /// The parts of an identifier made by [`Ident::announcing`].
    fn parts(&self) -> Option<(u32, Announced)> {
        let rest = self.0.strip_prefix('B')?;
        let (slot, text) = rest.split_at_checked(rest.find(['E', 'L'])?)?;
        let slot = announced::number(slot)?.try_into().ok()?;
        Some((slot, Announced::decode(text)?))
    }

    /// The slot of an identifier made by [`Ident::for_slot`] or [`Ident::announcing`].
    #[must_use]
    pub fn slot(&self) -> Option<u32> {
        if let Some((slot, _)) = self.parts() {
            return Some(slot);
        }
        let digits = self.0.strip_prefix("SOCKET")?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())?
    }

    /// Checks text from outside, such as a command line.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let ok = !text.is_empty() && text.len() < IDENT_LEN && text.bytes().all(is_ident_byte);
        ok.then(|| Self(text.into()))
    }

    /// Checks a whole field from the wire: identifier, NUL, then only zeros.
    #[must_use]
    pub fn from_field(untrusted: &[u8; IDENT_LEN]) -> Option<Self> {
        let end = untrusted.iter().position(|&b| b == 0)?;
        let (text, zeros) = untrusted.split_at_checked(end)?;
        let ok = zeros.iter().all(|&b| b == 0) && text.iter().copied().all(is_ident_byte);
        ok.then(|| Self(String::from_utf8_lossy(text).into_owned()))
    }

    /// The field on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; IDENT_LEN] {
        let mut out = [0; IDENT_LEN];
        for (to, from) in out.iter_mut().zip(self.0.bytes()) {
            *to = from;
        }
        out
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_ident_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_below_two_are_refused_and_above_four_are_lowered() {
        assert_eq!(Version::negotiate(1), Err(VersionError { theirs: 1 }));
        assert_eq!(Version::negotiate(2), Ok(Version::V2));
        assert_eq!(Version::negotiate(3), Ok(Version::V3));
        assert_eq!(Version::negotiate(4), Ok(Version::V4));
        assert_eq!(Version::negotiate(u32::MAX), Ok(Version::V4));
    }

    #[test]
    fn hello_is_twelve_bytes() {
        assert_eq!(hello(Version::V4), [0, 3, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0]);
    }

    #[test]
    fn ident_keeps_its_slot_and_refuses_what_could_confuse() {
        assert_eq!(Ident::for_slot(17).slot(), Some(17));
        assert_eq!(
            Ident::from_field(&Ident::for_slot(17).encode()),
            Some(Ident::for_slot(17))
        );
        assert_eq!(Ident::placeholder().slot(), None);
        assert_eq!(Ident::from_text("a;b"), None);
        assert_eq!(
            Ident::from_text(&"a".repeat(IDENT_LEN - 1)).map(|i| i.0.len()),
            Some(31)
        );
        assert_eq!(Ident::from_text(&"a".repeat(IDENT_LEN)), None);
        let mut field = Ident::for_slot(1).encode();
        field[31] = b'x';
        assert_eq!(Ident::from_field(&field), None, "bytes after the NUL");
        assert_eq!(Ident::from_field(&[b'a'; IDENT_LEN]), None, "no NUL");
    }
}
