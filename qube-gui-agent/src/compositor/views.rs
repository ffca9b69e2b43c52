//! What applications show, as windows of the protocol.

use std::time::{Duration, Instant};

use bulkhead_wire::causes::chain;
use bulkhead_wire::gui::geometry::{Part, Place, Size};
use bulkhead_wire::gui::{Flags, Hints, WindowId};
use smithay::backend::renderer::utils::with_renderer_surface_state;
use smithay::desktop::utils::{bbox_from_surface_tree, send_frames_surface_tree};
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_toplevel::State;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point, Rectangle};
use smithay::wayland::compositor::with_states;
use smithay::wayland::input_method;
use smithay::wayland::shell::xdg::{
    PopupSurface, SurfaceCachedState, ToplevelSurface, XdgPopupSurfaceData, XdgToplevelSurfaceData,
};
use smithay::xwayland::X11Surface;

use super::canvas::{self, Canvas, PaintError};
use super::x11;
use super::{Agent, FRAME};
use crate::model::{Look, Placing, Reshaped, WINDOWS_MAX};
use crate::monitors::Sized;
use crate::scale::Scale;

/// What a window is to the application.
#[derive(Debug, Clone)]
pub(super) enum Role {
    Toplevel(ToplevelSurface),
    Popup(PopupSurface),
    /// What an input method shows beside the text that it makes.
    InputMethod(input_method::PopupSurface),
    X11(X11Surface),
}

impl Role {
    /// What a popup belongs to.
    pub(super) fn parent(&self) -> Option<WlSurface> {
        match self {
            Self::Popup(popup) => popup.get_parent_surface(),
            Self::InputMethod(popup) => popup.get_parent().map(|parent| parent.surface.clone()),
            Self::Toplevel(_) | Self::X11(_) => None,
        }
    }
}

/// What is shown in a window.
#[derive(Debug)]
pub(super) struct View {
    pub(super) role: Role,
    pub(super) surface: WlSurface,
    canvas: Option<Canvas>,
    /// Whether something was committed that is not painted.
    dirty: bool,
    pub(super) scale: Scale,
    pub(super) sized: Sized,
    /// The size before a change of scale that the daemon may not have heard of, and how often it may
    /// still ask for that.
    pub(super) outgrown: Option<(Size, u32)>,
    /// The higher, the later it was shown or was given the keyboard.
    pub(super) raised: u64,
}

impl View {
    /// What of the surface is the window's picture, in the application's units.
    pub(super) fn units(&self) -> Rectangle<i32, Logical> {
        units(&self.role, &self.surface)
    }

    /// The same in pixels.
    pub(super) fn picture(&self) -> Rectangle<i32, Logical> {
        self.scale.rectangle(self.units())
    }
}

fn units(role: &Role, surface: &WlSurface) -> Rectangle<i32, Logical> {
    let all = bbox_from_surface_tree(surface, (0, 0));
    match role {
        Role::Toplevel(_) | Role::Popup(_) => {
            let said = with_states(surface, |states| {
                let mut cached = states.cached_state.get::<SurfaceCachedState>();
                cached.current().geometry
            });
            said.unwrap_or(all)
        }
        Role::InputMethod(_) | Role::X11(_) => all,
    }
}

/// The size of a window that is to show a picture; never empty.
pub(super) fn window_size(picture: Rectangle<i32, Logical>) -> Size {
    let number = |n: i32| u32::try_from(n).unwrap_or_default().max(1);
    Size::near(number(picture.size.w), number(picture.size.h))
}

fn size_hint(size: smithay::utils::Size<i32, Logical>) -> Option<Size> {
    let number = |n: i32| u32::try_from(n).unwrap_or_default();
    // 0 is any, on either axis.
    let size = Size::new(number(size.w), number(size.h))?;
    (size != Size::default()).then_some(size)
}

fn hints(surface: &WlSurface, scale: Scale) -> Hints {
    let (min, max) = with_states(surface, |states| {
        let mut cached = states.cached_state.get::<SurfaceCachedState>();
        let current = cached.current();
        (current.min_size, current.max_size)
    });
    Hints {
        min: size_hint(scale.size(min)),
        // A limit on one axis only cannot be said.
        max: size_hint(scale.size(max)).filter(|size| !size.is_empty()),
        ..Hints::default()
    }
}

/// A size as `smithay` has it.
pub(super) fn logical(size: Size) -> smithay::utils::Size<i32, Logical> {
    (size.width().cast_signed(), size.height().cast_signed()).into()
}

pub(super) fn point(place: Place) -> Point<i32, Logical> {
    (place.x(), place.y()).into()
}

pub(super) fn has_buffer(surface: &WlSurface) -> bool {
    with_renderer_surface_state(surface, |state| state.buffer().is_some()).unwrap_or(false)
}

impl Agent {
    pub(super) fn window_of(&self, surface: &WlSurface) -> Option<WindowId> {
        let mut views = self.views.iter();
        let found = views.find(|(_, view)| view.surface == *surface);
        found.map(|(id, _)| *id)
    }

    /// After a commit of the tree below `surface`, which has that role.
    pub(super) fn committed(&mut self, surface: &WlSurface, role: Role) {
        match (self.window_of(surface), has_buffer(surface)) {
            (None, true) => self.show(surface.clone(), role),
            (Some(id), true) => {
                self.changed(id);
                self.settle(id);
            }
            (Some(id), false) => self.hide(id),
            (None, false) => {}
        }
    }

    fn show(&mut self, surface: WlSurface, role: Role) {
        let scale = self.first_scale(&role);
        let look = self.look(&surface, &role, scale);
        self.fullscreen.retain(|other| *other != surface);
        let Some(id) = self.windows.open(look) else {
            // It is tried again with its next commit.
            tracing::warn!("a window is not shown: there are {WINDOWS_MAX}");
            return;
        };
        tracing::debug!(window = id.0, "shown");
        let view = View {
            role,
            surface,
            canvas: None,
            dirty: true,
            scale,
            sized: Sized::ByApplication,
            outgrown: None,
            raised: self.next_raise(),
        };
        self.views.insert(id, view);
        self.settle(id);
        self.tell_icon(id);
    }

    fn next_raise(&mut self) -> u64 {
        self.raises += 1;
        self.raises
    }

    /// The daemon tells nobody which windows are above others: those that were used last, most likely.
    pub(super) fn raised(&mut self, id: WindowId) {
        let raised = self.next_raise();
        if let Some(view) = self.views.get_mut(&id) {
            view.raised = raised;
        }
    }

    /// The window is not shown any more, and nothing of it is left.
    pub(super) fn hide(&mut self, id: WindowId) {
        self.views.remove(&id);
        self.windows.close(id);
        self.icons.board.remove(id);
        if self.focused == Some(id) {
            self.focused = None;
        }
        if self.pointed == Some(id) {
            self.pointed = None;
        }
        if self.pressed == Some(id) {
            self.pressed = None;
        }
        tracing::debug!(window = id.0, "hidden");
    }

    fn look(&self, surface: &WlSurface, role: &Role, scale: Scale) -> Look {
        let size = window_size(scale.rectangle(units(role, surface)));
        match role {
            Role::Toplevel(_) => {
                let (title, class, parent) = with_states(surface, |states| {
                    let data = states.data_map.get::<XdgToplevelSurfaceData>();
                    let data = data.and_then(|data| data.lock().ok());
                    data.map(|data| (data.title.clone(), data.app_id.clone(), data.parent.clone()))
                        .unwrap_or_default()
                });
                let class = class.unwrap_or_default();
                Look {
                    size,
                    owner: parent.and_then(|parent| self.window_of(&parent)),
                    title: title.unwrap_or_default(),
                    instance: class.clone(),
                    class,
                    hints: hints(surface, scale),
                    flags: Flags {
                        fullscreen: self.fullscreen.contains(surface),
                        ..Flags::default()
                    },
                    ..Look::default()
                }
            }
            Role::Popup(popup) => {
                let owner = popup.get_parent_surface();
                let owner = owner.and_then(|parent| self.window_of(&parent));
                Look {
                    place: self.popup_place(popup),
                    size,
                    placing: Placing::Itself,
                    owner,
                    ..Look::default()
                }
            }
            Role::InputMethod(popup) => {
                let owner = popup.get_parent();
                Look {
                    place: self.input_popup_place(popup, size),
                    size,
                    placing: Placing::Itself,
                    owner: owner.and_then(|parent| self.window_of(&parent.surface)),
                    ..Look::default()
                }
            }
            Role::X11(window) => self.x_look(window),
        }
    }

    fn x_look(&self, window: &X11Surface) -> Look {
        let geometry = window.geometry();
        let owner = window.is_transient_for();
        let placing = if window.is_override_redirect() {
            Placing::Itself
        } else {
            Placing::Managed
        };
        Look {
            place: x11::place_of(geometry),
            size: window_size(geometry),
            placing,
            owner: owner.and_then(|number| self.x_view_by_number(number)),
            title: window.title(),
            class: window.class(),
            instance: window.instance(),
            hints: x11::hints_of(window),
            flags: x11::flags_of(window),
        }
    }

    /// Where a popup is, counted from where the window of its parent is.
    fn popup_place(&self, popup: &PopupSurface) -> Place {
        let parent = popup.get_parent_surface();
        let parent = parent.and_then(|parent| self.window_of(&parent));
        let look = parent.and_then(|id| self.windows.look(id));
        let from = look.map(|look| point(look.place)).unwrap_or_default();
        let view = parent.and_then(|id| self.views.get(&id));
        let scale = view.map_or(Scale::ONE, |view| view.scale);
        let offset = with_states(popup.wl_surface(), |states| {
            let data = states.data_map.get::<XdgPopupSurfaceData>();
            let data = data.and_then(|data| data.lock().ok());
            data.map(|data| data.current.geometry.loc)
                .unwrap_or_default()
        });
        let at = from + scale.point(offset);
        Place::near(at.x, at.y)
    }

    /// Takes note of a commit, or of another scale.
    pub(super) fn changed(&mut self, id: WindowId) {
        let Some(view) = self.views.get_mut(&id) else {
            return;
        };
        view.dirty = true;
        let scale = view.scale;
        let (size, surface) = (window_size(view.picture()), view.surface.clone());
        match view.role.clone() {
            Role::Toplevel(_) => {
                // An answer to an older wish says nothing of what becomes of the newest.
                if has_caught_up(&surface)
                    && let Some(look) = self.windows.look(id)
                {
                    let place = look.place;
                    self.windows.set_geometry(id, place, size);
                }
                self.windows.set_hints(id, hints(&surface, scale));
            }
            Role::Popup(popup) => {
                let place = self.popup_place(&popup);
                self.windows.set_geometry(id, place, size);
            }
            Role::InputMethod(popup) => {
                let place = self.input_popup_place(&popup, size);
                self.windows.set_geometry(id, place, size);
            }
            // X tells of it by itself.
            Role::X11(_) => {}
        }
    }

    /// Has an application make of its window what the daemon wants.
    pub(super) fn reshape(&mut self, id: WindowId, to: Reshaped) {
        let Some(view) = self.views.get_mut(&id) else {
            return;
        };
        match &view.role {
            Role::Toplevel(toplevel) if to.resized => match &mut view.outgrown {
                Some((old, left)) if *old == to.size && *left > 0 => {
                    *left -= 1;
                    let size = window_size(view.picture());
                    self.windows.set_geometry(id, to.place, size);
                }
                _ => {
                    view.sized = Sized::ByDaemon;
                    let size = view.scale.units(logical(to.size));
                    toplevel.with_pending_state(|state| state.size = Some(size));
                    // Also where it was asked before, and made something else of it.
                    toplevel.send_configure();
                }
            },
            // It has heard.
            Role::Toplevel(_) => view.outgrown = None,
            Role::Popup(_) | Role::InputMethod(_) => {}
            Role::X11(window) => Self::reshape_x(window, to.place, to.size),
        }
        self.settle(id);
        self.move_popups(id);
    }

    /// Popups whose parent is a surface.
    pub(super) fn children(&self, parent: &WlSurface) -> Vec<WindowId> {
        let all = self.views.iter();
        let children = all.filter(|(_, view)| view.role.parent().as_ref() == Some(parent));
        children.map(|(id, _)| *id).collect()
    }

    /// Popups go where their parents go.
    fn move_popups(&mut self, parent: WindowId) {
        let Some(surface) = self.views.get(&parent).map(|view| view.surface.clone()) else {
            return;
        };
        let popups: Vec<_> = self
            .views
            .iter()
            .filter(|(_, view)| view.role.parent().as_ref() == Some(&surface))
            .map(|(id, view)| (*id, view.role.clone(), window_size(view.picture())))
            .collect();
        for (id, role, size) in popups {
            let place = match &role {
                Role::Popup(popup) => self.popup_place(popup),
                Role::InputMethod(popup) => self.input_popup_place(popup, size),
                Role::Toplevel(_) | Role::X11(_) => continue,
            };
            self.windows.set_geometry(id, place, size);
            self.settle(id);
            self.move_popups(id);
        }
    }

    /// Tells an application what the daemon has made of its window.
    pub(super) fn show_flags(&mut self, id: WindowId) {
        let (Some(look), Some(view)) = (self.windows.look(id), self.views.get(&id)) else {
            return;
        };
        let flags = look.flags;
        if let Role::X11(window) = &view.role {
            let told = window
                .set_fullscreen(flags.fullscreen)
                .and_then(|()| window.set_suspended(flags.minimised));
            if let Err(error) = told {
                tracing::warn!("a window of X cannot be told of its state: {error}");
            }
        }
        if let Role::Toplevel(toplevel) = &view.role {
            toplevel.with_pending_state(|state| {
                let set = [
                    (State::Fullscreen, flags.fullscreen),
                    (State::Suspended, flags.minimised),
                ];
                for (name, on) in set {
                    if on {
                        state.states.set(name);
                    } else {
                        state.states.unset(name);
                    }
                }
            });
            toplevel.send_pending_configure();
        }
    }

    pub(super) fn ask_to_close(&mut self, id: WindowId) {
        match self.views.get(&id).map(|view| &view.role) {
            Some(Role::Toplevel(toplevel)) => toplevel.send_close(),
            Some(Role::Popup(popup)) => popup.send_popup_done(),
            Some(Role::X11(window)) => {
                if let Err(error) = window.close() {
                    tracing::warn!("a window of X cannot be closed: {error}");
                }
            }
            Some(Role::InputMethod(_)) | None => {}
        }
    }

    /// Paints what was committed, if it is time, or has the loop wake up when it is.
    pub(super) fn paint_due(&mut self) {
        let dirty = self.views.values().any(|view| view.dirty);
        if !dirty || !self.windows.has_daemon() || self.link.is_behind() {
            return;
        }
        let now = Instant::now();
        if now < self.next_frame {
            if !self.frame_timer {
                let woken = self.wake_after(self.next_frame - now, |agent| {
                    agent.frame_timer = false;
                });
                self.frame_timer = woken.is_ok();
            }
            return;
        }
        // A timer is late each time; were the next picture counted from now, there were fewer.
        let is_late = now - self.next_frame < FRAME;
        self.next_frame = if is_late { self.next_frame } else { now };
        self.next_frame += FRAME;
        let dirty = self.views.iter().filter(|(_, view)| view.dirty);
        let dirty: Vec<WindowId> = dirty.map(|(id, _)| *id).collect();
        for id in dirty {
            if let Err(error) = self.paint(id) {
                tracing::error!(window = id.0, "{}", chain(&error));
            }
        }
    }

    fn paint(&mut self, id: WindowId) -> Result<(), PaintError> {
        let Some(view) = self.views.get_mut(&id) else {
            return Ok(());
        };
        view.dirty = false;
        let (picture, scale) = (view.picture(), view.scale);
        let size = window_size(picture);
        let kept = view.canvas.as_mut();
        let kept = kept.filter(|canvas| canvas.size() == size && canvas.scale() == scale);
        let memory = self.windows.content(id).filter(|(of, _)| *of == size);
        if let (Some(canvas), Some((_, memory))) = (kept, memory) {
            let parts = canvas.paint(&mut self.renderer, &view.surface, picture.loc, memory)?;
            for part in parts {
                self.windows.damage(id, part);
            }
        } else {
            let memory = canvas::share(&self.sharer, size)?;
            let mut canvas = Canvas::new(&mut self.renderer, size, scale)?;
            canvas.paint(&mut self.renderer, &view.surface, picture.loc, &memory)?;
            view.canvas = Some(canvas);
            self.windows.set_content(id, size, memory);
            self.windows.damage(id, Part::all(size));
        }
        let surface = view.surface.clone();
        self.frame_done(&surface);
        Ok(())
    }

    /// Applications that wait for it may go on with their next picture.
    pub(super) fn frame_done(&self, surface: &WlSurface) {
        let Some(output) = self.outputs.any() else {
            return;
        };
        let now: Duration = self.clock.now().into();
        send_frames_surface_tree(surface, output, now, None, |_, _| Some(output.clone()));
    }
}

/// Whether the last commit answers the last configure event.
fn has_caught_up(surface: &WlSurface) -> bool {
    with_states(surface, |states| {
        let data = states.data_map.get::<XdgToplevelSurfaceData>();
        data.and_then(|data| data.lock().ok()).is_some_and(|data| {
            data.pending_configures().is_empty() && data.configure_serial == data.current_serial
        })
    })
}
