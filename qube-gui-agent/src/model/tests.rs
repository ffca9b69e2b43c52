//! The model against a daemon that keeps to the rules and minds those of agents.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Weak;

use bulkhead_wire::gui::Kind;
use proptest::prelude::*;

use super::*;

/// A picture, which only its number tells from others.
#[derive(Debug, PartialEq)]
struct Picture(u32);

fn size() -> Size {
    Size::near(10, 10)
}

fn look(title: &str) -> Look {
    Look {
        size: size(),
        title: title.into(),
        ..Look::default()
    }
}

fn with_daemon(version: u16) -> Windows<Picture> {
    let mut windows = Windows::new();
    windows.daemon_came(Version::new(version).unwrap());
    windows
}

fn kinds(windows: &mut Windows<Picture>) -> Vec<(u32, Kind)> {
    let kind = |said: &Said<Picture>| match said {
        Said::Message(message) => message.kind(),
        Said::Dump(..) => Kind::WindowDump,
    };
    let said = windows.take_messages();
    said.iter().map(|(id, said)| (id.0, kind(said))).collect()
}

fn configure(place: Place, size: Size) -> DaemonMessage {
    DaemonMessage::Configure {
        place,
        size,
        override_redirect: false,
    }
}

#[test]
fn a_window_is_introduced_before_it_is_mapped_and_told_of_changes_once() {
    let mut windows = with_daemon(8);
    let id = windows.open(look("one")).unwrap();
    windows.set_content(id, size(), Picture(1));
    windows.damage(id, Part::all(size()));
    insta::assert_debug_snapshot!(kinds(&mut windows).iter().map(|(_, kind)| kind).collect::<Vec<_>>(), @"
    [
        Create,
        Configure,
        WmClass,
        WindowHints,
        Map,
        WmName,
        WindowDump,
        ShmImage,
    ]
    ");
    windows.set_title(id, "one");
    windows.set_hints(id, Hints::default());
    windows.set_cursor(id, Cursor::Default);
    windows.want_flags(id, Flags::default());
    windows.set_geometry(id, Place::default(), size());
    assert_eq!(kinds(&mut windows), []);
    windows.set_title(id, "two");
    windows.set_cursor(id, Cursor::None);
    windows.close(id);
    let gone = [Kind::WmName, Kind::Cursor, Kind::Unmap, Kind::Destroy];
    assert_eq!(kinds(&mut windows), gone.map(|kind| (1, kind)));
}

#[test]
fn a_daemon_that_comes_is_told_of_everything() {
    let mut windows = Windows::new();
    let first = windows.open(look("first")).unwrap();
    windows.set_content(first, size(), Picture(1));
    let gone = windows.open(look("gone")).unwrap();
    windows.close(gone);
    let menu = windows
        .open(Look {
            owner: Some(first),
            placing: Placing::Itself,
            ..look("")
        })
        .unwrap();
    windows.set_cursor(menu, Cursor::Font(2));
    assert_eq!(kinds(&mut windows), []);
    for _ in 0..2 {
        windows.daemon_came(Version::NEWEST);
        let told = windows.take_messages();
        let of = |id| told.iter().filter(move |(of, _)| *of == id).count();
        // With its picture, or with a cursor and none.
        assert_eq!((of(first), of(gone), of(menu)), (8, 0, 7));
        let mapped = AgentMessage::Map {
            transient_for: Some(first),
            override_redirect: true,
        };
        let is_mapped = |(_, said): &(WindowId, Said<Picture>)| matches!(said, Said::Message(m) if *m == mapped);
        assert!(told.iter().any(is_mapped));
        windows.daemon_left();
    }
}

#[test]
fn a_configure_is_answered_with_its_own_words_and_then_with_what_came_of_it() {
    let mut windows = with_daemon(8);
    let id = windows.open(look("")).unwrap();
    windows.take_messages();
    let (place, size) = (Place::near(5, 6), Size::near(99, 50));
    let reshaped = windows.hear(id, &configure(place, size)).unwrap();
    let resized = true;
    assert_eq!(
        reshaped,
        Reshaped {
            place,
            size,
            resized
        }
    );
    // The application has whole letters only.
    let letters = Size::near(90, 48);
    windows.set_geometry(id, place, letters);
    let said = windows
        .take_messages()
        .into_iter()
        .map(|(_, said)| match said {
            Said::Message(AgentMessage::Configure { place, size }) => (place, size),
            other => panic!("{other:?}"),
        });
    assert!(said.eq([(place, size), (place, letters)]));
    let moved = Place::near(7, 6);
    let reshaped = windows.hear(id, &configure(moved, letters)).unwrap();
    assert!(!reshaped.resized);
    let nothing = windows
        .hear(id, &configure(moved, Size::default()))
        .unwrap();
    assert_eq!(nothing.size, Size::near(1, 1));
    assert_eq!(windows.hear(WindowId(9), &configure(place, size)), None);
}

#[test]
fn a_daemon_that_insists_has_its_way() {
    let mut windows = with_daemon(8);
    let id = windows.open(look("")).unwrap();
    let (place, tile, letters) = (Place::default(), Size::near(99, 50), Size::near(90, 48));
    windows.take_messages();
    // Of its own words and the application's answer, the answer is not said twice.
    for said in [2, 1, 1] {
        windows.hear(id, &configure(place, tile));
        windows.set_geometry(id, place, letters);
        windows.set_geometry(id, place, letters);
        assert_eq!(windows.take_messages().len(), said);
    }
    assert_eq!(windows.look(id).unwrap().size, tile);
    // Another wish is another matter.
    windows.hear(id, &configure(place, Size::near(95, 50)));
    windows.set_geometry(id, place, letters);
    assert_eq!(windows.take_messages().len(), 2);
    // And so is what the application wants by itself.
    for own in [size(), letters, size()] {
        windows.set_geometry(id, place, own);
        assert_eq!(windows.take_messages().len(), 1);
    }
}

#[test]
fn flags_are_what_either_side_said_last() {
    let mut windows = with_daemon(8);
    let id = windows.open(look("")).unwrap();
    windows.take_messages();
    let fullscreen = Flags {
        fullscreen: true,
        ..Flags::default()
    };
    let minimised = Flags {
        minimised: true,
        ..Flags::default()
    };
    windows.want_flags(id, fullscreen);
    let set = minimised;
    let unset = fullscreen;
    windows.hear(id, &DaemonMessage::Flags { set, unset });
    assert_eq!(windows.look(id).unwrap().flags, minimised);
    let map = DaemonMessage::Map {
        transient_for: None,
        override_redirect: false,
    };
    windows.hear(id, &map);
    assert_eq!(windows.look(id).unwrap().flags, Flags::default());
    assert_eq!(kinds(&mut windows), [(1, Kind::WindowFlags)]);
}

#[test]
fn a_number_is_free_again_when_the_daemon_let_go_of_it() {
    let mut windows = with_daemon(8);
    let open = windows.open(look("stays")).unwrap();
    let closed = windows.open(look("goes")).unwrap();
    windows.close(closed);
    windows.last = WindowId(u32::MAX);
    let third = windows.open(look("")).unwrap();
    assert_eq!(
        (open, closed, third),
        (WindowId(1), WindowId(2), WindowId(3))
    );
    windows.hear(closed, &DaemonMessage::Destroy);
    windows.last = WindowId(u32::MAX);
    assert_eq!(windows.open(look("")), Some(closed));
    // Daemons before 1.5 do not say so.
    let mut windows = with_daemon(4);
    let closed = windows.open(look("")).unwrap();
    windows.close(closed);
    windows.last = WindowId(0);
    assert_eq!(windows.open(look("")), Some(closed));
}

#[test]
fn there_are_no_more_windows_than_daemons_take() {
    let mut windows = with_daemon(8);
    let ids: Vec<_> = (0..WINDOWS_MAX)
        .map(|_| windows.open(look("")).unwrap())
        .collect();
    assert_eq!(windows.open(look("one more")), None);
    windows.close(ids[7]);
    // The daemon may not have read of that yet.
    assert_eq!(windows.open(look("one more")), None);
    windows.hear(ids[7], &DaemonMessage::Destroy);
    assert!(windows.open(look("one more")).is_some());
}

#[test]
fn a_picture_stays_until_nobody_looks_at_it() {
    for (version, kept) in [(8, true), (6, true), (4, false)] {
        let mut windows = with_daemon(version);
        let id = windows.open(look("")).unwrap();
        windows.set_content(id, size(), Picture(1));
        let first = Rc::downgrade(&windows.content(id).unwrap().1);
        windows.set_content(id, size(), Picture(2));
        windows.take_messages();
        assert!(first.upgrade().is_some());
        // One answer for each dump; before 1.7 there are none, and the next dump must do.
        if version >= 7 {
            windows.hear(id, &DaemonMessage::DumpAck);
            assert!(first.upgrade().is_some());
            windows.hear(id, &DaemonMessage::DumpAck);
        } else {
            windows.set_content(id, size(), Picture(3));
            windows.take_messages();
        }
        assert!(first.upgrade().is_none());
        let last = Rc::downgrade(&windows.content(id).unwrap().1);
        windows.close(id);
        assert_eq!(last.upgrade().is_some(), kept);
        windows.hear(id, &DaemonMessage::Destroy);
        assert!(last.upgrade().is_none());
    }
}

/// What the daemon has of a window.
#[derive(Debug, Default)]
struct Known {
    mapped: bool,
    geometry: (Place, Size),
    title: Option<AgentMessage>,
    /// What it asked for and was not answered.
    pending: Option<(Place, Size)>,
    /// Pictures that it may look at: the last of them, and those it has not said it left.
    looks_at: VecDeque<Weak<Picture>>,
    unanswered: usize,
}

/// A daemon of version 1.8, which reads and answers when it likes.
#[derive(Debug, Default)]
struct TestDaemon {
    known: BTreeMap<WindowId, Known>,
    destroyed: BTreeSet<WindowId>,
}

impl TestDaemon {
    fn read(&mut self, windows: &mut Windows<Picture>) {
        for (id, said) in windows.take_messages() {
            let message = match said {
                Said::Dump(_, picture) => {
                    let window = self.known.get_mut(&id).expect("a known window");
                    window.looks_at.push_back(Rc::downgrade(&picture));
                    window.unanswered += 1;
                    continue;
                }
                Said::Message(message) => message,
            };
            if let AgentMessage::Create { place, size, .. } = message {
                assert!(id.0 != 0 && !self.destroyed.contains(&id));
                let new = Known {
                    geometry: (place, size),
                    ..Known::default()
                };
                assert!(self.known.insert(id, new).is_none());
                continue;
            }
            let there: BTreeSet<WindowId> = self.known.keys().copied().collect();
            let window = self.known.get_mut(&id).expect("a known window");
            match message {
                AgentMessage::Map { transient_for, .. } => {
                    assert!(transient_for.is_none_or(|owner| there.contains(&owner)));
                    window.mapped = true;
                }
                AgentMessage::Unmap => window.mapped = false,
                AgentMessage::Class(_) => assert!(!window.mapped),
                AgentMessage::Title(_) => window.title = Some(message),
                AgentMessage::Configure { place, size } => match window.pending {
                    Some(pending) if pending == (place, size) => window.pending = None,
                    Some(_) => {}
                    None => window.geometry = (place, size),
                },
                AgentMessage::Destroy => {
                    self.known.remove(&id);
                    self.destroyed.insert(id);
                }
                AgentMessage::Damage(_) => assert!(!window.looks_at.is_empty()),
                _ => {}
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Open(Option<prop::sample::Index>),
    Close(prop::sample::Index),
    Title(prop::sample::Index, u8),
    Move(prop::sample::Index, i32),
    Paint(prop::sample::Index),
    Damage(prop::sample::Index),
    Read,
    AnswerDump(prop::sample::Index),
    AnswerDestroy(prop::sample::Index),
    Configure(prop::sample::Index, i32),
    Reconnect,
}

fn op() -> impl Strategy<Value = Op> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        2 => proptest::option::of(at()).prop_map(Op::Open),
        1 => at().prop_map(Op::Close),
        1 => (at(), 0..3_u8).prop_map(|(at, title)| Op::Title(at, title)),
        1 => (at(), 0..3).prop_map(|(at, x)| Op::Move(at, x)),
        3 => at().prop_map(Op::Paint),
        2 => at().prop_map(Op::Damage),
        4 => Just(Op::Read),
        3 => at().prop_map(Op::AnswerDump),
        2 => at().prop_map(Op::AnswerDestroy),
        2 => (at(), 0..3).prop_map(|(at, x)| Op::Configure(at, x)),
        1 => Just(Op::Reconnect),
    ]
}

/// A model, its daemon, and a number for the next picture.
struct Pair {
    windows: Windows<Picture>,
    daemon: TestDaemon,
    painted: u32,
}

impl Pair {
    fn pick(&self, at: prop::sample::Index) -> Option<WindowId> {
        let open: Vec<WindowId> = self.windows.open.keys().copied().collect();
        (!open.is_empty()).then(|| *at.get(&open))
    }

    fn pick_known(&self, at: prop::sample::Index) -> Option<WindowId> {
        let known: Vec<WindowId> = self.daemon.known.keys().copied().collect();
        (!known.is_empty()).then(|| *at.get(&known))
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Open(owner) => {
                let owner = owner.and_then(|at| self.pick(at));
                self.windows.open(Look { owner, ..look("") });
            }
            Op::Close(at) => {
                if let Some(id) = self.pick(at) {
                    self.windows.close(id);
                }
            }
            Op::Title(at, title) => {
                if let Some(id) = self.pick(at) {
                    self.windows.set_title(id, &title.to_string());
                }
            }
            Op::Move(at, x) => {
                if let Some(id) = self.pick(at) {
                    self.windows.set_geometry(id, Place::near(x, 0), size());
                }
            }
            Op::Paint(at) => {
                if let Some(id) = self.pick(at) {
                    self.painted += 1;
                    self.windows.set_content(id, size(), Picture(self.painted));
                }
            }
            Op::Damage(at) => {
                if let Some(id) = self.pick(at) {
                    self.windows.damage(id, Part::all(size()));
                }
            }
            Op::Read => self.daemon.read(&mut self.windows),
            Op::AnswerDump(at) => self.answer_dump(at),
            Op::AnswerDestroy(at) => {
                let gone: Vec<WindowId> = self.daemon.destroyed.iter().copied().collect();
                if !gone.is_empty() {
                    let id = *at.get(&gone);
                    self.daemon.destroyed.remove(&id);
                    self.windows.hear(id, &DaemonMessage::Destroy);
                }
            }
            Op::Configure(at, x) => {
                if let Some(id) = self.pick_known(at)
                    && let Some(window) = self.daemon.known.get_mut(&id)
                    && window.pending.is_none()
                {
                    let geometry = (Place::near(0, x), size());
                    (window.geometry, window.pending) = (geometry, Some(geometry));
                    self.windows.hear(id, &configure(geometry.0, geometry.1));
                }
            }
            Op::Reconnect => {
                self.windows.daemon_left();
                self.daemon = TestDaemon::default();
                self.windows.daemon_came(Version::NEWEST);
            }
        }
    }

    fn answer_dump(&mut self, at: prop::sample::Index) {
        let Some(id) = self.pick_known(at) else {
            return;
        };
        let window = self.daemon.known.get_mut(&id).expect("a known window");
        if window.unanswered > 0 {
            window.unanswered -= 1;
            // From now on it looks at none before this one.
            while window.looks_at.len() > window.unanswered + 1 {
                window.looks_at.pop_front();
            }
            self.windows.hear(id, &DaemonMessage::DumpAck);
        }
    }

    fn verify_invariants(&self) {
        for window in self.daemon.known.values() {
            let gone = window.looks_at.iter().filter(|p| p.upgrade().is_none());
            assert_eq!(gone.count(), 0, "a picture is gone that is looked at");
        }
        for id in self.windows.open.keys() {
            assert!(!self.windows.leaving.contains_key(id));
        }
    }

    /// After everything was read and answered, both agree.
    fn settle(&mut self) {
        self.daemon.read(&mut self.windows);
        let known: Vec<WindowId> = self.daemon.known.keys().copied().collect();
        let open: Vec<WindowId> = self.windows.open.keys().copied().collect();
        assert_eq!(known, open);
        for (id, window) in &self.daemon.known {
            let look = self.windows.look(*id).unwrap();
            assert!(window.mapped && window.pending.is_none());
            assert_eq!(window.geometry, (look.place, look.size));
            assert_eq!(window.title, Some(title_message(&look.title)));
            let shown = window.looks_at.back().and_then(Weak::upgrade);
            let content = self.windows.content(*id).map(|(_, content)| content);
            assert_eq!(shown.as_ref(), content);
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_daemon_sees_what_there_is(
        ops in proptest::collection::vec(op(), 0..80)
    ) {
        let mut pair = Pair {
            windows: with_daemon(8),
            daemon: TestDaemon::default(),
            painted: 0,
        };
        for op in ops {
            pair.apply(op);
            pair.verify_invariants();
        }
        pair.settle();
        pair.verify_invariants();
    }
}
