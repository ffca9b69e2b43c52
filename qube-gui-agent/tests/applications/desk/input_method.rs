//! An input method that remembers what it is told, and otherwise does what a test says.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};
use wayland_client::globals::{GlobalListContents, registry_queue_init};
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_keyboard::KeymapFormat;
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_shm::{Format, WlShm};
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, EventQueue, QueueHandle, delegate_noop};
use wayland_protocols_misc::zwp_input_method_v2::client::zwp_input_method_keyboard_grab_v2::{
    self as grab, ZwpInputMethodKeyboardGrabV2,
};
use wayland_protocols_misc::zwp_input_method_v2::client::zwp_input_method_manager_v2::ZwpInputMethodManagerV2;
use wayland_protocols_misc::zwp_input_method_v2::client::zwp_input_method_v2::{
    self as method, ZwpInputMethodV2,
};
use wayland_protocols_misc::zwp_input_method_v2::client::zwp_input_popup_surface_v2::ZwpInputPopupSurfaceV2;
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::zwp_virtual_keyboard_manager_v1::ZwpVirtualKeyboardManagerV1;
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::zwp_virtual_keyboard_v1::ZwpVirtualKeyboardV1;

/// Linux numbers keys from 0, X from 8.
const FIRST_KEY: u32 = 8;

/// What an input method was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Whether a field wants text.
    pub(crate) active: bool,
    /// The same, while it is not done being told.
    becomes_active: bool,
    /// There is another.
    pub(crate) refused: bool,
    /// Keys as X numbers them, and whether they went down.
    pub(crate) keys: Vec<(u32, bool)>,
    /// Modifiers that are held, those that are locked, and the layout.
    pub(crate) modifiers: (u32, u32, u32),
    /// How often it was told everything.
    done: u32,
    keymap: Option<(OwnedFd, u32)>,
}

/// A client of the agent.
pub(crate) struct InputMethod {
    connection: Connection,
    queue: EventQueue<Told>,
    pub(crate) told: Told,
    compositor: WlCompositor,
    shm: WlShm,
    method: ZwpInputMethodV2,
    keyboard: ZwpVirtualKeyboardV1,
}

impl InputMethod {
    #[track_caller]
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        let connection = Connection::from_socket(stream).unwrap();
        let (globals, queue) = registry_queue_init::<Told>(&connection).unwrap();
        let handle = queue.handle();
        let seat: WlSeat = globals.bind(&handle, 1..=7, ()).unwrap();
        let methods: ZwpInputMethodManagerV2 = globals.bind(&handle, 1..=1, ()).unwrap();
        let keyboards: ZwpVirtualKeyboardManagerV1 = globals.bind(&handle, 1..=1, ()).unwrap();
        let mut new = Self {
            connection,
            told: Told::default(),
            compositor: globals.bind(&handle, 4..=4, ()).unwrap(),
            shm: globals.bind(&handle, 1..=1, ()).unwrap(),
            method: methods.get_input_method(&seat, &handle, ()),
            keyboard: keyboards.create_virtual_keyboard(&seat, &handle, ()),
            queue,
        };
        new.hear();
        new
    }

    /// Has the agent hear what was said, and hears all that it has to say.
    #[track_caller]
    pub(crate) fn hear(&mut self) {
        self.queue.roundtrip(&mut self.told).unwrap();
    }

    /// Wants all keys, and waits for what they mean.
    #[track_caller]
    pub(crate) fn grab(&mut self) -> ZwpInputMethodKeyboardGrabV2 {
        let grab = self.method.grab_keyboard(&self.queue.handle(), ());
        self.hear();
        if let Some((file, length)) = &self.told.keymap {
            let format = KeymapFormat::XkbV1 as u32;
            self.keyboard.keymap(format, file.as_fd(), *length);
        }
        grab
    }

    /// Shows text that is not there yet.
    #[track_caller]
    pub(crate) fn compose(&mut self, text: &str) {
        let end = i32::try_from(text.len()).unwrap();
        self.method.set_preedit_string(text.into(), end, end);
        self.method.commit(self.told.done);
        self.hear();
    }

    /// Writes text.
    #[track_caller]
    pub(crate) fn write(&mut self, text: &str) {
        self.method.commit_string(text.into());
        self.method.commit(self.told.done);
        self.hear();
    }

    /// Passes a key on to the application.
    #[track_caller]
    pub(crate) fn pass_on(&mut self, keycode: u32) {
        for state in [1, 0] {
            self.keyboard.key(0, keycode - FIRST_KEY, state);
        }
        self.hear();
    }

    /// Gives the virtual keyboard a keymap of so many bytes, and says that it has `said`; whether
    /// it has one then.
    #[track_caller]
    pub(crate) fn set_keymap(&mut self, bytes: &[u8], said: u32) -> bool {
        let file = memory(bytes);
        self.keyboard
            .keymap(KeymapFormat::XkbV1 as u32, file.as_fd(), said);
        self.keyboard.key(0, 1, 1);
        let heard = self.queue.roundtrip(&mut self.told);
        assert_eq!(heard.is_err(), self.connection.protocol_error().is_some());
        heard.is_ok()
    }

    /// Shows a popup of one colour.
    #[track_caller]
    pub(crate) fn show(
        &mut self,
        (width, height): (i32, i32),
    ) -> (ZwpInputPopupSurfaceV2, WlSurface) {
        let handle = self.queue.handle();
        let surface = self.compositor.create_surface(&handle, ());
        let popup = self.method.get_input_popup_surface(&surface, &handle, ());
        let pixels = vec![0x80; usize::try_from(4 * width * height).unwrap()];
        let file = memory(&pixels);
        let length = i32::try_from(pixels.len()).unwrap();
        let pool = self.shm.create_pool(file.as_fd(), length, &handle, ());
        let buffer = pool.create_buffer(0, width, height, 4 * width, Format::Xrgb8888, &handle, ());
        surface.attach(Some(&buffer), 0, 0);
        surface.damage(0, 0, width, height);
        surface.commit();
        self.hear();
        (popup, surface)
    }
}

fn memory(bytes: &[u8]) -> OwnedFd {
    let file = memfd_create("of-a-test", MemfdFlags::CLOEXEC).unwrap();
    std::io::Write::write_all(&mut std::fs::File::from(file.try_clone().unwrap()), bytes).unwrap();
    file
}

impl Dispatch<ZwpInputMethodV2, ()> for Told {
    fn event(
        told: &mut Self,
        _: &ZwpInputMethodV2,
        event: method::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            method::Event::Activate => told.becomes_active = true,
            method::Event::Deactivate => told.becomes_active = false,
            method::Event::Done => {
                told.active = told.becomes_active;
                told.done += 1;
            }
            method::Event::Unavailable => told.refused = true,
            _ => {}
        }
    }
}

impl Dispatch<ZwpInputMethodKeyboardGrabV2, ()> for Told {
    fn event(
        told: &mut Self,
        _: &ZwpInputMethodKeyboardGrabV2,
        event: grab::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            grab::Event::Keymap { fd, size, .. } => told.keymap = Some((fd, size)),
            grab::Event::Key { key, state, .. } => {
                let down = u32::from(state) == 1;
                told.keys.push((key + FIRST_KEY, down));
            }
            grab::Event::Modifiers {
                mods_depressed,
                mods_locked,
                group,
                ..
            } => told.modifiers = (mods_depressed, mods_locked, group),
            _ => {}
        }
    }
}

impl Dispatch<WlRegistry, GlobalListContents> for Told {
    fn event(
        _: &mut Self,
        _: &WlRegistry,
        _: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

delegate_noop!(Told: WlCompositor);
delegate_noop!(Told: WlShmPool);
delegate_noop!(Told: ZwpInputMethodManagerV2);
delegate_noop!(Told: ZwpVirtualKeyboardManagerV1);
delegate_noop!(Told: ZwpVirtualKeyboardV1);
delegate_noop!(Told: ignore WlBuffer);
delegate_noop!(Told: ignore WlSeat);
delegate_noop!(Told: ignore WlShm);
delegate_noop!(Told: ignore WlSurface);
delegate_noop!(Told: ignore ZwpInputPopupSurfaceV2);
