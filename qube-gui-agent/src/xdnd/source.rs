//! The source that applications of X see while an application of Wayland drags: what it says to the
//! window that the pointer is over, and what it makes of the answers. Pure: it is told the time.
//!
//! ```text
//!          over a window            the button comes up, and it would take it
//! Nowhere ---------------> Over ------------------------------------------------> Dropped
//!    ^                      |  \__ and it has not answered yet --> Dropping --'      |
//!    '----- leaves ---------'            (refused, or too late: ends)                '--> ends
//! ```

use std::time::{Duration, Instant};

use smithay::reexports::wayland_server::protocol::wl_data_device_manager::DndAction;
use smithay::reexports::x11rb::protocol::xproto::Window;

use super::message::VERSION;

/// How long a target may take to answer where the pointer is.
pub(super) const STATUS_PATIENCE: Duration = Duration::from_secs(3);

/// How long a target may take for what was dropped.
pub(super) const FINISH_PATIENCE: Duration = Duration::from_secs(20);

/// A point of the screen, in pixels.
pub(super) type Point = (u16, u16);

/// A window that takes what is dragged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aim {
    pub(super) window: Window,
    /// Who hears the messages for it.
    pub(super) listener: Window,
    /// What it speaks.
    pub(super) version: u32,
}

/// What is to be said to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Enter,
    Position(Point),
    Leave,
    Drop,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Say(Aim, Word),
    /// It would be taken so, or not at all.
    Status(Option<DndAction>),
    /// The target has been told to take it.
    Dropped,
    /// The drag is over. How it was taken, if it was.
    Ended(Option<DndAction>),
}

#[derive(Debug)]
struct Over {
    aim: Aim,
    /// Until when it is to have answered where the pointer is.
    owes_answer: Option<Instant>,
    /// Where the pointer has gone meanwhile.
    next: Option<Point>,
    accepts: Option<DndAction>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Nowhere,
    Over(Over),
    Dropping(Over, Instant),
    Dropped(Over, Instant),
}

#[derive(Debug, Default)]
pub(super) struct Source {
    state: State,
}

impl Source {
    /// The pointer is there, and over this target if there is one.
    pub(super) fn point(&mut self, now: Instant, aim: Option<Aim>, at: Point) -> Vec<Step> {
        let mut steps = Vec::new();
        match &mut self.state {
            State::Dropping(..) | State::Dropped(..) => return steps,
            State::Over(over) if Some(over.aim) == aim => {
                if over.owes_answer.is_some() {
                    over.next = Some(at);
                    return steps;
                }
            }
            State::Over(over) => {
                steps.push(Step::Say(over.aim, Word::Leave));
                steps.push(Step::Status(None));
                self.state = State::Nowhere;
            }
            State::Nowhere => {}
        }
        let Some(aim) = aim else {
            return steps;
        };
        if let State::Nowhere = self.state {
            steps.push(Step::Say(aim, Word::Enter));
            self.state = State::Over(Over {
                aim,
                owes_answer: None,
                next: None,
                accepts: None,
            });
        }
        if let State::Over(over) = &mut self.state {
            over.owes_answer = Some(now + STATUS_PATIENCE);
            steps.push(Step::Say(aim, Word::Position(at)));
        }
        steps
    }

    /// The button comes up.
    pub(super) fn release(&mut self, now: Instant) -> Vec<Step> {
        match std::mem::take(&mut self.state) {
            State::Over(over) => match (over.owes_answer, over.accepts) {
                (Some(until), _) => {
                    self.state = State::Dropping(over, until);
                    Vec::new()
                }
                (None, Some(_)) => self.drop(over, now),
                (None, None) => refused(&over),
            },
            State::Nowhere => vec![Step::Ended(None)],
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }

    fn drop(&mut self, over: Over, now: Instant) -> Vec<Step> {
        let steps = vec![Step::Say(over.aim, Word::Drop), Step::Dropped];
        self.state = State::Dropped(over, now + FINISH_PATIENCE);
        steps
    }

    /// A target answers where the pointer is.
    pub(super) fn status(
        &mut self,
        now: Instant,
        from: Window,
        accepts: Option<DndAction>,
    ) -> Vec<Step> {
        match std::mem::take(&mut self.state) {
            State::Over(mut over) if over.aim.window == from => {
                over.accepts = accepts;
                over.owes_answer = None;
                let mut steps = vec![Step::Status(accepts)];
                if let Some(at) = over.next.take() {
                    over.owes_answer = Some(now + STATUS_PATIENCE);
                    steps.push(Step::Say(over.aim, Word::Position(at)));
                }
                self.state = State::Over(over);
                steps
            }
            State::Dropping(mut over, _) if over.aim.window == from => {
                over.accepts = accepts;
                if accepts.is_none() {
                    return refused(&over);
                }
                let mut steps = vec![Step::Status(accepts)];
                steps.extend(self.drop(over, now));
                steps
            }
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }

    /// A target has done with what was dropped: whether it took it, and how.
    pub(super) fn finished(
        &mut self,
        from: Window,
        taken: bool,
        action: Option<DndAction>,
    ) -> Vec<Step> {
        match std::mem::take(&mut self.state) {
            State::Dropped(over, _) if over.aim.window == from => {
                // Older ones tell neither.
                let how = if over.aim.version < VERSION {
                    over.accepts
                } else {
                    action.or(over.accepts).filter(|_| taken)
                };
                vec![Step::Ended(how)]
            }
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }

    /// Nothing is dragged any more.
    pub(super) fn cancel(&mut self) -> Vec<Step> {
        match std::mem::take(&mut self.state) {
            State::Over(over) | State::Dropping(over, _) => {
                vec![Step::Say(over.aim, Word::Leave)]
            }
            State::Nowhere | State::Dropped(..) => Vec::new(),
        }
    }

    /// When something is due at last.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Nowhere => None,
            State::Over(over) => over.owes_answer,
            State::Dropping(_, until) | State::Dropped(_, until) => Some(*until),
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Step> {
        if self.deadline().is_none_or(|due| now < due) {
            return Vec::new();
        }
        match std::mem::take(&mut self.state) {
            State::Nowhere => Vec::new(),
            State::Over(mut over) => {
                // It takes nothing until it answers, but it is told of the pointer.
                over.accepts = None;
                over.owes_answer = None;
                let mut steps = vec![Step::Status(None)];
                if let Some(at) = over.next.take() {
                    over.owes_answer = Some(now + STATUS_PATIENCE);
                    steps.push(Step::Say(over.aim, Word::Position(at)));
                }
                self.state = State::Over(over);
                steps
            }
            State::Dropping(over, _) => refused(&over),
            State::Dropped(..) => vec![Step::Ended(None)],
        }
    }
}

fn refused(over: &Over) -> Vec<Step> {
    vec![Step::Say(over.aim, Word::Leave), Step::Ended(None)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AIM: Aim = Aim {
        window: 1,
        listener: 1,
        version: VERSION,
    };
    const OTHER: Aim = Aim {
        window: 2,
        listener: 3,
        version: 4,
    };
    const COPY: Option<DndAction> = Some(DndAction::Copy);

    fn over(now: Instant) -> Source {
        let mut source = Source::default();
        let steps = source.point(now, Some(AIM), (1, 2));
        let told = [Word::Enter, Word::Position((1, 2))];
        assert_eq!(steps, told.map(|word| Step::Say(AIM, word)));
        source
    }

    #[test]
    fn a_target_that_accepts_is_dropped_to() {
        let now = Instant::now();
        let mut source = over(now);
        assert_eq!(source.status(now, 1, COPY), [Step::Status(COPY)]);
        let dropped = [Step::Say(AIM, Word::Drop), Step::Dropped];
        assert_eq!(source.release(now), dropped);
        assert_eq!(source.finished(2, true, COPY), []);
        let moved = Some(DndAction::Move);
        assert_eq!(source.finished(1, true, moved), [Step::Ended(moved)]);
        assert_eq!(source.deadline(), None);
    }

    #[test]
    fn a_target_that_takes_nothing_in_the_end_has_not_taken_it() {
        let now = Instant::now();
        let mut source = over(now);
        source.status(now, 1, COPY);
        source.release(now);
        assert_eq!(source.finished(1, false, None), [Step::Ended(None)]);
    }

    #[test]
    fn an_older_target_took_it_as_it_said_before() {
        let now = Instant::now();
        let mut source = Source::default();
        source.point(now, Some(OTHER), (0, 0));
        source.status(now, 2, COPY);
        source.release(now);
        assert_eq!(source.finished(2, false, None), [Step::Ended(COPY)]);
    }

    #[test]
    fn a_target_hears_of_one_position_at_a_time() {
        let now = Instant::now();
        let mut source = over(now);
        assert_eq!(source.point(now, Some(AIM), (3, 4)), []);
        assert_eq!(source.point(now, Some(AIM), (5, 6)), []);
        let last = Step::Say(AIM, Word::Position((5, 6)));
        assert_eq!(source.status(now, 1, COPY), [Step::Status(COPY), last]);
    }

    #[test]
    fn a_target_that_owes_an_answer_is_dropped_to_when_it_has_accepted() {
        let now = Instant::now();
        let mut source = over(now);
        assert_eq!(source.release(now), []);
        assert_eq!(source.status(now, 2, COPY), []);
        let steps = source.status(now, 1, COPY);
        let dropped = [
            Step::Status(COPY),
            Step::Say(AIM, Word::Drop),
            Step::Dropped,
        ];
        assert_eq!(steps, dropped);
    }

    #[test]
    fn a_target_that_does_not_accept_is_left() {
        let now = Instant::now();
        let left = [Step::Say(AIM, Word::Leave), Step::Ended(None)];
        let mut source = over(now);
        source.status(now, 1, None);
        assert_eq!(source.release(now), left);
        let mut source = over(now);
        source.release(now);
        assert_eq!(source.status(now, 1, None), left);
    }

    #[test]
    fn targets_that_never_answer_are_waited_for_no_longer_than_that() {
        let now = Instant::now();
        let late = now + STATUS_PATIENCE;
        let mut source = over(now);
        source.point(now, Some(AIM), (3, 4));
        assert_eq!(source.tick(late - Duration::from_millis(1)), []);
        let next = Step::Say(AIM, Word::Position((3, 4)));
        assert_eq!(source.tick(late), [Step::Status(None), next]);

        let mut source = over(now);
        source.release(now);
        let left = [Step::Say(AIM, Word::Leave), Step::Ended(None)];
        assert_eq!(source.tick(late), left);

        let mut source = over(now);
        source.status(now, 1, COPY);
        source.release(now);
        assert_eq!(source.tick(late), []);
        assert_eq!(source.tick(now + FINISH_PATIENCE), [Step::Ended(None)]);
    }

    #[test]
    fn what_is_dropped_over_nothing_ends() {
        let now = Instant::now();
        let mut source = over(now);
        let left = [Step::Say(AIM, Word::Leave), Step::Status(None)];
        assert_eq!(source.point(now, None, (9, 9)), left);
        assert_eq!(source.release(now), [Step::Ended(None)]);
    }

    #[derive(Debug, Clone)]
    enum Op {
        Point(Option<Aim>),
        Release,
        Status(Window, bool),
        Finished(Window, bool),
        Cancel,
        Wait,
    }

    fn ops() -> impl Strategy<Value = Op> {
        let window = 1..=2_u32;
        prop_oneof![
            prop::option::of(prop_oneof![Just(AIM), Just(OTHER)]).prop_map(Op::Point),
            Just(Op::Release),
            (window.clone(), any::<bool>()).prop_map(|(from, yes)| Op::Status(from, yes)),
            (window, any::<bool>()).prop_map(|(from, yes)| Op::Finished(from, yes)),
            Just(Op::Cancel),
            Just(Op::Wait),
        ]
    }

    proptest! {
        /// Whatever comes: a target is entered once before it hears anything else, hears nothing after
        /// it was left or dropped to, is asked for one answer at a time, and takes only what it wanted.
        #[test]
        fn targets_hear_what_the_protocol_allows(ops in prop::collection::vec(ops(), 0..60)) {
            let mut now = Instant::now();
            let mut source = Source::default();
            let (mut inside, mut asked, mut wanted) = (None, false, false);
            for op in ops {
                let steps = match op {
                    Op::Point(aim) => source.point(now, aim, (0, 0)),
                    Op::Release => source.release(now),
                    Op::Status(from, yes) => {
                        if inside.is_some_and(|aim: Aim| aim.window == from) {
                            (asked, wanted) = (false, yes);
                        }
                        source.status(now, from, COPY.filter(|_| yes))
                    }
                    Op::Finished(from, yes) => source.finished(from, yes, COPY),
                    Op::Cancel => source.cancel(),
                    Op::Wait => {
                        now += FINISH_PATIENCE;
                        // Without an answer it wants nothing.
                        wanted &= !asked;
                        asked = false;
                        source.tick(now)
                    }
                };
                for step in steps {
                    let Step::Say(aim, word) = step else { continue };
                    match word {
                        Word::Enter => {
                            prop_assert_eq!(inside, None);
                            (inside, asked, wanted) = (Some(aim), false, false);
                        }
                        Word::Position(_) => {
                            prop_assert_eq!(inside, Some(aim));
                            prop_assert!(!asked);
                            asked = true;
                        }
                        Word::Leave => prop_assert_eq!(inside.take(), Some(aim)),
                        Word::Drop => {
                            prop_assert_eq!(inside.take(), Some(aim));
                            prop_assert!(wanted && !asked);
                        }
                    }
                }
                prop_assert!(source.deadline().is_none_or(|due| due > now));
            }
        }
    }
}
