//! Surfaces of Wayland applications: toplevels, popups, and what is below them.

use bulkhead_wire::gui::{Flags, WindowId};
use smithay::backend::renderer::utils::on_commit_buffer_handler;
use smithay::reexports::wayland_protocols::xdg::decoration::zv1::server::zxdg_toplevel_decoration_v1::Mode;
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_toplevel::State;
use smithay::reexports::wayland_server::Client as WaylandClient;
use smithay::reexports::wayland_server::protocol::wl_buffer::WlBuffer;
use smithay::reexports::wayland_server::protocol::wl_output::WlOutput;
use smithay::reexports::wayland_server::protocol::wl_seat::WlSeat;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Rectangle, Serial};
use smithay::wayland::buffer::BufferHandler;
use smithay::wayland::compositor::{
    CompositorClientState, CompositorHandler, CompositorState, get_parent, get_role,
    is_sync_subsurface, with_states,
};
use smithay::wayland::input_method::INPUT_POPUP_SURFACE_ROLE;
use smithay::wayland::shell::kde::decoration::{KdeDecorationHandler, KdeDecorationState};
use smithay::wayland::shell::xdg::decoration::XdgDecorationHandler;
use smithay::wayland::shell::xdg::{
    PopupSurface, PositionerState, ToplevelSurface, XDG_POPUP_ROLE, XDG_TOPLEVEL_ROLE,
    XdgShellHandler, XdgShellState, XdgToplevelSurfaceData,
};
use smithay::wayland::shm::{ShmHandler, ShmState};
use smithay::wayland::xwayland_shell::XWAYLAND_SHELL_ROLE;
use smithay::wayland::xdg_activation::{
    XdgActivationHandler, XdgActivationState, XdgActivationToken, XdgActivationTokenData,
};
use smithay::xwayland::XWaylandClientData;

use super::views::Role;
use super::x11::is_x_surface;
use super::{Agent, Client};

/// How a toplevel is told that dom0's frame is around it: it has no shadow, and no round corners
/// with nothing behind them.
const FRAMED: [State; 4] = [
    State::TiledLeft,
    State::TiledRight,
    State::TiledTop,
    State::TiledBottom,
];

impl CompositorHandler for Agent {
    fn compositor_state(&mut self) -> &mut CompositorState {
        &mut self.globals.compositor
    }

    #[expect(
        clippy::panic,
        reason = "each client is made with its data, and the signature leaves nothing else"
    )]
    fn client_compositor_state<'a>(&self, client: &'a WaylandClient) -> &'a CompositorClientState {
        match client.get_data::<Client>() {
            Some(ours) => &ours.compositor,
            None => match client.get_data::<XWaylandClientData>() {
                Some(x) => &x.compositor_state,
                None => panic!("a client without data"),
            },
        }
    }

    fn commit(&mut self, surface: &WlSurface) {
        on_commit_buffer_handler::<Self>(surface);
        if is_sync_subsurface(surface) {
            // It is seen when its parent is.
            return;
        }
        let mut root = surface.clone();
        while let Some(parent) = get_parent(&root) {
            root = parent;
        }
        match get_role(&root) {
            Some(XDG_TOPLEVEL_ROLE) => self.toplevel_committed(&root),
            Some(XDG_POPUP_ROLE) => self.popup_committed(&root),
            Some(INPUT_POPUP_SURFACE_ROLE) => self.input_popup_committed(&root),
            // Newer ones than that of Debian 12 say that they are windows of X.
            None | Some(XWAYLAND_SHELL_ROLE) if is_x_surface(&root) => self.x_committed(&root),
            // A cursor, or nothing yet: it is not shown, and nobody shall wait for that.
            _ => self.frame_done(&root),
        }
    }

    fn destroyed(&mut self, surface: &WlSurface) {
        self.fullscreen.retain(|other| other != surface);
        self.icons.forget(surface);
        if let Some(id) = self.window_of(surface) {
            self.hide(id);
        }
    }
}

impl Agent {
    fn toplevel_committed(&mut self, surface: &WlSurface) {
        let toplevels = self.globals.xdg_shell.toplevel_surfaces();
        let Some(toplevel) = toplevels.iter().find(|t| t.wl_surface() == surface) else {
            return;
        };
        let toplevel = toplevel.clone();
        if !toplevel.is_initial_configure_sent() {
            self.prefer_first(surface, &Role::Toplevel(toplevel.clone()));
            toplevel.send_configure();
        }
        self.committed(surface, Role::Toplevel(toplevel));
        self.icon_committed(surface);
    }

    fn popup_committed(&mut self, surface: &WlSurface) {
        let popups = self.globals.xdg_shell.popup_surfaces();
        let Some(popup) = popups.iter().find(|p| p.wl_surface() == surface) else {
            return;
        };
        let popup = popup.clone();
        if !popup.is_initial_configure_sent() {
            self.prefer_first(surface, &Role::Popup(popup.clone()));
            if let Err(error) = popup.send_configure() {
                tracing::warn!("a popup cannot be placed: {error}");
            }
        }
        self.committed(surface, Role::Popup(popup));
    }

    /// Where a popup fits on its parent's monitor, counted from its parent's window.
    fn place_popup(&self, popup: &PopupSurface, positioner: PositionerState) {
        let parent = popup.get_parent_surface();
        let parent = parent.and_then(|parent| self.window_of(&parent));
        let shown = parent.and_then(|id| Some((self.views.get(&id)?, self.area(id)?)));
        let geometry = match shown {
            Some((view, window)) => {
                let all = self.outputs.around(window);
                let around = Rectangle::new(all.loc - window.loc, all.size);
                positioner.get_unconstrained_geometry(view.scale.inside(around))
            }
            None => positioner.get_geometry(),
        };
        popup.with_pending_state(|state| {
            state.geometry = geometry;
            state.positioner = positioner;
        });
    }

    /// Asks the daemon for a flag, or not any more; what comes of it the daemon says.
    pub(super) fn want_flag(&mut self, id: WindowId, change: impl FnOnce(&mut Flags)) {
        if let Some(look) = self.windows.look(id) {
            let mut flags = look.flags;
            change(&mut flags);
            self.windows.want_flags(id, flags);
        }
    }
}

impl XdgShellHandler for Agent {
    fn xdg_shell_state(&mut self) -> &mut XdgShellState {
        &mut self.globals.xdg_shell
    }

    fn new_toplevel(&mut self, surface: ToplevelSurface) {
        surface.with_pending_state(|state| {
            state.decoration_mode = Some(Mode::ServerSide);
            for edge in FRAMED {
                state.states.set(edge);
            }
        });
    }

    fn new_popup(&mut self, surface: PopupSurface, positioner: PositionerState) {
        self.place_popup(&surface, positioner);
    }

    fn grab(&mut self, surface: PopupSurface, _seat: WlSeat, _serial: Serial) {
        self.grab_by_popup(surface);
    }

    fn reposition_request(
        &mut self,
        surface: PopupSurface,
        positioner: PositionerState,
        token: u32,
    ) {
        self.place_popup(&surface, positioner);
        surface.send_repositioned(token);
    }

    fn fullscreen_request(&mut self, surface: ToplevelSurface, _output: Option<WlOutput>) {
        if let Some(id) = self.window_of(surface.wl_surface()) {
            self.want_flag(id, |flags| flags.fullscreen = true);
            surface.send_configure();
        } else {
            self.fullscreen.push(surface.wl_surface().clone());
        }
    }

    fn unfullscreen_request(&mut self, surface: ToplevelSurface) {
        self.fullscreen
            .retain(|other| other != surface.wl_surface());
        if let Some(id) = self.window_of(surface.wl_surface()) {
            self.want_flag(id, |flags| flags.fullscreen = false);
        }
        surface.with_pending_state(|state| state.states.unset(State::Fullscreen));
        surface.send_pending_configure();
    }

    fn minimize_request(&mut self, surface: ToplevelSurface) {
        if let Some(id) = self.window_of(surface.wl_surface()) {
            self.want_flag(id, |flags| flags.minimised = true);
        }
    }

    fn title_changed(&mut self, surface: ToplevelSurface) {
        self.tell_names(&surface);
    }

    fn app_id_changed(&mut self, surface: ToplevelSurface) {
        self.tell_names(&surface);
        if let Some(id) = self.window_of(surface.wl_surface()) {
            self.tell_icon(id);
        }
    }

    fn toplevel_destroyed(&mut self, surface: ToplevelSurface) {
        if let Some(id) = self.window_of(surface.wl_surface()) {
            self.hide(id);
        }
    }

    fn popup_destroyed(&mut self, surface: PopupSurface) {
        self.ungrab_popup(&surface);
        if let Some(id) = self.window_of(surface.wl_surface()) {
            self.hide(id);
        }
    }
}

impl Agent {
    fn tell_names(&mut self, toplevel: &ToplevelSurface) {
        let Some(id) = self.window_of(toplevel.wl_surface()) else {
            return;
        };
        let (title, class) = with_states(toplevel.wl_surface(), |states| {
            let data = states.data_map.get::<XdgToplevelSurfaceData>();
            let data = data.and_then(|data| data.lock().ok());
            data.map(|data| (data.title.clone(), data.app_id.clone()))
                .unwrap_or_default()
        });
        self.windows.set_title(id, &title.unwrap_or_default());
        let class = class.unwrap_or_default();
        self.windows.set_class(id, &class, &class);
    }
}

/// Frames are the daemon's to draw, whatever an application prefers.
impl XdgDecorationHandler for Agent {
    fn new_decoration(&mut self, toplevel: ToplevelSurface) {
        XdgDecorationHandler::request_mode(self, toplevel, Mode::ServerSide);
    }

    fn request_mode(&mut self, toplevel: ToplevelSurface, _mode: Mode) {
        toplevel.with_pending_state(|state| state.decoration_mode = Some(Mode::ServerSide));
        if toplevel.is_initial_configure_sent() {
            toplevel.send_pending_configure();
        }
    }

    fn unset_mode(&mut self, toplevel: ToplevelSurface) {
        XdgDecorationHandler::request_mode(self, toplevel, Mode::ServerSide);
    }
}

impl KdeDecorationHandler for Agent {
    fn kde_decoration_state(&self) -> &KdeDecorationState {
        &self.globals.kde_decoration
    }
}

impl XdgActivationHandler for Agent {
    fn activation_state(&mut self) -> &mut XdgActivationState {
        &mut self.globals.activation
    }

    /// Nobody but the person gives windows the keyboard: one that wants it may ask for attention.
    fn request_activation(
        &mut self,
        token: XdgActivationToken,
        _data: XdgActivationTokenData,
        surface: WlSurface,
    ) {
        self.globals.activation.remove_token(&token);
        if let Some(id) = self.window_of(&surface)
            && self.focused != Some(id)
        {
            self.want_flag(id, |flags| flags.attention = true);
        }
    }
}

impl BufferHandler for Agent {
    fn buffer_destroyed(&mut self, _buffer: &WlBuffer) {}
}

impl ShmHandler for Agent {
    fn shm_state(&self) -> &ShmState {
        &self.globals.shm
    }
}

smithay::delegate_compositor!(Agent);
smithay::delegate_kde_decoration!(Agent);
smithay::delegate_shm!(Agent);
smithay::delegate_single_pixel_buffer!(Agent);
smithay::delegate_viewporter!(Agent);
smithay::delegate_xdg_activation!(Agent);
smithay::delegate_xdg_decoration!(Agent);
smithay::delegate_xdg_shell!(Agent);
