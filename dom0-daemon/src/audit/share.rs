//! Each source's share of the log: a qube that floods it must not push out the others' history.
//!
//! A source writes [`LINES_AT_ONCE`] lines as they come, and one each [`LINE_EVERY`] after that.
//! What it does beyond is counted: decisions that differ in nothing but their time are one group,
//! and a group becomes one line with its number, after [`PAUSE_FIRST`] at first and ever more
//! rarely while the flood goes on. So a qube that does nothing but be refused writes some 5,500
//! lines a day, at most 5 MiB with the longest names there are, and no decision is forgotten.

use std::collections::HashMap;
use std::time::Duration;

use bulkhead_api::call::AuditRecord;

/// Lines that a source may write at once: a busy day of a person's own calls.
pub(super) const LINES_AT_ONCE: u32 = 512;
/// One more line each time this has passed.
pub(super) const LINE_EVERY: Duration = Duration::from_secs(30);
/// Groups of one source between two summaries; calls of further kinds are counted together.
pub(super) const GROUPS_PER_SOURCE: usize = 16;
/// How long what is counted waits for its line; doubled each time up to [`PAUSE_MAX`].
pub(super) const PAUSE_FIRST: Duration = Duration::from_secs(10);
/// Longest wait.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(600);

/// Stands where counted calls differ.
const VARIOUS: &str = "(various)";

#[derive(Debug, Default)]
struct Share {
    /// When all of [`LINES_AT_ONCE`] may be written again.
    rested: Duration,
    groups: Vec<AuditRecord>,
    due: Duration,
    pause: Duration,
}

/// The shares of all sources. Times are since any fixed point.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<String, Share>);

/// What becomes of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It has a line of its own.
    Line,
    /// It is counted, as the first one since the source was calm.
    FirstCounted,
    /// It is counted.
    Counted,
}

impl Share {
    fn has_line(&mut self, now: Duration) -> bool {
        let rested = self.rested.max(now) + LINE_EVERY;
        let room = rested - now <= LINE_EVERY * LINES_AT_ONCE;
        if room {
            self.rested = rested;
        }
        room
    }

    /// Adds a decision to the group that it belongs to.
    fn count(&mut self, share: &str, record: &AuditRecord) {
        if let Some(group) = self.groups.iter_mut().find(|group| is_alike(group, record)) {
            group.count += record.count;
            group.time = record.time;
            group.notify |= record.notify;
            return;
        }
        let mut group = AuditRecord {
            since: Some(record.time),
            ..record.clone()
        };
        if self.groups.len() >= GROUPS_PER_SOURCE {
            // At most two more groups: one of what was allowed, one of what was not.
            let various = || VARIOUS.to_owned();
            group = AuditRecord {
                source: share.to_owned(),
                requested_target: various(),
                target: if record.target.is_empty() {
                    String::new()
                } else {
                    various()
                },
                service: various(),
                by: various(),
                rule: various(),
                ..group
            };
            if let Some(rest) = self.groups.iter_mut().find(|rest| is_alike(rest, &group)) {
                rest.count += record.count;
                rest.time = record.time;
                rest.notify |= record.notify;
                return;
            }
        }
        self.groups.push(group);
    }
}

/// Whether two records tell the same but for time and number.
fn is_alike(one: &AuditRecord, other: &AuditRecord) -> bool {
    one.source == other.source
        && one.service == other.service
        && one.requested_target == other.requested_target
        && one.target == other.target
        && one.decision == other.decision
        && one.by == other.by
        && one.rule == other.rule
}

impl Shares {
    /// Gives a decision of `share` its place.
    pub(super) fn place(&mut self, share: &str, record: &AuditRecord, now: Duration) -> Place {
        let entry = match self.0.get_mut(share) {
            Some(entry) => entry,
            None => self.0.entry(share.to_owned()).or_default(),
        };
        if entry.groups.is_empty() && entry.rested <= now {
            entry.pause = Duration::ZERO;
        }
        if entry.has_line(now) {
            return Place::Line;
        }
        let first = entry.groups.is_empty();
        let calm = entry.pause.is_zero();
        if first {
            entry.pause = (entry.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
            entry.due = now + entry.pause;
        }
        entry.count(share, record);
        if first && calm {
            Place::FirstCounted
        } else {
            Place::Counted
        }
    }

    /// Lines that are due; forgets sources that are calm.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<AuditRecord> {
        let mut lines = Vec::new();
        self.0.retain(|_, share| {
            if share.due <= now {
                lines.append(&mut share.groups);
            }
            !share.groups.is_empty() || share.rested > now
        });
        lines
    }

    /// All that was counted and has no line yet.
    pub(super) fn take_all(&mut self) -> Vec<AuditRecord> {
        let shares = self.0.values_mut();
        shares
            .flat_map(|share| std::mem::take(&mut share.groups))
            .collect()
    }

    /// The same, to look at.
    pub(super) fn counted(&self) -> Vec<AuditRecord> {
        let groups = self.0.values().flat_map(|share| &share.groups);
        groups.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(service: &str, time: u64) -> AuditRecord {
        AuditRecord {
            time,
            source: "work".to_owned(),
            requested_target: "vault".to_owned(),
            target: String::new(),
            service: service.to_owned(),
            decision: "deny".to_owned(),
            by: "policy".to_owned(),
            rule: "no rule matches".to_owned(),
            notify: false,
            count: 1,
            since: None,
        }
    }

    const NOW: Duration = Duration::from_secs(1000);

    fn full() -> Shares {
        let mut shares = Shares::default();
        for _ in 0..LINES_AT_ONCE {
            assert_eq!(shares.place("work", &record("s", 0), NOW), Place::Line);
        }
        shares
    }

    #[test]
    fn one_line_past_the_share_is_counted_and_another_source_has_its_own() {
        let mut shares = full();
        assert_eq!(
            shares.place("work", &record("s", 7), NOW),
            Place::FirstCounted
        );
        assert_eq!(shares.place("work", &record("s", 9), NOW), Place::Counted);
        assert_eq!(shares.place("vault", &record("s", 9), NOW), Place::Line);
        let later = NOW + LINE_EVERY;
        assert_eq!(shares.place("work", &record("s", 9), later), Place::Line);
        assert_eq!(shares.place("work", &record("s", 9), later), Place::Counted);
        let expect = AuditRecord {
            count: 3,
            since: Some(7),
            ..record("s", 9)
        };
        assert_eq!(shares.counted(), [expect]);
    }

    #[test]
    fn kinds_past_the_limit_are_counted_together() {
        let mut shares = full();
        for number in 0..GROUPS_PER_SOURCE + 5 {
            shares.place("work", &record(&format!("s{number}"), 1), NOW);
        }
        let allowed = AuditRecord {
            decision: "allow".to_owned(),
            target: "vault".to_owned(),
            ..record("t", 2)
        };
        shares.place("work", &allowed, NOW);
        let groups = shares.take_all();
        assert_eq!(groups.len(), GROUPS_PER_SOURCE + 2);
        let [.., denied, allowed] = groups.as_slice() else {
            panic!("{groups:?}");
        };
        assert_eq!((denied.service.as_str(), denied.count), (VARIOUS, 5));
        assert_eq!((allowed.decision.as_str(), allowed.count), ("allow", 1));
    }

    #[test]
    fn a_flood_has_its_line_ever_more_rarely_and_a_calm_source_is_forgotten() {
        let mut shares = full();
        let (mut now, mut waits) = (NOW, Vec::new());
        for _ in 0..9 {
            while shares.place("work", &record("s", 0), now) == Place::Line {}
            let began = now;
            while shares.take_due(now).is_empty() {
                now += Duration::from_secs(1);
            }
            waits.push((now - began).as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert!(shares.take_due(now + LINE_EVERY * LINES_AT_ONCE).is_empty());
        assert!(shares.0.is_empty(), "{shares:?}");
    }

    proptest! {
        #[test]
        fn no_decision_is_forgotten(
            calls in prop::collection::vec((0u8..40, 0u64..20), 0..3000)
        ) {
            let (mut shares, mut now, mut told) = (Shares::default(), NOW, 0);
            for (service, wait) in &calls {
                now += Duration::from_secs(*wait / 19 * 7);
                let place = shares.place("work", &record(&service.to_string(), 0), now);
                told += u64::from(place == Place::Line);
                told += shares.take_due(now).iter().map(|group| group.count).sum::<u64>();
            }
            told += shares.take_all().iter().map(|group| group.count).sum::<u64>();
            prop_assert_eq!(told, calls.len() as u64);
        }
    }
}
