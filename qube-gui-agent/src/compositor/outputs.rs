//! The monitors of dom0 as outputs of Wayland: what each is, which windows are on it, and how many
//! pixels these are to have.

use std::time::Duration;

use bulkhead_wire::causes::chain;
use bulkhead_wire::gui::geometry::{Place, Size};
use bulkhead_wire::gui::{Screen, WindowId};
use bulkhead_wire::monitors::Layout;
use smithay::desktop::utils::{bbox_from_surface_tree, output_update};
use smithay::output::{Mode, Output, PhysicalProperties, Scale as OutputScale, Subpixel};
use smithay::reexports::wayland_protocols::xdg::xdg_output::zv1::server::zxdg_output_manager_v1::ZxdgOutputManagerV1;
use smithay::reexports::wayland_protocols::xdg::xdg_output::zv1::server::zxdg_output_v1::ZxdgOutputV1;
use smithay::reexports::wayland_server::backend::GlobalId;
use smithay::reexports::wayland_server::protocol::wl_output::{self, WlOutput};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{
    Client, DataInit, DisplayHandle, GlobalDispatch, New, Resource,
};
use smithay::utils::{Logical, Rectangle, Transform};
use smithay::wayland::compositor::{
    SurfaceData, TraversalAction, send_surface_state, with_states, with_surface_tree_downward,
};
use smithay::wayland::fractional_scale::{FractionalScaleHandler, with_fractional_scale};
use smithay::wayland::output::{
    OutputHandler, OutputManagerState, OutputUserData, WlOutputData, XdgOutputUserData,
};

use super::views::{Role, point};
use super::x11::is_x;
use super::{Agent, REFRESH};
use crate::monitors::{Monitor, Monitors, Sized};
use crate::scale::Scale;

/// The daemon may ask for the size before a change of scale so often, as it had not heard of it; then
/// it means it.
pub(super) const STALE_MAX: u32 = 4;

/// Outputs that are kept when there are no such monitors any more.
const SPARE_MAX: usize = 64;

/// How long an application may take to hear that an output has gone.
const RETIRE: Duration = Duration::from_secs(5);

/// What applications see of the monitors.
#[derive(Debug)]
pub(super) struct Outputs {
    /// The scale of all of them, where the description says it.
    declared: Option<Scale>,
    screen: Screen,
    layout: Option<Layout>,
    monitors: Monitors,
    /// In the order of the monitors.
    shown: Vec<(Monitor, Output, GlobalId)>,
    /// Outputs that were shown. Applications may ask about them after that, so none is dropped.
    spare: Vec<(Monitor, Output)>,
    /// Outputs so far.
    made: u32,
}

impl Outputs {
    pub(super) fn new(declared: Option<Scale>, screen: Screen, display: &DisplayHandle) -> Self {
        let monitors = Monitors::one(screen.width, screen.height, declared);
        let mut outputs = Self {
            declared,
            screen,
            layout: None,
            monitors,
            shown: Vec::new(),
            spare: Vec::new(),
            made: 0,
        };
        outputs.show(display);
        outputs
    }

    pub(super) fn declared(&self) -> Option<Scale> {
        self.declared
    }

    /// What popups of a window are not to leave: its monitor, or where it is on none all of them.
    pub(super) fn around(&self, window: Rectangle<i32, Logical>) -> Rectangle<i32, Logical> {
        let holder = self.monitors.holder(window);
        holder.map_or_else(|| self.monitors.bounds(), |monitor| monitor.area)
    }

    /// Any of them: all have the same clock.
    pub(super) fn any(&self) -> Option<&Output> {
        self.shown.first().map(|(_, output, _)| output)
    }

    /// Whether anything has changed, and what there is no more.
    fn update(&mut self, display: &DisplayHandle) -> Option<Vec<(Output, GlobalId)>> {
        let layout = self.layout.as_ref();
        let monitors = layout.and_then(|layout| Monitors::of(layout, self.declared));
        let (width, height) = (self.screen.width, self.screen.height);
        let monitors = monitors.unwrap_or_else(|| Monitors::one(width, height, self.declared));
        if monitors == self.monitors {
            return None;
        }
        self.monitors = monitors;
        Some(self.show(display))
    }

    /// Has as many outputs as there are monitors. Those of the same density stay, wherever they are and
    /// whatever their mode.
    fn show(&mut self, display: &DisplayHandle) -> Vec<(Output, GlobalId)> {
        let mut gone = Vec::new();
        let mut before = std::mem::take(&mut self.shown).into_iter();
        for monitor in self.monitors.all().copied().collect::<Vec<_>>() {
            let shown = match before.next() {
                Some((was, output, global)) if is_like(&was, &monitor) => {
                    set_mode(&output, &monitor, None);
                    (monitor, output, global)
                }
                other => {
                    // First: X takes a screen that has no output for none at all.
                    let output = self.spare(&monitor);
                    let scale = OutputScale::Fractional(monitor.scale.pixels());
                    set_mode(&output, &monitor, Some(scale));
                    let global = output.create_global::<Agent>(display);
                    if let Some((was, output, global)) = other {
                        self.spare.push((was, output.clone()));
                        gone.push((output, global));
                    }
                    (monitor, output, global)
                }
            };
            self.shown.push(shown);
        }
        for (was, output, global) in before {
            self.spare.push((was, output.clone()));
            gone.push((output, global));
        }
        gone
    }

    /// One that nobody sees now. Where there are too many it is one of another size.
    fn spare(&mut self, monitor: &Monitor) -> Output {
        let mut spare = self.spare.iter();
        let like = spare.position(|(was, _)| is_like(was, monitor));
        let any = like.or((self.spare.len() >= SPARE_MAX).then_some(0));
        if let Some(at) = any {
            return self.spare.remove(at).1;
        }
        self.made += 1;
        output(self.made, monitor)
    }

    /// Takes note of where a window is. Its surfaces are those of the tree below `surface`.
    fn enter(&self, surface: &WlSurface, window: Rectangle<i32, Logical>) {
        let all = bbox_from_surface_tree(surface, (0, 0));
        for (monitor, output, _) in &self.shown {
            let overlap = monitor.area.overlaps(window).then_some(all);
            output_update(output, overlap, surface);
        }
    }
}

fn is_like(one: &Monitor, other: &Monitor) -> bool {
    (one.millimetres, one.scale) == (other.millimetres, other.scale)
}

fn output(number: u32, monitor: &Monitor) -> Output {
    let (width, height) = monitor.millimetres.unwrap_or_default();
    let properties = PhysicalProperties {
        size: (width.cast_signed(), height.cast_signed()).into(),
        subpixel: Subpixel::Unknown,
        make: "Bulkhead".into(),
        model: "GUI daemon".into(),
    };
    Output::new(format!("monitor-{number}"), properties)
}

fn set_mode(output: &Output, monitor: &Monitor, scale: Option<OutputScale>) {
    let size = monitor.area.size;
    let mode = Mode {
        size: (size.w, size.h).into(),
        refresh: REFRESH,
    };
    let current = output.current_mode();
    if let Some(old) = current.filter(|old| *old != mode) {
        output.delete_mode(old);
    }
    output.change_current_state(Some(mode), None, scale, Some(monitor.area.loc));
    output.set_preferred(mode);
}

/// Tells an application how many pixels a surface is to have.
fn prefer(surface: &WlSurface, states: &SurfaceData, scale: Scale) {
    send_surface_state(surface, states, scale.whole(), Transform::Normal);
    with_fractional_scale(states, |known| known.set_preferred_scale(scale.pixels()));
}

/// The same for all surfaces of a window.
fn prefer_all(surface: &WlSurface, scale: Scale) {
    with_surface_tree_downward(
        surface,
        (),
        |_, _, ()| TraversalAction::DoChildren(()),
        |surface, states, ()| prefer(surface, states, scale),
        |_, _, ()| true,
    );
}

impl Agent {
    /// The daemon has told of its screen.
    pub(super) fn set_screen(&mut self, screen: Screen) {
        self.outputs.screen = screen;
        self.outputs_changed();
    }

    /// dom0 has told of its monitors.
    pub(super) fn set_layout(&mut self, layout: Layout) {
        tracing::info!("there are {} monitors", layout.monitors().len());
        self.outputs.layout = Some(layout);
        self.outputs_changed();
    }

    fn outputs_changed(&mut self) {
        let Some(gone) = self.outputs.update(&self.display) else {
            return;
        };
        for (output, global) in gone {
            for view in self.views.values() {
                output_update(&output, None, &view.surface);
            }
            self.display.disable_global::<Self>(global.clone());
            let removed = self.wake_after(RETIRE, move |agent| {
                agent.display.remove_global::<Self>(global.clone());
            });
            if let Err(error) = removed {
                tracing::warn!("an output stays: {}", chain(&error));
            }
        }
        let all: Vec<WindowId> = self.views.keys().copied().collect();
        for id in all {
            self.settle(id);
        }
    }

    /// The scale of a surface that is not shown yet.
    pub(super) fn first_scale(&self, role: &Role) -> Scale {
        if let Role::X11(_) = role {
            return Scale::ONE;
        }
        let parent = role.parent().and_then(|parent| self.window_of(&parent));
        if let Some(parent) = parent.and_then(|id| self.views.get(&id)) {
            return parent.scale;
        }
        // Where the person is: the daemon has not said yet where it will be.
        let beside = self.focused.or(self.pointed).and_then(|id| self.area(id));
        let monitors = &self.outputs.monitors;
        let holder = beside.and_then(|area| monitors.holder(area));
        holder.unwrap_or(monitors.first()).scale
    }

    /// Has an application draw for that scale before it has drawn anything.
    pub(super) fn prefer_first(&self, surface: &WlSurface, role: &Role) {
        if self.window_of(surface).is_none() {
            prefer_all(surface, self.first_scale(role));
        }
    }

    /// Where a window is, in pixels.
    pub(super) fn area(&self, id: WindowId) -> Option<Rectangle<i32, Logical>> {
        let look = self.windows.look(id)?;
        Some(area(look.place, look.size))
    }

    /// Gives a window the scale of where it is, and tells its application of both.
    pub(super) fn settle(&mut self, id: WindowId) {
        let (Some(area), Some(view)) = (self.area(id), self.views.get(&id)) else {
            return;
        };
        let was = view.scale;
        let scale = match &view.role {
            Role::Toplevel(_) => self.outputs.monitors.scale(area, was, view.sized),
            Role::Popup(_) | Role::InputMethod(_) | Role::X11(_) => self.first_scale(&view.role),
        };
        let (surface, sized) = (view.surface.clone(), view.sized);
        if !matches!(view.role, Role::X11(_)) {
            prefer_all(&surface, scale);
        }
        if scale != was {
            self.rescale(id, scale, sized);
        }
        if let Some(area) = self.area(id) {
            self.outputs.enter(&surface, area);
        }
        if scale != was {
            let children = self.children(&surface);
            for child in children {
                self.settle(child);
            }
        }
    }

    fn rescale(&mut self, id: WindowId, scale: Scale, sized: Sized) {
        let (Some(look), Some(view)) = (self.windows.look(id), self.views.get_mut(&id)) else {
            return;
        };
        tracing::debug!(window = id.0, scale = scale.pixels(), "its scale changes");
        let size = look.size;
        view.scale = scale;
        match (&view.role, sized) {
            (Role::Toplevel(toplevel), Sized::ByDaemon) => {
                let units = scale.units(super::views::logical(size));
                toplevel.with_pending_state(|state| state.size = Some(units));
                toplevel.send_configure();
            }
            (Role::Toplevel(_), Sized::ByApplication) => view.outgrown = Some((size, STALE_MAX)),
            _ => {}
        }
        self.changed(id);
    }
}

pub(super) fn area(place: Place, size: Size) -> Rectangle<i32, Logical> {
    Rectangle::new(point(place), super::views::logical(size))
}

impl OutputHandler for Agent {
    /// Windows of X are counted in pixels.
    fn output_bound(&mut self, _output: Output, bound: WlOutput) {
        let is_x = bound.client().is_some_and(|client| is_x(&client));
        if is_x && bound.version() >= wl_output::EVT_SCALE_SINCE {
            bound.scale(1);
            bound.done();
        }
    }
}

impl FractionalScaleHandler for Agent {
    fn new_fractional_scale(&mut self, surface: WlSurface) {
        let mut root = surface.clone();
        while let Some(parent) = smithay::wayland::compositor::get_parent(&root) {
            root = parent;
        }
        let view = self.window_of(&root).and_then(|id| self.views.get(&id));
        let first = self.outputs.monitors.first().scale;
        let scale = view.map_or(first, |view| view.scale);
        with_states(&surface, |states| {
            with_fractional_scale(states, |known| {
                // What was told of the surface before is truer.
                let known_scale = known.preferred_scale().unwrap_or(scale.pixels());
                known.set_preferred_scale(known_scale);
            });
        });
    }
}

/// How large outputs are in units is not told to the X server: what it is told it takes for pixels.
impl GlobalDispatch<ZxdgOutputManagerV1, ()> for Agent {
    fn bind(
        agent: &mut Self,
        display: &DisplayHandle,
        client: &Client,
        resource: New<ZxdgOutputManagerV1>,
        data: &(),
        init: &mut DataInit<'_, Self>,
    ) {
        <OutputManagerState as GlobalDispatch<ZxdgOutputManagerV1, (), Self>>::bind(
            agent, display, client, resource, data, init,
        );
    }

    fn can_view(client: Client, _data: &()) -> bool {
        !is_x(&client)
    }
}

smithay::delegate_fractional_scale!(Agent);
smithay::reexports::wayland_server::delegate_global_dispatch!(Agent: [WlOutput: WlOutputData] => OutputManagerState);
smithay::reexports::wayland_server::delegate_dispatch!(Agent: [WlOutput: OutputUserData] => OutputManagerState);
smithay::reexports::wayland_server::delegate_dispatch!(Agent: [ZxdgOutputV1: XdgOutputUserData] => OutputManagerState);
smithay::reexports::wayland_server::delegate_dispatch!(Agent: [ZxdgOutputManagerV1: ()] => OutputManagerState);
