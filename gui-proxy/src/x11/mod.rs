//! The display by X11: a window for each frame and, in it, one for the content. The server clips
//! content to that window, so nothing that is painted can cover a frame.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use bulkhead_vchan::share::OutsideError;
use bulkhead_wire::gui::geometry::{Part, Size};
use bulkhead_wire::gui::{Cursor, Screen};
use thiserror::Error;
use x11rb::connection::{Connection, RequestConnection, SequenceNumber};
use x11rb::errors::{ConnectError, ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::protocol::shm;
use x11rb::protocol::xproto::{
    self, AtomEnum, ChangeWindowAttributesAux, Char2b, ConnectionExt as _, CreateGCAux, EventMask,
    ImageOrder, Window,
};
use x11rb::rust_connection::RustConnection;

use self::buffers::Buffers;
use self::handles::Held;
use self::tray::Tray;
use crate::display::{Change, Display, Event, Image, Key};
use crate::frame::{Area, Frame};
use crate::keys::Keys;
use crate::log::Log;
use crate::monitors::Seen;

mod buffers;
mod events;
mod handles;
mod keyboard;
mod look;
mod monitors;
mod stacking;
mod tray;

x11rb::atom_manager! {
    /// Names that the server has numbers for.
    pub(self) Atoms:
    AtomsCookie {
        MANAGER,
        UTF8_STRING,
        WM_CHANGE_STATE,
        WM_DELETE_WINDOW,
        WM_PROTOCOLS,
        _MOTIF_WM_HINTS,
        _NET_ACTIVE_WINDOW,
        _NET_CLIENT_LIST_STACKING,
        _NET_SYSTEM_TRAY_OPCODE,
        _NET_WM_ICON,
        _NET_WM_MOVERESIZE,
        _NET_WM_NAME,
        _NET_WM_STATE,
        _NET_WM_STATE_DEMANDS_ATTENTION,
        _NET_WM_STATE_FULLSCREEN,
        _NET_WM_STATE_HIDDEN,
        _NET_WM_STATE_MAXIMIZED_HORZ,
        _NET_WM_STATE_MAXIMIZED_VERT,
        _NET_WM_USER_TIME,
        _NET_WM_WINDOW_TYPE,
        _NET_WM_WINDOW_TYPE_DESKTOP,
        _NET_WORKAREA,
        _QUBES_LABEL,
        _QUBES_LABEL_COLOR,
        _QUBES_VMNAME,
        _QUBES_VMWINDOWID,
        _XEMBED_INFO,
    }
}

/// The font of names, which every server has.
const FONT: &[u8] = b"fixed";

/// The only depth of pixels that qubes have.
const DEPTH: u8 = 24;

/// Whose windows these are, as dom0 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qube {
    /// Its name; ASCII.
    pub name: String,
    /// The number of its label.
    pub label: u32,
    /// The colour of its label: red, green, blue.
    pub color: u32,
}

/// Why a display cannot be used, or no more.
#[derive(Debug, Error)]
pub enum X11Failure {
    /// There is none.
    #[error("cannot connect to the display")]
    Connect(#[from] ConnectError),
    /// It went.
    #[error("the connection to the display ended")]
    Connection(#[from] ConnectionError),
    /// It refused what every display does.
    #[error("the display refused a request")]
    Reply(#[from] ReplyError),
    /// It has no numbers left.
    #[error("the display has no room for more windows")]
    Ids(#[from] ReplyOrIdError),
    /// Pixels cannot be given to it in memory.
    #[error("the display has no MIT-SHM 1.2")]
    NoSharedMemory,
    /// No memory for it.
    #[error("cannot make memory for the display")]
    Memory(#[source] io::Error),
    /// Its pixels are not what qubes have.
    #[error("the display does not have pixels of 24 bits in 4 bytes, red above green above blue")]
    Pixels,
    /// An image whose size is not that of its memory.
    #[error("an image has less pixels than it should")]
    Image(#[from] OutsideError),
}

type Done<T = ()> = Result<T, X11Failure>;

/// A window of ours.
#[derive(Debug)]
struct Framed {
    outer: Window,
    content: Window,
    /// Whose child `outer` is: the root's, or a frame's of the window manager.
    parent: Window,
    look: Box<crate::display::Look>,
    /// The request that last placed it. What is told from before it is not true any more.
    placed: SequenceNumber,
    /// Since when it is above all, as the menu of an icon.
    menu_since: Option<Instant>,
}

/// A connection to an X server.
#[derive(Debug)]
pub struct X11 {
    connection: RustConnection,
    atoms: Atoms,
    root: Window,
    visual: xproto::Visualid,
    screen: Screen,
    work: Area,
    qube: Qube,
    frame: Frame,
    /// For content.
    paint: xproto::Gcontext,
    /// For names.
    write: xproto::Gcontext,
    buffers: Buffers,
    windows: BTreeMap<Key, Framed>,
    /// By either window of each.
    keys: BTreeMap<Window, Key>,
    cursors: BTreeMap<Option<u8>, xproto::Cursor>,
    cursor_font: xproto::Font,
    tray: Tray,
    /// Whether the server tells of monitors.
    has_monitors: bool,
    /// The button of a frame that is held down.
    held: Option<Held>,
    /// Buttons that went down in windows of the qube.
    pressed: BTreeSet<xproto::Button>,
    /// When the person last typed or clicked in any of the windows.
    used: Option<(xproto::Timestamp, Instant)>,
    /// Since when the person waits for a window.
    awaited: Option<Instant>,
    /// Events that came together.
    events: VecDeque<Event>,
    log: Log,
}

impl X11 {
    /// Connects to `$DISPLAY`, and makes all that a confined process could not make any more.
    ///
    /// # Errors
    /// [`X11Failure`].
    pub fn connect(qube: Qube, log: Log) -> Done<Self> {
        let (connection, number) = x11rb::connect(None)?;
        let atoms = Atoms::new(&connection)?.reply()?;
        let setup = connection.setup();
        let screen = setup.roots.get(number).ok_or(X11Failure::Pixels)?.clone();
        if !has_our_pixels(setup, &screen) {
            return Err(X11Failure::Pixels);
        }
        let root = screen.root;
        let buffers = Buffers::make(&connection)?;
        let font = connection.generate_id()?;
        connection.open_font(font, FONT)?.check()?;
        let cursor_font = connection.generate_id()?;
        connection.open_font(cursor_font, b"cursor")?.check()?;
        let name: Vec<Char2b> = qube
            .name
            .bytes()
            .map(|byte2| Char2b { byte1: 0, byte2 })
            .collect();
        let extents = connection.query_text_extents(font, &name)?.reply()?;
        let paint = connection.generate_id()?;
        let no_events = CreateGCAux::new().graphics_exposures(0);
        connection.create_gc(paint, root, &no_events)?.check()?;
        let write = connection.generate_id()?;
        let colors = no_events
            .font(font)
            .background(qube.color)
            .foreground(legible_on(qube.color));
        connection.create_gc(write, root, &colors)?.check()?;
        let events = EventMask::PROPERTY_CHANGE | EventMask::STRUCTURE_NOTIFY;
        let attributes = ChangeWindowAttributesAux::new().event_mask(events);
        connection
            .change_window_attributes(root, &attributes)?
            .check()?;
        // Numbers of windows are found again by it once a client has used them all.
        connection.prefetch_extension_information("XC-MISC")?;
        let tray = Tray::of_screen(&connection, number)?;
        let has_monitors = monitors::watch(&connection, root)?;
        let mut it = Self {
            atoms,
            root,
            visual: screen.root_visual,
            screen: Screen {
                width: screen.width_in_pixels.into(),
                height: screen.height_in_pixels.into(),
                depth: DEPTH.into(),
            },
            work: Area {
                x: 0,
                y: 0,
                width: screen.width_in_pixels.into(),
                height: screen.height_in_pixels.into(),
            },
            frame: Frame::for_name(extents.overall_width.unsigned_abs()),
            qube,
            paint,
            write,
            buffers,
            windows: BTreeMap::new(),
            keys: BTreeMap::new(),
            cursors: BTreeMap::new(),
            cursor_font,
            tray,
            has_monitors,
            held: None,
            pressed: BTreeSet::new(),
            used: None,
            awaited: None,
            events: VecDeque::new(),
            log,
            connection,
        };
        it.work = it.work_area()?;
        Ok(it)
    }

    /// The part of the screen that windows may use, as the window manager says, or all of it.
    fn work_area(&self) -> Done<Area> {
        let whole = Area {
            x: 0,
            y: 0,
            width: self.screen.width,
            height: self.screen.height,
        };
        let (name, kind) = (self.atoms._NET_WORKAREA, AtomEnum::CARDINAL);
        let said = self.numbers(self.root, name, kind.into())?;
        Ok(match said.as_slice() {
            &[x, y, width, height, ..] if width > 0 && height > 0 => Area {
                x: i32::try_from(x).unwrap_or(0),
                y: i32::try_from(y).unwrap_or(0),
                width,
                height,
            },
            _ => whole,
        })
    }

    /// The numbers of a property; none where the window or the property is not there.
    fn numbers(&self, window: Window, name: u32, kind: u32) -> Done<Vec<u32>> {
        let asked = self
            .connection
            .get_property(false, window, name, kind, 0, PROPERTY_MAX)?;
        match asked.reply() {
            Ok(reply) => Ok(reply.value32().map(Iterator::collect).unwrap_or_default()),
            Err(ReplyError::X11Error(_)) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }

    fn cursor(&mut self, cursor: Cursor) -> Done<xproto::Cursor> {
        let picture = match cursor {
            Cursor::Default => return Ok(x11rb::NONE),
            Cursor::Font(picture) => Some(picture),
            Cursor::None => None,
        };
        if let Some(known) = self.cursors.get(&picture) {
            return Ok(*known);
        }
        let new = self.connection.generate_id()?;
        // What is no picture is the one of an arrow: a pointer that cannot be seen hides from the
        // person where a click goes.
        let glyph = u16::from(picture.unwrap_or(LEFT_PTR));
        let font = self.cursor_font;
        self.connection.create_glyph_cursor(
            new,
            font,
            font,
            glyph,
            glyph + 1,
            0,
            0,
            0,
            u16::MAX,
            u16::MAX,
            u16::MAX,
        )?;
        self.cursors.insert(picture, new);
        Ok(new)
    }
}

/// Numbers of a property that are read: more than any that is looked at has.
const PROPERTY_MAX: u32 = 64;

/// An arrow of the cursor font.
const LEFT_PTR: u8 = 68;

/// Whether pixels of qubes can be given to the display as they are.
fn has_our_pixels(setup: &xproto::Setup, screen: &xproto::Screen) -> bool {
    let in_four_bytes = setup
        .pixmap_formats
        .iter()
        .any(|format| format.depth == DEPTH && format.bits_per_pixel == 32);
    let visuals = screen
        .allowed_depths
        .iter()
        .flat_map(|depth| &depth.visuals);
    let visual = visuals
        .filter(|visual| visual.visual_id == screen.root_visual)
        .any(|v| (v.red_mask, v.green_mask, v.blue_mask) == (0xff_0000, 0xff00, 0xff));
    screen.root_depth == DEPTH
        && in_four_bytes
        && visual
        && setup.image_byte_order == ImageOrder::LSB_FIRST
}

/// Black or white, whichever is read better on a colour.
fn legible_on(color: u32) -> u32 {
    let [_, red, green, blue] = color.to_be_bytes().map(u32::from);
    let light = 299 * red + 587 * green + 114 * blue;
    if light > 128_000 { 0 } else { 0xff_ffff }
}

/// A size that windows of X can have.
fn drawn(size: Size) -> (u32, u32) {
    (size.width().max(1), size.height().max(1))
}

impl Display for X11 {
    type Failure = X11Failure;

    fn fd(&self) -> BorrowedFd<'_> {
        self.connection.stream().as_fd()
    }

    fn screen(&self) -> Screen {
        self.screen
    }

    fn frame(&self) -> Frame {
        self.frame
    }

    fn work(&self) -> Area {
        self.work
    }

    fn keys_of(&self, symbol: u32) -> Done<Keys> {
        Ok(self.keyboard()?.keys_of(symbol))
    }

    fn monitors(&self) -> Done<Vec<Seen>> {
        self.monitors_seen()
    }

    fn apply(&mut self, change: Change) -> Done {
        match change {
            Change::Show(key, look) if look.docked => self.dock(key, look),
            Change::Show(key, look) => self.show(key, look),
            Change::Alter(key, was, look) if look.docked => self.alter_icon(key, &was, look),
            Change::Alter(key, was, look) => self.alter(key, &was, look),
            Change::Minimise(key) => self.minimise(key),
            Change::Hide(key) => self.hide(key),
        }
    }

    fn await_window(&mut self) {
        self.awaited = Some(Instant::now());
    }

    fn paint(&mut self, window: Key, image: &Image, part: Part) -> Done<u32> {
        let Some(framed) = self.windows.get(&window) else {
            return Ok(part.size.height());
        };
        let to = (framed.content, self.paint);
        self.buffers.paint(&self.connection, to, image, part)
    }

    fn next(&mut self) -> Done<Option<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.connection.poll_for_event_with_sequence()? {
                Some((event, after)) => self.heard(event, after)?,
                None => return Ok(None),
            }
        }
    }

    fn flush(&mut self) -> Done {
        Ok(self.connection.flush()?)
    }
}

/// Whether pixels can be given to the server in memory of ours.
fn has_shared_memory(connection: &RustConnection) -> Done<bool> {
    if connection
        .extension_information(shm::X11_EXTENSION_NAME)?
        .is_none()
    {
        return Ok(false);
    }
    let version = shm::query_version(connection)?.reply()?;
    Ok((version.major_version, version.minor_version) >= (1, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_black_on_light_labels_and_white_on_dark_ones() {
        for (color, name) in [
            (0xff_ffff, 0),
            (0xffff00, 0),
            (0x00_0000, 0xff_ffff),
            (0xcc_0000, 0xff_ffff),
            (0x00_00ff, 0xff_ffff),
        ] {
            assert_eq!(legible_on(color), name, "{color:#x}");
        }
    }
}
