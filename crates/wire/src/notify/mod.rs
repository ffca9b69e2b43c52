//! Notifications of a qube's applications, on their way to dom0: the stream of the service
//! `qubes.Notifications`, as Qubes 4.3 has it.
//!
//! The qube calls, dom0 serves. Dom0 says its version first and the qube answers with the one that
//! is spoken; then each message is a length (32 bits) and so many bytes, all of it little-endian and
//! laid out as `bincode` does with integers of fixed size. Versions are a major and a minor number
//! of 16 bits each, together 32 bits.
//!
//! ```text
//!  qube                                      dom0
//!    <------------------------------ version 1.0
//!    version 1.0 ------------------------------>
//!    sequence, notification ------------------->
//!    <----------------- id, sequence  (or an error)
//!    <-------------- id, action  (it was clicked)
//!    <--------------- id, reason  (it was closed)
//! ```
//!
//! In 1.0 a qube cannot close what it has shown. One that wants to says so in the argument of the
//! call ([`CLOSING`]), which Qubes passes over; dom0 then offers [`Version::WITH_CLOSE`], in which
//! there is one message more. Ids are those of one call: none of them means anything in another.
//!
//! - [`dom0_end`]: reads what a qube says, which is hostile.
//! - [`guest_end`]: the other end.
//! - [`decoder`]: what the process that reads it and `bulkheadd` say to each other.

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub mod decoder;
pub mod dom0_end;
mod fields;
mod frame;
pub mod guest_end;
mod reply;
mod request;
#[cfg(test)]
mod tests;
pub mod text;

pub use reply::{Closed, Reply};
pub use request::Request;

/// The service.
pub const SERVICE: &str = "qubes.Notifications";

/// The argument of the call of a qube that wants to close notifications.
pub const CLOSING: &str = "close";

/// Longest message of a qube, as in Qubes: nearly all of it is an image.
pub const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a message that are looked at, from its beginning: everything but the image. Browsers,
/// which put most into a notification, stay below 8 KiB.
pub const FIELDS_MAX: usize = 64 * 1024;

/// Longest message of dom0: an action's name, or why something failed.
pub const REPLY_MAX: usize = 4 * 1024;

/// Characters of a title: what desktops show in one line, twice.
pub const SUMMARY_MAX: usize = 160;

/// Characters of a text: half a screen of it.
pub const BODY_MAX: usize = 2000;

/// Lines of a text. Thousands make some desktops hang.
pub const BODY_LINES_MAX: usize = 32;

/// Buttons of a notification; desktops show three.
pub const ACTIONS_MAX: usize = 8;

/// Bytes of an action's name, as in Qubes.
pub const ACTION_KEY_MAX: usize = 255;

/// Characters on a button.
pub const ACTION_LABEL_MAX: usize = 40;

/// What is spoken on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// Of another one nothing is understood.
    pub major: u16,
    /// A larger one has more messages.
    pub minor: u16,
}

impl Version {
    /// That of Qubes 4.3.
    pub const PLAIN: Self = Self { major: 1, minor: 0 };

    /// Ours, in which a qube closes notifications. Far above what Qubes will number.
    pub const WITH_CLOSE: Self = Self {
        major: 1,
        minor: 0x8000,
    };

    fn of(bytes: [u8; 4]) -> Self {
        let [a, b, c, d] = bytes;
        Self {
            major: u16::from_le_bytes([c, d]),
            minor: u16::from_le_bytes([a, b]),
        }
    }

    /// On the wire.
    #[must_use]
    pub fn encode(self) -> [u8; 4] {
        let [a, b] = self.minor.to_le_bytes();
        let [c, d] = self.major.to_le_bytes();
        [a, b, c, d]
    }
}

/// How much a notification presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Urgency {
    /// Not at all.
    Low,
    /// As most do.
    Normal,
    /// It stays until the person closes it.
    Critical,
}

/// A button.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What the application knows it by.
    pub key: String,
    /// What is on it.
    pub label: String,
}

/// A notification without its image, of which nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// In the place of which one of the same qube it is shown; 0 for none.
    pub replaces: u32,
    /// Its title.
    pub summary: String,
    /// Its text.
    pub body: String,
    /// Its buttons.
    pub actions: Vec<Action>,
    /// As the application said, if it did.
    pub urgency: Option<Urgency>,
    /// Milliseconds for which it is shown; 0 for ever, -1 as the desktop likes.
    pub timeout: i32,
    /// It stays when one of its buttons is clicked.
    pub resident: bool,
    /// It is not kept for later.
    pub transient: bool,
    /// Without a sound.
    pub silent: bool,
}

impl Notification {
    /// What may be shown of what a qube said.
    fn fit(self) -> Result<Self, Unfit> {
        if self.timeout < -1 {
            return Err(Unfit::Timeout);
        }
        if !self.actions.iter().all(|action| is_key(&action.key)) {
            return Err(Unfit::ActionKey);
        }
        let actions = self.actions.into_iter().take(ACTIONS_MAX);
        let actions = actions.map(|action| Action {
            label: text::line(&action.label, ACTION_LABEL_MAX),
            key: action.key,
        });
        Ok(Self {
            summary: text::line(&self.summary, SUMMARY_MAX),
            body: text::lines(&self.body, BODY_MAX, BODY_LINES_MAX),
            actions: actions.collect(),
            ..self
        })
    }

    /// Whether it is as [`dom0_end`] makes them, within every limit.
    #[must_use]
    pub fn is_fit(&self) -> bool {
        self.clone().fit().as_ref() == Ok(self)
    }
}

/// A letter, and then what names on D-Bus are made of, as in Qubes.
fn is_key(key: &str) -> bool {
    let inner =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
    key.len() <= ACTION_KEY_MAX
        && key.starts_with(|first: char| first.is_ascii_alphabetic())
        && key.bytes().all(inner)
}

/// Why a notification is not shown; the qube is told, and goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unfit {
    /// Past [`FIELDS_MAX`].
    #[error("its texts are longer than {FIELDS_MAX} bytes")]
    TooLong,
    /// A name without a label.
    #[error("the number of its actions is odd")]
    OddActions,
    /// Not as names of actions are, or past [`ACTION_KEY_MAX`].
    #[error("an action has a name that none can have")]
    ActionKey,
    /// Less than -1.
    #[error("its timeout is less than -1")]
    Timeout,
}

/// Why a stream cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotifyError {
    /// Another major version, or a minor one that was not offered.
    #[error("the other end speaks version {}.{}", .0.major, .0.minor)]
    Version(Version),
    /// Past [`MESSAGE_MAX`], or [`REPLY_MAX`] of dom0.
    #[error("a message of {0} bytes")]
    TooLong(usize),
    /// Not what its kind looks like.
    #[error("a malformed message: {0}")]
    Malformed(&'static str),
    /// It failed before.
    #[error("the stream has failed")]
    Failed,
}
