//! What a daemon says.

use super::agent_message::{picture, rectangle};
use super::geometry::{Place, Size};
use super::picture::PictureSize;
use super::{CLIPBOARD_MAX, Flags, Framed, Kind, Version, WindowId, fields, frame};

/// Bytes of a map of pressed keys: a bit for each of X's 256.
pub const KEYMAP_LEN: usize = 32;

/// A message of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonMessage {
    /// A key was pressed, or released.
    Key {
        /// Pressed.
        down: bool,
        /// Where the pointer is, and what else is held.
        input: Input,
        /// As X numbers keys.
        keycode: u32,
    },
    /// A button was pressed, or released.
    Button {
        /// Pressed.
        down: bool,
        /// Where the pointer is, and what else is held.
        input: Input,
        /// As X numbers buttons.
        button: u32,
    },
    /// The pointer has moved.
    Motion {
        /// Where it is, and what is held.
        input: Input,
        /// As X has it.
        is_hint: bool,
    },
    /// The pointer has come or gone.
    Crossing(Crossing),
    /// The keyboard has come, or gone.
    Focus {
        /// It has come.
        here: bool,
        /// As X has it; 0 is normal.
        mode: u32,
        /// As X has it.
        detail: u32,
    },
    /// The window's number may be used again.
    Destroy,
    /// A window was shown again by the person.
    Map {
        /// The window that it belongs to.
        transient_for: Option<WindowId>,
        /// Whether it places itself.
        override_redirect: bool,
    },
    /// Where a window is to be.
    Configure {
        /// Where.
        place: Place,
        /// How large.
        size: Size,
        /// Whether it places itself.
        override_redirect: bool,
    },
    /// A window is to close.
    Close,
    /// The person copies.
    ClipboardRequest,
    /// The person pastes this.
    Clipboard(Vec<u8>),
    /// The person pastes a picture of this size; none for one that cannot be.
    Picture(Option<PictureSize>),
    /// Some of its bytes, of which there are [`PICTURE_PART_MAX`](super::picture::PICTURE_PART_MAX)
    /// at most.
    PicturePart(Vec<u8>),
    /// Which keys are pressed: bit `n % 8` of byte `n / 8` for key `n`.
    Keymap([u8; KEYMAP_LEN]),
    /// Flags that a window has got or lost.
    Flags {
        /// These it has.
        set: Flags,
        /// These it has not.
        unset: Flags,
    },
    /// The pages of the dump before the last are not looked at any more.
    DumpAck,
}

/// Pointer and modifiers at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Input {
    /// From the window's left, in pixels.
    pub x: i32,
    /// From the window's top, in pixels.
    pub y: i32,
    /// Modifiers and buttons, as X has them.
    pub state: u32,
}

/// The pointer has come or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    /// It has come.
    pub here: bool,
    /// Where it is, and what is held.
    pub input: Input,
    /// As X has it; 0 is normal.
    pub mode: u32,
    /// As X has it.
    pub detail: u32,
    /// Whether the window has the keyboard.
    pub focus: bool,
}

/// X's numbers of events.
const KEY: [u32; 2] = [3, 2];
const BUTTON: [u32; 2] = [5, 4];
const CROSSING: [u32; 2] = [8, 7];
const FOCUS: [u32; 2] = [10, 9];

fn event(numbers: [u32; 2], on: bool) -> u32 {
    let [off_number, on_number] = numbers;
    if on { on_number } else { off_number }
}

fn is_on(numbers: [u32; 2], number: u32) -> bool {
    number == event(numbers, true)
}

/// Reads a body of the length that its kind has; for kinds that daemons send, which are trusted:
/// what cannot be is read as what is nearest.
pub(super) fn parse(framed: Framed) -> DaemonMessage {
    let body = framed.body.as_slice();
    match framed.kind {
        Kind::Keypress => {
            let [event, x, y, state, keycode] = fields::read(body);
            DaemonMessage::Key {
                down: is_on(KEY, event),
                input: input(x, y, state),
                keycode,
            }
        }
        Kind::Button => {
            let [event, x, y, state, button] = fields::read(body);
            DaemonMessage::Button {
                down: is_on(BUTTON, event),
                input: input(x, y, state),
                button,
            }
        }
        Kind::Motion => {
            let [x, y, state, is_hint] = fields::read(body);
            DaemonMessage::Motion {
                input: input(x, y, state),
                is_hint: is_hint != 0,
            }
        }
        Kind::Crossing => {
            let [event, x, y, state, mode, detail, focus] = fields::read(body);
            DaemonMessage::Crossing(Crossing {
                here: is_on(CROSSING, event),
                input: input(x, y, state),
                mode,
                detail,
                focus: focus != 0,
            })
        }
        Kind::Focus => {
            let [event, mode, detail] = fields::read(body);
            DaemonMessage::Focus {
                here: is_on(FOCUS, event),
                mode,
                detail,
            }
        }
        Kind::Destroy => DaemonMessage::Destroy,
        Kind::Map => {
            let [owner, over] = fields::read(body);
            DaemonMessage::Map {
                transient_for: (owner != 0).then_some(WindowId(owner)),
                override_redirect: over != 0,
            }
        }
        Kind::Configure => {
            let [x, y, width, height, over] = fields::read(body);
            DaemonMessage::Configure {
                place: Place::near(x.cast_signed(), y.cast_signed()),
                size: Size::near(width, height),
                override_redirect: over != 0,
            }
        }
        Kind::Close => DaemonMessage::Close,
        Kind::ClipboardRequest => DaemonMessage::ClipboardRequest,
        Kind::KeymapNotify => {
            let mut keys = [0; KEYMAP_LEN];
            for (to, from) in keys.iter_mut().zip(body) {
                *to = *from;
            }
            DaemonMessage::Keymap(keys)
        }
        Kind::WindowFlags => {
            let [set, unset] = fields::read(body);
            DaemonMessage::Flags {
                set: Flags::of(set),
                unset: Flags::of(unset),
            }
        }
        Kind::WindowDumpAck => DaemonMessage::DumpAck,
        Kind::Picture => {
            let [width, height] = fields::read(body);
            DaemonMessage::Picture(PictureSize::new(width, height))
        }
        Kind::PicturePart => DaemonMessage::PicturePart(framed.body),
        // What is left is the clipboard; agents' kinds are passed over by their headers.
        _ => DaemonMessage::Clipboard(framed.body),
    }
}

fn input(x: u32, y: u32, state: u32) -> Input {
    Input {
        x: x.cast_signed(),
        y: y.cast_signed(),
        state,
    }
}

impl DaemonMessage {
    /// What it is on the wire.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Key { .. } => Kind::Keypress,
            Self::Button { .. } => Kind::Button,
            Self::Motion { .. } => Kind::Motion,
            Self::Crossing(_) => Kind::Crossing,
            Self::Focus { .. } => Kind::Focus,
            Self::Destroy => Kind::Destroy,
            Self::Map { .. } => Kind::Map,
            Self::Configure { .. } => Kind::Configure,
            Self::Close => Kind::Close,
            Self::ClipboardRequest => Kind::ClipboardRequest,
            Self::Clipboard(_) => Kind::ClipboardData,
            Self::Picture(_) => Kind::Picture,
            Self::PicturePart(_) => Kind::PicturePart,
            Self::Keymap(_) => Kind::KeymapNotify,
            Self::Flags { .. } => Kind::WindowFlags,
            Self::DumpAck => Kind::WindowDumpAck,
        }
    }

    /// Whether an agent of this version knows it.
    #[must_use]
    pub fn is_known_to(&self, version: Version) -> bool {
        match self {
            Self::Destroy => version >= Version::DESTROY_ANSWERED,
            Self::DumpAck => version >= Version::DUMPS_ANSWERED,
            Self::Picture(_) | Self::PicturePart(_) => self.kind().is_known_to(version),
            Self::Clipboard(text) => {
                text.len() <= version.clipboard_max() && text.len() <= CLIPBOARD_MAX
            }
            _ => true,
        }
    }

    /// Appends the message to `out`.
    pub fn encode(&self, version: Version, window: WindowId, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        match self {
            Self::Key {
                down,
                input,
                keycode,
            } => input.event(&mut body, event(KEY, *down), &[*keycode]),
            Self::Button {
                down,
                input,
                button,
            } => input.event(&mut body, event(BUTTON, *down), &[*button]),
            Self::Motion { input, is_hint } => {
                fields::write(&mut body, &input.fields());
                fields::write(&mut body, &[(*is_hint).into()]);
            }
            Self::Crossing(crossing) => {
                let rest = [crossing.mode, crossing.detail, crossing.focus.into()];
                let event = event(CROSSING, crossing.here);
                crossing.input.event(&mut body, event, &rest);
            }
            Self::Focus { here, mode, detail } => {
                fields::write(&mut body, &[event(FOCUS, *here), *mode, *detail]);
            }
            Self::Destroy | Self::Close | Self::ClipboardRequest | Self::DumpAck => {}
            Self::Map {
                transient_for,
                override_redirect,
            } => {
                let owner = transient_for.map_or(0, |window| window.0);
                fields::write(&mut body, &[owner, (*override_redirect).into()]);
            }
            Self::Configure {
                place,
                size,
                override_redirect,
            } => {
                rectangle(&mut body, *place, *size);
                fields::write(&mut body, &[(*override_redirect).into()]);
            }
            Self::Clipboard(text) => body.extend_from_slice(text),
            Self::Picture(size) => fields::write(&mut body, &picture(*size)),
            Self::PicturePart(bytes) => body.extend_from_slice(bytes),
            Self::Keymap(keys) => body.extend_from_slice(keys),
            Self::Flags { set, unset } => fields::write(&mut body, &[set.bits(), unset.bits()]),
        }
        frame::encode(out, version, self.kind(), window, &body);
    }
}

impl Input {
    fn fields(self) -> [u32; 3] {
        [self.x.cast_unsigned(), self.y.cast_unsigned(), self.state]
    }

    fn event(self, body: &mut Vec<u8>, event: u32, rest: &[u32]) {
        fields::write(body, &[event]);
        fields::write(body, &self.fields());
        fields::write(body, rest);
    }
}
