//! What the server tells, in the display's terms.

use std::time::Instant;

use bulkhead_wire::gui::geometry::{Part, Size};
use bulkhead_wire::gui::{Flags, Input};
use x11rb::connection::SequenceNumber;
use x11rb::errors::ReplyError;
use x11rb::protocol::Event as Heard;
use x11rb::protocol::xproto::{
    AtomEnum, ButtonPressEvent, ClientMessageEvent, ConfigureNotifyEvent, ConnectionExt as _,
    EnterNotifyEvent, ExposeEvent, FocusInEvent, KeyPressEvent, Mapping, NotifyDetail, NotifyMode,
    Timestamp, Window,
};

use super::look::corner;
use super::{Done, X11};
use crate::display::{Event, Key};
use crate::frame::{Area, BORDER, Frame, STRIP};
use crate::keys::Keys;

/// The bit of events that a client has sent, and not the server.
const SENT: u8 = 0x80;

/// Buttons of which a state tells whether they are down.
const HELD: std::ops::RangeInclusive<u8> = 1..=5;

/// The bits of a state that are buttons.
const BUTTONS: u16 = 0x1f00;

impl X11 {
    /// Takes what the server told after it had got to a request of ours.
    pub(super) fn heard(&mut self, heard: Heard, after: SequenceNumber) -> Done {
        match heard {
            Heard::KeyPress(event) => {
                self.used(event.event, event.time)?;
                self.key_event(&event, true);
            }
            Heard::KeyRelease(event) => self.key_event(&event, false),
            Heard::ButtonPress(event) => {
                self.used(event.event, event.time)?;
                self.let_go_elsewhere(event.event, event.state.into());
                let dragged = !self.pressed.is_empty() && u16::from(event.state) & BUTTONS != 0;
                if dragged || !self.take_hold(&event)? {
                    self.pressed.insert(event.detail);
                    self.button(&event, true);
                } else {
                    self.pressed.remove(&event.detail);
                }
            }
            Heard::ButtonRelease(event) => {
                // What went down in a window of the qube may come up on a frame.
                let of_qube = self.pressed.remove(&event.detail) || !self.let_go(&event)?;
                if of_qube {
                    self.button(&event, false);
                }
            }
            Heard::MotionNotify(event) => {
                let at = (event.event_x, event.event_y, event.state.into());
                self.let_go_elsewhere(event.event, at.2);
                self.about(event.event, |window| Event::Motion {
                    window,
                    input: input(at),
                });
            }
            Heard::EnterNotify(event) => self.crossing(&event, true)?,
            Heard::LeaveNotify(event) => self.crossing(&event, false)?,
            Heard::FocusIn(event) => self.focus_in(&event)?,
            Heard::FocusOut(event) => self.focus_out(&event),
            Heard::RandrScreenChangeNotify(_) | Heard::RandrNotify(_) => self.other_monitors(),
            // A monitor that is part of another is told of by this alone.
            Heard::ConfigureNotify(event) if event.window == self.root => self.other_monitors(),
            Heard::ConfigureNotify(event) => self.configured(&event, after)?,
            Heard::ReparentNotify(event) => self.reparented(event.window, event.parent)?,
            Heard::DestroyNotify(event) => self.destroyed(event.window)?,
            Heard::Expose(event) => self.exposed(&event)?,
            Heard::PropertyNotify(event) => {
                if event.window == self.root && event.atom == self.atoms._NET_WORKAREA {
                    self.look_at_work()?;
                } else if event.window == self.root && event.atom == self.atoms._NET_ACTIVE_WINDOW {
                    self.lower_menus()?;
                } else if event.atom == self.atoms._NET_WM_STATE {
                    self.look_at_state(event.window)?;
                }
            }
            Heard::ClientMessage(event) if event.format == 32 => self.message(&event)?,
            Heard::MappingNotify(event) if event.request == Mapping::KEYBOARD => {
                self.events.push_back(Event::Keyboard);
            }
            Heard::ShmCompletion(event) => {
                self.buffers.release(event.shmseg);
                self.events.push_back(Event::Room);
            }
            Heard::Error(error) => {
                self.buffers.refused(after);
                let request = error.request_name.unwrap_or("a request");
                let text = format!("the display refused {request}: {:?}", error.error_kind);
                self.log.of_agent(&text);
                self.events.push_back(Event::Room);
            }
            _ => {}
        }
        Ok(())
    }

    /// Several events tell of one change.
    fn other_monitors(&mut self) {
        if self.events.back() != Some(&Event::Monitors) {
            self.events.push_back(Event::Monitors);
        }
    }

    fn message(&mut self, event: &ClientMessageEvent) -> Done {
        let [first, second, ..] = event.data.as_data32();
        if event.type_ == self.atoms.WM_PROTOCOLS && first == self.atoms.WM_DELETE_WINDOW {
            self.about(event.window, Event::Close);
        } else if event.type_ == self.atoms.MANAGER && event.window == self.root {
            self.managed(second)?;
        }
        Ok(())
    }

    fn about(&mut self, window: Window, event: impl FnOnce(Key) -> Event) {
        if let Some(key) = self.keys.get(&window) {
            self.events.push_back(event(*key));
        }
    }

    fn used(&mut self, window: Window, time: Timestamp) -> Done {
        self.used = Some((time, Instant::now()));
        let key = self.keys.get(&window);
        match key.and_then(|key| self.windows.get(key)) {
            Some(framed) if framed.look.docked => {
                self.tray.click();
                Ok(())
            }
            Some(framed) => self.say_used(framed.outer, time),
            None => Ok(()),
        }
    }

    /// Keys come to the frame, and are told from the content's corner.
    fn key_event(&mut self, event: &KeyPressEvent, down: bool) {
        let at = (event.event_x, event.event_y, event.state.into());
        let mut input = input(at);
        input.x -= BORDER.cast_signed();
        input.y -= STRIP.cast_signed();
        let code = event.detail;
        self.about(event.event, |window| Event::Key {
            window,
            down,
            input,
            code,
            time: event.time,
        });
    }

    /// A button of the qube's, told from the content's corner.
    fn button(&mut self, event: &ButtonPressEvent, down: bool) {
        let at = (event.event_x, event.event_y, event.state.into());
        let mut input = input(at);
        let key = self.keys.get(&event.event);
        let framed = key.and_then(|key| self.windows.get(key));
        if let Some(framed) = framed.filter(|framed| framed.outer == event.event) {
            let (left, top) = corner(&framed.look);
            input.x -= left;
            input.y -= top;
        }
        let button = event.detail;
        self.about(event.event, |window| Event::Button {
            window,
            down,
            input,
            button,
        });
    }

    /// Tells of buttons that came up where no window of the qube heard of it: the one where they went
    /// down may have gone meanwhile.
    fn let_go_elsewhere(&mut self, window: Window, state: u16) {
        if !self.keys.contains_key(&window) {
            return;
        }
        let is_down = |button: &u8| !HELD.contains(button) || state & (0x80 << button) != 0;
        let gone: Vec<_> = self
            .pressed
            .iter()
            .copied()
            .filter(|it| !is_down(it))
            .collect();
        for button in gone {
            self.pressed.remove(&button);
            self.about(window, |window| Event::Button {
                window,
                down: false,
                input: input((0, 0, state)),
                button,
            });
        }
    }

    fn keys_down(&self) -> Done<Keys> {
        Ok(Keys::of_map(self.connection.query_keymap()?.reply()?.keys))
    }

    fn crossing(&mut self, event: &EnterNotifyEvent, here: bool) -> Done {
        // The pointer has not moved; when the grab ends it is told where it is.
        if event.mode == NotifyMode::GRAB {
            return Ok(());
        }
        let pressed = if here {
            self.keys_down()?
        } else {
            Keys::default()
        };
        let key = self.keys.get(&event.event).copied();
        let is_icon = |key| self.windows.get(&key).is_some_and(|it| it.look.docked);
        if let Some(key) = key.filter(|key| here && is_icon(*key)) {
            // Menus open where the qube believes its icon.
            self.look_where(key)?;
        }
        let at = (event.event_x, event.event_y, event.state.into());
        self.let_go_elsewhere(event.event, at.2);
        self.about(event.event, |window| Event::Crossing {
            window,
            here,
            input: input(at),
            pressed,
        });
        Ok(())
    }

    fn focus_in(&mut self, event: &FocusInEvent) -> Done {
        if event.mode == NotifyMode::GRAB || !is_of_window(event.detail) {
            return Ok(());
        }
        let pressed = self.keys_down()?;
        self.about(event.event, |window| Event::FocusIn { window, pressed });
        Ok(())
    }

    fn focus_out(&mut self, event: &FocusInEvent) {
        if !is_of_window(event.detail) {
            return;
        }
        match event.mode {
            NotifyMode::GRAB => self.about(event.event, |window| Event::Grabbed { window }),
            NotifyMode::UNGRAB => {}
            _ => self.about(event.event, |window| Event::FocusOut { window }),
        }
    }

    fn configured(&mut self, event: &ConfigureNotifyEvent, after: SequenceNumber) -> Done {
        if event.window == self.root {
            self.screen.width = event.width.into();
            self.screen.height = event.height.into();
            return self.look_at_work();
        }
        let key = self.keys.get(&event.window).copied();
        let Some((key, framed)) = key.and_then(|key| Some((key, self.windows.get_mut(&key)?)))
        else {
            return Ok(());
        };
        // It would undo what was asked for after it.
        if after < framed.placed || framed.outer != event.window {
            return Ok(());
        }
        let window = framed.outer;
        let is_of_root = event.response_type & SENT != 0 || framed.parent == self.root;
        let at = if is_of_root {
            Some((event.x, event.y))
        } else {
            // The manager tells where a window is only if its size stays.
            self.place_of(window)?
        };
        if let Some(at) = at {
            self.moved(key, at, (event.width, event.height))?;
        }
        Ok(())
    }

    /// A window of ours is there now, and so large.
    fn moved(&mut self, key: Key, (x, y): (i16, i16), (width, height): (u16, u16)) -> Done {
        let Some(framed) = self.windows.get_mut(&key) else {
            return Ok(());
        };
        let (before, content) = (framed.look.size, framed.content);
        let outer = Area {
            x: x.into(),
            y: y.into(),
            width: width.into(),
            height: height.into(),
        };
        let (place, size) = if framed.look.docked {
            Frame::content_of_icon(outer)
        } else {
            self.frame.content(before, outer)
        };
        (framed.look.place, framed.look.size) = (place, size);
        if size != before {
            self.resize_content(content, size)?;
        }
        self.events.push_back(Event::Moved {
            window: key,
            place,
            size,
        });
        Ok(())
    }

    /// Looks where a window of ours is that others have moved with what it is in.
    pub(super) fn look_where(&mut self, key: Key) -> Done {
        let Some(framed) = self.windows.get(&key) else {
            return Ok(());
        };
        let window = framed.outer;
        let asked = self.connection.get_geometry(window)?;
        let at = self.place_of(window)?;
        match (asked.reply(), at) {
            (Ok(it), Some(at)) => self.moved(key, at, (it.width, it.height)),
            (Err(ReplyError::ConnectionError(e)), _) => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Where a window is on the screen; nothing where it is gone.
    fn place_of(&self, window: Window) -> Done<Option<(i16, i16)>> {
        let (connection, root) = (&self.connection, self.root);
        match connection
            .translate_coordinates(window, root, 0, 0)?
            .reply()
        {
            Ok(at) => Ok(Some((at.dst_x, at.dst_y))),
            Err(ReplyError::X11Error(_)) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn exposed(&mut self, event: &ExposeEvent) -> Done {
        let key = self.keys.get(&event.window).copied();
        let Some((key, framed)) = key.and_then(|key| Some((key, self.windows.get(&key)?))) else {
            return Ok(());
        };
        if framed.outer == event.window {
            self.draw_buttons(event.window)?;
            return self.write_name(event.window);
        }
        let part = Part {
            x: event.x.into(),
            y: event.y.into(),
            size: Size::near(event.width.into(), event.height.into()),
        };
        self.events.push_back(Event::Exposed(key, part));
        Ok(())
    }

    fn look_at_work(&mut self) -> Done {
        let work = self.work_area()?;
        if work != self.work {
            self.work = work;
            self.events.push_back(Event::Work(work));
        }
        Ok(())
    }

    fn look_at_state(&mut self, window: Window) -> Done {
        if !self.keys.contains_key(&window) {
            return Ok(());
        }
        let atoms = self.atoms;
        let states = self.numbers(window, atoms._NET_WM_STATE, AtomEnum::ATOM.into())?;
        let has = |state| states.contains(&state);
        let flags = Flags {
            fullscreen: has(atoms._NET_WM_STATE_FULLSCREEN),
            attention: has(atoms._NET_WM_STATE_DEMANDS_ATTENTION),
            minimised: has(atoms._NET_WM_STATE_HIDDEN),
        };
        let maximised =
            has(atoms._NET_WM_STATE_MAXIMIZED_HORZ) && has(atoms._NET_WM_STATE_MAXIMIZED_VERT);
        self.about(window, |window| Event::State {
            window,
            flags,
            maximised,
        });
        Ok(())
    }
}

fn input((x, y, state): (i16, i16, u16)) -> Input {
    Input {
        x: x.into(),
        y: y.into(),
        state: state.into(),
    }
}

/// Whether the keyboard comes to or goes from the window itself, and not a part of it or whatever
/// is under the pointer.
fn is_of_window(detail: NotifyDetail) -> bool {
    let of_window = [
        NotifyDetail::ANCESTOR,
        NotifyDetail::VIRTUAL,
        NotifyDetail::NONLINEAR,
        NotifyDetail::NONLINEAR_VIRTUAL,
    ];
    of_window.contains(&detail)
}
