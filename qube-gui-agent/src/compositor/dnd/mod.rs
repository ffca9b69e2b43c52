//! What a person drags from one window of the qube to another.
//!
//! A drag has one source, an application of Wayland or one of X, and is over one target at a time.
//! Applications of Wayland are offered it here ([`offer`]), since `smithay` gives up what is dropped
//! where no application of Wayland takes it, and has nothing for drags of others. What X has to do
//! with it, [`crate::xdnd`] says: over windows of X it is the source, and over all else it covers the
//! screen of X, so that it is the target of what an application of X drags. Applications of X drag
//! among themselves without us.

mod grab;
mod negotiation;
mod offer;
mod x;

use bulkhead_wire::gui::WindowId;
use smithay::backend::input::{KeyState, Keycode};
use smithay::input::keyboard::Keysym;
use smithay::input::pointer::Focus as PointerFocus;
use smithay::reexports::wayland_server::backend::ClientId;
use smithay::reexports::wayland_server::protocol::wl_data_device::{self, WlDataDevice};
use smithay::reexports::wayland_server::protocol::wl_data_device_manager::{
    DndAction, WlDataDeviceManager,
};
use smithay::reexports::wayland_server::protocol::wl_data_source::{
    self, EVT_ACTION_SINCE, WlDataSource,
};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{
    Client, DataInit, Dispatch, DisplayHandle, Resource, delegate_dispatch,
    delegate_global_dispatch,
};
use smithay::reexports::x11rb::protocol::xproto::Timestamp;
use smithay::utils::{Logical, Point, Serial};
use smithay::wayland::compositor::give_role;
use smithay::wayland::selection::data_device::{
    ClientDndGrabHandler, DND_ICON_ROLE, DataDeviceHandler, DataDeviceState, DataDeviceUserData,
    DataSourceUserData, ServerDndGrabHandler, with_source_metadata,
};

use super::Agent;
use super::views::Role;
use crate::xdnd::kinds::{self, KIND_LEN_MAX, KINDS_MAX};
use crate::xdnd::{Command, Handle, Number};
use grab::DragGrab;
use negotiation::End;
use offer::{Giver, Visit};

/// Bytes of what is dragged between Wayland and X that are carried, at most.
const DRAGGED_MAX: usize = 64 * 1024 * 1024;

/// How much is carried at the same time, at most.
const CARRIED_MAX: usize = 16;

/// Of what can be done so often at the same time.
#[derive(Debug, Default)]
struct Slots(usize);

impl Slots {
    fn take(&mut self) -> bool {
        let is_free = self.0 < CARRIED_MAX;
        self.0 += usize::from(is_free);
        is_free
    }

    fn give_back(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }
}

/// What is known of drags.
#[derive(Debug, Default)]
pub(super) struct Dnd {
    x: Option<Handle>,
    drag: Option<Drag>,
    /// Counts drags.
    drags: Number,
    /// Of what was dropped last by X: the visit, and what it can be read as.
    of_x: Option<OfX>,
    carried: Slots,
    /// Where the pointer is, in pixels of the screen.
    pointer: Point<i32, Logical>,
    /// The key that has ended a drag, while it is held.
    ended_by: Option<Keycode>,
}

impl Dnd {
    /// False where nobody hears it.
    fn is_told(&self, command: Command) -> bool {
        self.x.as_ref().is_some_and(|x| x.tell(command))
    }

    /// The same where nothing depends on it: without X there are no drags of X.
    fn tell(&self, command: Command) {
        self.is_told(command);
    }
}

/// What is dragged.
#[derive(Debug)]
struct Drag {
    number: Number,
    source: Source,
    over: Over,
    /// The button came up.
    is_released: bool,
    /// The person does not want it any more, and the application of X may not know.
    is_unwanted: bool,
    /// What was shown since it began is what shows it.
    raises: u64,
}

#[derive(Debug)]
enum Source {
    Wayland {
        source: WlDataSource,
        kinds: Vec<String>,
        actions: DndAction,
    },
    X {
        /// Whether the screen of X is covered.
        covers: bool,
        entered: Option<Entered>,
    },
}

/// An application of X is over what is not X.
#[derive(Debug)]
struct Entered {
    visit: Number,
    kinds: Vec<String>,
    actions: DndAction,
    /// How it would have it taken, once it said so.
    requested: Option<DndAction>,
}

/// How to read what an application of X drags.
#[derive(Debug)]
struct OfX {
    visit: Number,
    kinds: Vec<String>,
    time: Timestamp,
}

#[derive(Debug)]
enum Over {
    Nothing,
    Wayland(Visit),
    X,
}

/// A place of the screen, as X counts it.
fn pixels(location: Point<i32, Logical>) -> (u16, u16) {
    let near = |at: i32| u16::try_from(at.max(0)).unwrap_or(u16::MAX);
    (near(location.x), near(location.y))
}

impl Agent {
    /// An application of Wayland drags something that others can be given.
    fn drag(&mut self, source: WlDataSource, serial: Serial) {
        let Some(pointer) = self.seat.get_pointer() else {
            return;
        };
        let Some(start) = pointer.grab_start_data() else {
            return;
        };
        let metadata = with_source_metadata(&source, Clone::clone).unwrap_or_default();
        let kinds = metadata.mime_types.into_iter();
        let kinds = kinds.filter(|kind| kind.len() <= KIND_LEN_MAX);
        let kinds: Vec<String> = kinds.take(KINDS_MAX).collect();
        let actions = if source.version() < EVT_ACTION_SINCE {
            DndAction::Copy
        } else {
            metadata.dnd_action
        };
        tracing::debug!("something is dragged");
        let drag = self.dnd.drags + 1;
        self.begin_drag(Source::Wayland {
            source,
            kinds: kinds.clone(),
            actions,
        });
        self.dnd.tell(Command::Offer {
            drag,
            kinds,
            actions,
        });
        pointer.set_grab(self, DragGrab { start }, serial, PointerFocus::Clear);
        self.drag_again();
    }

    fn begin_drag(&mut self, source: Source) {
        self.cancel_drag();
        self.dnd.drags += 1;
        self.dnd.drag = Some(Drag {
            number: self.dnd.drags,
            source,
            over: Over::Nothing,
            is_released: false,
            is_unwanted: false,
            raises: self.raises,
        });
    }

    /// What is dragged is over whatever is where the pointer is.
    fn drag_again(&mut self) {
        let location = self.dnd.pointer;
        let over = self.over(location);
        let under = over.and_then(|over| self.under(over, location));
        self.drag_to(over, under, location);
    }

    /// The pointer is over no window of ours.
    pub(super) fn drag_leaves(&mut self) {
        self.drag_to(None, None, self.dnd.pointer);
    }

    /// The pointer moves, and with it what is dragged.
    pub(super) fn drag_to(
        &mut self,
        over: Option<WindowId>,
        under: Option<(WlSurface, Point<f64, Logical>)>,
        location: Point<i32, Logical>,
    ) {
        self.dnd.pointer = location;
        let (over, under) = match self.below_icon(over, location) {
            below if below == over => (over, under),
            below => (below, below.and_then(|id| self.under(id, location))),
        };
        let view = over.and_then(|over| self.views.get(&over));
        let x = view.and_then(|view| match &view.role {
            Role::X11(window) => Some(window.window_id()),
            _ => None,
        });
        let drag = self.dnd.drag.as_mut();
        let Some(drag) = drag.filter(|drag| !drag.is_released) else {
            return;
        };
        let tell = match &mut drag.source {
            Source::X { covers, .. } => {
                let was = std::mem::replace(covers, x.is_none());
                (was != *covers).then_some(Command::Cover(*covers))
            }
            Source::Wayland { .. } => {
                let was_x = matches!(drag.over, Over::X);
                (x.is_some() || was_x).then_some(Command::Point {
                    over: x,
                    at: pixels(location),
                })
            }
        };
        if let Some(command) = tell {
            self.dnd.tell(command);
        }
        let under = under.filter(|_| x.is_none());
        let at = self.in_units(over, location);
        self.visit(under, at);
        if let Some(drag) = &mut self.dnd.drag
            && !matches!(drag.over, Over::Wayland(_))
        {
            let is_ours = matches!(drag.source, Source::Wayland { .. });
            drag.over = if x.is_some() && is_ours {
                Over::X
            } else {
                Over::Nothing
            };
        }
    }

    /// The window below one that only shows what an application of X drags.
    fn below_icon(
        &self,
        over: Option<WindowId>,
        location: Point<i32, Logical>,
    ) -> Option<WindowId> {
        let drag = self.dnd.drag.as_ref();
        let drag = drag.filter(|drag| matches!(drag.source, Source::X { .. }));
        let (Some(drag), Some(id)) = (drag, over) else {
            return over;
        };
        let is_icon = |id: WindowId| {
            self.views.get(&id).is_some_and(|view| match &view.role {
                Role::X11(window) => window.is_override_redirect() && view.raised > drag.raises,
                _ => false,
            })
        };
        if is_icon(id) {
            self.topmost(location, |id| !is_icon(id))
        } else {
            over
        }
    }

    /// Has applications of Wayland know whether what is dragged is over one of their surfaces.
    fn visit(
        &mut self,
        under: Option<(WlSurface, Point<f64, Logical>)>,
        pointer: Point<f64, Logical>,
    ) {
        let time = self.now();
        let within = under.map(|(surface, origin)| {
            let at = pointer - origin;
            (surface, (at.x, at.y))
        });
        let Some(drag) = &mut self.dnd.drag else {
            return;
        };
        let within = within.filter(|_| !drag.is_unwanted);
        if let Over::Wayland(visit) = &drag.over {
            if let Some((surface, at)) = &within
                && visit.surface == *surface
            {
                return visit.motion(time, *at);
            }
            if let Over::Wayland(visit) = std::mem::replace(&mut drag.over, Over::Nothing) {
                visit.leave(self);
            }
        }
        let Some((surface, at)) = within else { return };
        let Some(drag) = &self.dnd.drag else { return };
        let (giver, kinds, actions, requested) = match &drag.source {
            Source::Wayland {
                source,
                kinds,
                actions,
            } => {
                let giver = Giver::Wayland(source.clone());
                (giver, kinds.clone(), *actions, DndAction::empty())
            }
            Source::X { entered, .. } => {
                let Some(entered) = entered else { return };
                let Some(requested) = entered.requested else {
                    return;
                };
                let kinds = kinds::to_wayland(&entered.kinds);
                let actions = entered.actions | requested;
                (Giver::X(entered.visit), kinds, actions, requested)
            }
        };
        let visit = Visit::enter(&self.display, &surface, at, giver, &kinds);
        if let Some(visit) = visit {
            visit.can(self, actions, requested);
            if let Some(drag) = &mut self.dnd.drag {
                drag.over = Over::Wayland(visit);
            }
        }
    }

    /// The last button comes up.
    pub(super) fn drop_dragged(&mut self) {
        let drag = self.dnd.drag.as_mut();
        let Some(drag) = drag.filter(|drag| !drag.is_released) else {
            return;
        };
        drag.is_released = true;
        match &drag.source {
            // It says so itself, to us if it is over us.
            Source::X {
                entered: Some(_),
                covers: true,
            } => self.dnd.tell(Command::Release),
            Source::X { .. } => self.cancel_drag(),
            Source::Wayland { source, .. } => {
                let giver = Giver::Wayland(source.clone());
                match std::mem::replace(&mut drag.over, Over::Nothing) {
                    // Targets of X take their time.
                    Over::X => {
                        drag.over = Over::X;
                        if !self.dnd.is_told(Command::Drop) {
                            self.cancel_drag();
                        }
                    }
                    over => {
                        self.dnd.drag = None;
                        self.dnd.tell(Command::Cancel);
                        let is_taken = match over {
                            Over::Wayland(visit) => visit.drop(),
                            Over::Nothing | Over::X => false,
                        };
                        if is_taken {
                            giver.tell_dropped();
                        } else {
                            giver.tell_end(self, End::NotTaken);
                        }
                    }
                }
            }
        }
    }

    /// Nothing is dragged any more.
    fn cancel_drag(&mut self) {
        let Some(drag) = self.dnd.drag.take() else {
            return;
        };
        if let Over::Wayland(visit) = drag.over {
            visit.leave(self);
        }
        match drag.source {
            Source::Wayland { source, .. } => {
                self.dnd.tell(Command::Cancel);
                Giver::Wayland(source).tell_end(self, End::NotTaken);
            }
            Source::X { .. } => self.dnd.tell(Command::Cover(false)),
        }
    }

    /// Whether a key ends a drag of Wayland: nobody else is to hear of it. Applications of X hear it, as
    /// they end theirs themselves; what they drag is not offered again if they do not.
    pub(super) fn is_for_drag(&mut self, key: Keysym, code: Keycode, state: KeyState) -> bool {
        if state == KeyState::Released {
            return self.dnd.ended_by.take_if(|by| *by == code).is_some();
        }
        let drag = self.dnd.drag.as_mut();
        let drag = drag.filter(|drag| key == Keysym::Escape && !drag.is_released);
        let Some(drag) = drag else { return false };
        if let Source::X { .. } = drag.source {
            drag.is_unwanted = true;
            if let Over::Wayland(visit) = std::mem::replace(&mut drag.over, Over::Nothing) {
                visit.leave(self);
            }
            return false;
        }
        self.dnd.ended_by = Some(code);
        self.cancel_drag();
        true
    }

    /// An application of Wayland has taken away what it dragged.
    fn source_destroyed(&mut self, gone: &WlDataSource) {
        let is_it = self.dnd.drag.as_ref().is_some_and(
            |drag| matches!(&drag.source, Source::Wayland { source, .. } if source == gone),
        );
        if is_it {
            self.cancel_drag();
        }
    }
}

impl DataDeviceHandler for Agent {
    fn data_device_state(&self) -> &DataDeviceState {
        &self.globals.data_device
    }
}

/// Drags within one application, which offers nothing to others.
impl ClientDndGrabHandler for Agent {}

impl ServerDndGrabHandler for Agent {}

delegate_global_dispatch!(Agent: [WlDataDeviceManager: ()] => DataDeviceState);
delegate_dispatch!(Agent: [WlDataDeviceManager: ()] => DataDeviceState);

impl Dispatch<WlDataSource, DataSourceUserData> for Agent {
    fn request(
        agent: &mut Self,
        client: &Client,
        source: &WlDataSource,
        request: wl_data_source::Request,
        data: &DataSourceUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        <DataDeviceState as Dispatch<_, _, Self>>::request(
            agent, client, source, request, data, display, init,
        );
    }

    fn destroyed(
        agent: &mut Self,
        client: ClientId,
        source: &WlDataSource,
        data: &DataSourceUserData,
    ) {
        <DataDeviceState as Dispatch<_, _, Self>>::destroyed(agent, client, source, data);
        agent.source_destroyed(source);
    }
}

impl Dispatch<WlDataDevice, DataDeviceUserData> for Agent {
    fn request(
        agent: &mut Self,
        client: &Client,
        device: &WlDataDevice,
        request: wl_data_device::Request,
        data: &DataDeviceUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let wl_data_device::Request::StartDrag {
            source: Some(source),
            icon,
            serial,
            ..
        } = &request
        else {
            return <DataDeviceState as Dispatch<_, _, Self>>::request(
                agent, client, device, request, data, display, init,
            );
        };
        let serial = Serial::from(*serial);
        let pointer = agent.seat.get_pointer();
        if !pointer.is_some_and(|pointer| pointer.has_grab(serial)) {
            tracing::debug!("an application drags what nobody holds");
            return;
        }
        // It is in no window, and so is shown nowhere.
        if let Some(icon) = icon
            && give_role(icon, DND_ICON_ROLE).is_err()
        {
            let error = wl_data_device::Error::Role;
            device.post_error(error, "the surface of the icon has another role");
            return;
        }
        agent.drag(source.clone(), serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_is_carried_at_the_same_time_and_no_more() {
        let mut slots = Slots::default();
        assert!((0..CARRIED_MAX).all(|_| slots.take()));
        assert!(!slots.take());
        slots.give_back();
        assert!(slots.take());
        assert!(!slots.take());
    }

    #[test]
    fn places_that_are_not_on_the_screen_are_near_it() {
        assert_eq!(pixels((-5, 7).into()), (0, 7));
        assert_eq!(pixels((70_000, 65_535).into()), (u16::MAX, 65_535));
    }
}
