//! What an agent says.

use thiserror::Error;

use super::geometry::{Part, Place, Size};
use super::picture::PictureSize;
use super::text::{UntrustedClass, UntrustedTitle};
use super::{CLASS_LEN, CLIPBOARD_MAX, Framed, Kind, PAGE_LEN, Version, WindowId, fields, frame};

/// A message of an agent. Whether its window is known is the owner's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentMessage {
    /// There is a window. Its parent is not told: only top-level windows exist.
    Create {
        /// Where it wants to be.
        place: Place,
        /// How large.
        size: Size,
        /// Whether it wants to be placed by nobody but itself.
        override_redirect: bool,
    },
    /// A window is gone.
    Destroy,
    /// A window is to be shown.
    Map {
        /// The window that it belongs to; perhaps one that does not exist.
        transient_for: Option<WindowId>,
        /// As in [`AgentMessage::Create`].
        override_redirect: bool,
    },
    /// A window is not to be shown.
    Unmap,
    /// Where a window is or wants to be.
    Configure {
        /// Where.
        place: Place,
        /// How large; not empty.
        size: Size,
    },
    /// A part of a window's content has changed.
    Damage(Part),
    /// The clipboard; none where there is more than [`CLIPBOARD_MAX`] bytes of it.
    Clipboard(Option<Vec<u8>>),
    /// There is a picture on the clipboard, of this size; none where it is too large.
    Picture(Option<PictureSize>),
    /// Some of its bytes, of which there are [`PICTURE_PART_MAX`](super::picture::PICTURE_PART_MAX)
    /// at most.
    PicturePart(Vec<u8>),
    /// A window's title.
    Title(Box<UntrustedTitle>),
    /// A window is an icon of the tray.
    Dock,
    /// Sizes that a window wants.
    Hints(Hints),
    /// Flags that a window wants to have or not.
    Flags {
        /// These it wants.
        set: Flags,
        /// These it does not.
        unset: Flags,
    },
    /// A window's class.
    Class(Box<WindowClass>),
    /// A window's content.
    Dump(Dump),
    /// Shape of the pointer over a window.
    Cursor(Cursor),
}

/// Sizes that a window wants; what was out of range is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hints {
    /// Its place was chosen by the person.
    pub person_placed: bool,
    /// Its place was chosen by the program.
    pub program_placed: bool,
    /// At least this size.
    pub min: Option<Size>,
    /// At most this size; not empty.
    pub max: Option<Size>,
    /// In steps of these; both less than the limits.
    pub increment: Option<Size>,
    /// Counted from this size.
    pub base: Option<Size>,
}

/// States of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// It fills the screen.
    pub fullscreen: bool,
    /// It wants attention.
    pub attention: bool,
    /// It is minimised.
    pub minimised: bool,
}

/// Class and name of the program of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowClass {
    /// Of all windows of such programs.
    pub class: UntrustedClass,
    /// Of this one.
    pub name: UntrustedClass,
}

/// The pages that a window's content is in, row by row, 4 bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// Of the image.
    pub size: Size,
    /// Grant references of its pages; enough for `size`, and perhaps more.
    pub pages: Vec<u32>,
}

/// Shape of the pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// As outside of windows.
    Default,
    /// A picture of X's cursor font, by its even index.
    Font(u8),
    /// A mask of X's cursor font, which is no picture.
    None,
}

/// The first index behind X's cursor font.
const CURSOR_END: u32 = 0x9a;

/// Where the indexes of the cursor font begin.
const CURSOR_FONT: u32 = 0x100;

/// What the reference asks the person about: a fault of one request and not of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// A size below zero.
    #[error("a size of {width} by {height}")]
    Size {
        /// As sent.
        width: i32,
        /// As sent.
        height: i32,
    },
    /// Flags that are to be set and unset at once.
    #[error("flags {0:#x} both ways")]
    Flags(u32),
    /// A pointer that there is not.
    #[error("pointer {0:#x}")]
    Cursor(u32),
}

/// What is passed over in silence, as the reference does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// A damage with a number below zero, or of nothing.
    Damage,
}

/// Why a message ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Another kind of pages than grants.
    #[error("pages of kind {0}")]
    PageKind(u32),
    /// Larger than windows can be.
    #[error("an image of {width} by {height}")]
    ImageSize {
        /// In pixels, as sent.
        width: u32,
        /// In pixels, as sent.
        height: u32,
    },
    /// Less pages than pixels.
    #[error("{pages} pages for {bytes} bytes")]
    TooFewPages {
        /// How many there are.
        pages: usize,
        /// How many bytes the image has.
        bytes: usize,
    },
}

/// What came of a message that was whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    Message(AgentMessage),
    Violation(Violation),
    Ignored(Ignored),
}

impl From<AgentMessage> for Parsed {
    fn from(message: AgentMessage) -> Self {
        Self::Message(message)
    }
}

/// Reads a body of the length that its kind has; for kinds that agents send.
pub(super) fn parse(framed: Framed) -> Result<Parsed, Malformed> {
    let body = framed.body.as_slice();
    Ok(match framed.kind {
        Kind::Create => {
            let [x, y, width, height, _parent, over] = fields::read(body);
            match size(width, height) {
                Ok(size) => AgentMessage::Create {
                    place: place(x, y),
                    size,
                    override_redirect: over != 0,
                }
                .into(),
                Err(violation) => Parsed::Violation(violation),
            }
        }
        Kind::Destroy => AgentMessage::Destroy.into(),
        Kind::Map => {
            let [transient_for, over] = fields::read(body);
            AgentMessage::Map {
                transient_for: (transient_for != 0).then_some(WindowId(transient_for)),
                override_redirect: over != 0,
            }
            .into()
        }
        Kind::Unmap => AgentMessage::Unmap.into(),
        Kind::Configure => {
            let [x, y, width, height, _over] = fields::read(body);
            match size(width, height) {
                Ok(size) if !size.is_empty() => AgentMessage::Configure {
                    place: place(x, y),
                    size,
                }
                .into(),
                _ => Parsed::Violation(no_size(width, height)),
            }
        }
        Kind::ShmImage => {
            let part = damage(fields::read(body));
            part.map_or(Parsed::Ignored(Ignored::Damage), |part| {
                AgentMessage::Damage(part).into()
            })
        }
        Kind::WmName => AgentMessage::Title(Box::new(UntrustedTitle::of(body))).into(),
        Kind::Dock => AgentMessage::Dock.into(),
        Kind::WindowHints => AgentMessage::Hints(hints(fields::read(body))).into(),
        Kind::WindowFlags => {
            let [set, unset] = fields::read(body);
            match set & unset & Flags::ALL {
                0 => AgentMessage::Flags {
                    set: Flags::of(set),
                    unset: Flags::of(unset),
                }
                .into(),
                both => Parsed::Violation(Violation::Flags(both)),
            }
        }
        Kind::WmClass => {
            let (class, name) = body.split_at_checked(CLASS_LEN).unwrap_or((body, &[]));
            AgentMessage::Class(Box::new(WindowClass {
                class: UntrustedClass::of(class),
                name: UntrustedClass::of(name),
            }))
            .into()
        }
        Kind::WindowDump => AgentMessage::Dump(dump(body)?).into(),
        Kind::Cursor => cursor(fields::read(body)),
        Kind::Picture => {
            let [width, height] = fields::read(body);
            AgentMessage::Picture(PictureSize::new(width, height)).into()
        }
        Kind::PicturePart => AgentMessage::PicturePart(framed.body).into(),
        // What is left is the clipboard; daemons' kinds are refused by their headers.
        _ => {
            let fits = framed.body.len() <= CLIPBOARD_MAX;
            AgentMessage::Clipboard(fits.then_some(framed.body)).into()
        }
    })
}

fn place(x: u32, y: u32) -> Place {
    Place::near(x.cast_signed(), y.cast_signed())
}

fn size(width: u32, height: u32) -> Result<Size, Violation> {
    if width.cast_signed() < 0 || height.cast_signed() < 0 {
        return Err(no_size(width, height));
    }
    Ok(Size::near(width, height))
}

fn no_size(width: u32, height: u32) -> Violation {
    Violation::Size {
        width: width.cast_signed(),
        height: height.cast_signed(),
    }
}

fn damage(fields: [u32; 4]) -> Option<Part> {
    if fields.iter().any(|field| field.cast_signed() < 0) {
        return None;
    }
    let [x, y, width, height] = fields;
    let size = Size::near(width, height);
    (!size.is_empty()).then_some(Part { x, y, size })
}

impl Hints {
    const PERSON_PLACED: u32 = 1;
    const PROGRAM_PLACED: u32 = 4;
    const MIN: u32 = 16;
    const MAX: u32 = 32;
    const INCREMENT: u32 = 64;
    const BASE: u32 = 256;
}

fn hints(fields: [u32; 9]) -> Hints {
    let [
        flags,
        min_w,
        min_h,
        max_w,
        max_h,
        inc_w,
        inc_h,
        base_w,
        base_h,
    ] = fields;
    let has = |flag| flags & flag != 0;
    let pair = |flag, width, height| Size::new(width, height).filter(|_| has(flag));
    let largest = |size: &Size| {
        size.width() == super::geometry::WIDTH_MAX || size.height() == super::geometry::HEIGHT_MAX
    };
    Hints {
        person_placed: has(Hints::PERSON_PLACED),
        program_placed: has(Hints::PROGRAM_PLACED),
        min: pair(Hints::MIN, min_w, min_h),
        max: pair(Hints::MAX, max_w, max_h).filter(|size| !size.is_empty()),
        increment: pair(Hints::INCREMENT, inc_w, inc_h).filter(|size| !largest(size)),
        base: pair(Hints::BASE, base_w, base_h),
    }
}

impl Flags {
    const FULLSCREEN: u32 = 1;
    const ATTENTION: u32 = 2;
    const MINIMISED: u32 = 4;
    const ALL: u32 = Self::FULLSCREEN | Self::ATTENTION | Self::MINIMISED;

    pub(super) fn of(bits: u32) -> Self {
        Self {
            fullscreen: bits & Self::FULLSCREEN != 0,
            attention: bits & Self::ATTENTION != 0,
            minimised: bits & Self::MINIMISED != 0,
        }
    }

    pub(super) fn bits(self) -> u32 {
        let bit = |on: bool, bit| if on { bit } else { 0 };
        bit(self.fullscreen, Self::FULLSCREEN)
            | bit(self.attention, Self::ATTENTION)
            | bit(self.minimised, Self::MINIMISED)
    }
}

/// The only kind of pages: grant references.
const GRANTS: u32 = 0;

/// Bits of a pixel, as agents say; nobody looks at it.
const PIXEL_BITS: u32 = 24;

fn dump(body: &[u8]) -> Result<Dump, Malformed> {
    let [kind, width, height, _bits] = fields::read(body);
    if kind != GRANTS {
        return Err(Malformed::PageKind(kind));
    }
    let size = Size::new(width, height).ok_or(Malformed::ImageSize { width, height })?;
    let refs = body.as_chunks().0.iter().skip(4);
    let pages: Vec<u32> = refs.map(|bytes| u32::from_le_bytes(*bytes)).collect();
    if pages.len() * PAGE_LEN < size.bytes() {
        return Err(Malformed::TooFewPages {
            pages: pages.len(),
            bytes: size.bytes(),
        });
    }
    Ok(Dump { size, pages })
}

fn cursor([cursor]: [u32; 1]) -> Parsed {
    let index = cursor
        .checked_sub(CURSOR_FONT)
        .filter(|at| *at < CURSOR_END);
    match (cursor, index.map(u8::try_from)) {
        (0, _) => AgentMessage::Cursor(Cursor::Default).into(),
        (_, Some(Ok(index))) if index.is_multiple_of(2) => {
            AgentMessage::Cursor(Cursor::Font(index)).into()
        }
        (_, Some(_)) => AgentMessage::Cursor(Cursor::None).into(),
        (_, None) => Parsed::Violation(Violation::Cursor(cursor)),
    }
}

impl AgentMessage {
    /// What it is on the wire.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Create { .. } => Kind::Create,
            Self::Destroy => Kind::Destroy,
            Self::Map { .. } => Kind::Map,
            Self::Unmap => Kind::Unmap,
            Self::Configure { .. } => Kind::Configure,
            Self::Damage(_) => Kind::ShmImage,
            Self::Clipboard(_) => Kind::ClipboardData,
            Self::Picture(_) => Kind::Picture,
            Self::PicturePart(_) => Kind::PicturePart,
            Self::Title(_) => Kind::WmName,
            Self::Dock => Kind::Dock,
            Self::Hints(_) => Kind::WindowHints,
            Self::Flags { .. } => Kind::WindowFlags,
            Self::Class(_) => Kind::WmClass,
            Self::Dump(_) => Kind::WindowDump,
            Self::Cursor(_) => Kind::Cursor,
        }
    }

    /// Appends the message to `out`. A clipboard that `version` has no room for says that there was
    /// too much, or nothing where the version cannot say it.
    pub fn encode(&self, version: Version, window: WindowId, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        match self {
            Self::Create {
                place,
                size,
                override_redirect,
            } => {
                rectangle(&mut body, *place, *size);
                fields::write(&mut body, &[0, (*override_redirect).into()]);
            }
            Self::Destroy | Self::Unmap | Self::Dock => {}
            Self::Map {
                transient_for,
                override_redirect,
            } => {
                let owner = transient_for.map_or(0, |window| window.0);
                fields::write(&mut body, &[owner, (*override_redirect).into()]);
            }
            Self::Configure { place, size } => {
                rectangle(&mut body, *place, *size);
                fields::write(&mut body, &[0]);
            }
            Self::Damage(part) => {
                let size = part.size;
                fields::write(&mut body, &[part.x, part.y, size.width(), size.height()]);
            }
            Self::Clipboard(text) => {
                let fits = |text: &&Vec<u8>| {
                    text.len() <= version.clipboard_max() && text.len() <= CLIPBOARD_MAX
                };
                match text.as_ref().filter(fits) {
                    Some(text) => body.extend_from_slice(text),
                    None if version >= Version::CLIPBOARDS => body.resize(CLIPBOARD_MAX + 1, 0),
                    None => {}
                }
            }
            Self::Picture(size) => fields::write(&mut body, &picture(*size)),
            Self::PicturePart(bytes) => body.extend_from_slice(bytes),
            Self::Title(title) => body.extend_from_slice(title.bytes()),
            Self::Hints(hints) => fields::write(&mut body, &hints.encode()),
            Self::Flags { set, unset } => fields::write(&mut body, &[set.bits(), unset.bits()]),
            Self::Class(class) => {
                body.extend_from_slice(class.class.bytes());
                body.extend_from_slice(class.name.bytes());
            }
            Self::Dump(Dump { size, pages }) => {
                fields::write(
                    &mut body,
                    &[GRANTS, size.width(), size.height(), PIXEL_BITS],
                );
                fields::write(&mut body, pages);
            }
            Self::Cursor(cursor) => fields::write(&mut body, &[cursor.number()]),
        }
        frame::encode(out, version, self.kind(), window, &body);
    }
}

/// Fields of a picture's size; none is what no picture has.
pub(super) fn picture(size: Option<PictureSize>) -> [u32; 2] {
    size.map_or([0, 0], |size| [size.width(), size.height()])
}

pub(super) fn rectangle(body: &mut Vec<u8>, place: Place, size: Size) {
    let (x, y) = (place.x().cast_unsigned(), place.y().cast_unsigned());
    fields::write(body, &[x, y, size.width(), size.height()]);
}

impl Hints {
    fn encode(self) -> [u32; 9] {
        let bit = |on: bool, bit| if on { bit } else { 0 };
        let pair = |size: Option<Size>| size.map_or((0, 0), |s| (s.width(), s.height()));
        let (min, max) = (pair(self.min), pair(self.max));
        let (increment, base) = (pair(self.increment), pair(self.base));
        let flags = bit(self.person_placed, Self::PERSON_PLACED)
            | bit(self.program_placed, Self::PROGRAM_PLACED)
            | bit(self.min.is_some(), Self::MIN)
            | bit(self.max.is_some(), Self::MAX)
            | bit(self.increment.is_some(), Self::INCREMENT)
            | bit(self.base.is_some(), Self::BASE);
        [
            flags,
            min.0,
            min.1,
            max.0,
            max.1,
            increment.0,
            increment.1,
            base.0,
            base.1,
        ]
    }
}

impl Cursor {
    fn number(self) -> u32 {
        match self {
            Self::Default => 0,
            Self::Font(index) => CURSOR_FONT + u32::from(index),
            Self::None => CURSOR_FONT + 1,
        }
    }
}
