//! An application of Wayland with one window, in the benchmark's own process.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_wire::gui::PIXEL_LEN;
use bulkhead_wire::gui::geometry::{Part, Size};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use wayland_client::globals::{GlobalListContents, registry_queue_init};
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_shm::{Format, WlShm};
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, EventQueue, QueueHandle, delegate_noop};
use wayland_protocols::xdg::shell::client::xdg_surface::{self, XdgSurface};
use wayland_protocols::xdg::shell::client::xdg_toplevel::XdgToplevel;
use wayland_protocols::xdg::shell::client::xdg_wm_base::{self, XdgWmBase};

/// How long the compositor may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the compositor has told.
#[derive(Debug, Default)]
struct Told {
    configured: bool,
    /// Pictures after which it wants the next.
    pictures: u32,
}

/// One window of one size.
pub(crate) struct Application {
    connection: Connection,
    queue: EventQueue<Told>,
    told: Told,
    /// Pictures that were shown.
    shown: u32,
    surface: WlSurface,
    buffer: WlBuffer,
    pixels: File,
    size: Size,
}

impl Application {
    /// A black window.
    pub(crate) fn start(socket: &Path, size: Size) -> Self {
        let stream = UnixStream::connect(socket).expect("a compositor");
        let connection = Connection::from_socket(stream).expect("a compositor");
        let (globals, queue) = registry_queue_init::<Told>(&connection).expect("globals");
        let handle = queue.handle();
        let compositor: WlCompositor = globals.bind(&handle, 4..=4, ()).expect("surfaces");
        let shm: WlShm = globals.bind(&handle, 1..=1, ()).expect("shared memory");
        let shell: XdgWmBase = globals.bind(&handle, 1..=1, ()).expect("windows");

        let pixels = File::from(memfd_create("pixels", MemfdFlags::CLOEXEC).expect("memory"));
        pixels.set_len(size.bytes() as u64).expect("memory");
        let length = i32::try_from(size.bytes()).expect("few enough");
        let (w, h) = (size.width().cast_signed(), size.height().cast_signed());
        let row = w * i32::try_from(PIXEL_LEN).expect("few enough");
        let pool = shm.create_pool(pixels.as_fd(), length, &handle, ());
        let buffer = pool.create_buffer(0, w, h, row, Format::Xrgb8888, &handle, ());

        let surface = compositor.create_surface(&handle, ());
        let window = shell.get_xdg_surface(&surface, &handle, ());
        window.get_toplevel(&handle, ());
        surface.commit();
        let mut it = Self {
            connection,
            queue,
            told: Told::default(),
            shown: 0,
            surface,
            buffer,
            pixels,
            size,
        };
        while !it.told.configured {
            it.queue.blocking_dispatch(&mut it.told).expect("a window");
        }
        it.show(Part::all(size));
        it.wait();
        it
    }

    /// Draws a part in one colour.
    pub(crate) fn fill(&self, part: Part, color: u32) {
        let row = color.to_le_bytes().repeat(part.size.width() as usize);
        for y in part.y..part.y + part.size.height() {
            let pixel = u64::from(y) * u64::from(self.size.width()) + u64::from(part.x);
            let at = pixel * PIXEL_LEN as u64;
            self.pixels.write_all_at(&row, at).expect("memory");
        }
    }

    /// Says that a part has changed, and asks when the next picture is wanted.
    pub(crate) fn show(&mut self, part: Part) {
        let [x, y, w, h] =
            [part.x, part.y, part.size.width(), part.size.height()].map(u32::cast_signed);
        self.surface.attach(Some(&self.buffer), 0, 0);
        self.surface.damage_buffer(x, y, w, h);
        self.surface.frame(&self.queue.handle(), ());
        self.surface.commit();
        self.connection.flush().expect("a compositor");
        self.shown += 1;
    }

    /// Waits until the compositor wants a picture after every one that was shown.
    pub(crate) fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.told.pictures < self.shown {
            if self.queue.dispatch_pending(&mut self.told).expect("events") > 0 {
                continue;
            }
            self.connection.flush().expect("a compositor");
            let Some(guard) = self.queue.prepare_read() else {
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the compositor is silent");
            let mut fds = [PollFd::from_borrowed_fd(
                guard.connection_fd(),
                PollFlags::IN,
            )];
            poll(&mut fds, Some(&Timespec::try_from(left).expect("a time"))).expect("a wait");
            // Nothing may be there after all.
            let _ = guard.read();
        }
    }
}

impl Dispatch<WlCallback, ()> for Told {
    fn event(
        told: &mut Self,
        _: &WlCallback,
        event: wl_callback::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_callback::Event::Done { .. } = event {
            told.pictures += 1;
        }
    }
}

impl Dispatch<XdgSurface, ()> for Told {
    fn event(
        told: &mut Self,
        window: &XdgSurface,
        event: xdg_surface::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_surface::Event::Configure { serial } = event {
            window.ack_configure(serial);
            told.configured = true;
        }
    }
}

impl Dispatch<XdgWmBase, ()> for Told {
    fn event(
        _: &mut Self,
        shell: &XdgWmBase,
        event: xdg_wm_base::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_wm_base::Event::Ping { serial } = event {
            shell.pong(serial);
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

delegate_noop!(Told: ignore WlCompositor);
delegate_noop!(Told: ignore WlSurface);
delegate_noop!(Told: ignore WlShm);
delegate_noop!(Told: ignore WlShmPool);
delegate_noop!(Told: ignore WlBuffer);
delegate_noop!(Told: ignore XdgToplevel);
