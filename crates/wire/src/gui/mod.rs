//! The GUI protocol of Qubes, 1.0 to 1.8, both ends (`wire/gui.md`).
//!
//! The *agent* is in the qube and hostile; the *daemon* owns the real windows. Numbers are 32 bits,
//! little-endian.
//!
//! ```text
//! agent                                   daemon
//! version ------------------------------> major must be 1; the lesser minor counts
//! version, screen <---------------------- from 1.4 on
//! messages <----------------------------> messages: header, body
//! ```
//!
//! [`daemon_end`] and [`agent_end`] are the two state machines over bytes. What the agent sent is a
//! plain type here only once everything about it was checked that its bytes alone can tell; what
//! depends on windows is the owner's business. [`picture`] is what we have added.

use thiserror::Error;

pub mod agent_end;
mod agent_message;
pub mod daemon_end;
mod daemon_message;
mod fields;
mod frame;
pub mod geometry;
mod handshake;
mod kind;
pub mod picture;
#[cfg(test)]
mod tests;
pub mod text;

pub use agent_message::{
    AgentMessage, Cursor, Dump, Flags, Hints, Ignored, Malformed, Violation, WindowClass,
};
pub use daemon_message::{Crossing, DaemonMessage, Input, KEYMAP_LEN};
pub use frame::{Framed, HEADER_LEN, Length};
pub use handshake::{Screen, VERSION_LEN, Version, VersionError, XCONF_LEN};
pub use kind::Kind;

/// The vchan port on which the agent serves.
pub const PORT: u32 = 6000;

/// Bytes of either ring of the reference's channel.
pub const RING_LEN: usize = 4096;

/// A window, by the number that the agent gave it. 0 is the whole screen of an emulated display.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WindowId(pub u32);

/// Bytes of a page, of which windows are made.
pub const PAGE_LEN: usize = 4096;

/// Bytes of a pixel.
pub const PIXEL_LEN: usize = 4;

/// Pages of a window at most: those of the largest one.
pub const PAGES_MAX: usize =
    (geometry::WIDTH_MAX as usize * geometry::HEIGHT_MAX as usize * PIXEL_LEN) / PAGE_LEN;

/// Bytes of a clipboard at most, before 1.8; more ends the connection.
pub const CLIPBOARD_MAX_OLD: usize = 65_000;

/// Bytes of a clipboard at most; one more says that there was too much.
pub const CLIPBOARD_MAX: usize = 256_000;

/// Bytes of a window's title.
pub const TITLE_LEN: usize = 128;

/// Bytes of either half of a window's class.
pub const CLASS_LEN: usize = 64;

/// Why a connection cannot go on. Never quotes the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GuiError {
    /// No common version.
    #[error("no common version of the GUI protocol")]
    Version(#[from] VersionError),
    /// A number that no message of this peer has.
    #[error("the GUI peer sent a message of unknown type {0}")]
    UnknownKind(u32),
    /// A message that nobody should send.
    #[error("the GUI peer sent {0}, which is not served")]
    Refused(Kind),
    /// A length that the message cannot have.
    #[error("the GUI peer sent {kind} with {len} bytes")]
    Length {
        /// The message.
        kind: Kind,
        /// As the peer has it.
        len: u32,
    },
    /// Values that cannot be.
    #[error("the GUI peer sent {kind} that cannot be")]
    Malformed {
        /// The message.
        kind: Kind,
        /// What is wrong with it.
        #[source]
        why: Malformed,
    },
    /// Used after an error.
    #[error("the GUI connection has failed")]
    Failed,
}
