//! A Wayland compositor without a screen: its windows are those of the protocol.
//!
//! [`Agent`] owns everything. What applications do comes in by the handlers of `smithay`, what the
//! daemon says by the [`Link`]; after each turn of the loop ([`Agent::turn`]) what is new is painted
//! and sent. Nothing runs by the clock but frames that are due and peers that must be looked at.

mod canvas;
mod composing;
mod cursor;
mod dnd;
mod focus;
mod icons;
mod input;
mod layout;
mod outputs;
mod pictures;
mod resources;
mod selection;
mod shell;
mod views;
mod x11;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_vchan::DomId;
use bulkhead_vchan::share::{SharedMemory, Sharer};
use bulkhead_vchan::transport::{Transport, TransportError};
use bulkhead_wire::causes::chain;
use bulkhead_wire::gui::{DaemonMessage, Screen, WindowId};
use rustix::event::PollFlags;
use smithay::backend::renderer::pixman::{PixmanError, PixmanRenderer};
use smithay::input::keyboard::{self, XkbConfig};
use smithay::input::{Seat, SeatState};
use smithay::reexports::calloop::generic::Generic;
use smithay::reexports::calloop::timer::{TimeoutAction, Timer};
use smithay::reexports::calloop::{
    self, EventLoop, Interest, LoopHandle, Mode as PollMode, PostAction, RegistrationToken,
};
use smithay::reexports::wayland_protocols_misc::server_decoration::server::org_kde_kwin_server_decoration_manager::Mode as KdeMode;
use smithay::reexports::wayland_server::backend::{ClientData, ClientId, DisconnectReason};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{Display, DisplayHandle};
use smithay::utils::{Clock, Monotonic};
use smithay::wayland::compositor::{CompositorClientState, CompositorState};
use smithay::wayland::cursor_shape::CursorShapeManagerState;
use smithay::wayland::fractional_scale::FractionalScaleManagerState;
use smithay::wayland::input_method::InputMethodManagerState;
use smithay::wayland::output::OutputManagerState;
use smithay::wayland::selection::data_device::DataDeviceState;
use smithay::wayland::selection::primary_selection::PrimarySelectionState;
use smithay::wayland::shell::kde::decoration::KdeDecorationState;
use smithay::wayland::shell::xdg::decoration::XdgDecorationState;
use smithay::wayland::shell::xdg::{PopupSurface, XdgShellState};
use smithay::wayland::shm::ShmState;
use smithay::wayland::single_pixel_buffer::SinglePixelBufferState;
use smithay::wayland::socket::ListeningSocketSource;
use smithay::wayland::text_input::TextInputManagerState;
use smithay::wayland::viewporter::ViewporterState;
use smithay::wayland::virtual_keyboard::VirtualKeyboardManagerState;
use smithay::wayland::xdg_activation::XdgActivationState;
use smithay::wayland::xdg_toplevel_icon::XdgToplevelIconManager;
use smithay::wayland::xwayland_shell::XWaylandShellState;
use thiserror::Error;

use crate::icons::pixels;
use crate::link::{Link, LinkError, LinkEvent};
use crate::model::Windows;
use crate::scale::Scale;
use composing::Composing;
use dnd::Dnd;
use icons::Icons;
use outputs::Outputs;
use pictures::Pictures;
use selection::Owner;
use views::View;
use x11::XServer;

/// Time between two pictures of one window: 60 a second.
const FRAME: Duration = Duration::from_micros(16_667);

/// The screen until a daemon has told of its own, in pixels.
const FIRST_SCREEN: Screen = Screen {
    width: 1920,
    height: 1080,
    depth: 24,
};

/// Refreshes of the screen in a thousand seconds.
const REFRESH: i32 = 60_000;

/// Keys that are held are repeated by the daemon's display, and not once more here.
const NO_REPEAT: (i32, i32) = (0, 0);

/// The modes of Wayland's decoration protocol of KDE, of which GTK knows no other.
const DECORATED_BY_US: KdeMode = KdeMode::Server;

#[derive(Debug, Error)]
pub(crate) enum AgentError {
    #[error("the event loop failed")]
    Loop(#[from] calloop::Error),
    #[error("the Wayland display cannot be made")]
    Display(#[source] smithay::reexports::wayland_server::backend::InitError),
    #[error("the Wayland display failed")]
    Dispatch(#[source] std::io::Error),
    #[error("the Wayland socket `{name}` cannot be made")]
    Socket {
        name: String,
        source: smithay::reexports::wayland_server::BindError,
    },
    #[error("it cannot be heard whether Xwayland serves")]
    X(#[source] std::io::Error),
    #[error("there are no resources to send icons")]
    Icons(#[source] std::io::Error),
    #[error("it cannot be heard of monitors")]
    Layout(#[source] std::io::Error),
    #[error("there is no keymap")]
    Keymap(#[source] keyboard::Error),
    #[error("pictures cannot be painted")]
    Renderer(#[source] PixmanError),
    #[error("the daemon's domain cannot be reached")]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// How an agent is set up.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Of the Wayland socket, in `$XDG_RUNTIME_DIR`.
    pub(crate) socket: String,
    /// The domain that has the daemon.
    pub(crate) daemon: DomId,
    /// Whether applications of X are served.
    pub(crate) x: bool,
    /// How large applications of Wayland are shown; none is as large as monitors ask for.
    pub(crate) scale: Option<Scale>,
}

/// What each Wayland client has.
#[derive(Debug, Default)]
struct Client {
    compositor: CompositorClientState,
}

impl ClientData for Client {
    fn disconnected(&self, client: ClientId, reason: DisconnectReason) {
        if let DisconnectReason::ProtocolError(error) = reason {
            tracing::warn!(?client, "an application broke the rules: {error}");
        }
    }
}

/// The protocols that applications may use.
#[derive(Debug)]
struct Globals {
    compositor: CompositorState,
    shm: ShmState,
    xdg_shell: XdgShellState,
    data_device: DataDeviceState,
    primary_selection: PrimarySelectionState,
    activation: XdgActivationState,
    kde_decoration: KdeDecorationState,
    xwayland_shell: XWaylandShellState,
    _cursor_shape: CursorShapeManagerState,
    _fractional_scale: FractionalScaleManagerState,
    _input_method: InputMethodManagerState,
    _text_input: TextInputManagerState,
    _toplevel_icon: XdgToplevelIconManager,
    _virtual_keyboard: VirtualKeyboardManagerState,
    _xdg_decoration: XdgDecorationState,
    _outputs: OutputManagerState,
    _viewporter: ViewporterState,
    _single_pixel: SinglePixelBufferState,
}

impl Globals {
    fn new(display: &DisplayHandle) -> Self {
        let mut toplevel_icon = XdgToplevelIconManager::new::<Agent>(display);
        toplevel_icon.add_icon_size(pixels::SENT_MAX.cast_signed());
        Self {
            compositor: CompositorState::new_v6::<Agent>(display),
            shm: ShmState::new::<Agent>(display, []),
            xdg_shell: XdgShellState::new::<Agent>(display),
            data_device: DataDeviceState::new::<Agent>(display),
            primary_selection: PrimarySelectionState::new::<Agent>(display),
            activation: XdgActivationState::new::<Agent>(display),
            kde_decoration: KdeDecorationState::new::<Agent>(display, DECORATED_BY_US),
            xwayland_shell: XWaylandShellState::new::<Agent>(display),
            _fractional_scale: FractionalScaleManagerState::new::<Agent>(display),
            _input_method: InputMethodManagerState::new::<Agent, _>(display, |_| true),
            _text_input: TextInputManagerState::new::<Agent>(display),
            _toplevel_icon: toplevel_icon,
            _virtual_keyboard: VirtualKeyboardManagerState::new::<Agent, _>(display, |_| true),
            _cursor_shape: CursorShapeManagerState::new::<Agent>(display),
            _xdg_decoration: XdgDecorationState::new::<Agent>(display),
            _outputs: OutputManagerState::new_with_xdg_output::<Agent>(display),
            _viewporter: ViewporterState::new::<Agent>(display),
            _single_pixel: SinglePixelBufferState::new::<Agent>(display),
        }
    }
}

/// The compositor, the windows it has shown, and the daemon that shows them.
#[derive(Debug)]
pub(crate) struct Agent {
    display: DisplayHandle,
    events: LoopHandle<'static, Agent>,
    globals: Globals,
    seats: SeatState<Self>,
    seat: Seat<Self>,
    outputs: Outputs,
    clock: Clock<Monotonic>,
    renderer: PixmanRenderer,
    sharer: Sharer,
    link: Link,
    /// How the link is polled now, and by which registration.
    polled: Option<(RegistrationToken, u64, PollFlags)>,
    windows: Windows<SharedMemory>,
    views: BTreeMap<WindowId, View>,
    /// The window that has the keyboard, as the daemon said.
    focused: Option<WindowId>,
    /// The window that the pointer is over.
    pointed: Option<WindowId>,
    /// Buttons that are held, as Linux numbers them.
    buttons: BTreeSet<u32>,
    /// The window where the first of them went down.
    pressed: Option<WindowId>,
    /// How often a window was shown or was given the keyboard.
    raises: u64,
    /// Popups that have taken the keyboard, the last one on top.
    grabs: Vec<PopupSurface>,
    /// Toplevels that want to fill the screen as soon as they are shown.
    fullscreen: Vec<WlSurface>,
    composing: Composing,
    x: XServer,
    clipboard: Owner,
    pictures: Pictures,
    icons: Icons,
    dnd: Dnd,
    /// How often the person has copied.
    copies: u64,
    /// When pictures may be painted again.
    next_frame: Instant,
    frame_timer: bool,
    patience_timer: bool,
}

impl Agent {
    fn new(
        setup: &Setup,
        display: &DisplayHandle,
        events: LoopHandle<'static, Self>,
    ) -> Result<Self, AgentError> {
        let globals = Globals::new(display);
        let mut seats = SeatState::new();
        let mut seat = seats.new_wl_seat(display, "seat");
        let (delay, rate) = NO_REPEAT;
        seat.add_keyboard(XkbConfig::default(), delay, rate)
            .map_err(AgentError::Keymap)?;
        seat.add_pointer();
        let transport = Transport::from_env()?;
        let sharer = transport.sharer(setup.daemon)?;
        let mut agent = Self {
            display: display.clone(),
            events,
            globals,
            seats,
            seat,
            outputs: Outputs::new(setup.scale, FIRST_SCREEN, display),
            clock: Clock::new(),
            renderer: PixmanRenderer::new().map_err(AgentError::Renderer)?,
            sharer,
            link: Link::new(transport, setup.daemon)?,
            polled: None,
            windows: Windows::new(),
            views: BTreeMap::new(),
            focused: None,
            pointed: None,
            buttons: BTreeSet::new(),
            pressed: None,
            raises: 0,
            grabs: Vec::new(),
            fullscreen: Vec::new(),
            composing: Composing::default(),
            x: XServer::default(),
            clipboard: Owner::Nobody,
            pictures: Pictures::default(),
            icons: Icons::new().map_err(AgentError::Icons)?,
            dnd: Dnd::default(),
            copies: 0,
            next_frame: Instant::now(),
            frame_timer: false,
            patience_timer: false,
        };
        agent.watch_layout()?;
        Ok(agent)
    }

    /// What is due after applications and daemon were heard.
    fn turn(&mut self) -> Result<(), AgentError> {
        self.adopt_strays();
        loop {
            self.paint_due();
            let said = self.windows.take_messages();
            let sent = said.len();
            self.link.send(&said);
            let was_behind = self.link.is_behind();
            let heard = self.link.go_on()?;
            // Pictures wait for a daemon to come, and for one to catch up.
            if sent == 0 && heard.is_empty() && was_behind == self.link.is_behind() {
                break;
            }
            for event in heard {
                self.heard(event);
            }
        }
        self.send_parts();
        self.poll_link()
    }

    fn heard(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Came(version, screen) => {
                tracing::info!("a GUI daemon speaks version 1.{}", version.minor());
                self.set_screen(screen);
                self.windows.daemon_came(version);
                self.icons.board.daemon_came();
            }
            LinkEvent::Said(window, message) => self.obey(window, message),
            LinkEvent::Left(error) => {
                match error {
                    Some(error) => tracing::warn!("{}", chain(&error)),
                    None => tracing::info!("the GUI daemon left"),
                }
                self.windows.daemon_left();
                self.icons.board.daemon_left();
                self.pictures.forget();
                self.release_input();
            }
        }
    }

    fn obey(&mut self, window: WindowId, message: DaemonMessage) {
        if let Some(reshaped) = self.windows.hear(window, &message) {
            self.reshape(window, reshaped);
        }
        match message {
            DaemonMessage::Close => self.ask_to_close(window),
            DaemonMessage::ClipboardRequest => self.copy(window),
            DaemonMessage::Clipboard(text) => self.paste(text),
            DaemonMessage::Picture(size) => self.picture_begins(size),
            DaemonMessage::PicturePart(part) => self.picture_goes_on(&part),
            DaemonMessage::Flags { .. } | DaemonMessage::Map { .. } => self.show_flags(window),
            other => self.input(window, &other),
        }
    }

    /// Has the loop wake up for the link, and for nothing that it does not wait for.
    fn poll_link(&mut self) -> Result<(), AgentError> {
        let turn = self.link.turn();
        let wanted = self.link.polled();
        let flags = wanted.as_ref().map(|(_, flags)| *flags);
        let current = self.polled.as_ref();
        if current.is_some_and(|(_, at, polled)| *at == turn && Some(*polled) == flags) {
            return self.wait_patiently();
        }
        let fd = wanted.map(|(fd, _)| fd.try_clone_to_owned());
        if let Some((token, ..)) = self.polled.take() {
            self.events.remove(token);
        }
        if let (Some(fd), Some(flags)) = (fd, flags) {
            let interest = Interest {
                readable: flags.contains(PollFlags::IN),
                writable: flags.contains(PollFlags::OUT),
            };
            let fd = fd.map_err(|e| AgentError::Loop(e.into()))?;
            let source = Generic::new(fd, interest, PollMode::Level);
            // The turn that follows does what there is to do.
            let token = self
                .events
                .insert_source(source, |_, _, _| Ok(PostAction::Continue))
                .map_err(|e| AgentError::Loop(e.error))?;
            self.polled = Some((token, turn, flags));
        }
        self.wait_patiently()
    }

    /// Has the loop wake up for a daemon that could have gone without a sign.
    fn wait_patiently(&mut self) -> Result<(), AgentError> {
        let Some(patience) = self.link.patience().filter(|_| !self.patience_timer) else {
            return Ok(());
        };
        self.patience_timer = true;
        self.wake_after(patience, |agent| agent.patience_timer = false)
    }

    fn wake_after(
        &self,
        after: Duration,
        then: impl Fn(&mut Self) + 'static,
    ) -> Result<(), AgentError> {
        let timer = Timer::from_duration(after);
        let inserted = self.events.insert_source(timer, move |_, (), agent| {
            then(agent);
            TimeoutAction::Drop
        });
        inserted.map(|_| ()).map_err(|e| AgentError::Loop(e.error))
    }

    /// Milliseconds for events.
    fn now(&self) -> u32 {
        self.clock.now().as_millis()
    }
}

/// Serves until `stop` has something to read. When applications can come, `ready` is told of the
/// number of the X display, if there is one.
pub(crate) fn run(
    setup: &Setup,
    stop: UnixStream,
    ready: impl FnOnce(Option<u32>) + 'static,
) -> Result<(), AgentError> {
    let mut events: EventLoop<'static, Agent> = EventLoop::try_new()?;
    let mut display: Display<Agent> = Display::new().map_err(AgentError::Display)?;
    let handle = events.handle();
    let mut agent = Agent::new(setup, &display.handle(), handle.clone())?;

    let socket = ListeningSocketSource::with_name(&setup.socket);
    let socket = socket.map_err(|source| AgentError::Socket {
        name: setup.socket.clone(),
        source,
    })?;
    let inserted = handle.insert_source(socket, |stream, (), agent: &mut Agent| {
        let client = Arc::new(Client::default());
        if let Err(error) = agent.display.insert_client(stream, client) {
            tracing::warn!("an application cannot be served: {error}");
        }
    });
    inserted.map_err(|e| AgentError::Loop(e.error))?;

    // Only to wake up: clients are heard below.
    let clients = display.backend().poll_fd().try_clone_to_owned();
    let clients = clients.map_err(AgentError::Dispatch)?;
    let source = Generic::new(clients, Interest::READ, PollMode::Level);
    let inserted = handle.insert_source(source, |_, _, _| Ok(PostAction::Continue));
    inserted.map_err(|e| AgentError::Loop(e.error))?;

    let stopped = std::rc::Rc::new(std::cell::Cell::new(false));
    let told = std::rc::Rc::clone(&stopped);
    let source = Generic::new(stop, Interest::READ, PollMode::Level);
    let inserted = handle.insert_source(source, move |_, _, _| {
        told.set(true);
        Ok(PostAction::Remove)
    });
    inserted.map_err(|e| AgentError::Loop(e.error))?;

    if setup.x {
        agent.start_x(ready)?;
    } else {
        ready(None);
    }
    agent.turn()?;
    display.flush_clients().map_err(AgentError::Dispatch)?;
    while !stopped.get() {
        events.dispatch(None, &mut agent)?;
        display
            .dispatch_clients(&mut agent)
            .map_err(AgentError::Dispatch)?;
        agent.turn()?;
        display.flush_clients().map_err(AgentError::Dispatch)?;
    }
    agent.stop_x();
    Ok(())
}
