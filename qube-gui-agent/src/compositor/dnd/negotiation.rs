//! What an application of Wayland says of what is dragged over it, and what comes of that: the rules
//! of `wl_data_offer`.

use smithay::reexports::wayland_server::protocol::wl_data_device_manager::DndAction;
use smithay::reexports::wayland_server::protocol::wl_data_offer::Error;

/// Since this version targets choose an action, and tell when they have done with it.
pub(super) const ACTIONS_SINCE: u32 = 3;

/// A rule that an application broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) error: Error,
    pub(super) why: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Over,
    Dropped,
    /// Left, finished or given up.
    Ended,
}

/// How the end of an offer is told to its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Taken(DndAction),
    NotTaken,
}

#[derive(Debug)]
pub(super) struct Negotiation {
    version: u32,
    /// What the source can do, and what it, or the person, would like best.
    offered: DndAction,
    requested: DndAction,
    /// The same of the target.
    wanted: DndAction,
    preferred: DndAction,
    accepts: bool,
    chosen: DndAction,
    phase: Phase,
}

/// The action that is chosen: the person's wish before the target's, and asking before doing.
fn choose(available: DndAction, requested: DndAction, preferred: DndAction) -> DndAction {
    let order = [
        requested,
        preferred,
        DndAction::Ask,
        DndAction::Copy,
        DndAction::Move,
    ];
    let mut order = order.into_iter();
    let found = order.find(|action| !action.is_empty() && available.contains(*action));
    found.unwrap_or(DndAction::empty())
}

impl Negotiation {
    pub(super) fn new(version: u32) -> Self {
        Self {
            version,
            offered: DndAction::empty(),
            requested: DndAction::empty(),
            wanted: DndAction::empty(),
            preferred: DndAction::empty(),
            accepts: false,
            chosen: DndAction::empty(),
            phase: Phase::Over,
        }
    }

    /// The source can do this; the action, if another one is chosen now.
    pub(super) fn offer(&mut self, offered: DndAction, requested: DndAction) -> Option<DndAction> {
        (self.offered, self.requested) = (offered, requested);
        self.choose()
    }

    fn choose(&mut self) -> Option<DndAction> {
        let wanted = if self.version < ACTIONS_SINCE {
            // There it cannot say so.
            DndAction::Copy
        } else {
            self.wanted
        };
        let chosen = choose(self.offered & wanted, self.requested, self.preferred);
        let is_new = chosen != self.chosen;
        self.chosen = chosen;
        is_new.then_some(chosen)
    }

    /// Whether the target takes any of the kinds.
    pub(super) fn accept(&mut self, accepts: bool) {
        if self.phase == Phase::Over {
            self.accepts = accepts;
        }
    }

    /// What the target can do; the action, if another one is chosen now.
    pub(super) fn want(
        &mut self,
        wanted: DndAction,
        preferred: DndAction,
    ) -> Result<Option<DndAction>, Broken> {
        if preferred.bits().count_ones() > 1 {
            return Err(Broken {
                error: Error::InvalidAction,
                why: "only one action can be preferred",
            });
        }
        if self.phase == Phase::Ended {
            return Ok(None);
        }
        if self.phase == Phase::Dropped {
            // What the person was asked for, the target answers.
            self.requested = DndAction::empty();
        }
        (self.wanted, self.preferred) = (wanted, preferred);
        Ok(self.choose())
    }

    /// How it would be taken now.
    pub(super) fn would(&self) -> Option<DndAction> {
        Some(self.chosen).filter(|action| self.accepts && !action.is_empty())
    }

    /// It is dropped; false where the target does not take it.
    pub(super) fn drop(&mut self) -> bool {
        let is_taken = self.phase == Phase::Over && self.would().is_some();
        self.phase = if is_taken {
            Phase::Dropped
        } else {
            Phase::Ended
        };
        is_taken
    }

    /// The pointer, or the source, is gone.
    pub(super) fn leave(&mut self) {
        if self.phase == Phase::Over {
            self.phase = Phase::Ended;
        }
    }

    /// Whether the target may read it.
    pub(super) fn is_there(&self) -> bool {
        self.phase != Phase::Ended
    }

    /// The target has done with it.
    pub(super) fn finish(&mut self) -> Result<End, Broken> {
        let broken = |why| {
            let error = Error::InvalidFinish;
            Err(Broken { error, why })
        };
        match (self.phase, self.would()) {
            (Phase::Ended, _) => broken("the offer is over"),
            (Phase::Over, _) => broken("nothing was dropped"),
            (Phase::Dropped, None) => broken("it was not accepted"),
            (Phase::Dropped, Some(DndAction::Ask)) => broken("the action is still to be asked for"),
            (Phase::Dropped, Some(action)) => {
                self.phase = Phase::Ended;
                Ok(End::Taken(action))
            }
        }
    }

    /// The target does not need it any more; what that is for the source, if it is anything.
    pub(super) fn destroy(&mut self) -> Option<End> {
        let was = std::mem::replace(&mut self.phase, Phase::Ended);
        (was == Phase::Dropped).then(|| match self.would() {
            // It has no other way to say so.
            Some(action) if self.version < ACTIONS_SINCE => End::Taken(action),
            _ => End::NotTaken,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: DndAction = DndAction::empty();
    const COPY: DndAction = DndAction::Copy;
    const MOVE: DndAction = DndAction::Move;
    const ASK: DndAction = DndAction::Ask;

    fn offered(actions: DndAction, requested: DndAction) -> Negotiation {
        let mut negotiation = Negotiation::new(ACTIONS_SINCE);
        assert_eq!(negotiation.offer(actions, requested), None);
        negotiation
    }

    #[test]
    fn the_person_chooses_before_the_target() {
        assert_eq!(choose(COPY | MOVE, MOVE, COPY), MOVE);
        assert_eq!(choose(COPY | MOVE, NONE, MOVE), MOVE);
        assert_eq!(choose(COPY, MOVE, MOVE), COPY);
        assert_eq!(choose(COPY | MOVE | ASK, NONE, NONE), ASK);
        assert_eq!(choose(NONE, COPY, COPY), NONE);
    }

    #[test]
    fn what_is_accepted_is_dropped_and_finished_once() {
        let mut offer = offered(COPY | MOVE, NONE);
        offer.accept(true);
        assert_eq!(offer.would(), None);
        assert_eq!(offer.want(COPY, COPY), Ok(Some(COPY)));
        assert_eq!(offer.want(COPY, COPY), Ok(None));
        assert_eq!(offer.would(), Some(COPY));
        assert!(offer.finish().is_err());
        assert!(offer.drop());
        assert_eq!(offer.finish(), Ok(End::Taken(COPY)));
        assert!(offer.finish().is_err());
        assert_eq!(offer.destroy(), None);
    }

    #[test]
    fn what_is_not_accepted_is_not_dropped() {
        let mut offer = offered(COPY, NONE);
        offer.want(COPY, COPY).unwrap();
        assert!(!offer.drop());
        assert!(!offer.is_there());
        let mut offer = offered(MOVE, NONE);
        offer.accept(true);
        offer.want(COPY, COPY).unwrap();
        assert!(!offer.drop());
    }

    #[test]
    fn a_target_that_asks_says_what_came_of_it() {
        let mut offer = offered(COPY | MOVE | ASK, ASK);
        offer.accept(true);
        offer.want(COPY | MOVE | ASK, COPY).unwrap();
        assert_eq!(offer.would(), Some(ASK));
        assert!(offer.drop());
        assert!(offer.finish().is_err());
        assert_eq!(offer.want(MOVE, MOVE), Ok(Some(MOVE)));
        assert_eq!(offer.finish(), Ok(End::Taken(MOVE)));
    }

    #[test]
    fn targets_that_go_away_have_not_taken_it() {
        let mut offer = offered(COPY, NONE);
        offer.accept(true);
        offer.want(COPY, COPY).unwrap();
        assert!(offer.drop());
        assert_eq!(offer.destroy(), Some(End::NotTaken));
    }

    #[test]
    fn old_targets_copy_and_only_go_away() {
        let mut offer = Negotiation::new(ACTIONS_SINCE - 1);
        assert_eq!(offer.offer(COPY | MOVE, MOVE), Some(COPY));
        offer.accept(true);
        assert!(offer.drop());
        assert_eq!(offer.destroy(), Some(End::Taken(COPY)));
    }

    #[test]
    fn two_actions_cannot_be_preferred() {
        let broken = offered(COPY, NONE).want(COPY, COPY | MOVE).unwrap_err();
        assert_eq!(broken.error, Error::InvalidAction);
    }

    #[derive(Debug, Clone)]
    enum Op {
        Offer(DndAction, DndAction),
        Accept(bool),
        Want(DndAction, DndAction),
        Drop,
        Leave,
        Finish,
        Destroy,
    }

    fn ops() -> impl Strategy<Value = Op> {
        let actions = || (0..8_u32).prop_map(DndAction::from_bits_truncate);
        prop_oneof![
            (actions(), actions()).prop_map(|(all, best)| Op::Offer(all, best)),
            any::<bool>().prop_map(Op::Accept),
            (actions(), actions()).prop_map(|(all, best)| Op::Want(all, best)),
            Just(Op::Drop),
            Just(Op::Leave),
            Just(Op::Finish),
            Just(Op::Destroy),
        ]
    }

    proptest! {
        /// Whatever comes: a source hears of one end at most, and only of what was dropped; and what
        /// is chosen is one action that both can do.
        #[test]
        fn offers_have_one_end(ops in prop::collection::vec(ops(), 0..40)) {
            let mut offer = Negotiation::new(ACTIONS_SINCE);
            let (mut dropped, mut ended) = (false, false);
            for op in ops {
                let end = match op {
                    Op::Offer(all, best) => {
                        if best.bits().count_ones() > 1 {
                            continue;
                        }
                        offer.offer(all, best);
                        None
                    }
                    Op::Accept(yes) => {
                        offer.accept(yes);
                        None
                    }
                    Op::Want(all, best) => {
                        let _ = offer.want(all, best);
                        None
                    }
                    Op::Drop => {
                        dropped |= offer.drop();
                        None
                    }
                    Op::Leave => {
                        offer.leave();
                        None
                    }
                    Op::Finish => offer.finish().ok(),
                    Op::Destroy => offer.destroy(),
                };
                if end.is_some() {
                    prop_assert!(dropped && !ended);
                    ended = true;
                }
                prop_assert!(offer.chosen.bits().count_ones() <= 1);
                prop_assert!(offer.offered.contains(offer.chosen));
                prop_assert!(offer.wanted.contains(offer.chosen) || !offer.is_there());
            }
        }
    }
}
