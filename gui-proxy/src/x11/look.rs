//! Makes windows, and has them look as they are to.

use std::time::{Duration, Instant};

use bulkhead_wire::gui::Hints;
use bulkhead_wire::gui::geometry::{Place, Size};
use x11rb::connection::Connection;
use x11rb::properties::{WmHints, WmSizeHints, WmSizeHintsSpecification};
use x11rb::protocol::xproto::{
    AtomEnum, ChangeWindowAttributesAux, ClientMessageEvent, ConfigureWindowAux,
    ConnectionExt as _, CreateWindowAux, EventMask, Gravity, PropMode, Timestamp, Window,
    WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

use super::{DEPTH, Done, Framed, X11, drawn};
use crate::display::{Key, Look};
use crate::frame::{Area, BORDER, Frame, ICON_BORDER, NAME_GAP, STRIP};
use crate::icon;

/// Behind what a qube has not drawn yet.
const BACKGROUND: u32 = 0xff_ffff;

/// The line on which letters of a name stand, from the top of the strip.
const BASELINE: i16 = 13;

/// How long after the person used a qube its windows may have the keyboard at once.
const USED_TIME: Duration = Duration::from_secs(10);

/// How long the person waits for what was begun in a qube to open a window.
const AWAITED_TIME: Duration = Duration::from_secs(60);

/// The time of use of a window that is not to have the keyboard.
const NEVER: Timestamp = 0;

/// Longer than any frame.
const LONG: u16 = 0x7fff;

/// What a window manager is told of who asks.
pub(super) const FROM_APPLICATION: u32 = 1;

/// `IconicState` of ICCCM.
const ICONIC: u32 = 3;

impl X11 {
    pub(super) fn show(&mut self, key: Key, look: Box<Look>) -> Done {
        let events = EventMask::KEY_PRESS
            | EventMask::KEY_RELEASE
            | EventMask::BUTTON_PRESS
            | EventMask::BUTTON_RELEASE
            | EventMask::FOCUS_CHANGE
            | EventMask::STRUCTURE_NOTIFY
            | EventMask::EXPOSURE;
        let (outer, content) = self.make(key, &look, events)?;
        self.say_origin(outer, &look)?;
        self.say_icon(outer, &look)?;
        self.say_undecorated(outer)?;
        self.say_first_use(outer, &look)?;
        self.say_title(outer, &look.title)?;
        self.say_hints(outer, &look)?;
        self.say_owner(outer, &look)?;
        self.say_first_state(outer, &look)?;
        // What was said so far is a wish and no news.
        let events = events | EventMask::PROPERTY_CHANGE;
        let attributes = ChangeWindowAttributesAux::new().event_mask(events);
        self.connection
            .change_window_attributes(outer, &attributes)?;
        let is_menu = look.override_redirect && self.put_above_own(outer, look.owner)?;
        let mapped = self.connection.map_window(outer)?;
        let framed = Framed {
            outer,
            content,
            parent: self.root,
            placed: mapped.sequence_number(),
            menu_since: is_menu.then(Instant::now),
            look,
        };
        self.windows.insert(key, framed);
        Ok(())
    }

    /// Makes both windows; the outer one is not seen yet.
    pub(super) fn make(
        &mut self,
        key: Key,
        look: &Look,
        events: EventMask,
    ) -> Done<(Window, Window)> {
        let outer = self.connection.generate_id()?;
        let content = self.connection.generate_id()?;
        let area = self.outer(look);
        let attributes = CreateWindowAux::new()
            .background_pixel(self.qube.color)
            .border_pixel(self.qube.color)
            .override_redirect(u32::from(look.override_redirect))
            .event_mask(events);
        self.connection.create_window(
            DEPTH,
            outer,
            self.root,
            coordinate(area.x),
            coordinate(area.y),
            length(area.width),
            length(area.height),
            0,
            WindowClass::INPUT_OUTPUT,
            self.visual,
            &attributes,
        )?;
        // While a button is held, each window of this qube hears of the pointer that is over it: the
        // server alone knows what is covered by windows of others.
        let pointer = EventMask::BUTTON_PRESS
            | EventMask::BUTTON_RELEASE
            | EventMask::OWNER_GRAB_BUTTON
            | EventMask::POINTER_MOTION
            | EventMask::ENTER_WINDOW
            | EventMask::LEAVE_WINDOW;
        let attributes = CreateWindowAux::new()
            .background_pixel(BACKGROUND)
            .bit_gravity(Gravity::NORTH_WEST)
            .event_mask(pointer | EventMask::EXPOSURE);
        let cursor = self.cursor(look.cursor)?;
        let attributes = attributes.cursor(cursor);
        let (width, height) = drawn(look.size);
        let (left, top) = corner(look);
        self.connection.create_window(
            DEPTH,
            content,
            outer,
            coordinate(left),
            coordinate(top),
            length(width),
            length(height),
            0,
            WindowClass::INPUT_OUTPUT,
            self.visual,
            &attributes,
        )?;
        self.keys.insert(outer, key);
        self.keys.insert(content, key);
        self.connection.map_window(content)?;
        if !look.docked {
            self.make_edges(outer, area)?;
        }
        Ok((outer, content))
    }

    /// Makes the right and the lower edge of a frame, above the content: however large that is for a
    /// moment, or others make the frame, the server has them where its edges are.
    fn make_edges(&self, outer: Window, area: Area) -> Done {
        let (width, height) = (length(area.width), length(area.height));
        let border = length(BORDER);
        let right = (
            width.saturating_sub(border),
            0,
            border,
            LONG,
            Gravity::NORTH_EAST,
        );
        let below = (
            0,
            height.saturating_sub(border),
            LONG,
            border,
            Gravity::SOUTH_WEST,
        );
        for (x, y, width, height, gravity) in [right, below] {
            let edge = self.connection.generate_id()?;
            let attributes = CreateWindowAux::new()
                .background_pixel(self.qube.color)
                .win_gravity(gravity);
            self.connection.create_window(
                DEPTH,
                edge,
                outer,
                coordinate(x.into()),
                coordinate(y.into()),
                width,
                height,
                0,
                WindowClass::INPUT_OUTPUT,
                self.visual,
                &attributes,
            )?;
            self.connection.map_window(edge)?;
        }
        Ok(())
    }

    /// Frame and content of a window.
    pub(super) fn outer(&self, look: &Look) -> Area {
        if look.docked {
            Frame::outer_of_icon(look.place, look.size)
        } else {
            self.frame.outer(look.place, look.size)
        }
    }

    pub(super) fn hide(&mut self, key: Key) -> Done {
        if let Some(framed) = self.windows.remove(&key) {
            self.keys.remove(&framed.outer);
            self.keys.remove(&framed.content);
            self.connection.destroy_window(framed.outer)?;
        }
        Ok(())
    }

    pub(super) fn alter(&mut self, key: Key, was: &Look, look: Box<Look>) -> Done {
        let Some(framed) = self.windows.get_mut(&key) else {
            return Ok(());
        };
        let (outer, content) = (framed.outer, framed.content);
        let had = (framed.look.place, framed.look.size);
        framed.look = look.clone();
        let over_changed = was.override_redirect != look.override_redirect;
        if over_changed {
            // A window manager looks at it only when a window is mapped.
            let over = u32::from(look.override_redirect);
            let attributes = ChangeWindowAttributesAux::new().override_redirect(over);
            self.connection.unmap_window(outer)?;
            self.connection
                .change_window_attributes(outer, &attributes)?;
        }
        if was.title != look.title {
            self.say_title(outer, &look.title)?;
        }
        if was.icon != look.icon {
            self.say_icon(outer, &look)?;
        }
        if (was.hints, was.size) != (look.hints, look.size) {
            self.say_hints(outer, &look)?;
        }
        if was.owner != look.owner {
            self.say_owner(outer, &look)?;
        }
        if was.cursor != look.cursor {
            let cursor = self.cursor(look.cursor)?;
            let attributes = ChangeWindowAttributesAux::new().cursor(cursor);
            self.connection
                .change_window_attributes(content, &attributes)?;
        }
        if was.maximised != look.maximised {
            let both = [
                self.atoms._NET_WM_STATE_MAXIMIZED_HORZ,
                self.atoms._NET_WM_STATE_MAXIMIZED_VERT,
            ];
            self.ask_state(outer, look.maximised, both)?;
        }
        if was.attention != look.attention {
            let one = [self.atoms._NET_WM_STATE_DEMANDS_ATTENTION, x11rb::NONE];
            self.ask_state(outer, look.attention, one)?;
        }
        if had != (look.place, look.size) {
            self.resize_content(content, look.size)?;
            let area = self.frame.outer(look.place, look.size);
            let place = ConfigureWindowAux::new()
                .x(area.x)
                .y(area.y)
                .width(area.width)
                .height(area.height);
            let placed = self.connection.configure_window(outer, &place)?;
            let placed = placed.sequence_number();
            if let Some(framed) = self.windows.get_mut(&key) {
                framed.placed = placed;
            }
        }
        if over_changed {
            self.connection.map_window(outer)?;
        }
        Ok(())
    }

    pub(super) fn resize_content(&self, content: Window, size: Size) -> Done {
        let (width, height) = drawn(size);
        let size = ConfigureWindowAux::new().width(width).height(height);
        self.connection.configure_window(content, &size)?;
        Ok(())
    }

    pub(super) fn minimise(&mut self, key: Key) -> Done {
        if let Some(framed) = self.windows.get(&key) {
            let kind = self.atoms.WM_CHANGE_STATE;
            self.ask(framed.outer, kind, [ICONIC, 0, 0, 0, 0])?;
        }
        Ok(())
    }

    /// Asks the window manager, if there is one.
    pub(super) fn ask(&self, window: Window, kind: u32, data: [u32; 5]) -> Done {
        let message = ClientMessageEvent::new(32, window, kind, data);
        let to = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        self.connection.send_event(false, self.root, to, message)?;
        Ok(())
    }

    fn ask_state(&self, window: Window, on: bool, [one, two]: [u32; 2]) -> Done {
        let kind = self.atoms._NET_WM_STATE;
        self.ask(window, kind, [u32::from(on), one, two, FROM_APPLICATION, 0])
    }

    /// Before it is mapped, a window says by itself what state it wants.
    fn say_first_state(&self, outer: Window, look: &Look) -> Done {
        let mut states = Vec::new();
        if look.maximised {
            states.push(self.atoms._NET_WM_STATE_MAXIMIZED_HORZ);
            states.push(self.atoms._NET_WM_STATE_MAXIMIZED_VERT);
        }
        if look.attention {
            states.push(self.atoms._NET_WM_STATE_DEMANDS_ATTENTION);
        }
        let (name, kind) = (self.atoms._NET_WM_STATE, AtomEnum::ATOM);
        self.connection
            .change_property32(PropMode::REPLACE, outer, name, kind, &states)?;
        Ok(())
    }

    /// Whose window it is, for window managers and task bars.
    pub(super) fn say_origin(&self, outer: Window, look: &Look) -> Done {
        let (qube, atoms) = (&self.qube, self.atoms);
        let name = qube.name.as_bytes();
        let replace = PropMode::REPLACE;
        let connection = &self.connection;
        connection.change_property8(replace, outer, atoms._QUBES_VMNAME, AtomEnum::STRING, name)?;
        for (property, number) in [
            (atoms._QUBES_LABEL, qube.label),
            (atoms._QUBES_LABEL_COLOR, qube.color),
            (atoms._QUBES_VMWINDOWID, look.id),
        ] {
            let kind = AtomEnum::CARDINAL;
            connection.change_property32(replace, outer, property, kind, &[number])?;
        }
        let (class, instance) = (&look.class.0, &look.class.1);
        let class = format!("{0}:{instance}\0{0}:{class}\0", qube.name);
        let kind = AtomEnum::STRING;
        connection.change_property8(replace, outer, AtomEnum::WM_CLASS, kind, class.as_bytes())?;
        let protocols = [atoms.WM_DELETE_WINDOW];
        let (property, kind) = (atoms.WM_PROTOCOLS, AtomEnum::ATOM);
        connection.change_property32(replace, outer, property, kind, &protocols)?;
        Ok(())
    }

    /// What task bars show of it.
    fn say_icon(&self, outer: Window, look: &Look) -> Done {
        let color = self.qube.color;
        let icon = match &look.icon {
            Some(icon) => icon.picture(color),
            None => icon::of_label(color),
        };
        let (name, kind) = (self.atoms._NET_WM_ICON, AtomEnum::CARDINAL);
        self.connection
            .change_property32(PropMode::REPLACE, outer, name, kind, &icon)?;
        Ok(())
    }

    /// Says of a new window when the person used this qube last, by which a window manager tells
    /// whether the person waits for it or it would take the keyboard from another. Of one that the
    /// person waits for nothing is said, and the manager does as with others; any other is not to
    /// have the keyboard.
    fn say_first_use(&mut self, outer: Window, look: &Look) -> Done {
        let is_awaited = |at: &mut Instant| at.elapsed() < AWAITED_TIME;
        if !look.override_redirect && self.awaited.take_if(is_awaited).is_some() {
            return Ok(());
        }
        let used = self.used.filter(|(_, at)| at.elapsed() < USED_TIME);
        self.say_used(outer, used.map_or(NEVER, |(used, _)| used))
    }

    /// When the person used a window last.
    pub(super) fn say_used(&self, outer: Window, used: Timestamp) -> Done {
        let (name, kind) = (self.atoms._NET_WM_USER_TIME, AtomEnum::CARDINAL);
        self.connection
            .change_property32(PropMode::REPLACE, outer, name, kind, &[used])?;
        Ok(())
    }

    pub(super) fn say_title(&self, outer: Window, title: &str) -> Done {
        let title = titled(&self.qube.name, title);
        let ascii: String = title
            .chars()
            .map(|c| if c.is_ascii() { c } else { '_' })
            .collect();
        let replace = PropMode::REPLACE;
        let (name, kind) = (self.atoms._NET_WM_NAME, self.atoms.UTF8_STRING);
        self.connection
            .change_property8(replace, outer, name, kind, title.as_bytes())?;
        let (name, kind) = (AtomEnum::WM_NAME, AtomEnum::STRING);
        self.connection
            .change_property8(replace, outer, name, kind, ascii.as_bytes())?;
        Ok(())
    }

    fn say_hints(&self, outer: Window, look: &Look) -> Done {
        let area = self.frame.outer(look.place, look.size);
        let hints = size_hints(look.hints, (area.x, area.y), self.frame);
        hints.set_normal_hints(&self.connection, outer)?;
        let hints = WmHints {
            input: Some(true),
            ..WmHints::new()
        };
        hints.set(&self.connection, outer)?;
        Ok(())
    }

    fn say_owner(&self, outer: Window, look: &Look) -> Done {
        let owner = look.owner.and_then(|owner| self.windows.get(&owner));
        let name = AtomEnum::WM_TRANSIENT_FOR;
        match owner {
            Some(owner) => {
                let (replace, kind) = (PropMode::REPLACE, AtomEnum::WINDOW);
                self.connection
                    .change_property32(replace, outer, name, kind, &[owner.outer])?;
            }
            None => {
                self.connection.delete_property(outer, name.into())?;
            }
        }
        Ok(())
    }

    /// Writes the qube's name into a frame.
    pub(super) fn write_name(&self, outer: Window) -> Done {
        let name = self.qube.name.as_bytes();
        let x = coordinate((BORDER.max(NAME_GAP)).cast_signed());
        self.connection
            .image_text8(outer, self.write, x, BASELINE, name)?;
        Ok(())
    }
}

/// Where content begins within its frame.
pub(super) fn corner(look: &Look) -> (i32, i32) {
    if look.docked {
        (ICON_BORDER.cast_signed(), ICON_BORDER.cast_signed())
    } else {
        (BORDER.cast_signed(), STRIP.cast_signed())
    }
}

/// As in a list of windows.
fn titled(qube: &str, title: &str) -> String {
    if title.is_empty() {
        format!("[{qube}]")
    } else {
        format!("[{qube}] {title}")
    }
}

/// What a qube wants of the content, for the frame.
fn size_hints(hints: Hints, (x, y): (i32, i32), name: Frame) -> WmSizeHints {
    let pair = |size: Size| (size.width().cast_signed(), size.height().cast_signed());
    let frame = ((2 * BORDER).cast_signed(), (STRIP + BORDER).cast_signed());
    let framed = |size: Size| {
        let outer = name.outer(Place::default(), size);
        (outer.width.cast_signed(), outer.height.cast_signed())
    };
    let placed = if hints.person_placed {
        WmSizeHintsSpecification::UserSpecified
    } else {
        WmSizeHintsSpecification::ProgramSpecified
    };
    let is_placed = hints.person_placed || hints.program_placed;
    WmSizeHints {
        position: is_placed.then_some((placed, x, y)),
        size: None,
        min_size: Some(framed(hints.min.unwrap_or_default())),
        max_size: hints.max.map(framed),
        size_increment: hints.increment.filter(|size| !size.is_empty()).map(pair),
        aspect: None,
        base_size: hints.base.map(|size| {
            let (width, height) = pair(size);
            (width + frame.0, height + frame.1)
        }),
        win_gravity: Some(Gravity::STATIC),
    }
}

pub(super) fn coordinate(at: i32) -> i16 {
    i16::try_from(at).unwrap_or(if at < 0 { i16::MIN } else { i16::MAX })
}

fn length(length: u32) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_title_begins_with_the_qube() {
        assert_eq!(titled("work", ""), "[work]");
        assert_eq!(titled("work", "[vault] keys"), "[work] [vault] keys");
    }

    #[test]
    fn what_is_wanted_of_the_content_is_asked_for_the_frame() {
        let hints = Hints {
            min: Some(Size::near(100, 50)),
            max: Some(Size::near(200, 60)),
            increment: Some(Size::near(7, 0)),
            base: Some(Size::near(0, 0)),
            ..Hints::default()
        };
        let asked = size_hints(hints, (5, 6), Frame::for_name(20));
        assert!(asked.position.is_none() && asked.size_increment.is_none());
        assert_eq!(asked.min_size, Some((108, 72)));
        assert_eq!(asked.max_size, Some((208, 82)));
        assert_eq!(asked.base_size, Some((8, 22)));
    }

    #[test]
    fn no_frame_is_to_be_narrower_than_the_name_whatever_the_qube_wants() {
        let narrow = Hints {
            max: Some(Size::near(60, 10)),
            ..Hints::default()
        };
        let asked = size_hints(narrow, (5, 6), Frame::for_name(108));
        assert_eq!(asked.min_size, Some((116, 23)));
        assert_eq!(asked.max_size, Some((116, 32)));
    }
}
