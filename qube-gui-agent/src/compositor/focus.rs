//! Who has the keyboard: the window that the daemon says, or a popup of it that took it.

use std::borrow::Cow;

use bulkhead_wire::gui::WindowId;
use smithay::backend::input::KeyState;
use smithay::input::keyboard::{KeyboardTarget, KeysymHandle, ModifiersState};
use smithay::input::pointer::CursorImageStatus;
use smithay::input::{Seat, SeatHandler, SeatState};
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_toplevel::State;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{IsAlive, SERIAL_COUNTER, Serial};
use smithay::wayland::seat::WaylandFocus;
use smithay::wayland::shell::xdg::PopupSurface;
use smithay::xwayland::X11Surface;

use super::Agent;
use super::views::Role;

/// What can have the keyboard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Focus {
    Wayland(WlSurface),
    /// X has to be told as well.
    X11(Box<X11Surface>, WlSurface),
}

impl Focus {
    fn surface(&self) -> &WlSurface {
        match self {
            Self::Wayland(surface) | Self::X11(_, surface) => surface,
        }
    }
}

impl IsAlive for Focus {
    fn alive(&self) -> bool {
        self.surface().alive()
    }
}

impl WaylandFocus for Focus {
    fn wl_surface(&self) -> Option<Cow<'_, WlSurface>> {
        Some(Cow::Borrowed(self.surface()))
    }
}

impl KeyboardTarget<Agent> for Focus {
    fn enter(
        &self,
        seat: &Seat<Agent>,
        agent: &mut Agent,
        keys: Vec<KeysymHandle<'_>>,
        serial: Serial,
    ) {
        match self {
            // It enters its surface by itself, where it knows that.
            Self::X11(window, _) if window.wl_surface().is_some() => {
                KeyboardTarget::enter(&**window, seat, agent, keys, serial);
            }
            Self::X11(window, surface) => {
                KeyboardTarget::enter(&**window, seat, agent, Vec::new(), serial);
                KeyboardTarget::enter(surface, seat, agent, keys, serial);
            }
            Self::Wayland(surface) => KeyboardTarget::enter(surface, seat, agent, keys, serial),
        }
    }

    fn leave(&self, seat: &Seat<Agent>, agent: &mut Agent, serial: Serial) {
        if let Self::X11(window, _) = self {
            KeyboardTarget::leave(&**window, seat, agent, serial);
            if window.wl_surface().is_some() {
                return;
            }
        }
        KeyboardTarget::leave(self.surface(), seat, agent, serial);
    }

    fn key(
        &self,
        seat: &Seat<Agent>,
        agent: &mut Agent,
        key: KeysymHandle<'_>,
        state: KeyState,
        serial: Serial,
        time: u32,
    ) {
        KeyboardTarget::key(self.surface(), seat, agent, key, state, serial, time);
    }

    fn modifiers(
        &self,
        seat: &Seat<Agent>,
        agent: &mut Agent,
        modifiers: ModifiersState,
        serial: Serial,
    ) {
        KeyboardTarget::modifiers(self.surface(), seat, agent, modifiers, serial);
    }
}

impl SeatHandler for Agent {
    type KeyboardFocus = Focus;
    type PointerFocus = WlSurface;
    type TouchFocus = WlSurface;

    fn seat_state(&mut self) -> &mut SeatState<Self> {
        &mut self.seats
    }

    fn cursor_image(&mut self, _seat: &Seat<Self>, image: CursorImageStatus) {
        self.point_with(&image);
    }

    fn focus_changed(&mut self, _seat: &Seat<Self>, focused: Option<&Focus>) {
        self.offer_selections(focused.map(Focus::surface));
    }
}

impl Agent {
    /// The daemon gives the keyboard to a window, or takes it away from it.
    pub(super) fn focus(&mut self, id: WindowId, here: bool) {
        let view = self.views.get(&id);
        if view.is_some_and(|view| matches!(view.role, Role::InputMethod(_))) {
            // It makes text for a window that has the keyboard.
            return;
        }
        let old = self.focused;
        if here {
            self.focused = self.views.contains_key(&id).then_some(id);
        } else if old == Some(id) {
            self.focused = None;
        }
        if old == self.focused {
            return;
        }
        if let Some(old) = old {
            self.activate(old, false);
            // Menus do not outlive their windows' turn.
            self.dismiss_popups(|_| true);
        }
        if let Some(new) = self.focused {
            self.raised(new);
            self.activate(new, true);
            self.want_flag(new, |flags| flags.attention = false);
        }
        self.update_focus();
    }

    fn activate(&mut self, id: WindowId, on: bool) {
        match self.views.get(&id).map(|view| &view.role) {
            Some(Role::Toplevel(toplevel)) => {
                toplevel.with_pending_state(|state| {
                    if on {
                        state.states.set(State::Activated);
                    } else {
                        state.states.unset(State::Activated);
                    }
                });
                toplevel.send_pending_configure();
            }
            Some(Role::X11(window)) => {
                if let Err(error) = window.set_activated(on) {
                    tracing::warn!("a window of X cannot be told of its focus: {error}");
                }
                if on {
                    self.raise_x(id);
                }
            }
            Some(Role::Popup(_) | Role::InputMethod(_)) | None => {}
        }
    }

    /// Whether an application of X has the keyboard.
    pub(super) fn x_has_focus(&self) -> bool {
        let focused = self.focused.and_then(|id| self.views.get(&id));
        focused.is_some_and(|view| matches!(view.role, Role::X11(_)))
    }

    /// Gives the keyboard to whom it belongs now.
    pub(super) fn update_focus(&mut self) {
        let focused = self.focused.and_then(|id| self.views.get(&id));
        let target = focused.map(|view| match (self.grabs.last(), &view.role) {
            (Some(popup), _) => Focus::Wayland(popup.wl_surface().clone()),
            (None, Role::X11(window)) => Focus::X11(Box::new(window.clone()), view.surface.clone()),
            (None, _) => Focus::Wayland(view.surface.clone()),
        });
        if let Some(keyboard) = self.seat.get_keyboard() {
            keyboard.set_focus(self, target, SERIAL_COUNTER.next_serial());
        }
    }

    /// A popup wants keyboard and pointer for itself until it is dismissed.
    pub(super) fn grab_by_popup(&mut self, popup: PopupSurface) {
        self.grabs.push(popup);
        self.update_focus();
    }

    /// A popup is gone.
    pub(super) fn ungrab_popup(&mut self, popup: &PopupSurface) {
        self.grabs.retain(|grab| grab != popup);
        self.update_focus();
    }

    /// Has the applications take away popups that grabbed, the last one first.
    pub(super) fn dismiss_popups(&mut self, which: impl Fn(&PopupSurface) -> bool) {
        while let Some(popup) = self.grabs.pop_if(|popup| which(popup)) {
            popup.send_popup_done();
        }
        self.update_focus();
    }

    /// A button was pressed in a window: popups that grabbed and do not lead to it are dismissed.
    pub(super) fn pressed_in(&mut self, id: WindowId) {
        let Some(view) = self.views.get(&id) else {
            return;
        };
        let mut chain = vec![view.surface.clone()];
        let mut role = Some(view.role.clone());
        while let Some(parent) = role.and_then(|role| role.parent()) {
            let above = self.window_of(&parent).and_then(|id| self.views.get(&id));
            role = above.map(|view| view.role.clone());
            chain.push(parent);
        }
        self.dismiss_popups(|popup| !chain.contains(popup.wl_surface()));
    }
}

smithay::delegate_seat!(Agent);
