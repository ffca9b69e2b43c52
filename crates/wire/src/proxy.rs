//! What `bulkheadd` and a qube's `bulkhead-gui` say to each other.
//!
//! One `SOCK_SEQPACKET` pair per proxy, inherited at its start; packets are those of
//! [`relay`](crate::relay): one is one message (postcard), and descriptors travel as `SCM_RIGHTS`.
//! The daemon checks every [`FromProxy`] again: the proxy has read guest bytes and may be lying.
//!
//! What is carried between the clipboards of qubes is a file in memory that nobody can change any
//! more (sealed: write, grow, shrink). The daemon keeps it and hands it on, and reads none of it.

use serde::{Deserialize, Serialize};

/// From `bulkheadd` to a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToProxy {
    /// Policy allows what was asked for by [`FromProxy::PasteAsked`]. Carries the sealed file.
    Paste {
        /// Bytes in it, at most [`CLIPBOARD_MAX`](crate::gui::CLIPBOARD_MAX).
        length: u32,
    },
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
    },
    /// The person wants what the qube has on its clipboard, and its agent was asked for it: what was
    /// carried before is not any more. One of the next two follows.
    CopyAsked {
        /// When the person pressed the keys.
        time: u32,
    },
    /// What the qube has on its clipboard. Carries the sealed file, of one byte or more.
    Copied {
        /// Bytes in it, at most [`CLIPBOARD_MAX`](crate::gui::CLIPBOARD_MAX).
        length: u32,
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
}
