//! The qfile stream of `qubes.Filecopy`: trees of files from one qube to another.
//!
//! [`Encoder`] writes what [`Decoder`] reads; [`Outcome`] is what the receiver answers. Everything
//! is little-endian. A directory is sent twice, before and after its content; the end is a header
//! of zeros. Source: public file copy protocol of Qubes R4.2/R4.3.
//!
//! [`Dialect::Resumable`] is ours alone: see [`offer`].

mod decode;
mod encode;
mod header;
mod name;
pub mod offer;
mod outcome;
mod unicode;

pub use decode::{DecodeError, Decoder, Event, Limits};
pub use encode::{EncodeError, Encoder};
pub use header::{Entry, HEADER_LEN, Kind, Stamp};
pub use name::{LinkError, NameError, Names, check_link, check_name};
pub use outcome::{OUTCOME_LEN, Outcome, OutcomeDecoder, OutcomeError, code};
pub(crate) use unicode::is_allowed;

/// Longest name or link target in bytes, without its NUL: the protocol's own bound.
pub const NAME_MAX: usize = 16_383;

/// Which of the two streams is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `qubes.Filecopy`, byte for byte.
    Plain,
    /// The same, with the offset at which a regular file's content starts (8 bytes) between its
    /// name and its content.
    Resumable,
}
