//! Icons in the tray: whoever owns its selection is asked to take a window of ours in (XEMBED). That
//! has a border of the label's colour, which the content cannot reach. Where there is no tray it
//! waits for one, and is not shown.

use std::time::{Duration, Instant};

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    Atom, ChangeWindowAttributesAux, ClientMessageEvent, ConnectionExt as _, EventMask, PropMode,
    Window,
};
use x11rb::wrapper::ConnectionExt as _;

use super::{Done, Framed, X11};
use crate::display::{Key, Look};

/// `SYSTEM_TRAY_REQUEST_DOCK`.
const REQUEST_DOCK: u32 = 0;

/// What we speak of XEMBED.
const VERSION: u32 = 0;

/// `XEMBED_MAPPED`: the tray shows the window as soon as it has it.
const MAPPED: u32 = 1;

/// How long after a click on an icon what a qube opens is what the person waits for.
const MENU_TIME: Duration = Duration::from_secs(3);

/// The tray of a screen.
#[derive(Debug)]
pub(super) struct Tray {
    /// What it owns.
    selection: Atom,
    /// It, while there is one.
    window: Option<Window>,
    /// When the person last clicked on an icon of this qube.
    clicked: Option<Instant>,
}

impl Tray {
    pub(super) fn of_screen(connection: &impl Connection, number: usize) -> Done<Self> {
        let name = format!("_NET_SYSTEM_TRAY_S{number}");
        let atom = connection.intern_atom(false, name.as_bytes())?;
        Ok(Self {
            selection: atom.reply()?.atom,
            window: None,
            clicked: None,
        })
    }

    pub(super) fn click(&mut self) {
        self.clicked = Some(Instant::now());
    }

    /// Whether a window that comes now is the menu of an icon that the person has clicked on: there
    /// is one for a click.
    pub(super) fn takes_click(&mut self) -> bool {
        self.clicked
            .take()
            .is_some_and(|at| at.elapsed() < MENU_TIME)
    }
}

impl X11 {
    /// Shows a window as an icon.
    pub(super) fn dock(&mut self, key: Key, look: Box<Look>) -> Done {
        let id = look.id;
        let outer = self.make_icon(key, look)?;
        if self.tray.window.is_none() {
            self.find_tray()?;
        }
        match self.tray.window {
            Some(tray) => self.request_dock(tray, outer),
            None => {
                let text = format!("window {id} is no tray icon so far: there is no tray");
                self.log.of_agent(&text);
                Ok(())
            }
        }
    }

    /// Makes an icon for a tray to take.
    fn make_icon(&mut self, key: Key, look: Box<Look>) -> Done<Window> {
        // Buttons on the border are the tray's.
        let events = EventMask::STRUCTURE_NOTIFY;
        let (outer, content) = self.make(key, &look, events)?;
        self.say_origin(outer, &look)?;
        self.say_title(outer, &look.title)?;
        let name = self.atoms._XEMBED_INFO;
        let info = [VERSION, MAPPED];
        let said =
            self.connection
                .change_property32(PropMode::REPLACE, outer, name, name, &info)?;
        let framed = Framed {
            outer,
            content,
            parent: self.root,
            placed: said.sequence_number(),
            menu_since: None,
            look,
        };
        self.windows.insert(key, framed);
        Ok(outer)
    }

    pub(super) fn alter_icon(&mut self, key: Key, was: &Look, look: Box<Look>) -> Done {
        let cursor = self.cursor(look.cursor)?;
        let Some(framed) = self.windows.get_mut(&key) else {
            return Ok(());
        };
        let (outer, content) = (framed.outer, framed.content);
        framed.look = look.clone();
        if was.title != look.title {
            self.say_title(outer, &look.title)?;
        }
        if was.cursor != look.cursor {
            let attributes = ChangeWindowAttributesAux::new().cursor(cursor);
            self.connection
                .change_window_attributes(content, &attributes)?;
        }
        Ok(())
    }

    fn request_dock(&self, tray: Window, outer: Window) -> Done {
        let data = [x11rb::CURRENT_TIME, REQUEST_DOCK, outer, 0, 0];
        let message = ClientMessageEvent::new(32, tray, self.atoms._NET_SYSTEM_TRAY_OPCODE, data);
        self.connection
            .send_event(false, tray, EventMask::NO_EVENT, message)?;
        Ok(())
    }

    /// Looks who is the tray, and has it tell of its end.
    fn find_tray(&mut self) -> Done {
        let selection = self.tray.selection;
        let owner = self.connection.get_selection_owner(selection)?.reply()?;
        self.tray.window = Some(owner.owner).filter(|owner| *owner != x11rb::NONE);
        if let Some(tray) = self.tray.window {
            let attributes =
                ChangeWindowAttributesAux::new().event_mask(EventMask::STRUCTURE_NOTIFY);
            self.connection
                .change_window_attributes(tray, &attributes)?;
        }
        Ok(())
    }

    /// Somebody may have become the tray.
    pub(super) fn managed(&mut self, selection: Atom) -> Done {
        if selection != self.tray.selection {
            return Ok(());
        }
        self.find_tray()?;
        let Some(tray) = self.tray.window else {
            return Ok(());
        };
        let icons = self.windows.values().filter(|it| it.look.docked);
        let waiting = icons.filter(|it| it.parent == self.root);
        let waiting: Vec<Window> = waiting.map(|it| it.outer).collect();
        for outer in waiting {
            self.request_dock(tray, outer)?;
        }
        Ok(())
    }

    /// A window is gone that was not destroyed by us: the tray, or an icon with it.
    pub(super) fn destroyed(&mut self, window: Window) -> Done {
        if self.tray.window == Some(window) {
            self.tray.window = None;
        }
        let key = self.keys.get(&window).copied();
        let framed = key.and_then(|key| self.windows.get(&key));
        if let (Some(key), Some(framed)) = (key, framed)
            && framed.look.docked
            && framed.outer == window
        {
            let (look, content) = (framed.look.clone(), framed.content);
            self.windows.remove(&key);
            self.keys.remove(&window);
            self.keys.remove(&content);
            // For the next tray: this one has gone, or wants it no more.
            self.make_icon(key, look)?;
        }
        Ok(())
    }

    /// An icon has come into the tray, or out of it because that is gone or wants it no more.
    pub(super) fn reparented(&mut self, window: Window, parent: Window) -> Done {
        let key = self.keys.get(&window).copied();
        let Some((key, framed)) = key.and_then(|key| Some((key, self.windows.get_mut(&key)?)))
        else {
            return Ok(());
        };
        if framed.outer != window {
            return Ok(());
        }
        framed.parent = parent;
        if framed.look.docked {
            if parent == self.root {
                // It is no window among others, not even for lack of a tray.
                self.connection.unmap_window(window)?;
            } else {
                self.look_where(key)?;
            }
        } else if framed.look.override_redirect && parent == self.root {
            // A window manager lets go of what was managed, and the server puts it above all.
            let owner = framed.look.owner;
            self.put_above_own(window, owner)?;
        }
        Ok(())
    }
}
