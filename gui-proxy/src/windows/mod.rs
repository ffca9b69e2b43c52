//! The windows of a qube, without any display or channel.
//!
//! What the agent and the display say goes in; messages to the agent and changes of the display
//! come out. Changes are levels and not edges: however often a qube moves a window within one turn,
//! the display hears of it once.
//!
//! ```text
//!            CREATE            MAP                    UNMAP
//!   nothing ───────> hidden ───────> shown (a new Key) ───────> hidden
//!                      │ DOCK
//!                      └──────> docked (a new Key)         DESTROY ends each
//! ```
//!
//! Place and size are agreed as the protocol has it: the agent answers each CONFIGURE, and until it
//! did there is no other.

use std::collections::{BTreeMap, VecDeque};

use bulkhead_wire::gui::geometry::{HEIGHT_MAX, Part, Place, Size, WIDTH_MAX};
use bulkhead_wire::gui::picture::PictureSize;
use bulkhead_wire::gui::text::Letters;
use bulkhead_wire::gui::{
    AgentMessage, Crossing, Cursor, DaemonMessage, Dump, Flags, Hints, Input, Kind, WindowId,
};
use thiserror::Error;

pub use self::docked::{ICON_SIDE, ICONS_MAX};
pub use self::icons::EARLY_MAX;
use crate::display::{Change, Event, Key, Look};
use crate::frame::{Area, Frame};
use crate::icon::Icon;
use crate::keys::Keys;
use crate::keystroke::Modifiers;
use crate::typed::{Chords, Pressed, Stroke, Typed, Wish};

mod docked;
mod icons;

/// Windows that a qube may have: more than any person can use, and few enough to be looked through.
pub const WINDOWS_MAX: usize = 500;

/// Pixels of all windows of a qube that are shown: four as large as can be, or some forty of 4K. A
/// display that composes windows has memory for each, which is everybody's.
pub const SHOWN_PIXELS_MAX: u64 = 4 * WIDTH_MAX as u64 * HEIGHT_MAX as u64;

/// What ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WindowError {
    /// A number that was not given to any window.
    #[error("{kind} for window {window}, which there is not")]
    Unknown {
        /// What was said.
        kind: Kind,
        /// Of which.
        window: u32,
    },
    /// A number that a window has.
    #[error("window {0} was created twice")]
    Exists(u32),
    /// One more than there may be.
    #[error("more than {WINDOWS_MAX} windows")]
    TooMany,
}

/// What a message means beyond the windows themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The window's image is in other pages now.
    Dump(Dump),
    /// A part of the image is to be painted; only of windows that are shown.
    Damage(Key, Part),
    /// The image is not looked at any more.
    Release,
    /// A clipboard came.
    Clipboard(Option<Vec<u8>>),
    /// A picture is announced.
    Picture(Option<PictureSize>),
    /// Some of its bytes came.
    PicturePart(Vec<u8>),
}

/// What was done against a qube's wish, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// A window that would cover the screen does not place itself.
    SelfPlaced(WindowId),
    /// An icon of the tray is not shown: there are as many as may be.
    TooManyIcons(WindowId),
    /// A window is not shown, or stays as large as it was: there are more pixels than may be.
    TooLarge(WindowId),
}

/// A keystroke that is none of the qube's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wished {
    /// What the person wants.
    pub wish: Wish,
    /// In which window.
    pub window: WindowId,
    /// When, by the display's clock in milliseconds.
    pub time: u32,
}

#[derive(Debug)]
struct Window {
    place: Place,
    size: Size,
    override_redirect: bool,
    docked: bool,
    owner: Option<WindowId>,
    title: String,
    class: (String, String),
    icon: Option<Icon>,
    hints: Hints,
    cursor: Cursor,
    /// The qube wants it to fill the screen, which only a person may have done.
    wants_screen: bool,
    wants_attention: bool,
    /// What the agent was last told.
    flags: Flags,
    /// A CONFIGURE of ours that the agent has not answered.
    pending: bool,
    shown: Option<Key>,
    /// What the display was last told.
    told: Option<Box<Look>>,
    minimise: bool,
    /// It is in the list of those to be looked at.
    listed: bool,
}

/// All windows of a qube.
#[derive(Debug)]
pub struct Windows {
    frame: Frame,
    work: Area,
    windows: BTreeMap<WindowId, Window>,
    shown: BTreeMap<Key, WindowId>,
    last_key: u64,
    /// What has the keyboard; always shown.
    focus: Option<Key>,
    /// Keys that are pressed; none that the qube believes so without `focus`.
    typed: Typed,
    /// Keystrokes that are the person's own.
    chords: Chords,
    wishes: Vec<Wished>,
    /// What may be different on the display, in the order in which it became so.
    listed: Vec<WindowId>,
    hidden: Vec<Key>,
    messages: Vec<(WindowId, DaemonMessage)>,
    denied: Vec<Denied>,
    /// Icons of windows that there are not, the oldest first.
    early: VecDeque<(WindowId, Icon)>,
}

impl Windows {
    /// None so far.
    #[must_use]
    pub fn new(frame: Frame, work: Area) -> Self {
        Self {
            frame,
            work,
            windows: BTreeMap::new(),
            shown: BTreeMap::new(),
            last_key: 0,
            focus: None,
            typed: Typed::default(),
            chords: Chords::default(),
            wishes: Vec::new(),
            listed: Vec::new(),
            hidden: Vec::new(),
            messages: Vec::new(),
            denied: Vec::new(),
            early: VecDeque::new(),
        }
    }

    /// Messages to the agent since the last call, in order.
    pub fn take_messages(&mut self) -> Vec<(WindowId, DaemonMessage)> {
        std::mem::take(&mut self.messages)
    }

    /// Has these keystrokes kept from the qube from now on.
    pub fn set_chords(&mut self, chords: Chords) {
        self.chords = chords;
    }

    /// What the person wished for since the last call, in order.
    pub fn take_wishes(&mut self) -> Vec<Wished> {
        std::mem::take(&mut self.wishes)
    }

    /// What was denied since the last call.
    pub fn take_denied(&mut self) -> Vec<Denied> {
        std::mem::take(&mut self.denied)
    }

    /// The window on the display that this is now.
    #[must_use]
    pub fn key(&self, id: WindowId) -> Option<Key> {
        self.windows.get(&id)?.shown
    }

    /// The window that this is on the display, and the size of its content.
    #[must_use]
    pub fn find(&self, key: Key) -> Option<(WindowId, Size)> {
        let id = *self.shown.get(&key)?;
        Some((id, self.windows.get(&id)?.size))
    }

    /// Does what the agent said.
    ///
    /// # Errors
    /// [`WindowError`], after which nothing may follow.
    pub fn agent(
        &mut self,
        id: WindowId,
        message: AgentMessage,
    ) -> Result<Option<Content>, WindowError> {
        let message = match message {
            AgentMessage::Clipboard(text) => return Ok(Some(Content::Clipboard(text))),
            AgentMessage::Picture(size) => return Ok(Some(Content::Picture(size))),
            AgentMessage::PicturePart(bytes) => return Ok(Some(Content::PicturePart(bytes))),
            AgentMessage::Create {
                place,
                size,
                override_redirect,
            } => {
                self.create(id, place, size, override_redirect)?;
                return Ok(None);
            }
            other => other,
        };
        let unknown = WindowError::Unknown {
            kind: message.kind(),
            window: id.0,
        };
        let window = self.windows.get_mut(&id).ok_or(unknown)?;
        match message {
            AgentMessage::Destroy => {
                self.destroy(id);
                return Ok(Some(Content::Release));
            }
            AgentMessage::Unmap if window.docked => {}
            AgentMessage::Unmap => {
                self.hide(id);
                return Ok((id != SCREEN).then_some(Content::Release));
            }
            AgentMessage::Map {
                transient_for,
                override_redirect,
            } => self.map(id, transient_for, override_redirect),
            AgentMessage::Configure { place, size } => self.configure(id, place, size),
            AgentMessage::Damage(part) => {
                return Ok(window.shown.map(|key| Content::Damage(key, part)));
            }
            AgentMessage::Dump(dump) => return Ok(Some(Content::Dump(dump))),
            AgentMessage::Dock if window.shown.is_none() => {
                self.dock(id);
            }
            AgentMessage::Title(title) => window.title = title.shown(Letters::Utf8),
            AgentMessage::Class(class) if window.shown.is_none() => {
                let shown = (class.class, class.name);
                window.class = (shown.0.shown(Letters::Ascii), shown.1.shown(Letters::Ascii));
            }
            AgentMessage::Hints(hints) => window.hints = hints,
            AgentMessage::Flags { set, unset } => window.wish(set, unset),
            AgentMessage::Cursor(cursor) => window.cursor = cursor,
            // Docks and classes of windows that are shown are passed over, as the reference does.
            _ => {}
        }
        self.list(id);
        Ok(None)
    }

    fn create(
        &mut self,
        id: WindowId,
        place: Place,
        size: Size,
        override_redirect: bool,
    ) -> Result<(), WindowError> {
        if self.windows.contains_key(&id) {
            return Err(WindowError::Exists(id.0));
        }
        if self.windows.len() >= WINDOWS_MAX {
            return Err(WindowError::TooMany);
        }
        let window = Window {
            place,
            size,
            override_redirect,
            docked: false,
            owner: None,
            title: String::new(),
            class: (String::new(), String::new()),
            icon: self.take_early(id),
            hints: Hints::default(),
            cursor: Cursor::Default,
            wants_screen: false,
            wants_attention: false,
            flags: Flags::default(),
            pending: false,
            shown: None,
            told: None,
            minimise: false,
            listed: false,
        };
        self.windows.insert(id, window);
        Ok(())
    }

    fn destroy(&mut self, id: WindowId) {
        self.hide(id);
        self.windows.remove(&id);
        self.listed.retain(|listed| *listed != id);
        for other in self.windows.values_mut() {
            other.owner = other.owner.filter(|owner| *owner != id);
        }
        self.say(id, DaemonMessage::Destroy);
    }

    /// Whether a window may be shown in this size beside all others.
    fn has_room(&self, id: WindowId, size: Size) -> bool {
        let pixels = |size: Size| u64::from(size.width()) * u64::from(size.height());
        let others = self.shown.values().filter(|other| **other != id);
        let others = others.filter_map(|other| self.windows.get(other));
        let all: u64 = others.map(|other| pixels(other.size)).sum();
        all + pixels(size) <= SHOWN_PIXELS_MAX
    }

    fn map(&mut self, id: WindowId, owner: Option<WindowId>, override_redirect: bool) {
        let size = self.windows.get(&id).map_or(Size::default(), |w| w.size);
        let has_room = self.has_room(id, size);
        let owner = owner.filter(|owner| *owner != id && self.windows.contains_key(owner));
        let Some(window) = self.windows.get_mut(&id) else {
            return;
        };
        if window.shown.is_some() || window.docked {
            return;
        }
        if !has_room {
            self.denied.push(Denied::TooLarge(id));
            return;
        }
        window.owner = owner;
        window.override_redirect = override_redirect;
        self.show(id);
        self.settle(id);
    }

    /// Gives a window a key, and has the display hear of it.
    fn show(&mut self, id: WindowId) {
        let Some(window) = self.windows.get_mut(&id) else {
            return;
        };
        self.last_key += 1;
        let key = Key(self.last_key);
        window.shown = Some(key);
        // What is shown later is above what was before.
        window.listed = false;
        self.listed.retain(|listed| *listed != id);
        self.shown.insert(key, id);
        self.list(id);
        self.list_owned(id);
    }

    fn hide(&mut self, id: WindowId) {
        let Some(window) = self.windows.get_mut(&id) else {
            return;
        };
        let Some(key) = window.shown.take() else {
            return;
        };
        if window.told.take().is_some() {
            self.hidden.push(key);
        }
        window.flags = Flags::default();
        window.minimise = false;
        self.shown.remove(&key);
        if self.focus == Some(key) {
            self.focus = None;
            self.release_keys();
        }
        self.list_owned(id);
    }

    /// What belongs to a window looks different where that comes or goes.
    fn list_owned(&mut self, owner: WindowId) {
        let owned = self.windows.iter().filter(|(_, w)| w.owner == Some(owner));
        let owned: Vec<WindowId> = owned.map(|(id, _)| *id).collect();
        owned.into_iter().for_each(|id| self.list(id));
    }

    fn configure(&mut self, id: WindowId, place: Place, size: Size) {
        let has_room = self.has_room(id, size);
        let Some(window) = self.windows.get_mut(&id) else {
            return;
        };
        let same = (window.place, window.size) == (place, size);
        if window.docked {
            window.pending = false;
            if !same {
                self.tell_place(id);
            }
        } else if window.pending {
            // An answer, perhaps to one before the last: the person went on moving it.
            window.pending = false;
            if !same {
                self.tell_place(id);
            }
        } else if window.shown.is_some() && window.size != size && !has_room {
            self.denied.push(Denied::TooLarge(id));
            self.tell_place(id);
        } else if !same {
            (window.place, window.size) = (place, size);
            self.settle(id);
        }
    }

    /// Whether a window may place itself beside all others that do.
    fn may_place_itself(&self, id: WindowId) -> bool {
        let own = self.windows.get(&id).map(|window| window.size);
        let all = self.shown.values().filter(|other| **other != id);
        let all = all.filter_map(|other| self.windows.get(other));
        let others = all.filter(|other| other.override_redirect);
        let sizes = others.map(|other| other.size).chain(own);
        self.frame.may_place_themselves(sizes, self.work)
    }

    /// Has a shown window keep to the rules, and tells the agent what became of it.
    fn settle(&mut self, id: WindowId) {
        let may_place_itself = self.may_place_itself(id);
        let Some(window) = self.windows.get_mut(&id) else {
            return;
        };
        if window.shown.is_some() {
            if window.override_redirect && !may_place_itself {
                window.override_redirect = false;
                self.denied.push(Denied::SelfPlaced(id));
            }
            let place = self.frame.on_screen(window.place, window.size, self.work);
            if place != window.place {
                window.place = place;
                self.tell_place(id);
            }
        }
        self.list(id);
    }

    /// Tells the agent where a window is, unless it still has to answer that.
    fn tell_place(&mut self, id: WindowId) {
        let Some(window) = self.windows.get_mut(&id) else {
            return;
        };
        if window.pending || id == SCREEN {
            return;
        }
        window.pending = !window.docked;
        let message = DaemonMessage::Configure {
            place: window.place,
            size: window.size,
            override_redirect: window.override_redirect,
        };
        self.say(id, message);
    }

    fn say(&mut self, id: WindowId, message: DaemonMessage) {
        self.messages.push((id, message));
    }

    fn list(&mut self, id: WindowId) {
        if let Some(window) = self.windows.get_mut(&id)
            && !window.listed
        {
            window.listed = true;
            self.listed.push(id);
        }
    }

    /// What the display has to do so that it shows this.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes: Vec<Change> = self.hidden.drain(..).map(Change::Hide).collect();
        for id in std::mem::take(&mut self.listed) {
            let look = self.look(id);
            let Some(window) = self.windows.get_mut(&id) else {
                continue;
            };
            window.listed = false;
            let (Some(key), Some(look)) = (window.shown, look) else {
                continue;
            };
            match window.told.replace(look.clone()) {
                None => changes.push(Change::Show(key, look)),
                Some(was) if was != look => changes.push(Change::Alter(key, was, look)),
                Some(_) => {}
            }
            if std::mem::take(&mut window.minimise) {
                changes.push(Change::Minimise(key));
            }
        }
        changes
    }

    fn look(&self, id: WindowId) -> Option<Box<Look>> {
        let window = self.windows.get(&id)?;
        Some(Box::new(Look {
            id: id.0,
            place: window.place,
            size: window.size,
            override_redirect: window.override_redirect,
            docked: window.docked,
            owner: window.owner.and_then(|owner| self.key(owner)),
            title: window.title.clone(),
            class: window.class.clone(),
            icon: window.icon.clone(),
            hints: window.hints,
            cursor: window.cursor,
            maximised: window.wants_screen,
            attention: window.wants_attention,
        }))
    }
}

/// The whole screen of an emulated display; it is never told where it is.
const SCREEN: WindowId = WindowId(0);

impl Window {
    /// Takes what the qube wants; what of it is done is the display's business.
    fn wish(&mut self, set: Flags, unset: Flags) {
        let wish = |is: bool, set: bool, unset: bool| (is || set) && !unset;
        self.wants_screen = wish(self.wants_screen, set.fullscreen, unset.fullscreen);
        self.wants_attention = wish(self.wants_attention, set.attention, unset.attention);
        // Only the person takes it back.
        self.minimise |= set.minimised && self.shown.is_some() && !self.docked;
    }
}

/// What the person does.
impl Windows {
    /// Does what happened on the display. What is of windows that are not there any more is passed
    /// over.
    pub fn display(&mut self, event: Event) {
        match event {
            Event::Key {
                window,
                down,
                input,
                code,
                time,
            } => self.key_event(window, (down, code), input, time),
            Event::Button {
                window,
                down,
                input,
                button,
            } => self.say_of(
                window,
                DaemonMessage::Button {
                    down,
                    input,
                    button: button.into(),
                },
            ),
            Event::Motion { window, input } => self.say_of(
                window,
                DaemonMessage::Motion {
                    input,
                    is_hint: false,
                },
            ),
            Event::Crossing {
                window,
                here,
                input,
                pressed,
            } => self.crossing(window, here, input, pressed),
            Event::FocusIn { window, pressed } => self.focus_in(window, pressed),
            Event::FocusOut { window } => {
                if self.focus == Some(window) {
                    self.focus_out();
                }
            }
            Event::Grabbed { window } => {
                if self.focus == Some(window) {
                    self.release_keys();
                }
            }
            Event::Moved {
                window,
                place,
                size,
            } => self.moved(window, place, size),
            Event::Close(window) => self.say_of(window, DaemonMessage::Close),
            Event::State {
                window,
                flags,
                maximised,
            } => self.state(window, flags, maximised),
            Event::Work(work) => {
                self.work = work;
                let shown: Vec<WindowId> = self.shown.values().copied().collect();
                for id in shown {
                    if self.windows.get(&id).is_some_and(|w| w.override_redirect) {
                        self.settle(id);
                    }
                }
            }
            Event::Exposed(..) | Event::Room | Event::Keyboard | Event::Monitors => {}
        }
    }

    fn say_of(&mut self, key: Key, message: DaemonMessage) {
        if let Some(id) = self.shown.get(&key) {
            self.messages.push((*id, message));
        }
    }

    fn key_event(&mut self, key: Key, (down, code): (bool, u8), input: Input, time: u32) {
        if self.focus != Some(key) {
            return;
        }
        let is_told = if down {
            let stroke = Stroke {
                key: code,
                modifiers: Modifiers::of_state(input.state),
                time,
            };
            let pressed = self.typed.down(stroke, &self.chords);
            if let Pressed::Wished(wish) = pressed
                && let Some(window) = self.shown.get(&key).copied()
            {
                self.wishes.push(Wished { wish, window, time });
            }
            pressed == Pressed::Told
        } else {
            self.typed.up(code, time)
        };
        if is_told {
            let message = DaemonMessage::Key {
                down,
                input,
                keycode: code.into(),
            };
            self.say_of(key, message);
        }
    }

    /// Has the qube release the keys that are not pressed any more. It is told of none that it does
    /// not believe pressed: what a person types elsewhere is not its business.
    fn keep_keys(&mut self, pressed: Keys) {
        self.typed.keep(pressed);
        let held = self.typed.told().map();
        self.say(WindowId(0), DaemonMessage::Keymap(held));
    }

    fn release_keys(&mut self) {
        self.keep_keys(Keys::default());
    }

    fn crossing(&mut self, key: Key, here: bool, input: Input, pressed: Keys) {
        if !self.shown.contains_key(&key) {
            return;
        }
        if here {
            self.keep_keys(pressed);
        }
        let crossing = Crossing {
            here,
            input,
            mode: 0,
            detail: 0,
            focus: self.focus == Some(key),
        };
        self.say_of(key, DaemonMessage::Crossing(crossing));
    }

    fn focus_in(&mut self, key: Key, pressed: Keys) {
        if !self.shown.contains_key(&key) {
            return;
        }
        let was = self.focus;
        if was.is_some_and(|was| was != key) {
            self.focus_out();
        }
        self.focus = Some(key);
        self.keep_keys(pressed);
        if was != Some(key) {
            self.say_of(key, focus(true));
        }
    }

    fn focus_out(&mut self) {
        if let Some(key) = self.focus.take() {
            self.release_keys();
            self.say_of(key, focus(false));
        }
    }

    fn moved(&mut self, key: Key, place: Place, size: Size) {
        let Some(id) = self.shown.get(&key).copied() else {
            return;
        };
        let Some(window) = self.windows.get_mut(&id) else {
            return;
        };
        let before = (window.place, window.size);
        (window.place, window.size) = (place, size);
        if let Some(told) = &mut window.told {
            (told.place, told.size) = (place, size);
        }
        let override_redirect = window.override_redirect;
        if before != (place, size) {
            self.tell_place(id);
        }
        if override_redirect {
            self.settle(id);
        }
    }

    fn state(&mut self, key: Key, flags: Flags, maximised: bool) {
        let Some(id) = self.shown.get(&key).copied() else {
            return;
        };
        let Some(window) = self.windows.get_mut(&id) else {
            return;
        };
        let now = Flags {
            fullscreen: flags.fullscreen || (maximised && window.wants_screen),
            ..flags
        };
        let was = std::mem::replace(&mut window.flags, now);
        // A wish that was granted and then ended by the person is none any more.
        let ended = was.without(now);
        window.wants_screen &= !ended.fullscreen;
        window.wants_attention &= !ended.attention;
        if let Some(told) = &mut window.told {
            told.maximised &= !ended.fullscreen;
            told.attention &= !ended.attention;
        }
        let (set, unset) = (now.without(was), was.without(now));
        if now != was {
            self.say(id, DaemonMessage::Flags { set, unset });
        }
    }
}

fn focus(here: bool) -> DaemonMessage {
    DaemonMessage::Focus {
        here,
        mode: 0,
        detail: 0,
    }
}

/// What is in one and not in the other.
trait Without {
    fn without(self, other: Self) -> Self;
}

impl Without for Flags {
    fn without(self, other: Self) -> Self {
        Self {
            fullscreen: self.fullscreen && !other.fullscreen,
            attention: self.attention && !other.attention,
            minimised: self.minimised && !other.minimised,
        }
    }
}

#[cfg(test)]
mod tests;
