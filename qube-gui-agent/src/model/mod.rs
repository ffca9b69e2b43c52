//! The windows of the protocol: what the daemon has been told, and what it still has to say.
//!
//! Pure: what applications do goes in by methods, what the daemon says by [`Windows::hear`], and
//! messages come out of [`Windows::take_messages`].
//!
//! ```text
//! open --> CREATE .. MAP --content--> DUMP, damage --close--> UNMAP, DESTROY --daemon's DESTROY--> id free
//! ```
//!
//! While no daemon is there everything is only remembered; to one that comes all of it is told.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bulkhead_wire::gui::geometry::{Part, Place, Size};
use bulkhead_wire::gui::picture::PictureSize;
use bulkhead_wire::gui::text::{UntrustedClass, UntrustedTitle};
use bulkhead_wire::gui::{
    AgentMessage, Cursor, DaemonMessage, Flags, Hints, Version, WindowClass, WindowId,
};

#[cfg(test)]
mod tests;

/// Windows at once, at most: for more, daemons end the connection, and with it all others.
pub(crate) const WINDOWS_MAX: usize = 500;

/// What is to be said of a window.
#[derive(Debug)]
pub(crate) enum Said<C> {
    Message(AgentMessage),
    /// A dump: where the picture of this size is. Only the channel can refer to the memory.
    Dump(Size, Rc<C>),
}

/// Whether somebody else than the window itself places it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Placing {
    /// The person's window manager.
    #[default]
    Managed,
    /// The application: a menu, a tooltip.
    Itself,
}

/// What there is to know of a window but its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Look {
    pub(crate) place: Place,
    /// Not empty.
    pub(crate) size: Size,
    pub(crate) placing: Placing,
    /// The window that it belongs to.
    pub(crate) owner: Option<WindowId>,
    pub(crate) title: String,
    pub(crate) class: String,
    /// The second half of the class: the program's own name.
    pub(crate) instance: String,
    pub(crate) hints: Hints,
    pub(crate) flags: Flags,
}

/// What the daemon wants of a window's geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reshaped {
    pub(crate) place: Place,
    pub(crate) size: Size,
    /// Whether it was of another size.
    pub(crate) resized: bool,
}

type Geometry = (Place, Size);

#[derive(Debug)]
struct Window<C> {
    look: Look,
    cursor: Cursor,
    /// The geometry that the daemon asked for last.
    asked: Option<Geometry>,
    /// What the application last made of which.
    answered: Option<(Option<Geometry>, Geometry)>,
    content: Option<(Size, Rc<C>)>,
    /// What each unanswered dump replaced.
    replaced: VecDeque<Option<Rc<C>>>,
}

/// All windows of one agent, with pictures in memory of the kind `C`.
#[derive(Debug)]
pub(crate) struct Windows<C> {
    daemon: Option<Version>,
    open: BTreeMap<WindowId, Window<C>>,
    /// Closed, and the daemon has not said yet that it let go: their content must stay.
    leaving: BTreeMap<WindowId, Vec<Rc<C>>>,
    last: WindowId,
    messages: Vec<(WindowId, Said<C>)>,
}

impl<C> Windows<C> {
    pub(crate) fn new() -> Self {
        Self {
            daemon: None,
            open: BTreeMap::new(),
            leaving: BTreeMap::new(),
            last: WindowId(0),
            messages: Vec::new(),
        }
    }

    /// What is to be sent, in order.
    pub(crate) fn take_messages(&mut self) -> Vec<(WindowId, Said<C>)> {
        std::mem::take(&mut self.messages)
    }

    pub(crate) fn look(&self, id: WindowId) -> Option<&Look> {
        self.open.get(&id).map(|window| &window.look)
    }

    /// The content, and the size of the picture in it.
    pub(crate) fn content(&self, id: WindowId) -> Option<&(Size, Rc<C>)> {
        self.open.get(&id)?.content.as_ref()
    }

    pub(crate) fn has_daemon(&self) -> bool {
        self.daemon.is_some()
    }

    /// A daemon is there, and knows nothing.
    pub(crate) fn daemon_came(&mut self, version: Version) {
        self.daemon = Some(version);
        let ids: Vec<_> = self.open.keys().copied().collect();
        for id in ids {
            self.introduce(id);
            self.send_dump(id, None);
            if let Some((size, _)) = self.content(id) {
                let whole = Part::all(*size);
                self.tell(id, AgentMessage::Damage(whole));
            }
        }
    }

    /// The daemon is gone, and looks at nothing any more.
    pub(crate) fn daemon_left(&mut self) {
        self.daemon = None;
        self.leaving.clear();
        self.messages.clear();
        for window in self.open.values_mut() {
            window.replaced.clear();
        }
    }

    /// A window is to be seen; not if there are [`WINDOWS_MAX`] that the daemon has to do with.
    pub(crate) fn open(&mut self, look: Look) -> Option<WindowId> {
        if self.open.len() + self.leaving.len() >= WINDOWS_MAX {
            return None;
        }
        let id = self.free_id();
        let window = Window {
            look,
            cursor: Cursor::Default,
            asked: None,
            answered: None,
            content: None,
            replaced: VecDeque::new(),
        };
        self.open.insert(id, window);
        self.introduce(id);
        Some(id)
    }

    /// The number after the last one that neither we nor the daemon know a window by.
    fn free_id(&mut self) -> WindowId {
        loop {
            // 0 is the whole screen.
            self.last = WindowId(self.last.0.checked_add(1).unwrap_or(1));
            let taken = self.open.contains_key(&self.last) || self.leaving.contains_key(&self.last);
            if !taken {
                return self.last;
            }
        }
    }

    /// A window is not to be seen any more; its number is not used until the daemon let go of it.
    pub(crate) fn close(&mut self, id: WindowId) {
        let Some(window) = self.open.remove(&id) else {
            return;
        };
        for other in self.open.values_mut() {
            other.look.owner = other.look.owner.filter(|owner| *owner != id);
        }
        self.tell(id, AgentMessage::Unmap);
        self.tell(id, AgentMessage::Destroy);
        if self.daemon >= Some(Version::DESTROY_ANSWERED) {
            let current = window.content.map(|(_, content)| content);
            let contents = window.replaced.into_iter().flatten().chain(current);
            self.leaving.insert(id, contents.collect());
        }
    }

    pub(crate) fn set_title(&mut self, id: WindowId, title: &str) {
        let Some(look) = self.look_mut(id).filter(|look| look.title != title) else {
            return;
        };
        title.clone_into(&mut look.title);
        self.tell(id, title_message(title));
    }

    /// Daemons do not look at the class of a window that is shown; the next one will.
    pub(crate) fn set_class(&mut self, id: WindowId, class: &str, instance: &str) {
        if let Some(look) = self.look_mut(id) {
            class.clone_into(&mut look.class);
            instance.clone_into(&mut look.instance);
        }
    }

    pub(crate) fn set_hints(&mut self, id: WindowId, hints: Hints) {
        let Some(look) = self.look_mut(id).filter(|look| look.hints != hints) else {
            return;
        };
        look.hints = hints;
        self.tell(id, AgentMessage::Hints(hints));
    }

    /// What the application wants to be; `None` leaves a flag as it is.
    pub(crate) fn want_flags(&mut self, id: WindowId, flags: Flags) {
        let Some(look) = self.look_mut(id).filter(|look| look.flags != flags) else {
            return;
        };
        let old = std::mem::replace(&mut look.flags, flags);
        let set = flags_without(flags, old);
        let unset = flags_without(old, flags);
        self.tell(id, AgentMessage::Flags { set, unset });
    }

    pub(crate) fn set_cursor(&mut self, id: WindowId, cursor: Cursor) {
        let window = self.open.get_mut(&id);
        let Some(window) = window.filter(|window| window.cursor != cursor) else {
            return;
        };
        window.cursor = cursor;
        self.tell(id, AgentMessage::Cursor(cursor));
    }

    /// The window is here, and of this size, by its own doing. A daemon that will not have it so,
    /// and asks for the same once more, has its way: both could go on for ever.
    pub(crate) fn set_geometry(&mut self, id: WindowId, place: Place, size: Size) {
        let own = (place, size);
        let Some(window) = self.open.get_mut(&id) else {
            return;
        };
        let disputed = window.answered == Some((window.asked, own));
        if (window.look.place, window.look.size) == own || disputed {
            return;
        }
        window.answered = Some((window.asked, own));
        (window.look.place, window.look.size) = own;
        self.tell(id, AgentMessage::Configure { place, size });
    }

    /// The window has new memory for a picture of `size`, which is all still to be seen.
    pub(crate) fn set_content(&mut self, id: WindowId, size: Size, content: C) {
        let content = Rc::new(content);
        let Some(window) = self.open.get_mut(&id) else {
            return;
        };
        let old = window.content.replace((size, content));
        self.send_dump(id, old.map(|(_, content)| content));
    }

    /// A part of the picture has changed.
    pub(crate) fn damage(&mut self, id: WindowId, part: Part) {
        let within = self.content(id).and_then(|(size, _)| part.within(*size));
        if let Some(part) = within {
            self.tell(id, AgentMessage::Damage(part));
        }
    }

    /// The text that the person has copied in a window; none where it was too much.
    pub(crate) fn copied(&mut self, id: WindowId, text: Option<Vec<u8>>) {
        self.tell(id, AgentMessage::Clipboard(text));
    }

    /// The size of the picture that the person has copied in a window; none where it is too large.
    pub(crate) fn copied_picture(&mut self, id: WindowId, size: Option<PictureSize>) {
        self.tell(id, AgentMessage::Picture(size));
    }

    /// Takes note of what the daemon says of windows as such. For [`DaemonMessage::Configure`] says
    /// what is to become of the window.
    pub(crate) fn hear(&mut self, id: WindowId, message: &DaemonMessage) -> Option<Reshaped> {
        match message {
            DaemonMessage::Destroy => {
                self.leaving.remove(&id);
                None
            }
            DaemonMessage::DumpAck => {
                if let Some(window) = self.open.get_mut(&id) {
                    window.replaced.pop_front();
                }
                None
            }
            DaemonMessage::Configure { place, size, .. } => self.configured(id, *place, *size),
            DaemonMessage::Flags { set, unset } => {
                let look = self.look_mut(id)?;
                look.flags = flags_with(flags_without(look.flags, *unset), *set);
                None
            }
            DaemonMessage::Map { .. } => {
                self.look_mut(id)?.flags.minimised = false;
                None
            }
            _ => None,
        }
    }

    /// The daemon waits for an answer before it says anything new of the geometry. It gets its own
    /// words at once; that the application made something else of it is then news of ours.
    fn configured(&mut self, id: WindowId, place: Place, size: Size) -> Option<Reshaped> {
        // A window of nothing cannot be answered with.
        let size = Size::near(size.width().max(1), size.height().max(1));
        let window = self.open.get_mut(&id)?;
        window.asked = Some((place, size));
        let look = &mut window.look;
        let resized = look.size != size;
        (look.place, look.size) = (place, size);
        self.tell(id, AgentMessage::Configure { place, size });
        Some(Reshaped {
            place,
            size,
            resized,
        })
    }

    fn look_mut(&mut self, id: WindowId) -> Option<&mut Look> {
        self.open.get_mut(&id).map(|window| &mut window.look)
    }

    fn tell(&mut self, id: WindowId, message: AgentMessage) {
        if self.daemon.is_some() {
            self.messages.push((id, Said::Message(message)));
        }
    }

    /// Everything up to where a window is seen. The class comes before the window is mapped, after
    /// which daemons do not take it.
    fn introduce(&mut self, id: WindowId) {
        let Some(window) = self.open.get(&id) else {
            return;
        };
        let (look, cursor) = (window.look.clone(), window.cursor);
        let (place, size) = (look.place, look.size);
        let override_redirect = look.placing == Placing::Itself;
        let created = AgentMessage::Create {
            place,
            size,
            override_redirect,
        };
        self.tell(id, created);
        self.tell(id, AgentMessage::Configure { place, size });
        let class = WindowClass {
            class: UntrustedClass::new(&look.class),
            name: UntrustedClass::new(&look.instance),
        };
        self.tell(id, AgentMessage::Class(Box::new(class)));
        self.tell(id, AgentMessage::Hints(look.hints));
        let mapped = AgentMessage::Map {
            transient_for: look.owner,
            override_redirect,
        };
        self.tell(id, mapped);
        self.tell(id, title_message(&look.title));
        if look.flags != Flags::default() {
            let (set, unset) = (look.flags, Flags::default());
            self.tell(id, AgentMessage::Flags { set, unset });
        }
        if cursor != Cursor::Default {
            self.tell(id, AgentMessage::Cursor(cursor));
        }
    }

    /// Tells where the content is, and keeps what was there before until the daemon looks at it no
    /// more.
    fn send_dump(&mut self, id: WindowId, replaced: Option<Rc<C>>) {
        let (Some(version), Some(window)) = (self.daemon, self.open.get_mut(&id)) else {
            return;
        };
        let Some((size, content)) = &window.content else {
            return;
        };
        let dump = Said::Dump(*size, Rc::clone(content));
        window.replaced.push_back(replaced);
        if version < Version::DUMPS_ANSWERED && window.replaced.len() > 1 {
            // It will never say so. When it is told of a third, it has read of the second.
            window.replaced.pop_front();
        }
        self.messages.push((id, dump));
    }
}

fn title_message(title: &str) -> AgentMessage {
    AgentMessage::Title(Box::new(UntrustedTitle::new(title)))
}

fn flags_with(flags: Flags, more: Flags) -> Flags {
    Flags {
        fullscreen: flags.fullscreen | more.fullscreen,
        attention: flags.attention | more.attention,
        minimised: flags.minimised | more.minimised,
    }
}

fn flags_without(flags: Flags, less: Flags) -> Flags {
    Flags {
        fullscreen: flags.fullscreen & !less.fullscreen,
        attention: flags.attention & !less.attention,
        minimised: flags.minimised & !less.minimised,
    }
}
