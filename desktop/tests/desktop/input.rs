//! A mouse and a keyboard, as the display server sees real ones.

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConnectionExt as _, CreateWindowAux, EventMask, ImageFormat,
    InputFocus, MapState, Window, WindowClass,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use crate::session::Session;

pub(crate) const TAB: u32 = 0xff09;
pub(crate) const RETURN: u32 = 0xff0d;
pub(crate) const ESCAPE: u32 = 0xff1b;
pub(crate) const DOWN: u32 = 0xff54;
pub(crate) const SPACE: u32 = 0x20;

const PRESS: u8 = 2;
const RELEASE: u8 = 3;
const BUTTON_PRESS: u8 = 4;
const BUTTON_RELEASE: u8 = 5;
const MOTION: u8 = 6;

pub(crate) struct Input {
    connection: RustConnection,
    root: Window,
    /// Keyboard symbols by code, as many for each code.
    symbols: Vec<u32>,
    per_code: usize,
    first_code: u8,
}

impl Input {
    pub(crate) fn start(session: &Session) -> Self {
        let (connection, screen) = x11rb::connect(Some(session.display())).expect("a display");
        let setup = connection.setup();
        let root = setup.roots[screen].root;
        let (first_code, last) = (setup.min_keycode, setup.max_keycode);
        let mapping = connection.get_keyboard_mapping(first_code, last - first_code + 1);
        let mapping = mapping.expect("a keyboard").reply().expect("a keyboard");
        Self {
            root,
            symbols: mapping.keysyms,
            per_code: mapping.keysyms_per_keycode.into(),
            first_code,
            connection,
        }
    }

    fn fake(&self, kind: u8, detail: u8, x: i16, y: i16) {
        let sent = self
            .connection
            .xtest_fake_input(kind, detail, 0, self.root, x, y, 0);
        sent.expect("XTEST").check().expect("XTEST");
    }

    /// Puts the pointer at a place on the screen.
    pub(crate) fn point(&self, x: i32, y: i32) {
        let place = |at: i32| i16::try_from(at).expect("on the screen");
        self.fake(MOTION, 0, place(x), place(y));
    }

    pub(crate) fn click(&self) {
        self.fake(BUTTON_PRESS, 1, 0, 0);
        self.fake(BUTTON_RELEASE, 1, 0, 0);
    }

    fn code(&self, symbol: u32) -> u8 {
        let at = self
            .symbols
            .chunks(self.per_code)
            .position(|keys| keys.first() == Some(&symbol));
        let at = at.unwrap_or_else(|| panic!("no key {symbol:x}"));
        self.first_code + u8::try_from(at).expect("a code")
    }

    /// Presses a key and lets it go.
    pub(crate) fn key(&self, symbol: u32) {
        self.fake(PRESS, self.code(symbol), 0, 0);
        self.fake(RELEASE, self.code(symbol), 0, 0);
    }

    /// Types lower-case letters.
    pub(crate) fn type_text(&self, text: &str) {
        text.chars().for_each(|c| self.key(u32::from(c)));
    }

    /// A window of another program, with the keyboard.
    pub(crate) fn other_window(&self) -> Window {
        let window = self.connection.generate_id().expect("an id");
        let events = CreateWindowAux::new().event_mask(EventMask::KEY_PRESS);
        self.connection
            .create_window(
                0,
                window,
                self.root,
                0,
                0,
                400,
                300,
                0,
                WindowClass::INPUT_OUTPUT,
                0,
                &events,
            )
            .expect("a window");
        self.connection.map_window(window).expect("a window");
        self.focus(window);
        window
    }

    /// Gives a window the keyboard.
    pub(crate) fn focus(&self, window: Window) {
        let given = self
            .connection
            .set_input_focus(InputFocus::PARENT, window, 0_u32);
        given.expect("focus").check().expect("focus");
    }

    /// The window that has the keyboard.
    pub(crate) fn focused(&self) -> Window {
        let focus = self.connection.get_input_focus().expect("a focus");
        focus.reply().expect("a focus").focus
    }

    /// Whether no window manager handles a window.
    pub(crate) fn is_unmanaged(&self, window: Window) -> bool {
        let attributes = self.connection.get_window_attributes(window);
        let attributes = attributes.expect("a window").reply();
        attributes.expect("a window").override_redirect
    }

    /// Width and height of a window.
    pub(crate) fn size(&self, window: Window) -> (i32, i32) {
        let size = self.connection.get_geometry(window).expect("a window");
        let size = size.reply().expect("a window");
        (size.width.into(), size.height.into())
    }

    /// The colour of a pixel of the screen, as a label has it.
    pub(crate) fn pixel(&self, x: i32, y: i32) -> u32 {
        let place = |at: i32| i16::try_from(at).expect("on the screen");
        let (x, y) = (place(x), place(y));
        let image =
            self.connection
                .get_image(ImageFormat::Z_PIXMAP, self.root, x, y, 1, 1, u32::MAX);
        let data = image.expect("a picture").reply().expect("a picture").data;
        u32::from_le_bytes([data[0], data[1], data[2], 0])
    }

    /// Asks a window to close, as a window manager does.
    pub(crate) fn close(&self, window: Window) {
        let atom = |name: &str| {
            let atom = self.connection.intern_atom(false, name.as_bytes());
            atom.expect("an atom").reply().expect("an atom").atom
        };
        let (protocols, delete) = (atom("WM_PROTOCOLS"), atom("WM_DELETE_WINDOW"));
        let event = ClientMessageEvent::new(32, window, protocols, [delete, 0, 0, 0, 0]);
        let sent = self
            .connection
            .send_event(false, window, EventMask::NO_EVENT, event);
        sent.expect("a message").check().expect("a message");
    }

    /// Windows on the screen with this title, and where they are.
    pub(crate) fn windows(&self, title: &str) -> Vec<(Window, i32, i32)> {
        let tree = self
            .connection
            .query_tree(self.root)
            .expect("a tree")
            .reply();
        let windows = tree.expect("a tree").children;
        let is_it = |window: &Window| -> Option<bool> {
            let attributes = self
                .connection
                .get_window_attributes(*window)
                .ok()?
                .reply()
                .ok()?;
            let property = self.connection.get_property(
                false,
                *window,
                AtomEnum::WM_NAME,
                AtomEnum::ANY,
                0,
                256,
            );
            let name = property.ok()?.reply().ok()?.value;
            Some(attributes.map_state == MapState::VIEWABLE && name == title.as_bytes())
        };
        let found = windows
            .into_iter()
            .filter(|window| is_it(window) == Some(true));
        let placed = found.filter_map(|window| {
            let at = self.connection.get_geometry(window).ok()?.reply().ok()?;
            Some((window, i32::from(at.x), i32::from(at.y)))
        });
        placed.collect()
    }
}
