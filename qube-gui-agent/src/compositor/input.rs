//! What the person does, as the daemon tells it, to the application it is for.

use bulkhead_wire::gui::{DaemonMessage, Input, KEYMAP_LEN, WindowId};
use smithay::backend::input::{Axis, AxisSource, ButtonState, KeyState, Keycode};
use smithay::desktop::WindowSurfaceType;
use smithay::desktop::utils::under_from_surface_tree;
use smithay::input::keyboard::{Layout, ModifiersState};
use smithay::input::pointer::{AxisFrame, ButtonEvent, ClickGrab, MotionEvent};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point, Rectangle, SERIAL_COUNTER};

use super::Agent;
use super::views::{Role, View, point};
use crate::model::Placing;
use crate::scale::Scale;

/// X's keys are numbered from 8 to 255.
const KEYS: std::ops::RangeInclusive<u32> = 8..=255;

/// Bits of X's modifiers.
const SHIFT: u32 = 1;
const LOCK: u32 = 1 << 1;
const CONTROL: u32 = 1 << 2;
const ALT: u32 = 1 << 3;
const NUM_LOCK: u32 = 1 << 4;
const SUPER: u32 = 1 << 6;
const ALT_GR: u32 = 1 << 7;

/// Where X has the layout that is active: from this bit on, and of these.
const LAYOUT: u32 = 13;
const LAYOUTS: u32 = 3;

/// Linux's numbers of buttons.
const BTN_LEFT: u32 = 0x110;
const BTN_RIGHT: u32 = 0x111;
const BTN_MIDDLE: u32 = 0x112;
const BTN_SIDE: u32 = 0x113;

/// The first of X's buttons that is behind those of the wheel.
const SIDE: u32 = 8;

/// Buttons behind the wheel that there are at most.
const SIDE_MAX: u32 = 8;

/// One step of a wheel, as Wayland has it: in 120ths, and in pixels.
const STEP: (i32, f64) = (120, 15.0);

/// What a button of X is to Linux.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Button {
    Key(u32),
    Wheel(Axis, i32),
}

fn button(number: u32) -> Option<Button> {
    Some(match number {
        1 => Button::Key(BTN_LEFT),
        2 => Button::Key(BTN_MIDDLE),
        3 => Button::Key(BTN_RIGHT),
        4 => Button::Wheel(Axis::Vertical, -1),
        5 => Button::Wheel(Axis::Vertical, 1),
        6 => Button::Wheel(Axis::Horizontal, -1),
        7 => Button::Wheel(Axis::Horizontal, 1),
        _ => {
            let side = number.checked_sub(SIDE).filter(|side| *side < SIDE_MAX)?;
            Button::Key(BTN_SIDE + side)
        }
    })
}

/// What of X's modifiers our own are.
fn mask(modifiers: ModifiersState) -> u32 {
    let bit = |on: bool, bit| if on { bit } else { 0 };
    bit(modifiers.shift, SHIFT)
        | bit(modifiers.caps_lock, LOCK)
        | bit(modifiers.ctrl, CONTROL)
        | bit(modifiers.alt, ALT)
        | bit(modifiers.num_lock, NUM_LOCK)
        | bit(modifiers.logo, SUPER)
        | bit(modifiers.iso_level3_shift, ALT_GR)
}

const MODIFIERS: u32 = SHIFT | LOCK | CONTROL | ALT | NUM_LOCK | SUPER | ALT_GR;

fn modifiers(mask: u32) -> ModifiersState {
    ModifiersState {
        shift: mask & SHIFT != 0,
        caps_lock: mask & LOCK != 0,
        ctrl: mask & CONTROL != 0,
        alt: mask & ALT != 0,
        num_lock: mask & NUM_LOCK != 0,
        logo: mask & SUPER != 0,
        iso_level3_shift: mask & ALT_GR != 0,
        ..ModifiersState::default()
    }
}

impl Agent {
    pub(super) fn input(&mut self, id: WindowId, message: &DaemonMessage) {
        match message {
            DaemonMessage::Key {
                down,
                input,
                keycode,
            } => self.key(*down, *input, *keycode),
            DaemonMessage::Button {
                down,
                input,
                button,
            } => self.button(id, *down, *input, *button),
            DaemonMessage::Motion { input, .. } => self.motion(id, *input),
            DaemonMessage::Crossing(crossing) if crossing.here => {
                self.pointed = Some(id);
                if self.pressed.is_some() {
                    self.raise_x(id);
                }
                self.motion(id, crossing.input);
            }
            DaemonMessage::Crossing(_) if self.pointed == Some(id) => self.leave(),
            DaemonMessage::Focus { here, .. } => self.focus(id, *here),
            DaemonMessage::Keymap(keys) => self.release_keys(keys),
            _ => {}
        }
    }

    fn key(&mut self, down: bool, input: Input, keycode: u32) {
        if !KEYS.contains(&keycode) {
            return;
        }
        let Some(keyboard) = self.seat.get_keyboard() else {
            return;
        };
        // `smithay` tells of the old layout with new modifiers, and forgets it then.
        self.hold_layout(input.state);
        self.hold_modifiers(input.state);
        self.hold_layout(input.state);
        let code = Keycode::new(keycode);
        let pressed = keyboard.pressed_keys().contains(&code);
        if down && pressed {
            // The daemon's display repeats it.
            self.send_key(code, KeyState::Released);
        }
        if down || pressed {
            let state = if down {
                KeyState::Pressed
            } else {
                KeyState::Released
            };
            self.send_key(code, state);
        }
    }

    fn send_key(&mut self, code: Keycode, state: KeyState) {
        let (serial, time) = (SERIAL_COUNTER.next_serial(), self.now());
        let Some(keyboard) = self.seat.get_keyboard() else {
            return;
        };
        let (heard, modified) = keyboard.input_intercept(self, code, state, |agent, _, key| {
            if agent.is_for_drag(key.modified_sym(), code, state) {
                return None;
            }
            Some(agent.composer_of(code, state))
        });
        let Some(composer) = heard else { return };
        match composer {
            Some(grab) => {
                // Linux numbers keys from 0.
                let key = code.raw().saturating_sub(*KEYS.start());
                grab.key(serial.into(), time, key, state.into());
                if modified {
                    self.tell_modifiers();
                }
            }
            None => {
                keyboard.input_forward(self, code, state, serial, time, modified);
                if modified {
                    self.tell_composer_modifiers();
                }
            }
        }
    }

    /// What was held or locked in another window is so in ours too.
    fn hold_modifiers(&mut self, state: u32) {
        let Some(keyboard) = self.seat.get_keyboard() else {
            return;
        };
        let wanted = state & MODIFIERS;
        if mask(keyboard.modifier_state()) & MODIFIERS != wanted {
            keyboard.set_modifier_state(modifiers(wanted));
            self.tell_modifiers();
        }
    }

    /// The keyboard has the layout of the daemon's that has the same place in its list.
    fn hold_layout(&mut self, state: u32) {
        let Some(keyboard) = self.seat.get_keyboard() else {
            return;
        };
        let wanted = Layout(state >> LAYOUT & LAYOUTS);
        let changed = keyboard.with_xkb_state(self, |mut context| {
            let (active, is_there) = context.xkb().lock().map_or((wanted, false), |xkb| {
                let mut layouts = xkb.layouts();
                (xkb.active_layout(), layouts.any(|layout| layout == wanted))
            });
            let changes = active != wanted && is_there;
            if changes {
                context.set_layout(wanted);
            }
            changes
        });
        if changed {
            self.tell_composer_modifiers();
        }
    }

    /// Keys that are not pressed any more were released where we did not hear it.
    fn release_keys(&mut self, still: &[u8; KEYMAP_LEN]) {
        let Some(keyboard) = self.seat.get_keyboard() else {
            return;
        };
        for code in keyboard.pressed_keys() {
            let raw = code.raw();
            let byte = still.get(raw as usize / 8).copied().unwrap_or_default();
            if byte & (1 << (raw % 8)) == 0 {
                self.send_key(code, KeyState::Released);
            }
        }
    }

    /// The daemon is gone, and with it whoever held a key or pointed somewhere.
    pub(super) fn release_input(&mut self) {
        self.release_keys(&[0; KEYMAP_LEN]);
        if let Some(focused) = self.focused {
            self.focus(focused, false);
        }
        // First: what was dragged is dropped nowhere.
        self.leave();
        for button in std::mem::take(&mut self.buttons) {
            self.send_button(button, ButtonState::Released);
        }
        self.pressed = None;
    }

    fn motion(&mut self, id: WindowId, input: Input) {
        if self.pressed.is_none() {
            self.pointed = Some(id);
        }
        let Some(pointer) = self.seat.get_pointer() else {
            return;
        };
        let Some(location) = self.location(id, input) else {
            return;
        };
        let over = self.over(location);
        let under = over.and_then(|over| self.under(over, location));
        self.drag_to(over, under.clone(), location);
        // One that holds the pointer counts from where it was when it began to.
        let holds = pointer.with_grab(|_, grab| grab.is::<ClickGrab<Self>>());
        let heard = self.pressed.filter(|_| holds == Some(true)).or(over);
        let event = MotionEvent {
            location: self.in_units(heard, location),
            serial: SERIAL_COUNTER.next_serial(),
            time: self.now(),
        };
        pointer.motion(self, under, &event);
        pointer.frame(self);
    }

    fn leave(&mut self) {
        let Some(pointer) = self.seat.get_pointer() else {
            return;
        };
        self.drag_leaves();
        let event = MotionEvent {
            location: pointer.current_location(),
            serial: SERIAL_COUNTER.next_serial(),
            time: self.now(),
        };
        pointer.motion(self, None, &event);
        pointer.frame(self);
        self.pointed = None;
    }

    /// Where on the screen a point of a window is.
    fn location(&self, id: WindowId, input: Input) -> Option<Point<i32, Logical>> {
        let look = self.windows.look(id)?;
        Some(point(look.place) + Point::from((input.x, input.y)))
    }

    /// The window that the pointer is over, at this point of the screen. While a button is held, the
    /// window where it went down hears of the pointer wherever that is.
    pub(super) fn over(&self, location: Point<i32, Logical>) -> Option<WindowId> {
        if self.pointed.is_some() || self.pressed.is_none() || self.link.tells_all_crossings() {
            return self.pointed;
        }
        // Another one of ours could be there, and the daemon does not say so.
        self.topmost(location, |id| Some(id) != self.pressed)
    }

    /// The one of these windows that is there, above others of them.
    pub(super) fn topmost(
        &self,
        location: Point<i32, Logical>,
        which: impl Fn(WindowId) -> bool,
    ) -> Option<WindowId> {
        let there = self
            .views
            .iter()
            .filter(|(id, view)| which(**id) && self.takes_input(view, **id, location));
        let topmost = there.max_by_key(|(id, view)| {
            let placing = self.windows.look(**id).map(|look| look.placing);
            (placing == Some(Placing::Itself), view.raised)
        });
        topmost.map(|(id, _)| *id)
    }

    fn takes_input(&self, view: &View, id: WindowId, location: Point<i32, Logical>) -> bool {
        let Some(look) = self.windows.look(id) else {
            return false;
        };
        let size = (
            look.size.width().cast_signed(),
            look.size.height().cast_signed(),
        );
        let area = Rectangle::new(point(look.place), size.into());
        let is_shown = !look.flags.minimised && area.contains(location);
        is_shown && !matches!(view.role, Role::InputMethod(_)) && self.under(id, location).is_some()
    }

    /// A point of the screen in units of a window: so far from the origin as if all of the screen had
    /// its scale.
    pub(super) fn in_units(
        &self,
        id: Option<WindowId>,
        at: Point<i32, Logical>,
    ) -> Point<f64, Logical> {
        let view = id.and_then(|id| self.views.get(&id));
        let scale = view.map_or(Scale::ONE, |view| view.scale);
        at.to_f64().downscale(scale.pixels())
    }

    /// The surface of a window at a point of the screen, with its own place there in its units.
    pub(super) fn under(
        &self,
        id: WindowId,
        location: Point<i32, Logical>,
    ) -> Option<(WlSurface, Point<f64, Logical>)> {
        let (view, look) = (self.views.get(&id)?, self.windows.look(id)?);
        let corner = self.in_units(Some(id), point(look.place));
        let origin = corner - view.units().loc.to_f64();
        let within = self.in_units(Some(id), location) - origin;
        let under = under_from_surface_tree(&view.surface, within, (0, 0), WindowSurfaceType::ALL);
        under.map(|(surface, at)| (surface, origin + at.to_f64()))
    }

    fn button(&mut self, id: WindowId, down: bool, input: Input, number: u32) {
        self.motion(id, input);
        self.hold_modifiers(input.state);
        match button(number) {
            Some(Button::Key(key)) => {
                if down {
                    self.pressed_in(id);
                    self.pressed.get_or_insert(id);
                }
                let state = if down {
                    ButtonState::Pressed
                } else {
                    ButtonState::Released
                };
                self.send_button(key, state);
                if self.buttons.is_empty() {
                    self.pressed = None;
                }
            }
            Some(Button::Wheel(axis, steps)) if down => self.scroll(axis, steps),
            Some(Button::Wheel(..)) | None => {}
        }
    }

    fn send_button(&mut self, button: u32, state: ButtonState) {
        match state {
            ButtonState::Pressed => self.buttons.insert(button),
            ButtonState::Released => self.buttons.remove(&button),
        };
        if self.buttons.is_empty() {
            self.drop_dragged();
        }
        let Some(pointer) = self.seat.get_pointer() else {
            return;
        };
        let event = ButtonEvent {
            serial: SERIAL_COUNTER.next_serial(),
            time: self.now(),
            button,
            state,
        };
        pointer.button(self, &event);
        pointer.frame(self);
    }

    fn scroll(&mut self, axis: Axis, steps: i32) {
        let Some(pointer) = self.seat.get_pointer() else {
            return;
        };
        let (units, pixels) = STEP;
        let frame = AxisFrame::new(self.now())
            .source(AxisSource::Wheel)
            .value(axis, pixels * f64::from(steps))
            .v120(axis, units * steps);
        pointer.axis(self, frame);
        pointer.frame(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buttons_of_x_are_keys_and_steps_of_the_wheel() {
        let all: Vec<_> = (0..=17).map(button).collect();
        assert_eq!(all.first(), Some(&None));
        assert_eq!(
            all.get(1..4),
            Some(&[0x110, 0x112, 0x111].map(|key| Some(Button::Key(key)))[..])
        );
        assert_eq!(button(5), Some(Button::Wheel(Axis::Vertical, 1)));
        assert_eq!(button(6), Some(Button::Wheel(Axis::Horizontal, -1)));
        assert_eq!(button(8), Some(Button::Key(0x113)));
        assert_eq!(button(SIDE + SIDE_MAX - 1), Some(Button::Key(0x11a)));
        assert_eq!(button(SIDE + SIDE_MAX), None);
        assert_eq!(button(u32::MAX), None);
    }

    #[test]
    fn modifiers_of_x_are_ours() {
        for bit in (0..8).map(|bit| 1 << bit) {
            assert_eq!(mask(modifiers(bit)), bit & MODIFIERS);
        }
        assert_eq!(mask(modifiers(MODIFIERS)), MODIFIERS);
    }
}
