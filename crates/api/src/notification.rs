//! Notifications of qubes, shown by a session of the person.

use serde::{Deserialize, Serialize};

/// How much a notification presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
pub struct Button {
    /// What the qube knows it by.
    pub key: String,
    /// What is on it.
    pub label: String,
}

/// Something that a qube wants shown. Its texts are clean, and still a qube's: whoever shows them says
/// which one's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Names it in news; one of the same number as an earlier one takes its place.
    pub number: u64,
    /// The qube.
    pub qube: String,
    /// The colour of its label, `0xrrggbb`.
    pub color: String,
    /// Its title, one line.
    pub title: String,
    /// Its text, some lines.
    pub body: String,
    /// Its buttons.
    pub buttons: Vec<Button>,
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

/// What the session is to do that shows notifications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationOrder {
    /// Show this, and tell what came of it.
    Show(Notification),
    /// Show this one no more; nothing has to be told of it.
    Close {
        /// Its number.
        number: u64,
    },
}

/// What became of a notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationNews {
    /// It is shown.
    Shown,
    /// It is not.
    NotShown,
    /// It is shown no more.
    Closed {
        /// Why, as D-Bus numbers it.
        reason: u32,
    },
    /// The person clicked a button.
    Clicked {
        /// Which.
        key: String,
    },
}
