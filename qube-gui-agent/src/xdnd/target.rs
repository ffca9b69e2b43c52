//! The target that applications of X see while they drag over windows of Wayland: what it makes of
//! what they say, and how it answers. Pure: it is told the time.
//!
//! A source enters, says where the pointer is as often as that moves, and leaves or drops; what was
//! dropped is finished once, whatever the application of Wayland does.

use std::time::{Duration, Instant};

use smithay::reexports::wayland_server::protocol::wl_data_device_manager::DndAction;
use smithay::reexports::x11rb::protocol::xproto::{Timestamp, Window};

use super::message::VERSION_MIN;

/// How long a source may take to say what it does, once the button came up.
pub(super) const DROP_PATIENCE: Duration = Duration::from_secs(3);

/// How long an application of Wayland may take for what was dropped to it. Some ask the person.
pub(super) const FINISH_PATIENCE: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The source is told how it would be taken, or that it would not.
    Status(Window, Option<DndAction>),
    /// The source is told how it was taken, or that it was not.
    Finished(Window, Option<DndAction>),
    /// The source would have it taken so.
    Moved(DndAction, Timestamp),
    Left,
    Dropped(Timestamp),
}

#[derive(Debug)]
struct Visit {
    source: Window,
    /// How the target would take it.
    answer: Option<DndAction>,
    phase: Phase,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Over,
    /// The button came up, and the source is to say what it does.
    Released(Instant),
    Dropped(Instant),
}

#[derive(Debug, Default)]
pub(super) struct Target {
    visit: Option<Visit>,
}

impl Target {
    /// A source comes that speaks this version; none where it is too old.
    pub(super) fn enter(&mut self, source: Window, version: u32) -> Option<Vec<Step>> {
        if version < VERSION_MIN {
            return None;
        }
        let steps = self.end();
        self.visit = Some(Visit {
            source,
            answer: None,
            phase: Phase::Over,
        });
        Some(steps)
    }

    fn visit(&mut self, source: Window) -> Option<&mut Visit> {
        let visit = self.visit.as_mut();
        visit.filter(|visit| visit.source == source && !matches!(visit.phase, Phase::Dropped(_)))
    }

    /// The pointer has moved.
    pub(super) fn position(
        &mut self,
        source: Window,
        action: DndAction,
        time: Timestamp,
    ) -> Vec<Step> {
        let Some(visit) = self.visit(source) else {
            return Vec::new();
        };
        // It may not say more before it is answered.
        let status = Step::Status(source, visit.answer);
        vec![Step::Moved(action, time), status]
    }

    pub(super) fn leave(&mut self, source: Window) -> Vec<Step> {
        if self.visit(source).is_none() {
            return Vec::new();
        }
        self.visit = None;
        vec![Step::Left]
    }

    pub(super) fn drop(&mut self, now: Instant, source: Window, time: Timestamp) -> Vec<Step> {
        let Some(visit) = self.visit(source) else {
            return Vec::new();
        };
        visit.phase = Phase::Dropped(now + FINISH_PATIENCE);
        vec![Step::Dropped(time)]
    }

    /// How what is dragged would be taken now, if at all.
    pub(super) fn answer(&mut self, answer: Option<DndAction>) -> Vec<Step> {
        match &mut self.visit {
            Some(visit) if visit.answer != answer => {
                visit.answer = answer;
                if let Phase::Dropped(_) = visit.phase {
                    return Vec::new();
                }
                vec![Step::Status(visit.source, answer)]
            }
            _ => Vec::new(),
        }
    }

    /// The application of Wayland has done with what was dropped.
    pub(super) fn finish(&mut self, how: Option<DndAction>) -> Vec<Step> {
        match self.visit.take() {
            Some(visit) if matches!(visit.phase, Phase::Dropped(_)) => {
                vec![Step::Finished(visit.source, how)]
            }
            other => {
                self.visit = other;
                Vec::new()
            }
        }
    }

    /// The button came up: the source is to say what it does.
    pub(super) fn release(&mut self, now: Instant) {
        if let Some(visit) = self.visit.as_mut()
            && visit.phase == Phase::Over
        {
            visit.phase = Phase::Released(now + DROP_PATIENCE);
        }
    }

    /// The source is gone or forgotten, as far as it has not dropped.
    pub(super) fn end(&mut self) -> Vec<Step> {
        match self.visit.take() {
            Some(visit) if matches!(visit.phase, Phase::Dropped(_)) => {
                vec![Step::Finished(visit.source, None)]
            }
            Some(_) => vec![Step::Left],
            None => Vec::new(),
        }
    }

    /// When something is due at last.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.visit.as_ref()?.phase {
            Phase::Over => None,
            Phase::Released(until) | Phase::Dropped(until) => Some(until),
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Step> {
        if self.deadline().is_some_and(|due| now >= due) {
            return self.end();
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COPY: Option<DndAction> = Some(DndAction::Copy);

    fn entered() -> Target {
        let mut target = Target::default();
        assert_eq!(target.enter(1, VERSION_MIN), Some(vec![]));
        target
    }

    #[test]
    fn sources_that_speak_too_old_a_version_are_not_let_in() {
        assert_eq!(Target::default().enter(1, VERSION_MIN - 1), None);
    }

    #[test]
    fn each_position_is_answered() {
        let mut target = entered();
        let moved = Step::Moved(DndAction::Copy, 7);
        assert_eq!(
            target.position(1, DndAction::Copy, 7),
            [moved, Step::Status(1, None)]
        );
        assert_eq!(target.answer(COPY), [Step::Status(1, COPY)]);
        assert_eq!(target.answer(COPY), []);
        assert_eq!(
            target.position(1, DndAction::Copy, 7),
            [moved, Step::Status(1, COPY)]
        );
    }

    #[test]
    fn nobody_else_than_the_source_is_heard() {
        let mut target = entered();
        assert_eq!(target.position(2, DndAction::Copy, 0), []);
        assert_eq!(target.leave(2), []);
        assert_eq!(target.drop(Instant::now(), 2, 0), []);
    }

    #[test]
    fn what_is_dropped_is_finished_once() {
        let mut target = entered();
        target.answer(COPY);
        assert_eq!(target.drop(Instant::now(), 1, 9), [Step::Dropped(9)]);
        assert_eq!(target.drop(Instant::now(), 1, 9), []);
        assert_eq!(target.leave(1), []);
        assert_eq!(target.finish(COPY), [Step::Finished(1, COPY)]);
        assert_eq!(target.finish(COPY), []);
    }

    #[test]
    fn what_is_never_finished_ends() {
        let now = Instant::now();
        let mut target = entered();
        target.drop(now, 1, 9);
        let due = now + FINISH_PATIENCE;
        assert_eq!(target.tick(due - Duration::from_millis(1)), []);
        assert_eq!(target.tick(due), [Step::Finished(1, None)]);
    }

    #[test]
    fn a_source_that_says_nothing_after_the_button_came_up_is_forgotten() {
        let now = Instant::now();
        let mut target = entered();
        target.release(now);
        let due = now + DROP_PATIENCE;
        assert_eq!(target.tick(due - Duration::from_millis(1)), []);
        assert_eq!(target.tick(due), [Step::Left]);
        assert_eq!(target.drop(due, 1, 0), []);
    }

    #[test]
    fn a_source_that_comes_takes_the_place_of_the_last() {
        let mut target = entered();
        assert_eq!(target.enter(2, 5), Some(vec![Step::Left]));
        target.drop(Instant::now(), 2, 0);
        assert_eq!(target.enter(1, 5), Some(vec![Step::Finished(2, None)]));
    }

    #[derive(Debug, Clone)]
    enum Op {
        Enter(Window, u32),
        Position(Window),
        Leave(Window),
        Drop(Window),
        Answer(bool),
        Finish(bool),
        Release,
        End,
        Wait,
    }

    fn ops() -> impl Strategy<Value = Op> {
        let window = 1..=2_u32;
        prop_oneof![
            (window.clone(), 0..=6_u32).prop_map(|(from, version)| Op::Enter(from, version)),
            window.clone().prop_map(Op::Position),
            window.clone().prop_map(Op::Leave),
            window.prop_map(Op::Drop),
            any::<bool>().prop_map(Op::Answer),
            any::<bool>().prop_map(Op::Finish),
            Just(Op::Release),
            Just(Op::End),
            Just(Op::Wait),
        ]
    }

    proptest! {
        /// Whatever comes: who enters is told of one end, what was dropped is finished exactly once,
        /// and nothing is waited for without a limit.
        #[test]
        fn each_visit_has_one_end(ops in prop::collection::vec(ops(), 0..60)) {
            let mut now = Instant::now();
            let mut target = Target::default();
            let (mut here, mut dropped) = (false, None);
            for op in ops {
                let mut enters = false;
                let steps = match op {
                    Op::Enter(from, version) => {
                        let steps = target.enter(from, version);
                        enters = steps.is_some();
                        steps.unwrap_or_default()
                    }
                    Op::Position(from) => target.position(from, DndAction::Copy, 0),
                    Op::Leave(from) => target.leave(from),
                    Op::Drop(from) => {
                        let steps = target.drop(now, from, 0);
                        if !steps.is_empty() {
                            dropped = Some(from);
                        }
                        steps
                    }
                    Op::Answer(yes) => target.answer(COPY.filter(|_| yes)),
                    Op::Finish(yes) => target.finish(COPY.filter(|_| yes)),
                    Op::Release => {
                        target.release(now);
                        Vec::new()
                    }
                    Op::End => target.end(),
                    Op::Wait => {
                        now += FINISH_PATIENCE;
                        target.tick(now)
                    }
                };
                for step in steps {
                    match step {
                        Step::Left => {
                            prop_assert!(here && dropped.is_none());
                            here = false;
                        }
                        Step::Finished(to, _) => {
                            prop_assert_eq!(dropped.take(), Some(to));
                            here = false;
                        }
                        Step::Moved(..) | Step::Dropped(_) | Step::Status(..) => {
                            prop_assert!(here);
                        }
                    }
                }
                here |= enters;
                prop_assert_eq!(target.deadline().is_some(), dropped.is_some() || matches!(
                    target.visit.as_ref().map(|visit| &visit.phase),
                    Some(Phase::Released(_))
                ));
            }
        }
    }
}
