//! What `bulkheadd` and a qube's `bulkhead-gui` say to each other.
//!
//! One `SOCK_SEQPACKET` pair per proxy, inherited at its start; packets are those of
//! [`relay`](crate::relay): one is one message (postcard), and descriptors travel as `SCM_RIGHTS`.
//! The daemon checks every [`FromProxy`] again: the proxy has read guest bytes and may be lying.
//!
//! What is carried between the clipboards of qubes is a file in memory that nobody can change any
//! more (sealed: write, grow, shrink). The daemon keeps it and hands it on, and reads none of it.

use serde::{Deserialize, Serialize};

use crate::gui::CLIPBOARD_MAX;
use crate::gui::picture::PictureSize;
use crate::monitors::Layout;

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Text, at most [`CLIPBOARD_MAX`] bytes.
    Text,
    /// A picture ([`crate::gui::picture`]).
    Picture {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
}

impl Payload {
    /// Whether a file of so many bytes can be that.
    #[must_use]
    pub fn fits(self, length: usize) -> bool {
        match self {
            Self::Text => (1..=CLIPBOARD_MAX).contains(&length),
            Self::Picture { width, height } => {
                PictureSize::new(width, height).is_some_and(|size| size.bytes() == length)
            }
        }
    }
}

impl From<PictureSize> for Payload {
    fn from(size: PictureSize) -> Self {
        Self::Picture {
            width: size.width(),
            height: size.height(),
        }
    }
}

/// From `bulkheadd` to a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToProxy {
    /// Policy allows what was asked for by [`FromProxy::PasteAsked`]. Carries the sealed file.
    /// [`FromProxy::Pasted`] or [`FromProxy::NotPasted`] answers.
    Paste {
        /// Which answers name.
        number: u64,
        /// Bytes in it.
        length: u32,
        /// What they are, which has to fit.
        what: Payload,
    },
    /// Policy allows the qube a call that brings icons of its windows ([`crate::icons`]). Carries what
    /// the qube sends, and where to [`Report`](crate::service::Report) the end of the call. It takes the
    /// place of one before it.
    Icons,
    /// The person has begun something in the qube: the window that it opens next may have the keyboard
    /// although the person has not used the qube.
    Awaited,
}

/// From a proxy to `bulkheadd`. A time is that of the display's event, in milliseconds; it wraps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromProxy {
    /// Confined; waits for the agent or serves it.
    Ready {
        /// What confines it, one short sentence for the log.
        confinement: String,
    },
    /// The agent speaks the protocol: windows can be shown.
    AgentConnected {
        /// Major and minor number of the version.
        version: (u32, u32),
        /// Whether it takes pictures.
        pictures: bool,
    },
    /// The person wants what the qube has on its clipboard, and its agent was asked for it: what was
    /// carried before is not any more. One of the next two follows.
    CopyAsked {
        /// When the person pressed the keys.
        time: u32,
    },
    /// What the qube has on its clipboard. Carries the sealed file, of one byte or more.
    Copied {
        /// Bytes in it.
        length: u32,
        /// What they are, which has to fit.
        what: Payload,
        /// When the person pressed the keys.
        time: u32,
    },
    /// The qube has nothing on its clipboard, or not what can be carried.
    NotCopied {
        /// When the person pressed the keys.
        time: u32,
        /// Why.
        why: NotCopied,
    },
    /// The person wants what is carried on this qube's clipboard.
    PasteAsked {
        /// When the person pressed the keys.
        time: u32,
    },
    /// What came by [`ToProxy::Paste`] goes to the agent.
    Pasted {
        /// Of that paste.
        number: u64,
    },
    /// It does not: nothing of it was said to the agent.
    NotPasted {
        /// Of that paste.
        number: u64,
        /// Why.
        why: NotPasted,
    },
    /// The monitors of the display, of which the qube is to be told: after
    /// [`AgentConnected`](Self::AgentConnected), and when they have changed.
    Monitors(Layout),
}

/// Why nothing is pasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotPasted {
    /// More than the agent can take.
    TooLarge,
    /// The agent does not know pictures.
    NoPictures,
    /// The agent does not read.
    Unread,
    /// The file is not what was announced.
    Malformed,
}

/// Why nothing is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotCopied {
    /// There is nothing.
    Empty,
    /// More than the qube may have carried.
    TooLarge,
    /// The agent did not answer in time.
    NoAnswer,
    /// It sent more than it had announced.
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_as_long_as_what_is_in_it() {
        let fits = |what: Payload, lengths: [usize; 3]| lengths.map(|length| what.fits(length));
        let text = [0, CLIPBOARD_MAX, CLIPBOARD_MAX + 1];
        assert_eq!(fits(Payload::Text, text), [false, true, false]);
        let picture = |width, height| Payload::Picture { width, height };
        assert_eq!(fits(picture(2, 3), [23, 24, 25]), [false, true, false]);
        assert_eq!(fits(picture(0, 3), [0, 4, 12]), [false; 3]);
        // It would wrap to nothing.
        assert_eq!(fits(picture(1 << 31, 2), [0, 4, 1 << 34]), [false; 3]);
    }
}
