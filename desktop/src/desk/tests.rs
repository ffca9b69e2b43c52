use std::collections::{HashMap, HashSet};

use bulkhead_api::qube::QubeState;
use proptest::prelude::*;

use super::arming::{ARM_AFTER, MOVE_MIN};
use super::*;

pub(crate) fn row(name: &str, label: &str, color: &str, kind: &str) -> QubeRow {
    QubeRow {
        name: name.into(),
        state: QubeState::Running,
        kind: kind.into(),
        label: label.into(),
        color: color.into(),
        template: String::new(),
        netvm: String::new(),
        memory: 0,
        domid: 0,
    }
}

const WALL: u64 = 1_700_000_000;

fn ask(id: u64, source: &str) -> Ask {
    Ask {
        id,
        source: source.into(),
        source_label: "blue".into(),
        service: "qubes.Filecopy".into(),
        argument: String::new(),
        requested_target: "@default".into(),
        targets: vec!["personal".into(), "vault".into()],
        default_target: Some("vault".into()),
        asked: WALL,
        expires: Some(WALL + 300),
        guivm: None,
        rule: "a.policy:1".into(),
        announced: None,
        pasted: None,
    }
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn desk_with(asks: Vec<Ask>) -> Desk {
    let mut desk = Desk::new(None);
    let qubes = vec![
        row("work", "blue", "0x3465a4", "app"),
        row("vault", "black", "0x000000", "app"),
    ];
    let news = News::Listed {
        epoch: 1,
        asks,
        qubes,
        wall: WALL,
    };
    desk.news(news, ms(0));
    desk
}

/// Everything that Allow asks for, done.
fn turn_to(desk: &mut Desk, id: u64, now: Duration) {
    desk.act((1, id), Act::Shown, now);
    desk.act((1, id), Act::Key, now);
}

fn ids(desk: &Desk) -> Vec<u64> {
    desk.views(ms(0)).iter().map(|view| view.call.id).collect()
}

fn answers(orders: &[Order]) -> Vec<(u64, Answer, &str)> {
    let answers = orders.iter().filter_map(|order| match order {
        Order::Answer {
            id, answer, target, ..
        } => Some((*id, *answer, target.as_str())),
        Order::ReadAgain { .. } => None,
    });
    answers.collect()
}

#[test]
fn a_prompt_says_who_wants_what_of_whom() {
    let mut asked = ask(7, "work");
    asked.requested_target = "vault".into();
    let desk = desk_with(vec![asked]);
    let views = desk.views(ms(0));
    let call = &views[0].call;
    assert_eq!(
        (call.source.title.as_str(), call.target.title.as_str()),
        ("work", "vault")
    );
    assert_eq!(call.doing, "copy files to");
    insta::assert_debug_snapshot!(call.details, @r#"
    [
        (
            "Service",
            "qubes.Filecopy",
        ),
        (
            "Asked for",
            "vault",
        ),
        (
            "Asked by rule",
            "a.policy:1",
        ),
    ]
    "#);
    assert_eq!(call.left, Some(Duration::from_secs(300)));
    assert!(!call.may_allow && call.may_deny);
}

#[test]
fn allow_takes_time_and_movement_and_names_the_chosen_target() {
    let mut desk = desk_with(vec![ask(1, "work")]);
    desk.act((1, 1), Act::Allow, ms(10_000));
    turn_to(&mut desk, 1, ms(10_000));
    desk.act((1, 1), Act::Allow, ms(10_000) + ARM_AFTER - ms(1));
    assert!(desk.take_orders().is_empty());
    desk.act((1, 1), Act::Choose(0), ms(10_000));
    desk.act((1, 1), Act::Allow, ms(10_000) + ARM_AFTER);
    assert_eq!(
        answers(&desk.take_orders()),
        [(1, Answer::Allow, "personal")]
    );
    desk.act((1, 1), Act::Allow, ms(12_000));
    desk.act((1, 1), Act::Deny, ms(12_000));
    assert!(desk.take_orders().is_empty(), "a call is answered once");
}

#[test]
fn only_the_default_target_of_the_rule_is_preselected() {
    let mut without = ask(1, "work");
    without.default_target = None;
    let mut single = ask(2, "work");
    (single.default_target, single.targets) = (None, vec!["vault".into()]);
    let mut strange = ask(3, "mail");
    strange.default_target = Some("ghost".into());
    for view in desk_with(vec![without, single, strange]).views(ms(0)) {
        assert_eq!(view.call.chosen, None);
        assert_eq!(view.call.status, "Choose a target to be able to allow this");
    }
    assert_eq!(
        desk_with(vec![ask(1, "work")]).views(ms(0))[0].call.chosen,
        Some(1)
    );
}

#[test]
fn without_a_target_nothing_is_allowed() {
    let mut asked = ask(1, "work");
    asked.default_target = None;
    let mut desk = desk_with(vec![asked]);
    turn_to(&mut desk, 1, ms(0));
    desk.act((1, 1), Act::Allow, ms(5000));
    assert!(desk.take_orders().is_empty());
}

#[test]
fn the_search_lists_what_it_finds_and_lets_go_of_what_it_hides() {
    let mut desk = desk_with(vec![ask(1, "work")]);
    let listed = |desk: &Desk| desk.views(ms(0))[0].call.listed.clone();
    assert_eq!(listed(&desk), [true, true]);
    desk.act((1, 1), Act::Search(" VAU ".into()), ms(0));
    assert_eq!(listed(&desk), [false, true]);
    assert_eq!(desk.views(ms(0))[0].call.chosen, Some(1));
    desk.act((1, 1), Act::Search("pers".into()), ms(0));
    assert_eq!(desk.views(ms(0))[0].call.chosen, None);
    desk.act((1, 1), Act::Choose(1), ms(0));
    assert_eq!(
        desk.views(ms(0))[0].call.chosen,
        None,
        "what is hidden cannot be chosen"
    );
    desk.act((1, 1), Act::Search("black".into()), ms(0));
    assert_eq!(listed(&desk), [false, true], "labels are searched too");
    // Longer than any name, and cheap.
    desk.act((1, 1), Act::Search("x".repeat(1 << 20)), ms(0));
    assert_eq!(listed(&desk), [false, false]);
}

#[test]
fn a_source_fills_no_more_than_its_places_and_the_rest_is_counted() {
    let mut asks: Vec<Ask> = (1..=16).map(|id| ask(id, "flood")).collect();
    asks.push(ask(17, "work"));
    let mut desk = desk_with(asks);
    assert_eq!(ids(&desk), [1, 2, 17]);
    let views = desk.views(ms(0));
    assert_eq!((views[0].of_source, views[0].waiting), (16, 14));
    assert_eq!((views[2].of_source, views[2].waiting), (1, 14));
    desk.news(News::Removed(1), ms(0));
    assert_eq!(ids(&desk), [2, 3, 17]);
}

#[test]
fn no_more_windows_than_a_person_can_tell_apart() {
    let asks = (1..=WINDOWS_MAX as u64 + 1)
        .map(|id| ask(id, &format!("qube{id}")))
        .collect();
    let mut desk = desk_with(asks);
    assert_eq!(ids(&desk).len(), WINDOWS_MAX);
    assert_eq!(desk.views(ms(0))[0].waiting, 1);
    desk.news(News::Removed(3), ms(0));
    assert_eq!(ids(&desk), [1, 2, 4, 5, 6]);
}

#[test]
fn a_qube_without_a_prompt_comes_before_one_that_has_one() {
    let asks = (1..=5)
        .map(|id| ask(id, ["a", "b", "a", "b", "c"][id as usize - 1]))
        .collect();
    let desk = desk_with(asks);
    assert_eq!(ids(&desk), [1, 2, 3, 4, 5]);
    let sources = ["a", "b", "c", "d", "e", "a"];
    let mut desk = desk_with(
        (1..=6)
            .map(|id| ask(id, sources[id as usize - 1]))
            .collect(),
    );
    desk.news(
        News::Added {
            ask: ask(7, "f"),
            wall: WALL,
        },
        ms(0),
    );
    desk.news(News::Removed(2), ms(0));
    assert_eq!(ids(&desk), [1, 3, 4, 5, 7], "not the second of a");
}

#[test]
fn deny_all_denies_what_waits_of_that_qube_and_nothing_else() {
    let asks = (1..=5)
        .map(|id| ask(id, if id == 3 { "mail" } else { "work" }))
        .collect();
    let mut desk = desk_with(asks);
    desk.act((1, 1), Act::DenyAll, ms(0));
    let denied: Vec<u64> = answers(&desk.take_orders())
        .iter()
        .map(|answer| answer.0)
        .collect();
    assert_eq!(denied, [1, 2, 4, 5]);
}

#[test]
fn the_end_of_another_prompt_starts_it_anew() {
    let mut desk = desk_with(vec![ask(1, "work"), ask(2, "mail")]);
    for id in [1, 2] {
        turn_to(&mut desk, id, ms(0));
    }
    assert!(desk.views(ms(600)).iter().all(|view| view.call.may_allow));
    desk.act((1, 1), Act::Allow, ms(600));
    desk.act((1, 2), Act::Allow, ms(600));
    assert_eq!(
        answers(&desk.take_orders()).len(),
        1,
        "a double click allows one call"
    );
    desk.act((1, 2), Act::Key, ms(700));
    desk.news(News::Removed(1), ms(900));
    assert!(!desk.views(ms(5000))[0].call.may_allow);
}

#[test]
fn what_lay_over_a_prompt_and_goes_starts_it_anew() {
    let mut desk = desk_with(vec![ask(1, "work")]);
    turn_to(&mut desk, 1, ms(0));
    assert!(desk.views(ms(600))[0].call.may_allow);
    desk.uncovered(ms(600));
    assert!(!desk.views(ms(5000))[0].call.may_allow);
    turn_to(&mut desk, 1, ms(5000));
    assert!(desk.views(ms(5600))[0].call.may_allow);
}

#[test]
fn an_answer_goes_to_the_daemon_that_asked_and_to_no_later_one() {
    let mut desk = desk_with(vec![ask(1, "work")]);
    turn_to(&mut desk, 1, ms(0));
    desk.news(News::Lost, ms(1000));
    assert!(desk.views(ms(1000)).is_empty());
    let news = News::Listed {
        epoch: 2,
        asks: vec![ask(1, "evil")],
        qubes: Vec::new(),
        wall: WALL,
    };
    desk.news(news, ms(2000));
    desk.act((1, 1), Act::Allow, ms(9000));
    desk.act((1, 1), Act::Deny, ms(9000));
    assert!(desk.take_orders().is_empty());
    assert_eq!(desk.views(ms(9000))[0].key, (2, 1));
    assert!(!desk.views(ms(9000))[0].call.may_allow);
    desk.news(
        News::Failed {
            epoch: 1,
            id: 1,
            why: Why::Gone,
        },
        ms(9000),
    );
    assert_eq!(ids(&desk), [1], "news of the old daemon's call");
}

#[test]
fn at_the_deadline_a_call_is_denied_even_if_it_is_armed() {
    let mut desk = desk_with(vec![ask(1, "work")]);
    turn_to(&mut desk, 1, ms(0));
    let deadline = Duration::from_secs(300);
    desk.tick(deadline - ms(1));
    assert!(desk.take_orders().is_empty());
    desk.act((1, 1), Act::Allow, deadline);
    assert!(desk.take_orders().is_empty());
    assert_eq!(desk.next_change(deadline), Some(deadline));
    desk.tick(deadline);
    assert_eq!(answers(&desk.take_orders()), [(1, Answer::Deny, "")]);
    let failed = News::Failed {
        epoch: 1,
        id: 1,
        why: Why::Other("no".into()),
    };
    desk.news(failed, deadline);
    assert_eq!(desk.next_change(deadline), None, "it is not tried for ever");
}

#[test]
fn an_answer_that_fails_can_be_given_again() {
    let mut desk = desk_with(vec![ask(1, "work")]);
    turn_to(&mut desk, 1, ms(0));
    desk.act((1, 1), Act::Allow, ms(600));
    let failed = News::Failed {
        epoch: 1,
        id: 1,
        why: Why::Other("disk\nfull".into()),
    };
    desk.news(failed, ms(700));
    let call = &desk.views(ms(700))[0].call;
    assert_eq!(call.status, "The answer did not arrive: disk\\u{a}full");
    assert!(call.may_deny && !call.may_allow);
    desk.news(
        News::Failed {
            epoch: 1,
            id: 1,
            why: Why::Gone,
        },
        ms(800),
    );
    assert!(desk.views(ms(800)).is_empty());
}

#[test]
fn prompts_of_another_guivm_are_not_shown_here() {
    let mut other = ask(1, "work");
    other.guivm = Some("sys-gui".into());
    let mut own = ask(2, "work");
    own.guivm = Some("dom0".into());
    assert_eq!(
        ids(&desk_with(vec![other.clone(), own, ask(3, "work")])),
        [2, 3]
    );
    let mut gui = Desk::new(Some("sys-gui".into()));
    gui.news(
        News::Added {
            ask: other,
            wall: WALL,
        },
        ms(0),
    );
    assert_eq!(ids(&gui), [1]);
}

#[test]
fn one_call_too_many_is_counted_and_read_again_when_there_is_room() {
    let asks = (1..=CALLS_MAX as u64 + 1).map(|id| ask(id, &format!("q{}", id % 300)));
    let mut desk = desk_with(asks.collect());
    assert_eq!(desk.calls.len(), CALLS_MAX);
    assert_eq!(desk.views(ms(0))[0].waiting, CALLS_MAX + 1 - WINDOWS_MAX);
    desk.news(News::Removed(9), ms(0));
    assert_eq!(desk.take_orders(), [Order::ReadAgain { epoch: 1 }]);
}

#[test]
fn one_target_too_many_is_left_out_and_said_to_be() {
    let mut asked = ask(1, "work");
    asked.targets = (0..=call::TARGETS_MAX)
        .map(|n| format!("qube{n}"))
        .collect();
    let desk = desk_with(vec![asked]);
    let call = &desk.views(ms(0))[0].call;
    assert_eq!((call.targets.len(), call.left_out), (call::TARGETS_MAX, 1));
}

#[derive(Debug, Clone)]
enum Op {
    Added(u64, usize),
    Removed(u64),
    Connected(Vec<u64>),
    Lost,
    Failed(u64, bool),
    Act(u64, Act),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Shown),
        1 => (0..3_i32).prop_map(|x| Act::Pointer(f64::from(x) * MOVE_MIN / 2.0, 0.0)),
        1 => (0..3_i32).prop_map(|x| Act::Entered(f64::from(x) * MOVE_MIN / 2.0, 0.0)),
        1 => (0..3_i32).prop_map(|x| Act::Rests(f64::from(x) * MOVE_MIN / 2.0, 0.0)),
        2 => Just(Act::Key),
        1 => Just(Act::Left),
        1 => "[a-z]{0,2}".prop_map(Act::Search),
        2 => (0..4_usize).prop_map(Act::Choose),
        8 => Just(Act::Allow),
        1 => Just(Act::Deny),
        1 => Just(Act::DenyAll),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let id = 1..12_u64;
    prop_oneof![
        4 => (id.clone(), 0..4_usize).prop_map(|(id, source)| Op::Added(id, source)),
        1 => id.clone().prop_map(Op::Removed),
        1 => prop::collection::vec(id.clone(), 0..12).prop_map(Op::Connected),
        1 => Just(Op::Lost),
        1 => (id.clone(), any::<bool>()).prop_map(|(id, gone)| Op::Failed(id, gone)),
        12 => (id, acts()).prop_map(|(id, act)| Op::Act(id, act)),
        6 => (0..400_u64).prop_map(Op::Wait),
    ]
}

/// What a call must have been through before it may be allowed, told from the outside.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    since: Option<Duration>,
    anchor: Option<f64>,
    entered: bool,
    moved: bool,
}

#[derive(Debug, Default)]
struct World {
    now: Duration,
    epoch: u64,
    waiting: HashMap<u64, Ask>,
    seen: HashMap<u64, Seen>,
    answered: HashSet<u64>,
}

impl World {
    fn restart_others(&mut self, id: u64) {
        for (other, seen) in &mut self.seen {
            if *other != id && seen.since.is_some() {
                *seen = Seen {
                    since: Some(self.now),
                    ..Seen::default()
                };
            }
        }
    }

    fn act(&mut self, id: u64, act: &Act) {
        let now = self.now;
        let seen = self.seen.entry(id).or_default();
        match act {
            Act::Shown => seen.since = seen.since.or(Some(now)),
            Act::Key => seen.moved = true,
            Act::Pointer(x, _) => {
                let anchor = *seen.anchor.get_or_insert(*x);
                let came = std::mem::take(&mut seen.entered) && *x == anchor;
                seen.moved |= came || (x - anchor).abs() >= MOVE_MIN;
            }
            Act::Entered(x, _) => (seen.anchor, seen.entered) = (Some(*x), true),
            Act::Rests(x, _) => (seen.anchor, seen.entered) = (Some(*x), false),
            Act::Left => {
                *seen = Seen {
                    since: seen.since.map(|_| now),
                    ..Seen::default()
                }
            }
            _ => {}
        }
    }

    fn remove(&mut self, id: u64, shown: bool) {
        if self.waiting.remove(&id).is_some() && shown {
            self.restart_others(id);
        }
        self.seen.remove(&id);
        self.answered.remove(&id);
    }

    #[track_caller]
    fn verify_invariants(&mut self, desk: &mut Desk, before: &[View], op: &Op) {
        for order in desk.take_orders() {
            let Order::Answer {
                epoch,
                id,
                answer,
                target,
            } = order
            else {
                continue;
            };
            assert_eq!(epoch, self.epoch, "{op:?}");
            assert!(self.answered.insert(id), "{id} was answered before");
            if answer == Answer::Allow {
                let seen = self.seen[&id];
                assert!(seen.moved, "{op:?}");
                assert!(
                    self.now >= seen.since.expect("it was shown") + ARM_AFTER,
                    "{op:?}"
                );
                let view = before
                    .iter()
                    .find(|view| view.call.id == id)
                    .expect("a window");
                assert!(self.waiting[&id].targets.contains(&target));
                assert_eq!(view.call.target.title, target);
                assert!(view.call.may_allow);
            }
            self.restart_others(id);
        }
        let views = desk.views(self.now);
        assert!(views.len() <= WINDOWS_MAX);
        let mut per_source: HashMap<&str, usize> = HashMap::new();
        for view in &views {
            *per_source.entry(&view.call.source.title).or_default() += 1;
            assert_eq!(views.len() + view.waiting, self.waiting.len(), "{op:?}");
            if let Some(chosen) = view.call.chosen {
                assert!(view.call.listed[chosen]);
            }
        }
        assert!(
            per_source
                .values()
                .all(|count| *count <= WINDOWS_PER_SOURCE)
        );
        assert_eq!(views.is_empty(), self.waiting.is_empty(), "{op:?}");
        if let Some(next) = desk.next_change(self.now) {
            assert!(next >= self.now);
        }
    }
}

proptest! {
    #[test]
    fn random_sequences_keep_the_invariants(ops in prop::collection::vec(ops(), 0..120)) {
        let mut desk = desk_with(Vec::new());
        let mut world = World { epoch: 1, ..World::default() };
        for op in &ops {
            let before = desk.views(world.now);
            let has_window = |id: u64| before.iter().any(|view| view.call.id == id);
            match op {
                Op::Added(id, source) => {
                    // Denied but not confirmed calls have no claim to a window, so a test that
                    // counts windows confirms at once, as the daemon does.
                    let ask = ask(*id, ["work", "mail", "web", "play"][*source]);
                    world.waiting.entry(*id).or_insert_with(|| ask.clone());
                    desk.news(News::Added { ask, wall: WALL }, world.now);
                }
                Op::Removed(id) => {
                    desk.news(News::Removed(*id), world.now);
                    world.remove(*id, has_window(*id));
                }
                Op::Connected(ids) => {
                    world = World { now: world.now, epoch: world.epoch + 1, ..World::default() };
                    let asks: Vec<Ask> = ids.iter().map(|id| ask(*id, "work")).collect();
                    world.waiting = asks.iter().map(|ask| (ask.id, ask.clone())).collect();
                    let news = News::Listed { epoch: world.epoch, asks, qubes: Vec::new(), wall: WALL };
                    desk.news(news, world.now);
                }
                Op::Lost => {
                    desk.news(News::Lost, world.now);
                    world = World { now: world.now, epoch: world.epoch, ..World::default() };
                }
                Op::Failed(id, gone) => {
                    let why = if *gone { Why::Gone } else { Why::Other("no".into()) };
                    desk.news(News::Failed { epoch: world.epoch, id: *id, why }, world.now);
                    if *gone {
                        world.remove(*id, has_window(*id));
                    } else if world.waiting.contains_key(id) {
                        world.answered.remove(id);
                        world.act(*id, &Act::Left);
                    }
                }
                Op::Act(id, act) => {
                    if has_window(*id) {
                        world.act(*id, act);
                    }
                    desk.act((world.epoch, *id), act.clone(), world.now);
                }
                Op::Wait(time) => {
                    world.now += ms(*time);
                    desk.tick(world.now);
                }
            }
            world.verify_invariants(&mut desk, &before, op);
            for id in world.answered.clone() {
                let shown = desk.views(world.now).iter().any(|view| view.call.id == id);
                desk.news(News::Removed(id), world.now);
                world.remove(id, shown);
            }
        }
    }
}
