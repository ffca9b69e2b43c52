//! Who may ask the person, and how often: no source can fill the list, bury the others, or wear the
//! person down. Pure; time comes from outside.
//!
//! A *share* is what a source asks from: a qube, or all disposables of one template, since a new
//! name costs nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Questions that one share may have open: enough for a person, too few to bury the others.
pub(super) const ASKS_PER_SHARE: usize = 16;
/// Questions open in all; a list that a person can still look through.
pub(super) const ASKS_MAX: usize = 256;
/// For so long after a person said no, the same question from the same share is refused unasked:
/// long enough that asking again until somebody slips is hopeless.
pub const HOLD_BACK: Duration = Duration::from_secs(30);
/// So many refusals by a person within [`HOLD_BACK`] and the share may ask nothing until they are
/// that old: more than anybody gives by mistake.
pub(super) const REFUSALS_MAX: usize = 8;

/// What a place in the list costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// There is room.
    Free,
    /// There is room once this question, the newest of the share with the most, is refused.
    Instead(u64),
    /// None: the share has its full number, or nobody has clearly more than it.
    None,
}

/// Looks for a place for one more question of `share`; `open` has the share of each open question
/// by its number, and numbers grow.
///
/// Where the list is full, the share with the most questions gives one up, if it keeps at least as
/// many as the other then has. So whoever has few always gets a place.
pub(super) fn place<'a>(open: impl Iterator<Item = (u64, &'a str)>, share: &str) -> Place {
    let mut shares: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    let mut all = 0_usize;
    for (id, of) in open {
        let (count, newest) = shares.entry(of).or_default();
        *count += 1;
        *newest = id.max(*newest);
        all += 1;
    }
    let own = shares.get(share).map_or(0, |(count, _)| *count);
    if own >= ASKS_PER_SHARE {
        return Place::None;
    }
    if all < ASKS_MAX {
        return Place::Free;
    }
    // Of those with the same number the one that asked last gives way.
    match shares.values().max() {
        Some((most, newest)) if *most > own + 1 => Place::Instead(*newest),
        _ => Place::None,
    }
}

/// The order in which a person sees questions: the oldest of every share, then the second of every
/// share, and so on. `open` is from old to new.
pub(super) fn order<T>(open: impl Iterator<Item = T>, share: impl Fn(&T) -> &str) -> Vec<T> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut all: Vec<(usize, T)> = open
        .map(|question| {
            let count = counts.entry(share(&question).to_owned()).or_default();
            *count += 1;
            (*count, question)
        })
        .collect();
    // Stable: within a row the oldest stays first.
    all.sort_by_key(|(row, _)| *row);
    all.into_iter().map(|(_, question)| question).collect()
}

/// What makes two questions the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Same {
    /// Service and argument.
    pub(super) service: String,
    /// Requested target.
    pub(super) target: String,
}

/// What persons refused not long ago.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// By share, from old to new; at most [`REFUSALS_MAX`] each.
    by_share: HashMap<String, VecDeque<(Instant, Same)>>,
}

impl Refusals {
    fn forget(&mut self, hold: Duration, now: Instant) {
        self.by_share.retain(|_, refused| {
            refused.retain(|(at, _)| now.saturating_duration_since(*at) < hold);
            !refused.is_empty()
        });
    }

    /// A person said no.
    pub(super) fn note(&mut self, share: &str, what: Same, hold: Duration, now: Instant) {
        self.forget(hold, now);
        let refused = self.by_share.entry(share.to_owned()).or_default();
        refused.push_back((now, what));
        if refused.len() > REFUSALS_MAX {
            refused.pop_front();
        }
    }

    /// A person said yes: the share is trusted again, but for what was refused.
    pub(super) fn relent(&mut self, share: &str, what: &Same) {
        if let Some(refused) = self.by_share.get_mut(share) {
            refused.retain(|(_, same)| same != what);
        }
    }

    /// Why the share may not ask this now; none if it may.
    pub(super) fn hold_back(
        &mut self,
        share: &str,
        what: &Same,
        hold: Duration,
        now: Instant,
    ) -> Option<String> {
        self.forget(hold, now);
        let refused = self.by_share.get(share)?;
        let seconds = hold.as_secs();
        if refused.iter().any(|(_, same)| same == what) {
            return Some(format!(
                "the same was refused less than {seconds} seconds ago"
            ));
        }
        (refused.len() >= REFUSALS_MAX)
            .then(|| format!("{REFUSALS_MAX} questions were refused within {seconds} seconds"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(shares: &[&'static str]) -> Vec<(u64, &'static str)> {
        (1..).zip(shares.iter().copied()).collect()
    }

    fn same(service: &str) -> Same {
        Same {
            service: service.to_owned(),
            target: "vault".to_owned(),
        }
    }

    #[test]
    fn one_question_of_a_share_too_many_has_no_place() {
        let full = open(&["a"; ASKS_PER_SHARE]);
        assert_eq!(place(full.iter().copied(), "a"), Place::None);
        assert_eq!(place(full.iter().copied(), "b"), Place::Free);
        assert_eq!(place(full.iter().skip(1).copied(), "a"), Place::Free);
    }

    #[test]
    fn who_has_few_gets_a_place_in_a_full_list_from_who_has_most() {
        let names: Vec<String> = (0..ASKS_MAX / ASKS_PER_SHARE)
            .map(|n| format!("q{n}"))
            .collect();
        let mut full: Vec<(u64, &str)> = Vec::new();
        for id in 1..=ASKS_MAX as u64 {
            full.push((id, &names[id as usize % names.len()]));
        }
        assert_eq!(
            place(full.iter().copied(), "late"),
            Place::Instead(ASKS_MAX as u64)
        );
        full.pop();
        full.push((1000, "late"));
        assert_eq!(place(full.iter().copied(), "late"), Place::Instead(255));
        // One question each: nobody has more than a fair share.
        let each: Vec<String> = (0..ASKS_MAX).map(|n| format!("q{n}")).collect();
        let each = (1..).zip(each.iter().map(String::as_str));
        assert_eq!(place(each, "late"), Place::None);
    }

    #[test]
    fn a_flood_does_not_push_another_question_down() {
        let flood = ["a", "a", "a", "a", "b", "a", "c", "b"];
        let order = order(open(&flood).into_iter(), |(_, share)| share);
        let ids: Vec<u64> = order.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [1, 5, 7, 2, 8, 3, 4, 6]);
    }

    #[test]
    fn what_was_refused_is_held_back_for_its_time_and_no_longer() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let after = |ms: u64| start + Duration::from_millis(ms);
        refusals.note("a", same("s"), HOLD_BACK, start);
        let mut held = |share: &str, what: &str, ms| {
            refusals
                .hold_back(share, &same(what), HOLD_BACK, after(ms))
                .is_some()
        };
        assert!(held("a", "s", 29_999));
        assert!(!held("a", "t", 1), "another question");
        assert!(!held("b", "s", 1), "another source");
        assert!(!held("a", "s", 30_000));
        assert!(refusals.by_share.is_empty(), "nothing is kept for ever");
    }

    #[test]
    fn a_source_that_asks_ever_new_things_is_held_back_as_a_whole() {
        let mut refusals = Refusals::default();
        let now = Instant::now();
        for number in 0..REFUSALS_MAX {
            let what = same(&format!("s+{number}"));
            assert_eq!(refusals.hold_back("a", &what, HOLD_BACK, now), None);
            refusals.note("a", what, HOLD_BACK, now);
        }
        assert!(
            refusals
                .hold_back("a", &same("new"), HOLD_BACK, now)
                .is_some()
        );
        refusals.relent("a", &same("s+0"));
        assert_eq!(refusals.hold_back("a", &same("new"), HOLD_BACK, now), None);
        for _ in 0..1000 {
            refusals.note("a", same("more"), HOLD_BACK, now);
        }
        assert_eq!(refusals.by_share["a"].len(), REFUSALS_MAX);
    }

    proptest! {
        /// However many flood, a share below its fair part always gets a place.
        #[test]
        fn a_modest_share_is_never_turned_away(asks in prop::collection::vec(0usize..40, 0..2000)) {
            let names: Vec<String> = (0..40).map(|n| format!("q{n}")).collect();
            let mut open: BTreeMap<u64, usize> = BTreeMap::new();
            for (id, share) in (1..).zip(asks) {
                let own = open.values().filter(|of| **of == share).count();
                let list = open.iter().map(|(id, of)| (*id, names[*of].as_str()));
                match place(list, &names[share]) {
                    Place::Free => { open.insert(id, share); }
                    Place::Instead(other) => {
                        prop_assert_ne!(open.remove(&other), Some(share));
                        open.insert(id, share);
                    }
                    // 40 shares in 256 places: six each at least.
                    Place::None => prop_assert!(own >= ASKS_MAX / 40),
                }
                prop_assert!(open.len() <= ASKS_MAX);
            }
        }
    }
}
