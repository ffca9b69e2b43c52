//! Frames as handles: there is none of the window manager's around ours, so that a person takes
//! hold of this one to move a window or to change its size, which the manager then does.

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ButtonPressEvent, ConnectionExt as _, PropMode, Window};
use x11rb::wrapper::ConnectionExt as _;

use super::look::FROM_APPLICATION;
use super::{Done, X11};
use crate::frame::Grip;

/// `MWM_HINTS_DECORATIONS` of Motif: what is said of decorations counts.
const OF_DECORATIONS: u32 = 2;

/// The button that takes hold.
const FIRST_BUTTON: u8 = 1;

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

impl X11 {
    /// Asks for no frame of the window manager's.
    pub(super) fn say_undecorated(&self, outer: Window) -> Done {
        let name = self.atoms._MOTIF_WM_HINTS;
        let hints = [OF_DECORATIONS, 0, 0, 0, 0];
        self.connection
            .change_property32(PropMode::REPLACE, outer, name, name, &hints)?;
        Ok(())
    }

    /// Has the window manager move a window or change its size, if the button went down on its
    /// frame; says whether it did.
    pub(super) fn take_hold(&self, event: &ButtonPressEvent) -> Done<bool> {
        let key = self.keys.get(&event.event);
        let framed = key.and_then(|key| self.windows.get(key));
        let Some(framed) = framed.filter(|framed| framed.outer == event.event) else {
            return Ok(false);
        };
        if event.detail == FIRST_BUTTON && !framed.look.override_redirect {
            let area = self.frame.outer(framed.look.place, framed.look.size);
            let grip = Grip::at(area, (event.event_x.into(), event.event_y.into()));
            // The press has given us the pointer, which the manager needs.
            self.connection.ungrab_pointer(event.time)?;
            let [x, y] = [event.root_x, event.root_y].map(|at| i32::from(at).cast_unsigned());
            let button = u32::from(FIRST_BUTTON);
            let data = [x, y, direction(grip), button, FROM_APPLICATION];
            self.ask(framed.outer, self.atoms._NET_WM_MOVERESIZE, data)?;
            self.connection.flush()?;
        }
        Ok(true)
    }
}
