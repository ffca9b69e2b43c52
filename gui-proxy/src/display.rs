//! What the proxy needs of a display.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;

use bulkhead_vchan::PeerMemory;
use bulkhead_wire::gui::geometry::{Part, Place, Size};
use bulkhead_wire::gui::{Cursor, Flags, Hints, Input, Screen};

use crate::frame::{Area, Frame};
use crate::icon::Icon;
use crate::keys::Keys;
use crate::monitors::Seen;

/// A window on the display, from its being shown to its being hidden. No number is used twice, so
/// that what the display tells of one window is never taken for another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

/// What a window on the display is to be like. Text is fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The number that the qube has given it.
    pub id: u32,
    /// Where its content is on the screen.
    pub place: Place,
    /// How large its content is; an empty one is shown as a pixel.
    pub size: Size,
    /// Whether nobody else may place it: menus, tooltips.
    pub override_redirect: bool,
    /// It is an icon of the tray, which says where it is and how large.
    pub docked: bool,
    /// The window that it belongs to.
    pub owner: Option<Key>,
    /// Title, without the qube's name.
    pub title: String,
    /// Class and name of its program, without the qube's name.
    pub class: (String, String),
    /// The icon that the qube has given it, if it has.
    pub icon: Option<Icon>,
    /// Sizes that it wants.
    pub hints: Hints,
    /// The pointer over it.
    pub cursor: Cursor,
    /// Fills the screen but for what the person keeps there.
    pub maximised: bool,
    /// Wants attention.
    pub attention: bool,
}

/// What the display is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Shows a new window.
    Show(Key, Box<Look>),
    /// A window that was like the first, but for what the display has told since, is to be like the
    /// second.
    Alter(Key, Box<Look>, Box<Look>),
    /// Puts a window out of the way.
    Minimise(Key),
    /// Hides a window for good.
    Hide(Key),
}

/// What happened on the display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A key was pressed, or released.
    Key {
        /// In the window that has the keyboard.
        window: Key,
        /// Pressed.
        down: bool,
        /// Pointer and modifiers.
        input: Input,
        /// By X's numbers.
        code: u8,
        /// When, in milliseconds; it wraps.
        time: u32,
    },
    /// A button was pressed, or released.
    Button {
        /// Over this one.
        window: Key,
        /// Pressed.
        down: bool,
        /// Pointer and modifiers.
        input: Input,
        /// By X's numbers.
        button: u8,
    },
    /// The pointer has moved.
    Motion {
        /// Over this one.
        window: Key,
        /// Pointer and modifiers.
        input: Input,
    },
    /// The pointer has come or gone.
    Crossing {
        /// To or from this one.
        window: Key,
        /// It has come.
        here: bool,
        /// Pointer and modifiers.
        input: Input,
        /// All keys that are pressed.
        pressed: Keys,
    },
    /// The keyboard has come, or has come back from whoever had grabbed it.
    FocusIn {
        /// To this one.
        window: Key,
        /// All keys that are pressed.
        pressed: Keys,
    },
    /// The keyboard has gone.
    FocusOut {
        /// From this one.
        window: Key,
    },
    /// Somebody has grabbed the keyboard of the window that has it.
    Grabbed {
        /// This one.
        window: Key,
    },
    /// A window is somewhere else, or of another size.
    Moved {
        /// This one.
        window: Key,
        /// Where its content is.
        place: Place,
        /// How large its content is.
        size: Size,
    },
    /// The person wants a window closed.
    Close(Key),
    /// States of a window.
    State {
        /// This one.
        window: Key,
        /// As the person sees it.
        flags: Flags,
        /// It fills the screen but for what the person keeps there.
        maximised: bool,
    },
    /// Content has to be painted again.
    Exposed(Key, Part),
    /// There is room to paint again.
    Room,
    /// Keys may have other symbols.
    Keyboard,
    /// The part of the screen that windows may use.
    Work(Area),
    /// There may be other monitors.
    Monitors,
}

/// Where windows are shown. Whoever makes one draws the frames, in one colour and with one name,
/// and never lets content cover them.
pub trait Display: Debug {
    /// Why it cannot go on.
    type Failure: std::error::Error + 'static;

    /// The descriptor that is readable when something happened.
    fn fd(&self) -> BorrowedFd<'_>;

    /// For the agent.
    fn screen(&self) -> Screen;

    /// The frames.
    fn frame(&self) -> Frame;

    /// The part of the screen that windows may use.
    fn work(&self) -> Area;

    /// The keys that have a symbol, as X numbers both; none where there is no such key.
    ///
    /// # Errors
    /// Where the display is gone.
    fn keys_of(&self, symbol: u32) -> Result<Keys, Self::Failure>;

    /// The monitors that there are; none where the display does not know.
    ///
    /// # Errors
    /// Where the display is gone.
    fn monitors(&self) -> Result<Vec<Seen>, Self::Failure>;

    /// Does what it is told, in order.
    ///
    /// # Errors
    /// Where the display cannot go on.
    fn apply(&mut self, change: Change) -> Result<(), Self::Failure>;

    /// The person waits for a window of the qube: the next may have the keyboard at once.
    fn await_window(&mut self);

    /// Copies rows of an image, from the first row of `part` on, to the same place of a window's
    /// content. Returns how many were painted: none where there is no room until [`Event::Room`].
    /// Windows that are not shown take all.
    ///
    /// # Errors
    /// Where the display cannot go on.
    fn paint(&mut self, window: Key, image: &Image, part: Part) -> Result<u32, Self::Failure>;

    /// What happened, and nothing where that is all. To be called until then before waiting.
    ///
    /// # Errors
    /// Where the display is gone.
    fn next(&mut self) -> Result<Option<Event>, Self::Failure>;

    /// Has everything reach the display.
    ///
    /// # Errors
    /// Where the display is gone.
    fn flush(&mut self) -> Result<(), Self::Failure>;
}

/// What a window shows: pixels of 4 bytes, row by row. They may change at any time.
#[derive(Debug)]
pub struct Image {
    /// The qube's memory; holds all of `size`.
    pub memory: PeerMemory,
    /// In pixels.
    pub size: Size,
}
