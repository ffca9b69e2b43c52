use proptest::prelude::*;

use bulkhead_wire::gui::text::UntrustedTitle;
use bulkhead_wire::icons::{self, IconSize};

use crate::typed::Chord;

use super::*;

const WORK: Area = Area {
    x: 0,
    y: 20,
    width: 1000,
    height: 700,
};

/// As wide as most names.
const NAME: u32 = 50;

fn windows() -> Windows {
    Windows::new(Frame::for_name(NAME), WORK)
}

fn create(x: i32, y: i32, width: u32, height: u32, override_redirect: bool) -> AgentMessage {
    AgentMessage::Create {
        place: Place::near(x, y),
        size: Size::near(width, height),
        override_redirect,
    }
}

fn map(owner: Option<u32>, override_redirect: bool) -> AgentMessage {
    AgentMessage::Map {
        transient_for: owner.map(WindowId),
        override_redirect,
    }
}

fn configure(x: i32, y: i32, width: u32, height: u32) -> AgentMessage {
    AgentMessage::Configure {
        place: Place::near(x, y),
        size: Size::near(width, height),
    }
}

fn told(x: i32, y: i32, width: u32, height: u32) -> DaemonMessage {
    DaemonMessage::Configure {
        place: Place::near(x, y),
        size: Size::near(width, height),
        override_redirect: false,
    }
}

fn moved(window: Key, x: i32, y: i32, width: u32, height: u32) -> Event {
    Event::Moved {
        window,
        place: Place::near(x, y),
        size: Size::near(width, height),
    }
}

impl Windows {
    #[track_caller]
    fn must(&mut self, id: u32, message: AgentMessage) -> Option<Content> {
        let done = self.agent(WindowId(id), message).expect("a right message");
        self.verify_invariants();
        done
    }

    /// Messages for the agent, without their windows.
    fn said(&mut self) -> Vec<DaemonMessage> {
        let messages = self.take_messages().into_iter();
        messages.map(|(_, message)| message).collect()
    }

    #[track_caller]
    fn verify_invariants(&self) {
        assert!(self.windows.len() <= WINDOWS_MAX);
        assert!(self.early.len() <= EARLY_MAX);
        assert!(
            self.early
                .iter()
                .all(|(id, _)| !self.windows.contains_key(id))
        );
        let shown = self
            .windows
            .iter()
            .filter_map(|(id, w)| Some((w.shown?, *id)));
        assert_eq!(shown.collect::<BTreeMap<_, _>>(), self.shown);
        assert!(self.shown.keys().all(|key| key.0 <= self.last_key));
        match self.focus {
            Some(focus) => assert!(self.shown.contains_key(&focus)),
            None => assert!(
                self.typed.told().is_empty(),
                "a key is held and nobody has the keyboard"
            ),
        }
        for (id, window) in &self.windows {
            if let Some(owner) = window.owner {
                assert!(owner != *id && self.windows.contains_key(&owner));
            }
            assert!(!window.docked || (!window.override_redirect && !window.minimise));
            assert!(window.told.is_none() || window.shown.is_some());
            assert!(!window.pending || *id != SCREEN);
            assert_eq!(self.listed.contains(id), window.listed);
            if window.shown.is_some() && window.override_redirect {
                assert!(self.may_place_itself(*id));
                let place = self.frame.on_screen(window.place, window.size, self.work);
                assert_eq!(place, window.place, "a menu is not on the screen");
            }
            if window.shown.is_some() && window.told != self.look(*id) {
                assert!(
                    window.listed,
                    "the display would not hear of window {}",
                    id.0
                );
            }
        }
    }
}

#[test]
fn all_that_place_themselves_leave_a_tenth_of_the_screen() {
    let mut it = windows();
    for id in [1, 2] {
        it.must(id, create(0, 0, 900, 320, true));
        it.must(id, map(None, true));
    }
    assert_eq!(it.take_denied(), []);
    it.must(3, create(0, 0, 100, 100, true));
    it.must(3, map(None, true));
    assert_eq!(it.take_denied(), [Denied::SelfPlaced(WindowId(3))]);
    // There is room when one has gone.
    it.must(2, AgentMessage::Unmap);
    it.must(4, create(0, 0, 100, 100, true));
    it.must(4, map(None, true));
    assert_eq!(it.take_denied(), []);
    it.verify_invariants();
}

#[test]
fn an_answer_is_waited_for_before_more_is_told() {
    let mut it = windows();
    it.must(1, create(100, 100, 50, 50, false));
    it.must(1, map(None, false));
    let key = it.key(WindowId(1)).expect("shown");
    it.take_changes();
    assert_eq!(it.said(), []);
    it.display(moved(key, 200, 100, 50, 50));
    assert_eq!(it.said(), [told(200, 100, 50, 50)]);
    // The person goes on, and the agent still has to answer.
    it.display(moved(key, 300, 100, 60, 50));
    it.display(moved(key, 400, 100, 70, 50));
    assert_eq!(it.said(), []);
    it.must(1, configure(200, 100, 50, 50));
    assert_eq!(it.said(), [told(400, 100, 70, 50)]);
    it.must(1, configure(400, 100, 70, 50));
    assert_eq!(it.said(), []);
    // All of that was the display's own doing.
    assert_eq!(it.take_changes(), []);
    // And now the agent is free.
    it.must(1, configure(10, 300, 70, 50));
    assert_eq!(it.said(), []);
    let changes = it.take_changes();
    assert!(
        matches!(&changes[..], [Change::Alter(k, _, look)] if *k == key
        && look.place == Place::near(10, 300))
    );
}

#[test]
fn what_happened_to_a_window_before_is_nothing_to_one_with_its_number() {
    let mut it = windows();
    it.must(1, create(100, 100, 50, 50, false));
    it.must(1, map(None, false));
    let old = it.key(WindowId(1)).expect("shown");
    it.take_changes();
    assert_eq!(it.must(1, AgentMessage::Destroy), Some(Content::Release));
    assert_eq!(it.said(), [DaemonMessage::Destroy]);
    it.must(1, create(300, 300, 50, 50, false));
    it.must(1, map(None, false));
    let new = it.key(WindowId(1)).expect("shown");
    assert_ne!(old, new);
    let changes = it.take_changes();
    assert!(
        matches!(&changes[..], [Change::Hide(a), Change::Show(b, _)] if (*a, *b) == (old, new))
    );
    let input = Input::default();
    let pressed = Keys::default();
    for event in [
        moved(old, 7, 7, 7, 7),
        Event::Close(old),
        Event::FocusIn {
            window: old,
            pressed,
        },
        Event::Key {
            window: old,
            down: true,
            input,
            code: 38,
            time: 0,
        },
        Event::Crossing {
            window: old,
            here: true,
            input,
            pressed,
        },
    ] {
        it.display(event);
        it.verify_invariants();
    }
    assert_eq!(it.said(), []);
    assert_eq!(it.find(old), None);
}

#[test]
fn a_window_that_is_never_seen_costs_the_display_nothing() {
    let mut it = windows();
    it.must(1, create(100, 100, 50, 50, false));
    it.must(1, AgentMessage::Title(Box::new(UntrustedTitle::new("x"))));
    assert_eq!(it.take_changes(), []);
    it.must(1, map(None, false));
    it.must(1, AgentMessage::Unmap);
    it.must(1, map(None, false));
    it.must(1, AgentMessage::Destroy);
    assert_eq!(it.take_changes(), []);
}

#[test]
fn one_window_more_than_there_may_be_is_refused() {
    let mut it = windows();
    for id in 0..u32::try_from(WINDOWS_MAX).expect("a number") {
        it.must(id, create(0, 0, 1, 1, false));
    }
    let more = it.agent(WindowId(9999), create(0, 0, 1, 1, false));
    assert_eq!(more, Err(WindowError::TooMany));
}

#[test]
fn one_pixel_more_than_may_be_shown_is_denied() {
    let mut it = windows();
    let (wide, high) = (WIDTH_MAX, HEIGHT_MAX);
    for id in 1..=4 {
        it.must(
            id,
            create(0, 0, wide, if id == 4 { high - 1 } else { high }, false),
        );
        it.must(id, map(None, false));
    }
    it.must(5, create(0, 0, wide, 1, false));
    it.must(5, map(None, false));
    assert_eq!(it.take_changes().len(), 5);
    it.must(6, create(0, 0, 1, 1, false));
    it.must(6, map(None, false));
    assert_eq!(it.take_denied(), [Denied::TooLarge(WindowId(6))]);
    assert_eq!(it.take_changes(), []);
    // One that is shown stays as it is, and its agent is told.
    it.must(5, configure(4, 38, wide, 1));
    it.take_messages();
    it.must(5, configure(4, 38, wide, 2));
    assert_eq!(it.take_denied(), [Denied::TooLarge(WindowId(5))]);
    assert_eq!(it.said(), [told(4, 38, wide, 1)]);
    // Once there is room it is shown.
    it.must(4, AgentMessage::Destroy);
    it.must(6, map(None, false));
    assert!(matches!(
        it.take_changes()[..],
        [Change::Hide(_), Change::Show(..)]
    ));
}

#[test]
fn a_window_gone_is_nobodys_owner() {
    let mut it = windows();
    it.must(1, create(100, 100, 50, 50, false));
    it.must(1, map(None, false));
    it.must(2, create(100, 100, 50, 50, false));
    // Itself, and one that there is not.
    for owner in [2, 77] {
        it.must(2, map(Some(owner), false));
        assert_eq!(it.look(WindowId(2)).expect("a look").owner, None);
        it.must(2, AgentMessage::Unmap);
    }
    it.must(2, map(Some(1), false));
    let owner = it.key(WindowId(1));
    assert_eq!(it.look(WindowId(2)).expect("a look").owner, owner);
    it.take_changes();
    it.must(1, AgentMessage::Unmap);
    assert!(
        matches!(&it.take_changes()[..], [Change::Hide(_), Change::Alter(_, _, look)]
        if look.owner.is_none())
    );
    it.must(1, AgentMessage::Destroy);
    it.must(1, create(0, 0, 1, 1, false));
    it.must(1, map(None, false));
    assert_eq!(it.look(WindowId(2)).expect("a look").owner, None);
}

#[test]
fn an_icon_is_as_large_as_the_tray_says_and_never_a_window() {
    let mut it = windows();
    it.must(1, create(5, 5, 500, 500, true));
    it.must(1, AgentMessage::Dock);
    let side = ICON_SIDE;
    assert_eq!(it.said(), [told(5, 5, side, side)]);
    let key = it.key(WindowId(1)).expect("an icon");
    let is_icon = |changes: &[Change]| {
        matches!(changes, [Change::Show(k, look)] if *k == key && look.docked
            && !look.override_redirect && look.size == Size::near(side, side))
    };
    assert!(is_icon(&it.take_changes()));
    it.must(1, map(None, true));
    it.must(1, AgentMessage::Unmap);
    let set = Flags {
        fullscreen: true,
        attention: true,
        minimised: true,
    };
    let unset = Flags::default();
    it.must(1, AgentMessage::Flags { set, unset });
    it.must(1, AgentMessage::Dock);
    assert_eq!(it.key(WindowId(1)), Some(key));
    assert!(!it.take_changes().contains(&Change::Minimise(key)));
    // It cannot have another size, and is told what it has.
    it.must(1, configure(5, 5, 500, 500));
    it.must(1, configure(5, 5, 600, 600));
    assert_eq!(it.said(), [told(5, 5, side, side), told(5, 5, side, side)]);
    it.display(moved(key, 900, 2, 16, 16));
    assert_eq!(it.said(), [told(900, 2, 16, 16)]);
    let part = Part::all(Size::near(3, 3));
    let damage = it.must(1, AgentMessage::Damage(part));
    assert_eq!(damage, Some(Content::Damage(key, part)));
    it.must(1, AgentMessage::Destroy);
    assert_eq!(it.take_changes(), [Change::Hide(key)]);
    // What is shown as a window is no icon.
    it.must(2, create(5, 5, 50, 50, false));
    it.must(2, map(None, false));
    it.must(2, AgentMessage::Dock);
    assert!(matches!(&it.take_changes()[..], [Change::Show(_, look)] if !look.docked));
}

#[test]
fn a_window_hears_that_what_it_belongs_to_became_an_icon() {
    let mut it = windows();
    it.must(1, create(5, 5, 20, 20, false));
    it.must(2, create(5, 5, 20, 20, false));
    it.must(2, map(Some(1), false));
    assert!(matches!(&it.take_changes()[..], [Change::Show(_, look)] if look.owner.is_none()));
    it.must(1, AgentMessage::Dock);
    let owner = it.key(WindowId(1));
    assert!(owner.is_some() && it.look(WindowId(2)).is_some_and(|look| look.owner == owner));
    assert!(matches!(
        &it.take_changes()[..],
        [Change::Show(..), Change::Alter(..)]
    ));
}

#[test]
fn one_icon_more_than_there_may_be_is_not_shown() {
    let mut it = windows();
    let last = u32::try_from(ICONS_MAX).expect("a number");
    for id in 0..=last {
        it.must(id, create(0, 0, 20, 20, false));
        it.must(id, AgentMessage::Dock);
    }
    assert_eq!(it.take_denied(), [Denied::TooManyIcons(WindowId(last))]);
    assert_eq!(it.take_changes().len(), ICONS_MAX);
    // Nor as a window.
    it.must(last, map(None, false));
    assert_eq!(it.key(WindowId(last)), None);
    it.must(3, AgentMessage::Destroy);
    it.must(last, AgentMessage::Dock);
    assert!(it.key(WindowId(last)).is_some());
}

/// An icon of one pixel.
fn icon(shade: u8) -> Icon {
    let size = IconSize::new(1, 1).expect("a size");
    Icon::of(&icons::Icon::new(size, vec![shade; 4]).expect("an icon"))
}

#[test]
fn an_icon_is_its_windows_whether_that_is_there_or_comes() {
    let mut it = windows();
    it.must(1, create(100, 100, 50, 50, false));
    assert!(it.set_icon(WindowId(1), icon(1)));
    assert!(!it.set_icon(WindowId(2), icon(9)) && !it.set_icon(WindowId(2), icon(2)));
    assert_eq!(it.take_changes(), []);
    it.must(2, create(100, 100, 50, 50, false));
    for id in [1, 2] {
        it.must(id, map(None, false));
    }
    let shown = |it: &mut Windows| -> Vec<Option<Icon>> {
        let changes = it.take_changes().into_iter();
        let look = |change| match change {
            Change::Show(_, look) | Change::Alter(_, _, look) => look.icon,
            other => panic!("{other:?}"),
        };
        changes.map(look).collect()
    };
    assert_eq!(shown(&mut it), [Some(icon(1)), Some(icon(2))]);
    // The same again is no news.
    assert!(it.set_icon(WindowId(1), icon(1)));
    assert_eq!(shown(&mut it), []);
    assert!(it.set_icon(WindowId(1), icon(3)));
    assert_eq!(shown(&mut it), [Some(icon(3))]);
    it.must(1, AgentMessage::Unmap);
    it.take_changes();
    it.must(1, map(None, false));
    assert_eq!(shown(&mut it), [Some(icon(3))]);
    it.must(1, AgentMessage::Destroy);
    it.take_changes();
    it.must(1, create(100, 100, 50, 50, false));
    it.must(1, map(None, false));
    assert_eq!(shown(&mut it), [None], "another window with its number");
}

#[test]
fn one_icon_more_than_may_wait_for_its_window_takes_the_place_of_the_oldest() {
    let mut it = windows();
    for id in 0..=EARLY_MAX as u32 {
        it.set_icon(WindowId(id + 1), icon(7));
        it.verify_invariants();
    }
    for (id, expected) in [(1, None), (2, Some(icon(7))), (17, Some(icon(7)))] {
        it.must(id, create(0, 0, 50, 50, false));
        assert_eq!(it.windows[&WindowId(id)].icon, expected, "{id}");
    }
}

#[test]
fn filling_the_screen_is_asked_for_and_granted_as_being_maximised() {
    let mut it = windows();
    it.must(1, create(100, 100, 50, 50, false));
    it.must(1, map(None, false));
    let key = it.key(WindowId(1)).expect("shown");
    it.take_changes();
    let set = Flags {
        fullscreen: true,
        ..Flags::default()
    };
    let unset = Flags::default();
    it.must(1, AgentMessage::Flags { set, unset });
    assert!(matches!(&it.take_changes()[..], [Change::Alter(_, _, look)] if look.maximised));
    let state = |fullscreen, maximised| Event::State {
        window: key,
        flags: Flags {
            fullscreen,
            ..Flags::default()
        },
        maximised,
    };
    it.display(state(false, true));
    let none = Flags::default();
    let said = [DaemonMessage::Flags { set, unset: none }];
    assert_eq!(it.said(), said);
    // The person ends it, and maximises by themselves: that is none of the qube's business.
    it.display(state(false, false));
    let ended = [DaemonMessage::Flags {
        set: none,
        unset: set,
    }];
    assert_eq!(it.said(), ended);
    it.display(state(false, true));
    assert_eq!(it.said(), []);
    assert_eq!(it.take_changes(), []);
    // It may ask again.
    it.display(state(false, false));
    it.must(1, AgentMessage::Flags { set, unset });
    assert!(matches!(&it.take_changes()[..], [Change::Alter(_, _, look)] if look.maximised));
}

#[test]
fn windows_follow_a_screen_that_becomes_smaller() {
    let mut it = windows();
    it.must(1, create(800, 600, 100, 50, true));
    it.must(1, map(None, true));
    it.take_changes();
    assert_eq!(it.said(), []);
    it.display(Event::Work(Area {
        width: 500,
        height: 300,
        ..WORK
    }));
    it.verify_invariants();
    assert!(matches!(it.said()[..], [DaemonMessage::Configure { .. }]));
    assert!(matches!(it.take_changes()[..], [Change::Alter(..)]));
}

/// What may happen, with windows and keys by small numbers.
#[derive(Debug, Clone)]
enum Op {
    Agent(u32, AgentMessage),
    /// The agent answers the last CONFIGURE of the window as it is to.
    Answer(u32),
    Focus(usize, u8),
    Unfocus(usize),
    Grab(usize),
    /// The third is a key, and the last whether the modifiers of a keystroke are held with it.
    Key(usize, bool, u8, bool),
    Cross(usize, bool, u8),
    Moved(usize, i32, i32, u32, u32),
    State(usize, bool, bool, bool),
    Work(u32, u32),
    Icon(u32, u8),
    Turn,
}

fn agent_op() -> impl Strategy<Value = AgentMessage> {
    let at = -300..1300_i32;
    let len = 0..1200_u32;
    let rectangle = (at.clone(), at, len.clone(), len);
    let flags = || {
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(a, b, c)| Flags {
            fullscreen: a,
            attention: b,
            minimised: c,
        })
    };
    prop_oneof![
        4 => (rectangle.clone(), any::<bool>()).prop_map(|((x, y, w, h), o)| create(x, y, w, h, o)),
        2 => Just(AgentMessage::Destroy),
        5 => (proptest::option::of(0..5_u32), any::<bool>()).prop_map(|(w, o)| map(w, o)),
        2 => Just(AgentMessage::Unmap),
        4 => rectangle.prop_map(|(x, y, w, h)| configure(x, y, w.max(1), h.max(1))),
        1 => Just(AgentMessage::Dock),
        1 => "[a-z]{0,3}".prop_map(|t| AgentMessage::Title(Box::new(UntrustedTitle::new(&t)))),
        2 => (flags(), flags()).prop_map(|(set, unset)| AgentMessage::Flags {
            set,
            unset: unset.without(set),
        }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..6_usize;
    let code = 8..12_u8;
    prop_oneof![
        12 => (0..5_u32, agent_op()).prop_map(|(id, message)| Op::Agent(id, message)),
        3 => (0..5_u32).prop_map(Op::Answer),
        3 => (key.clone(), any::<u8>()).prop_map(|(k, p)| Op::Focus(k, p)),
        1 => key.clone().prop_map(Op::Unfocus),
        1 => key.clone().prop_map(Op::Grab),
        6 => (key.clone(), any::<bool>(), code, any::<bool>())
            .prop_map(|(k, d, c, h)| Op::Key(k, d, c, h)),
        2 => (key.clone(), any::<bool>(), any::<u8>()).prop_map(|(k, h, p)| Op::Cross(k, h, p)),
        4 => (key.clone(), -50..900_i32, -50..900_i32, 1..900_u32, 1..900_u32)
            .prop_map(|(k, x, y, w, h)| Op::Moved(k, x, y, w, h)),
        2 => (key, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(k, f, m, a)| Op::State(k, f, m, a)),
        1 => (100..1500_u32, 100..1500_u32).prop_map(|(w, h)| Op::Work(w, h)),
        2 => (0..30_u32, any::<u8>()).prop_map(|(id, shade)| Op::Icon(id, shade)),
        4 => Just(Op::Turn),
    ]
}

/// An agent and a display that believe what they are told.
#[derive(Debug, Default)]
struct Believers {
    /// Keys that the qube believes pressed.
    held: Keys,
    /// CONFIGUREs that were not answered, by window.
    unanswered: BTreeMap<WindowId, usize>,
    last: BTreeMap<WindowId, (Place, Size)>,
    focused: Option<WindowId>,
    looks: BTreeMap<Key, Look>,
    /// Every window that was ever on the display.
    ever: Vec<Key>,
    time: u32,
}

/// Modifiers of the person's own keystrokes.
const CHORD: u32 = 5;

/// Of two of the keys that are typed.
fn chords() -> Chords {
    let chord = |key| {
        let mut keys = Keys::default();
        keys.insert(key);
        let modifiers = Modifiers::of_state(CHORD);
        Chord { modifiers, keys }
    };
    Chords {
        copy: chord(8),
        paste: chord(9),
    }
}

impl Believers {
    fn hear(&mut self, windows: &mut Windows) {
        for (id, message) in windows.take_messages() {
            match message {
                DaemonMessage::Key { down, keycode, .. } => {
                    let code = u8::try_from(keycode).expect("a key");
                    assert_eq!(
                        self.focused,
                        Some(id),
                        "a key for a window without keyboard"
                    );
                    if down {
                        self.held.insert(code);
                    } else {
                        assert!(self.held.remove(code), "a key goes up that was not down");
                    }
                }
                DaemonMessage::Keymap(map) => {
                    let map = Keys::of_map(map);
                    assert_eq!(
                        map.and(self.held),
                        map,
                        "a key is told that was typed elsewhere"
                    );
                    self.held = map;
                }
                DaemonMessage::Focus { here, .. } => {
                    self.focused = here.then_some(id);
                    assert!(here || self.held.is_empty(), "a key stays down");
                }
                DaemonMessage::Configure { place, size, .. } => {
                    *self.unanswered.entry(id).or_default() += 1;
                    self.last.insert(id, (place, size));
                }
                DaemonMessage::Destroy => {
                    self.unanswered.remove(&id);
                    self.last.remove(&id);
                }
                _ => {}
            }
        }
        assert_eq!(self.held, windows.typed.told());
        for (id, count) in &self.unanswered {
            let docked = windows.windows.get(id).is_some_and(|w| w.docked);
            assert!(*count <= 1 || docked, "{count} places wait for answers");
        }
    }

    fn turn(&mut self, windows: &mut Windows) {
        for change in windows.take_changes() {
            match change {
                Change::Show(key, look) => {
                    assert!(
                        self.ever.iter().all(|old| *old < key),
                        "a number is used again"
                    );
                    self.ever.push(key);
                    self.looks.insert(key, *look);
                }
                Change::Alter(key, was, look) => {
                    assert_ne!(was, look, "nothing is altered");
                    let had = self.looks.insert(key, *look);
                    assert_eq!(had, Some(*was), "the display was told something else");
                }
                Change::Minimise(key) => assert!(self.looks.contains_key(&key)),
                Change::Hide(key) => assert!(self.looks.remove(&key).is_some()),
            }
        }
        let shown = windows.shown.iter();
        let looks = shown.map(|(key, id)| (*key, *windows.look(*id).expect("a window")));
        assert_eq!(
            self.looks,
            looks.collect(),
            "the display shows something else"
        );
    }

    fn key(&self, n: usize) -> Key {
        // One that was never shown among them.
        self.ever
            .iter()
            .rev()
            .nth(n)
            .copied()
            .unwrap_or(Key(u64::MAX))
    }

    fn agent(&mut self, windows: &mut Windows, id: u32, message: AgentMessage) {
        let id = WindowId(id);
        if matches!(message, AgentMessage::Configure { .. }) {
            self.unanswered.remove(&id);
        }
        let is_icon = windows.windows.get(&id).is_some_and(|w| w.docked);
        let is_hidden = message == AgentMessage::Unmap && !is_icon;
        if is_hidden || message == AgentMessage::Destroy {
            let focus = windows.focus.and_then(|key| windows.find(key));
            if focus.is_some_and(|(focus, _)| focus == id) {
                self.focused = None;
            }
        }
        let exists = windows.windows.contains_key(&id);
        let is_create = matches!(message, AgentMessage::Create { .. });
        let done = windows.agent(id, message);
        assert_eq!(done.is_ok(), exists != is_create);
    }

    fn act(&mut self, windows: &mut Windows, op: Op) {
        let pressed = |bits: u8| {
            let mut keys = Keys::default();
            (0..8)
                .filter(|n| bits & (1 << n) != 0)
                .for_each(|n| keys.insert(8 + n));
            keys
        };
        let input = Input::default();
        let event = match op {
            Op::Agent(id, message) => return self.agent(windows, id, message),
            Op::Answer(id) => {
                if let Some((place, size)) = self.last.get(&WindowId(id)).copied()
                    && !size.is_empty()
                {
                    self.agent(windows, id, AgentMessage::Configure { place, size });
                }
                return;
            }
            Op::Turn => return self.turn(windows),
            Op::Icon(id, shade) => {
                let known = windows.windows.contains_key(&WindowId(id));
                assert_eq!(windows.set_icon(WindowId(id), icon(shade)), known);
                return;
            }
            Op::Focus(key, bits) => Event::FocusIn {
                window: self.key(key),
                pressed: pressed(bits),
            },
            Op::Unfocus(key) => Event::FocusOut {
                window: self.key(key),
            },
            Op::Grab(key) => Event::Grabbed {
                window: self.key(key),
            },
            Op::Key(key, down, code, held) => {
                self.time += 1;
                Event::Key {
                    window: self.key(key),
                    down,
                    input: Input {
                        state: if held { CHORD } else { 0 },
                        ..input
                    },
                    code,
                    time: self.time,
                }
            }
            Op::Cross(key, here, bits) => Event::Crossing {
                window: self.key(key),
                here,
                input,
                pressed: pressed(bits),
            },
            Op::Moved(key, x, y, width, height) => {
                let key = self.key(key);
                if let Some(look) = self.looks.get_mut(&key) {
                    (look.place, look.size) = (Place::near(x, y), Size::near(width, height));
                }
                moved(key, x, y, width, height)
            }
            Op::State(key, fullscreen, maximised, attention) => Event::State {
                window: self.key(key),
                flags: Flags {
                    fullscreen,
                    attention,
                    minimised: false,
                },
                maximised,
            },
            Op::Work(width, height) => Event::Work(Area {
                x: 0,
                y: 0,
                width,
                height,
            }),
        };
        let state = match event {
            Event::State { window, .. } => Some(window),
            _ => None,
        };
        windows.display(event);
        // Wishes that the person has ended are forgotten by both.
        let told = state.and_then(|key| {
            let (id, _) = windows.find(key)?;
            windows.windows.get(&id)?.told.as_ref()
        });
        if let (Some(told), Some(key)) = (told, state)
            && let Some(look) = self.looks.get_mut(&key)
        {
            look.maximised &= told.maximised;
            look.attention &= told.attention;
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_rules_hold(ops in proptest::collection::vec(op(), 1..120)) {
        let mut windows = windows();
        windows.set_chords(chords());
        let mut believers = Believers::default();
        for op in ops {
            let was_key = match op {
                Op::Key(_, true, code, true) => Some(code),
                _ => None,
            };
            let told = windows.typed.told();
            believers.act(&mut windows, op);
            windows.verify_invariants();
            for wished in windows.take_wishes() {
                let code = if wished.wish == Wish::Copy { 8 } else { 9 };
                prop_assert_eq!(was_key, Some(code));
                prop_assert_eq!(believers.focused, Some(wished.window));
                prop_assert!(!told.contains(code) && windows.typed.told() == told);
            }
            believers.hear(&mut windows);
        }
        believers.turn(&mut windows);
        let all: Vec<u32> = windows.windows.keys().map(|id| id.0).collect();
        for id in all {
            believers.agent(&mut windows, id, AgentMessage::Destroy);
            windows.verify_invariants();
            believers.hear(&mut windows);
        }
        believers.turn(&mut windows);
        prop_assert!(believers.looks.is_empty() && windows.shown.is_empty());
        prop_assert!(believers.held.is_empty());
    }
}
