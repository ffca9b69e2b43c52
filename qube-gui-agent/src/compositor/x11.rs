//! Applications of X, by an Xwayland that has no root window of its own to show.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::Stdio;

use bulkhead_wire::causes::chain;
use bulkhead_wire::gui::geometry::{Place, Size};
use bulkhead_wire::gui::{Flags, Hints, WindowId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smithay::reexports::calloop::generic::Generic;
use smithay::reexports::calloop::{Interest, Mode, PostAction, RegistrationToken};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{Client, Resource};
use smithay::reexports::x11rb::properties::{WmSizeHints, WmSizeHintsSpecification};
use smithay::utils::{IsAlive, Logical, Rectangle};
use smithay::wayland::selection::SelectionTarget;
use smithay::wayland::xwayland_shell::{XWaylandShellHandler, XWaylandShellState};
use smithay::xwayland::xwm::{Reorder, ResizeEdge, WmWindowProperty, XwmId};
use smithay::xwayland::{X11Surface, X11Wm, XWayland, XWaylandClientData, XwmHandler};

use super::views::{Role, has_buffer, window_size};
use super::{Agent, AgentError, resources};
use crate::scale::Scale;

/// How often Xwayland is started at most: one that ends again and again is of no use.
const STARTS_MAX: u32 = 8;

/// Where sockets of X servers are. Systems make it when they start; not every container has one.
const SOCKETS: &str = "/tmp/.X11-unix";

/// Everybody may put a socket there, and take away none but their own.
const SOCKETS_MODE: u32 = 0o1777;

/// Displays that are tried.
const DISPLAYS: u32 = 33;

/// Whether a server answers at a display. Not every one has a lock, and where there is none the
/// socket would be taken from under it.
fn is_served(display: u32) -> bool {
    let path = format!("{SOCKETS}/X{display}");
    let hidden = SocketAddr::from_abstract_name(&path);
    UnixStream::connect(&path).is_ok()
        || hidden.is_ok_and(|hidden| UnixStream::connect_addr(&hidden).is_ok())
}

/// Whether a pipe has been read to its end. One that nobody writes into any more may have come to
/// that since it was read: Xwayland writes the end of its line, then closes.
fn has_hung_up(pipe: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    let [fd] = &fds;
    let seen = fd.revents();
    polled.is_ok() && seen.contains(PollFlags::HUP) && !seen.contains(PollFlags::IN)
}

fn make_socket_folder() -> io::Result<()> {
    match std::fs::create_dir(SOCKETS) {
        // Without what the mask took away.
        Ok(()) => std::fs::set_permissions(SOCKETS, Permissions::from_mode(SOCKETS_MODE)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

/// The X server, and its windows that are mapped.
#[derive(Debug, Default)]
pub(super) struct XServer {
    wm: Option<X11Wm>,
    /// Holds the display.
    source: Option<RegistrationToken>,
    display: Option<u32>,
    starts: u32,
    windows: Vec<X11Surface>,
    /// Surfaces with something to show of which we do not know yet whose they are.
    strays: Vec<WlSurface>,
}

impl XServer {
    /// The number of its display, while it serves.
    pub(super) fn display(&self) -> Option<u32> {
        self.display.filter(|_| self.wm.is_some())
    }

    pub(super) fn wm(&mut self) -> Option<&mut X11Wm> {
        self.wm.as_mut()
    }
}

pub(super) fn is_x_surface(surface: &WlSurface) -> bool {
    let client = surface.client();
    client.is_some_and(|client| is_x(&client))
}

/// Whether it is the X server.
pub(super) fn is_x(client: &Client) -> bool {
    client.get_data::<XWaylandClientData>().is_some()
}

impl Agent {
    /// Starts Xwayland; `ready` is told of its display when it serves, or of none when it does not.
    pub(super) fn start_x(
        &mut self,
        ready: impl FnOnce(Option<u32>) + 'static,
    ) -> Result<(), AgentError> {
        self.x.starts += 1;
        if let Err(error) = make_socket_folder() {
            tracing::warn!("`{SOCKETS}` cannot be made: {error}");
        }
        let spawned = self.spawn_x();
        let (server, client) = match spawned {
            Ok(spawned) => spawned,
            Err(error) => {
                tracing::error!("Xwayland cannot be started: {error}");
                ready(None);
                return Ok(());
            }
        };
        // Not by the source that it is itself: that one never ends where Xwayland ends too soon.
        let said = server.poll_fd().try_clone_to_owned();
        let said = Generic::new(said.map_err(AgentError::X)?, Interest::READ, Mode::Level);
        let (mut server, mut ready) = (server, Some(ready));
        let inserted = self.events.insert_source(said, move |_, said, agent| {
            let display = match server.take_socket() {
                Ok(Some(socket)) => agent.manage_x(socket, server.display_number(), &client),
                Ok(None) if !has_hung_up(said) => return Ok(PostAction::Continue),
                _ => {
                    tracing::error!("Xwayland ended before it served");
                    None
                }
            };
            if let Some(ready) = ready.take() {
                ready(display);
            }
            Ok(PostAction::Disable)
        });
        self.x.source = Some(inserted.map_err(|e| AgentError::Loop(e.error))?);
        Ok(())
    }

    /// Becomes the window manager of an Xwayland that serves; its display, if that went well.
    fn manage_x(&mut self, socket: UnixStream, number: u32, client: &Client) -> Option<u32> {
        match X11Wm::start_wm(self.events.clone(), socket, client.clone()) {
            Ok(wm) => {
                tracing::info!("X applications are served at :{number}");
                if let Err(error) =
                    resources::tell(number, self.outputs.declared().unwrap_or(Scale::ONE))
                {
                    let error = chain(&error);
                    tracing::warn!("X applications are not told the scale: {error}");
                }
                self.x.wm = Some(wm);
                self.x.display = Some(number);
                self.watch_x_icons(number);
                self.watch_x_drags(number);
                Some(number)
            }
            Err(error) => {
                tracing::error!("Xwayland cannot be managed: {error}");
                None
            }
        }
    }

    /// Starts a server at the number that applications know, or else at the first that is free.
    fn spawn_x(&self) -> io::Result<(XWayland, Client)> {
        let numbers = self.x.display.map_or(0..DISPLAYS, |known| known..known + 1);
        let mut refused = io::ErrorKind::AddrInUse.into();
        for number in numbers.filter(|number| !is_served(*number)) {
            let environment = [] as [(&str, &str); 0];
            // The kernel gives an abstract name to one server only, so that none gets a display
            // whose last server still runs: it will take away the socket of that name when it ends.
            let abstract_socket = true;
            // Why it cannot serve, it says there alone.
            let (log, errors) = (Stdio::null(), Stdio::inherit());
            let spawned = XWayland::spawn(
                &self.display,
                number,
                environment,
                abstract_socket,
                log,
                errors,
                |_| (),
            );
            match spawned {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = error,
                other => return other,
            }
        }
        Err(refused)
    }

    /// Starts another Xwayland in the place of one that has ended.
    fn restart_x(&mut self) {
        let ended = std::mem::take(&mut self.x);
        self.icons.forget_x();
        self.forget_x_drags();
        self.x.display = ended.display;
        self.x.starts = ended.starts;
        if let Some(source) = ended.source {
            self.events.remove(source);
        }
        if self.x.starts >= STARTS_MAX {
            tracing::error!("Xwayland is not started again: it has ended {STARTS_MAX} times");
        } else if let Err(error) = self.start_x(|_| ()) {
            tracing::error!("Xwayland cannot be started again: {error}");
        }
    }

    /// Gives the display back, for the next who wants one.
    pub(super) fn stop_x(&mut self) {
        if let Some(source) = self.x.source.take() {
            self.events.remove(source);
        }
    }

    /// The mapped window that a surface of Xwayland's belongs to.
    #[expect(deprecated, reason = "the Xwayland of Debian 12 has no other way")]
    fn x_window_of(&self, surface: &WlSurface) -> Option<X11Surface> {
        let number = Some(surface.id().protocol_id());
        let mut windows = self.x.windows.iter().rev();
        let found = windows.find(|window| match window.wl_surface() {
            Some(known) => known == *surface,
            None => window.wl_surface_id() == number,
        });
        found.cloned()
    }

    pub(super) fn x_committed(&mut self, surface: &WlSurface) {
        if let Some(id) = self.window_of(surface)
            && let Some(role) = self.views.get(&id).map(|view| view.role.clone())
        {
            self.committed(surface, role);
        } else if let Some(window) = self.x_window_of(surface) {
            self.committed(surface, Role::X11(window));
        } else if has_buffer(surface) && !self.x.strays.contains(surface) {
            self.x.strays.push(surface.clone());
        }
    }

    /// Shows what was committed before X told whose it is.
    pub(super) fn adopt_strays(&mut self) {
        for surface in std::mem::take(&mut self.x.strays) {
            if surface.alive() && has_buffer(&surface) {
                self.x_committed(&surface);
            }
        }
    }

    fn x_view(&self, window: &X11Surface) -> Option<WindowId> {
        self.x_view_by_number(window.window_id())
    }

    pub(super) fn x_view_by_number(&self, number: u32) -> Option<WindowId> {
        let mut views = self.views.iter();
        let found = views.find(
            |(_, view)| matches!(&view.role, Role::X11(other) if other.window_id() == number),
        );
        found.map(|(id, _)| *id)
    }

    fn x_mapped(&mut self, window: X11Surface) {
        self.x.windows.retain(|other| *other != window);
        self.x.windows.push(window);
    }

    fn x_unmapped(&mut self, window: &X11Surface) {
        self.x.windows.retain(|other| other != window);
        if let Some(id) = self.x_view(window) {
            self.hide(id);
        }
    }

    /// Has X know that a window, if it is one of X, is above its others: it finds out by itself which
    /// of them the pointer is over.
    pub(super) fn raise_x(&mut self, id: WindowId) {
        let Some(Role::X11(window)) = self.views.get(&id).map(|view| &view.role) else {
            return;
        };
        let Some(wm) = self.x.wm.as_mut() else {
            return;
        };
        let mut all = vec![window];
        if !window.is_override_redirect() {
            // Menus stay above it, as dom0 has them.
            let mut menus: Vec<_> = self
                .views
                .values()
                .filter_map(|view| match &view.role {
                    Role::X11(menu) if menu.is_override_redirect() => Some((view.raised, menu)),
                    _ => None,
                })
                .collect();
            menus.sort_by_key(|(raised, _)| *raised);
            all.extend(menus.into_iter().map(|(_, menu)| menu));
        }
        for window in all {
            if let Err(error) = wm.raise_window(window) {
                tracing::warn!("a window of X cannot be raised: {error}");
            }
        }
    }

    fn want_x_flag(&mut self, window: &X11Surface, change: impl FnOnce(&mut Flags)) {
        if let Some(id) = self.x_view(window) {
            self.want_flag(id, change);
        }
    }

    /// Gives a window of X the place and size that the daemon wants.
    pub(super) fn reshape_x(window: &X11Surface, place: Place, size: Size) {
        let to = rectangle(place, size);
        if window.is_override_redirect() || window.geometry() == to {
            // Nobody but the application moves such a window.
            return;
        }
        shape(window, to);
    }
}

/// Moves a window of X and then resizes it. One with static gravity stays where it is on the screen
/// when the frame that it is in is resized: were both done at once, it would be shown shifted.
fn shape(window: &X11Surface, to: Rectangle<i32, Logical>) {
    let mut moved = window.geometry();
    moved.loc = to.loc;
    let done = window.configure(moved);
    if let Err(error) = done.and_then(|()| window.configure(to)) {
        tracing::warn!("a window of X cannot be moved: {error}");
    }
}

fn rectangle(place: Place, size: Size) -> Rectangle<i32, Logical> {
    let (width, height) = (size.width().cast_signed(), size.height().cast_signed());
    Rectangle::new((place.x(), place.y()).into(), (width, height).into())
}

pub(super) fn place_of(geometry: Rectangle<i32, Logical>) -> Place {
    Place::near(geometry.loc.x, geometry.loc.y)
}

/// A pair of numbers, if both can be sizes.
fn pair((width, height): (i32, i32)) -> Option<Size> {
    Size::new(u32::try_from(width).ok()?, u32::try_from(height).ok()?)
}

pub(super) fn hints_of(window: &X11Surface) -> Hints {
    window.size_hints().map_or_else(Hints::default, hints)
}

fn hints(said: WmSizeHints) -> Hints {
    let placed = said.position.map(|(by, ..)| by);
    Hints {
        person_placed: matches!(placed, Some(WmSizeHintsSpecification::UserSpecified)),
        program_placed: matches!(placed, Some(WmSizeHintsSpecification::ProgramSpecified)),
        min: said.min_size.and_then(pair),
        max: said.max_size.and_then(pair).filter(|size| !size.is_empty()),
        increment: said.size_increment.and_then(pair),
        base: said.base_size.and_then(pair),
    }
}

pub(super) fn flags_of(window: &X11Surface) -> Flags {
    Flags {
        fullscreen: window.is_fullscreen(),
        attention: window.hints().is_some_and(|hints| hints.urgent),
        minimised: window.is_minimized(),
    }
}

impl XwmHandler for Agent {
    fn xwm_state(&mut self, _xwm: XwmId) -> &mut X11Wm {
        let wm = self.x.wm.as_mut();
        wm.expect("only the manager of the windows of X calls its handlers")
    }

    fn new_window(&mut self, _xwm: XwmId, _window: X11Surface) {}

    fn new_override_redirect_window(&mut self, _xwm: XwmId, _window: X11Surface) {}

    fn map_window_request(&mut self, _xwm: XwmId, window: X11Surface) {
        let mapped = window.set_mapped(true).map_err(|e| e.to_string());
        let told = mapped.and_then(|()| window.configure(None).map_err(|e| e.to_string()));
        match told {
            Ok(()) => self.x_mapped(window),
            Err(error) => tracing::warn!("a window of X cannot be mapped: {error}"),
        }
    }

    fn mapped_override_redirect_window(&mut self, _xwm: XwmId, window: X11Surface) {
        self.x_mapped(window);
    }

    fn unmapped_window(&mut self, _xwm: XwmId, window: X11Surface) {
        self.x_unmapped(&window);
        if !window.is_override_redirect()
            && let Err(error) = window.set_mapped(false)
        {
            tracing::warn!("a window of X cannot be unmapped: {error}");
        }
    }

    fn destroyed_window(&mut self, _xwm: XwmId, window: X11Surface) {
        self.x_unmapped(&window);
    }

    /// Granted: what the daemon thinks of it, it says.
    fn configure_request(
        &mut self,
        _xwm: XwmId,
        window: X11Surface,
        x: Option<i32>,
        y: Option<i32>,
        w: Option<u32>,
        h: Option<u32>,
        _reorder: Option<Reorder>,
    ) {
        let mut geometry = window.geometry();
        geometry.loc.x = x.unwrap_or(geometry.loc.x);
        geometry.loc.y = y.unwrap_or(geometry.loc.y);
        let length =
            |asked: Option<u32>, is| asked.map_or(is, |asked| i32::try_from(asked).unwrap_or(is));
        geometry.size.w = length(w, geometry.size.w);
        geometry.size.h = length(h, geometry.size.h);
        shape(&window, geometry);
    }

    fn configure_notify(
        &mut self,
        _xwm: XwmId,
        window: X11Surface,
        geometry: Rectangle<i32, Logical>,
        _above: Option<u32>,
    ) {
        let geometry = match window.is_override_redirect() {
            true => geometry,
            // Nobody but we has moved it, and we know whither: this may be half of the way.
            false => window.geometry(),
        };
        if let Some(id) = self.x_view(&window) {
            let (place, size) = (place_of(geometry), window_size(geometry));
            self.windows.set_geometry(id, place, size);
        }
    }

    fn property_notify(&mut self, _xwm: XwmId, window: X11Surface, property: WmWindowProperty) {
        let Some(id) = self.x_view(&window) else {
            return;
        };
        match property {
            WmWindowProperty::Title => self.windows.set_title(id, &window.title()),
            WmWindowProperty::Class => {
                self.windows
                    .set_class(id, &window.class(), &window.instance());
                self.tell_icon(id);
            }
            WmWindowProperty::NormalHints => self.windows.set_hints(id, hints_of(&window)),
            WmWindowProperty::Hints => {
                let attention = window.hints().is_some_and(|hints| hints.urgent);
                self.want_x_flag(&window, |flags| flags.attention = attention);
            }
            _ => {}
        }
    }

    fn fullscreen_request(&mut self, _xwm: XwmId, window: X11Surface) {
        self.want_x_flag(&window, |flags| flags.fullscreen = true);
    }

    fn unfullscreen_request(&mut self, _xwm: XwmId, window: X11Surface) {
        self.want_x_flag(&window, |flags| flags.fullscreen = false);
    }

    fn minimize_request(&mut self, _xwm: XwmId, window: X11Surface) {
        self.want_x_flag(&window, |flags| flags.minimised = true);
    }

    // Only the person moves windows, in the daemon's frame.
    fn resize_request(&mut self, _: XwmId, _: X11Surface, _button: u32, _edge: ResizeEdge) {}

    fn move_request(&mut self, _: XwmId, _: X11Surface, _button: u32) {}

    fn allow_selection_access(&mut self, _xwm: XwmId, _selection: SelectionTarget) -> bool {
        self.x_has_focus()
    }

    fn send_selection(
        &mut self,
        _xwm: XwmId,
        selection: SelectionTarget,
        kind: String,
        to: OwnedFd,
    ) {
        self.give_to_x(selection, kind, to);
    }

    fn new_selection(&mut self, _xwm: XwmId, selection: SelectionTarget, kinds: Vec<String>) {
        self.x_selected(selection, Some(kinds));
    }

    fn cleared_selection(&mut self, _xwm: XwmId, selection: SelectionTarget) {
        self.x_selected(selection, None);
    }

    fn disconnected(&mut self, _xwm: XwmId) {
        tracing::error!("Xwayland ended");
        self.restart_x();
    }
}

impl XWaylandShellHandler for Agent {
    fn xwayland_shell_state(&mut self) -> &mut XWaylandShellState {
        &mut self.globals.xwayland_shell
    }
}

smithay::delegate_xwayland_shell!(Agent);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_pipe_has_hung_up_once_all_of_it_was_read() {
        let (mut said, mut server) = io::pipe().unwrap();
        assert!(!has_hung_up(&said));
        server.write_all(b"\n").unwrap();
        drop(server);
        assert!(!has_hung_up(&said));
        said.read_exact(&mut [0]).unwrap();
        assert!(has_hung_up(&said));
    }

    #[test]
    fn a_display_is_served_while_somebody_listens() {
        // No server has such a number, and nobody else a name with ours.
        let number = 1_000_000 + std::process::id();
        assert!(!is_served(number));
        let name = format!("{SOCKETS}/X{number}");
        let hidden = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&hidden).unwrap();
        assert!(is_served(number));
        drop(listener);
        assert!(!is_served(number));
    }
}
