//! What `bulkheadd` and the process that reads a qube's notifications say to each other.
//!
//! One `SOCK_SEQPACKET` pair per call, inherited at its start; packets are those of
//! [`relay`](crate::relay). The daemon checks every [`FromDecoder`] again: the decoder has read
//! guest bytes and may be lying.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Closed, Notification, Version};

/// From `bulkheadd` to a decoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToDecoder {
    /// First message. Carries what the qube sends and where it is answered.
    Setup {
        /// The calling qube.
        domid: u32,
        /// The version that it is offered.
        offered: Version,
    },
    /// A notification is shown.
    Shown {
        /// Which.
        sequence: u64,
        /// Under this id.
        id: u32,
    },
    /// It is not.
    Refused {
        /// Which.
        sequence: u64,
        /// Why.
        why: Refusal,
    },
    /// One is shown no more.
    Closed {
        /// Which.
        id: u32,
        /// Why.
        why: Closed,
    },
    /// The person clicked a button.
    Invoked {
        /// Of which.
        id: u32,
        /// Which.
        action: String,
    },
}

/// From a decoder to `bulkheadd`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromDecoder {
    /// Something is to be shown.
    Show {
        /// Names it in the answer.
        sequence: u64,
        /// What.
        notification: Notification,
    },
    /// What is shown under that id is to be so no more.
    Close {
        /// Which.
        id: u32,
    },
}

/// Why something is not shown that could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum Refusal {
    /// No session is there for it.
    #[error("nobody is there to whom it could be shown")]
    Nobody,
    /// The qube shows too many.
    #[error("this qube shows too many notifications")]
    TooMany,
    /// The desktop does not.
    #[error("the desktop does not show it")]
    Desktop,
}

impl Refusal {
    /// The error of D-Bus that it is for an application.
    #[must_use]
    pub fn error_name(self) -> &'static str {
        match self {
            Self::Nobody => "org.freedesktop.DBus.Error.ServiceUnknown",
            // As notification daemons have it.
            Self::TooMany => "org.freedesktop.Notifications.MaxNotificationsExceeded",
            Self::Desktop => "org.freedesktop.DBus.Error.Failed",
        }
    }
}
