//! What is to be seen on the display, and a mouse and a keyboard.

use bulkhead_gui::icon::SHOWN_MAX;
use bulkhead_testing::wait_for;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    AtomEnum, ConnectionExt as _, EventMask, GrabMode, GrabStatus, ImageFormat, InputFocus,
    MapState, Window,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use crate::session::Session;

/// Where pictures of the screen are kept, if this is set.
const KEEP: &str = "BULKHEAD_KEEP_PICTURES";

const PRESS: u8 = 2;
const RELEASE: u8 = 3;
const BUTTON_PRESS: u8 = 4;
const BUTTON_RELEASE: u8 = 5;
const MOTION: u8 = 6;

/// Numbers of a property that are looked at: all of the largest icon.
const NUMBERS_MAX: u32 = 2 + SHOWN_MAX * SHOWN_MAX;

pub(crate) struct Screen {
    pub(crate) connection: RustConnection,
    pub(crate) root: Window,
}

/// A rectangle of pixels.
#[derive(PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) pixels: Vec<u32>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pixels", self.pixels.len())
    }
}

impl Picture {
    pub(crate) fn of(width: u32, height: u32, pixel: impl Fn(u32, u32) -> u32) -> Self {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let pixels = pixels.map(|(x, y)| pixel(x, y)).collect();
        Self { width, pixels }
    }

    pub(crate) fn at(&self, x: u32, y: u32) -> u32 {
        self.pixels[(y * self.width + x) as usize]
    }
}

impl Screen {
    pub(crate) fn of(session: &Session) -> Self {
        let (connection, number) = x11rb::connect(Some(session.display())).expect("a display");
        let root = connection.setup().roots[number].root;
        Self { connection, root }
    }

    /// What is to be seen of a rectangle of the screen.
    pub(crate) fn picture(&self, x: i32, y: i32, width: u32, height: u32) -> Picture {
        let [x, y] = [x, y].map(|at| i16::try_from(at).expect("on the screen"));
        let [w, h] = [width, height].map(|len| u16::try_from(len).expect("on the screen"));
        let format = ImageFormat::Z_PIXMAP;
        let image = self.connection.get_image(format, self.root, x, y, w, h, !0);
        let data = image.expect("an image").reply().expect("an image").data;
        let pixels = data.as_chunks::<4>().0.iter();
        Picture {
            width,
            pixels: pixels.map(|p| u32::from_le_bytes(*p) & 0xff_ffff).collect(),
        }
    }

    /// Keeps what is to be seen of the screen where the environment asks for it.
    pub(crate) fn keep(&self, name: &str) {
        let Some(folder) = std::env::var_os(KEEP) else {
            return;
        };
        let (.., width, height) = self.area(self.root);
        let all = self.picture(0, 0, width, height);
        let pixels = all.pixels.iter().flat_map(|pixel| {
            let [_, red, green, blue] = pixel.to_be_bytes();
            [red, green, blue]
        });
        let pixels: Vec<u8> = pixels.collect();
        let path = std::path::Path::new(&folder).join(format!("{name}.png"));
        let file = std::fs::File::create(path).expect("a file");
        let mut encoder = png::Encoder::new(file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().expect("a picture");
        writer.write_image_data(&pixels).expect("a picture");
    }

    #[track_caller]
    pub(crate) fn must_show(&self, at: (i32, i32), wanted: &Picture) {
        let height = u32::try_from(wanted.pixels.len()).expect("a height") / wanted.width;
        wait_for("a picture", || {
            (self.picture(at.0, at.1, wanted.width, height) == *wanted).then_some(())
        });
    }

    /// Windows of the root's that can be seen, from below to above.
    pub(crate) fn windows(&self) -> Vec<Window> {
        let all = || {
            let tree = self.connection.query_tree(self.root).expect("windows");
            tree.reply().expect("windows").children
        };
        let is_seen = |window: &Window| {
            let asked = self.connection.get_window_attributes(*window);
            let attributes = asked.expect("a window").reply();
            attributes.is_ok_and(|a| a.map_state == MapState::VIEWABLE)
        };
        loop {
            let before = all();
            let seen = before.iter().copied().filter(is_seen).collect();
            // One may have come into sight after it was put elsewhere.
            if all() == before {
                return seen;
            }
        }
    }

    /// Waits until there are so many.
    #[track_caller]
    pub(crate) fn must_have(&self, count: usize) -> Vec<Window> {
        wait_for("windows", || {
            Some(self.windows()).filter(|windows| windows.len() == count)
        })
    }

    /// Where a window is: x, y, width, height.
    pub(crate) fn area(&self, window: Window) -> (i32, i32, u32, u32) {
        let geometry = self.connection.get_geometry(window).expect("a window");
        let it = geometry.reply().expect("a window");
        let (x, y) = (it.x.into(), it.y.into());
        (x, y, it.width.into(), it.height.into())
    }

    pub(crate) fn atom(&self, name: &str) -> u32 {
        let atom = self.connection.intern_atom(false, name.as_bytes());
        atom.expect("an atom").reply().expect("an atom").atom
    }

    /// The same for one that is in another's frame.
    pub(crate) fn client_area(&self, window: Window) -> (i32, i32, u32, u32) {
        let (.., width, height) = self.area(window);
        let at = self
            .connection
            .translate_coordinates(window, self.root, 0, 0);
        let at = at.expect("a window").reply().expect("a window");
        (at.dst_x.into(), at.dst_y.into(), width, height)
    }

    pub(crate) fn text(&self, window: Window, property: &str) -> String {
        let (name, kind) = (self.atom(property), AtomEnum::ANY);
        let asked = self
            .connection
            .get_property(false, window, name, kind, 0, 1024);
        let value = asked
            .expect("a property")
            .reply()
            .expect("a property")
            .value;
        String::from_utf8(value).expect("text")
    }

    pub(crate) fn number(&self, window: Window, property: &str) -> Option<u32> {
        self.numbers(window, property).first().copied()
    }

    pub(crate) fn numbers(&self, window: Window, property: &str) -> Vec<u32> {
        let (name, kind) = (self.atom(property), AtomEnum::ANY);
        let asked = self
            .connection
            .get_property(false, window, name, kind, 0, NUMBERS_MAX);
        let reply = asked.expect("a property").reply().expect("a property");
        reply.value32().into_iter().flatten().collect()
    }

    /// Names that a property has.
    pub(crate) fn atoms(&self, window: Window, property: &str) -> Vec<String> {
        let (name, kind) = (self.atom(property), AtomEnum::ATOM);
        let asked = self
            .connection
            .get_property(false, window, name, kind, 0, 64);
        let reply = asked.expect("a property").reply().expect("a property");
        let name = |atom| {
            let name = self.connection.get_atom_name(atom).expect("a name");
            String::from_utf8(name.reply().expect("a name").name).expect("text")
        };
        reply.value32().into_iter().flatten().map(name).collect()
    }

    fn fake(&self, kind: u8, detail: u8, x: i32, y: i32) {
        let [x, y] = [x, y].map(|at| i16::try_from(at).expect("on the screen"));
        let sent = self
            .connection
            .xtest_fake_input(kind, detail, 0, self.root, x, y, 0);
        sent.expect("XTEST").check().expect("XTEST");
    }

    pub(crate) fn key(&self, code: u8, down: bool) {
        self.fake(if down { PRESS } else { RELEASE }, code, 0, 0);
    }

    /// The same without waiting until the display has seen it.
    pub(crate) fn key_soon(&self, code: u8, down: bool) {
        self.fake_soon(if down { PRESS } else { RELEASE }, code, (0, 0));
    }

    /// The same of the pointer.
    pub(crate) fn point_soon(&self, x: i16, y: i16) {
        self.fake_soon(MOTION, 0, (x, y));
    }

    fn fake_soon(&self, kind: u8, detail: u8, (x, y): (i16, i16)) {
        let sent = self
            .connection
            .xtest_fake_input(kind, detail, 0, self.root, x, y, 0);
        sent.expect("XTEST").ignore_error();
    }

    pub(crate) fn button(&self, button: u8, down: bool) {
        let kind = if down { BUTTON_PRESS } else { BUTTON_RELEASE };
        self.fake(kind, button, 0, 0);
    }

    pub(crate) fn point(&self, x: i32, y: i32) {
        self.fake(MOTION, 0, x, y);
    }

    /// Waits until nobody has grabbed the pointer.
    #[track_caller]
    pub(crate) fn must_have_free_pointer(&self) {
        let (mode, time) = (GrabMode::ASYNC, x11rb::CURRENT_TIME);
        wait_for("a free pointer", || {
            let events = EventMask::NO_EVENT;
            let (root, connection) = (self.root, &self.connection);
            let grab = connection.grab_pointer(false, root, events, mode, mode, 0_u32, 0_u32, time);
            let status = grab.expect("a grab").reply().expect("a grab").status;
            (status == GrabStatus::SUCCESS).then_some(())
        });
        let ungrab = self.connection.ungrab_pointer(time);
        ungrab.expect("a grab").check().expect("a grab");
    }

    /// Gives a window the keyboard, as window managers do.
    pub(crate) fn focus(&self, window: Window) {
        let set = self
            .connection
            .set_input_focus(InputFocus::PARENT, window, x11rb::CURRENT_TIME);
        set.expect("a window").check().expect("a window");
    }
}
