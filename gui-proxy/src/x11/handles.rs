//! Frames as handles: there is none of the window manager's around ours, so that a person takes
//! hold of this one to move a window or to change its size, which the manager then does, and clicks
//! its buttons.

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    ButtonPressEvent, ConnectionExt as _, PropMode, Rectangle, Segment, Window,
};
use x11rb::wrapper::ConnectionExt as _;

use super::look::{FROM_APPLICATION, coordinate};
use super::{Done, X11};
use crate::display::{Event, Key, Look};
use crate::frame::{Button, Grip};

/// `MWM_HINTS_DECORATIONS` of Motif: what is said of decorations counts.
const OF_DECORATIONS: u32 = 2;

/// The button that takes hold.
const FIRST_BUTTON: u8 = 1;

/// A state is set where it is not, and taken back where it is, in `_NET_WM_STATE`.
const TOGGLE: u32 = 2;

/// Pixels of the drawing on a button, and from the upper left corner of the button to it.
const MARK: u16 = 8;
const MARK_AT: i32 = 3;

/// A button that is held down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    window: Key,
    button: Button,
}

/// What a grip is called by `_NET_WM_MOVERESIZE`.
fn direction(grip: Grip) -> u32 {
    match grip {
        Grip::TopLeft => 0,
        Grip::Top => 1,
        Grip::TopRight => 2,
        Grip::Right => 3,
        Grip::BottomRight => 4,
        Grip::Bottom => 5,
        Grip::BottomLeft => 6,
        Grip::Left => 7,
        Grip::Strip => 8,
    }
}

/// Whether somebody manages it: nobody does what places itself.
fn is_managed(look: &Look) -> bool {
    !look.override_redirect && !look.docked
}

impl X11 {
    /// Asks for no frame of the window manager's.
    pub(super) fn say_undecorated(&self, outer: Window) -> Done {
        let name = self.atoms._MOTIF_WM_HINTS;
        let hints = [OF_DECORATIONS, 0, 0, 0, 0];
        self.connection
            .change_property32(PropMode::REPLACE, outer, name, name, &hints)?;
        Ok(())
    }

    /// Does what a frame is for, if the button went down on one: has the window manager move the
    /// window or change its size, or takes note of which button is held. Says whether it was one.
    pub(super) fn take_hold(&mut self, event: &ButtonPressEvent) -> Done<bool> {
        let Some((key, look, outer)) = self.framed_by(event.event) else {
            return Ok(false);
        };
        if event.detail != FIRST_BUTTON || !is_managed(look) {
            return Ok(true);
        }
        let at = (event.event_x.into(), event.event_y.into());
        let area = self.outer(look);
        let button = self.frame.button_at(area, at);
        self.held = button.map(|button| Held {
            window: key,
            button,
        });
        if button.is_none() {
            // The press has given us the pointer, which the manager needs.
            self.connection.ungrab_pointer(event.time)?;
            let [x, y] = [event.root_x, event.root_y].map(|at| i32::from(at).cast_unsigned());
            let grip = direction(Grip::at(area, at));
            let data = [x, y, grip, u32::from(FIRST_BUTTON), FROM_APPLICATION];
            self.ask(outer, self.atoms._NET_WM_MOVERESIZE, data)?;
            self.connection.flush()?;
        }
        Ok(true)
    }

    /// Does what the held button says, if the pointer is still on it when it comes up. Says whether
    /// it came up on a frame.
    pub(super) fn let_go(&mut self, event: &ButtonPressEvent) -> Done<bool> {
        let Some((key, look, outer)) = self.framed_by(event.event) else {
            return Ok(false);
        };
        if event.detail != FIRST_BUTTON {
            return Ok(true);
        }
        let at = (event.event_x.into(), event.event_y.into());
        let on = self.frame.button_at(self.outer(look), at);
        let held = self.held.take();
        let clicked = held.filter(|held| held.window == key && Some(held.button) == on);
        match clicked.map(|held| held.button) {
            None => {}
            Some(Button::Close) => self.events.push_back(Event::Close(key)),
            Some(Button::Minimise) => self.minimise(key)?,
            Some(Button::Maximise) => {
                let atoms = self.atoms;
                let horizontally = atoms._NET_WM_STATE_MAXIMIZED_HORZ;
                let vertically = atoms._NET_WM_STATE_MAXIMIZED_VERT;
                let data = [TOGGLE, horizontally, vertically, FROM_APPLICATION, 0];
                self.ask(outer, atoms._NET_WM_STATE, data)?;
            }
        }
        self.connection.flush()?;
        Ok(true)
    }

    /// The window whose frame, and not whose content, this is.
    fn framed_by(&self, window: Window) -> Option<(Key, &Look, Window)> {
        let key = *self.keys.get(&window)?;
        let framed = self.windows.get(&key)?;
        (framed.outer == window).then_some((key, &framed.look, framed.outer))
    }

    /// Draws the buttons of a frame, in the colour of the name.
    pub(super) fn draw_buttons(&self, outer: Window) -> Done {
        let framed = self.framed_by(outer);
        let framed = framed.filter(|(_, look, _)| is_managed(look));
        let buttons = framed.and_then(|(_, look, _)| self.frame.buttons(self.outer(look)));
        let (connection, ink) = (&self.connection, self.write);
        for (button, area) in buttons.into_iter().flatten() {
            let (x, y) = (coordinate(area.x + MARK_AT), coordinate(area.y + MARK_AT));
            let (right, bottom) = (x + MARK.cast_signed(), y + MARK.cast_signed());
            let line = |x1, y1, x2, y2| Segment { x1, y1, x2, y2 };
            match button {
                Button::Minimise => {
                    let lines = [
                        line(x, bottom - 1, right, bottom - 1),
                        line(x, bottom, right, bottom),
                    ];
                    connection.poly_segment(outer, ink, &lines)?;
                }
                Button::Maximise => {
                    let (width, height) = (MARK, MARK);
                    let edge = Rectangle {
                        x,
                        y,
                        width,
                        height,
                    };
                    connection.poly_rectangle(outer, ink, &[edge])?;
                    connection.poly_segment(outer, ink, &[line(x, y + 1, right, y + 1)])?;
                }
                Button::Close => {
                    let lines = [
                        line(x, y, right, bottom),
                        line(x, bottom, right, y),
                        line(x + 1, y, right, bottom - 1),
                        line(x, bottom - 1, right - 1, y),
                    ];
                    connection.poly_segment(outer, ink, &lines)?;
                }
            }
        }
        Ok(())
    }
}
