//! Kinds of messages.

use std::fmt;

use super::Version;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// A key is pressed or released.
    Keypress = 124,
    /// A button is pressed or released.
    Button = 125,
    /// The pointer has moved.
    Motion = 126,
    /// The pointer has come or gone.
    Crossing = 127,
    /// The keyboard has come or gone.
    Focus = 128,
    /// There is a window; it is not shown yet.
    Create = 130,
    /// A window is gone; the daemon's answer lets its number be used again.
    Destroy = 131,
    /// A window is to be shown.
    Map = 132,
    /// A window is not to be shown.
    Unmap = 133,
    /// Place and size of a window.
    Configure = 134,
    /// Content by machine frames; not served.
    MfnDump = 135,
    /// A part of a window has changed.
    ShmImage = 136,
    /// The person asks a window to close.
    Close = 137,
    /// The person copies: the clipboard is asked for.
    ClipboardRequest = 139,
    /// The clipboard.
    ClipboardData = 140,
    /// Title of a window.
    WmName = 141,
    /// Keys that are pressed.
    KeymapNotify = 142,
    /// A window is an icon of the tray.
    Dock = 143,
    /// Sizes that a window wants.
    WindowHints = 144,
    /// Whether a window fills the screen, wants attention, is minimised.
    WindowFlags = 145,
    /// Class of a window.
    WmClass = 146,
    /// Content of a window, as pages that are shared.
    WindowDump = 147,
    /// Shape of the pointer over a window.
    Cursor = 148,
    /// The pages of the dump before are not looked at any more.
    WindowDumpAck = 149,
    /// Size of a picture on the clipboard; ours ([`super::picture`]).
    Picture = 0x4200,
    /// Some of its bytes; ours.
    PicturePart = 0x4201,
}

/// How long the body of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// This many bytes.
    Exact(usize),
    /// As the header says, within the limit of the clipboard.
    Clipboard,
    /// As the header says, from one byte up to a part of a picture.
    Part,
    /// As the header says: so many bytes, then numbers of pages.
    Pages(usize),
}

impl Kind {
    /// All kinds there are.
    pub const ALL: [Self; 26] = [
        Self::Keypress,
        Self::Button,
        Self::Motion,
        Self::Crossing,
        Self::Focus,
        Self::Create,
        Self::Destroy,
        Self::Map,
        Self::Unmap,
        Self::Configure,
        Self::MfnDump,
        Self::ShmImage,
        Self::Close,
        Self::ClipboardRequest,
        Self::ClipboardData,
        Self::WmName,
        Self::KeymapNotify,
        Self::Dock,
        Self::WindowHints,
        Self::WindowFlags,
        Self::WmClass,
        Self::WindowDump,
        Self::Cursor,
        Self::WindowDumpAck,
        Self::Picture,
        Self::PicturePart,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_number(untrusted: u32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.number() == untrusted)
    }

    /// Whether agents send it.
    #[must_use]
    pub fn from_agent(self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Destroy
                | Self::Map
                | Self::Unmap
                | Self::Configure
                | Self::MfnDump
                | Self::ShmImage
                | Self::ClipboardData
                | Self::WmName
                | Self::Dock
                | Self::WindowHints
                | Self::WindowFlags
                | Self::WmClass
                | Self::WindowDump
                | Self::Cursor
                | Self::Picture
                | Self::PicturePart
        )
    }

    /// Whether daemons send it.
    #[must_use]
    pub fn from_daemon(self) -> bool {
        matches!(
            self,
            Self::Keypress
                | Self::Button
                | Self::Motion
                | Self::Crossing
                | Self::Focus
                | Self::Destroy
                | Self::Map
                | Self::Configure
                | Self::Close
                | Self::ClipboardRequest
                | Self::ClipboardData
                | Self::KeymapNotify
                | Self::WindowFlags
                | Self::WindowDumpAck
                | Self::Picture
                | Self::PicturePart
        )
    }

    /// Whether a peer of this version can say it.
    pub(super) fn is_known_to(self, version: Version) -> bool {
        !matches!(self, Self::Picture | Self::PicturePart) || version.has_pictures()
    }

    /// How long its body is.
    pub(super) fn body(self) -> Body {
        Body::Exact(match self {
            Self::Keypress | Self::Button | Self::Configure => 20,
            Self::Motion | Self::ShmImage => 16,
            Self::Crossing => 28,
            Self::Focus => 12,
            Self::Create => 24,
            Self::Map | Self::WindowFlags | Self::Picture => 8,
            Self::Destroy
            | Self::Unmap
            | Self::Close
            | Self::ClipboardRequest
            | Self::Dock
            | Self::WindowDumpAck => 0,
            Self::WmName | Self::WmClass => 128,
            Self::KeymapNotify => 32,
            Self::WindowHints => 36,
            Self::Cursor => 4,
            Self::ClipboardData => return Body::Clipboard,
            Self::PicturePart => return Body::Part,
            Self::MfnDump => return Body::Pages(28),
            Self::WindowDump => return Body::Pages(16),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message {self:?}")
    }
}
