//! What the person is told of calls that were decided without them, within bounds.
//!
//! Pure: records and a time go in, notices come out. A qube that is refused again and again gets a
//! few notices of its own and then one that counts and is written anew, so that it can neither
//! fill the screen nor hide what another does.

use std::collections::HashMap;
use std::time::Duration;

use bulkhead_api::call::AuditRecord;
use bulkhead_api::clipboard::{ClipboardNews, What};

use crate::{text, words};

/// Notices of one qube in [`PERIOD`]; what comes on top is counted.
pub(crate) const NOTICES_PER_SOURCE: u32 = 3;

/// Notices of all qubes in [`PERIOD`], counts included.
pub(crate) const NOTICES_MAX: u32 = 12;

/// What the two above are measured in.
pub(crate) const PERIOD: Duration = Duration::from_secs(60);

/// How long calls are counted before the count is shown.
pub(crate) const COUNT_FOR: Duration = Duration::from_secs(10);

/// Qubes that are counted one by one; more share one count. A machine has dozens of qubes.
pub(crate) const SOURCES_MAX: usize = 128;

/// The slot of what is carried between clipboards. No qube is called so.
pub(crate) const CLIPBOARD: &str = "@clipboard";

/// A notice. Its texts are safe to show, but not yet escaped for markup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// One with the same slot as an earlier one takes its place; none stands for itself.
    pub(crate) slot: Option<String>,
    pub(crate) title: String,
    pub(crate) body: String,
    /// Whose labels are shown beside it where there is room for them: the source, and the target if
    /// it names one. As the daemon calls them, and for looking them up alone.
    pub(crate) qubes: Vec<String>,
}

impl Notice {
    pub(crate) fn is_of_clipboard(&self) -> bool {
        self.slot.as_deref() == Some(CLIPBOARD)
    }
}

/// What has become of what is carried between clipboards. One notice takes the place of the last:
/// only the person's own keys make any.
pub(crate) fn clipboard(news: &ClipboardNews) -> Notice {
    use ClipboardNews as News;
    let name = |qube: &str| text::name(qube);
    let wiped =
        |what: What, source: &str| capital(&format!("{what} from {} was wiped", name(source)));
    let (title, body) = match news {
        News::Copied(carried) => (
            format!("Copied from {}", name(&carried.source)),
            format!(
                "{}. Press the paste keys in a window of another qube to put it on its clipboard.",
                capital(&carried.what.of(carried.bytes))
            ),
        ),
        News::NotCopied { source, why } => (
            format!("Nothing copied from {}", name(source)),
            text::line(why),
        ),
        News::Pasted {
            source,
            target,
            what,
            bytes,
        } => (
            format!("{} to {}", name(source), name(target)),
            format!(
                "{} is on the clipboard of {} now.",
                capital(&what.of(*bytes)),
                name(target)
            ),
        ),
        News::Refused {
            source,
            target,
            what,
        } => (
            format!("Not pasted into {}", name(target)),
            format!("Policy does not allow it: {what} from {}.", name(source)),
        ),
        News::NotPasted { target, why } => {
            (format!("Not pasted into {}", name(target)), text::line(why))
        }
        News::NothingToPaste { target } => (
            format!("Nothing to paste into {}", name(target)),
            "Press the copy keys in a window of another qube first.".to_owned(),
        ),
        News::Expired { source, what } => {
            (wiped(*what, source), "Nobody pasted it in time.".to_owned())
        }
        News::Cleared { source, what } => {
            (wiped(*what, source), "Nothing is carried now.".to_owned())
        }
    };
    Notice {
        slot: Some(CLIPBOARD.to_owned()),
        title,
        body,
        qubes: parties(news),
    }
}

/// Source and target, as far as there are any.
fn parties(news: &ClipboardNews) -> Vec<String> {
    use ClipboardNews as News;
    match news {
        News::Copied(carried) => vec![carried.source.clone()],
        News::NotCopied { source, .. }
        | News::Expired { source, .. }
        | News::Cleared { source, .. } => vec![source.clone()],
        News::Pasted { source, target, .. } | News::Refused { source, target, .. } => {
            vec![source.clone(), target.clone()]
        }
        News::NotPasted { target, .. } | News::NothingToPaste { target } => vec![target.clone()],
    }
}

/// Begins a sentence.
fn capital(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(rest).collect()
}

/// A number of things per [`PERIOD`], counted from the first of them.
#[derive(Debug, Clone, Copy, Default)]
struct Allowance {
    began: Duration,
    used: u32,
}

impl Allowance {
    fn take(&mut self, max: u32, now: Duration) -> bool {
        if now >= self.began + PERIOD {
            *self = Self {
                began: now,
                used: 0,
            };
        }
        let room = self.used < max;
        self.used += u32::from(room);
        room
    }

    fn is_over(&self, now: Duration) -> bool {
        now >= self.began + PERIOD
    }
}

#[derive(Debug, Default)]
struct Source {
    allowance: Allowance,
    /// Calls that were counted and not told: refused ones and allowed ones.
    denied: u64,
    allowed: u64,
    due: Duration,
}

impl Source {
    fn counted(&self) -> u64 {
        self.denied.saturating_add(self.allowed)
    }
}

/// What has been told and what is to be.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    all: Allowance,
    /// By the name that is shown; the empty one is for those that share a count.
    sources: HashMap<String, Source>,
}

impl Notices {
    /// Takes note of a decision; a notice if one is to be shown at once.
    pub(crate) fn record(&mut self, record: &AuditRecord, now: Duration) -> Option<Notice> {
        if !record.notify {
            return None;
        }
        self.sources
            .retain(|_, source| source.counted() > 0 || !source.allowance.is_over(now));
        let mut name = text::name(&record.source);
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&name) {
            name = String::new();
        }
        let of_all = &mut self.all;
        let source = self.sources.entry(name.clone()).or_default();
        let alone = record.count <= 1 && !name.is_empty() && source.counted() == 0;
        if alone && source.allowance.take(NOTICES_PER_SOURCE, now) && of_all.take(NOTICES_MAX, now)
        {
            return Some(one(record));
        }
        if source.counted() == 0 {
            source.due = now + COUNT_FOR;
        }
        let count = match record.decision.as_str() {
            "allow" => &mut source.allowed,
            _ => &mut source.denied,
        };
        *count = count.saturating_add(record.count.max(1));
        None
    }

    /// Counts that are to be shown now.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Notice> {
        let mut due = Vec::new();
        for (name, source) in &mut self.sources {
            if source.counted() == 0 || now < source.due {
                continue;
            }
            if !self.all.take(NOTICES_MAX, now) {
                source.due = self.all.began + PERIOD;
                continue;
            }
            due.push(several(name, source.denied, source.allowed));
            (source.denied, source.allowed) = (0, 0);
        }
        due
    }

    /// When [`Notices::due`] has something next.
    pub(crate) fn next(&self) -> Option<Duration> {
        let counted = self.sources.values().filter(|source| source.counted() > 0);
        counted.map(|source| source.due).min()
    }
}

fn one(record: &AuditRecord) -> Notice {
    let (service, argument) = record
        .service
        .split_once('+')
        .unwrap_or((&record.service, ""));
    let doing = words::doing(&text::name(service), &text::line(argument));
    let source = text::name(&record.source);
    let (verb, target) = match record.decision.as_str() {
        "allow" => ("may", &record.target),
        _ => ("may not", &record.requested_target),
    };
    let mut qubes = vec![record.source.clone()];
    if !matches!(target.as_str(), "" | "@default") {
        qubes.push(target.clone());
    }
    let target = match target.as_str() {
        "" | "@default" => "another qube".to_owned(),
        "@dispvm" => "a disposable".to_owned(),
        name => text::name(name),
    };
    let title = match record.decision.as_str() {
        "allow" => format!("Call of {source} allowed"),
        _ => format!("Call of {source} refused"),
    };
    Notice {
        slot: None,
        title,
        body: format!(
            "{source} {verb} {doing} {target} ({})",
            text::line(&record.rule)
        ),
        qubes,
    }
}

fn several(name: &str, denied: u64, allowed: u64) -> Notice {
    let calls = |count| if count == 1 { "call" } else { "calls" };
    let of = match name {
        "" => "other qubes",
        name => name,
    };
    let mut parts = Vec::new();
    for (count, what) in [(denied, "refused"), (allowed, "allowed")] {
        if count > 0 {
            parts.push(format!("{count} more {} of {of} {what}", calls(count)));
        }
    }
    Notice {
        slot: Some(name.to_owned()),
        title: parts.join(", "),
        body: "See them with: bulkhead audit".to_owned(),
        // Those that share a count have no name.
        qubes: (!name.is_empty())
            .then(|| name.to_owned())
            .into_iter()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(source: &str, decision: &str) -> AuditRecord {
        AuditRecord {
            time: 0,
            source: source.into(),
            requested_target: "vault".into(),
            target: if decision == "allow" { "vault" } else { "" }.into(),
            service: "qubes.Filecopy+".into(),
            decision: decision.into(),
            by: "policy".into(),
            rule: "a.policy:3".into(),
            notify: true,
            count: 1,
            since: None,
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn what_becomes_of_what_is_carried_is_told() {
        let work = || "work".to_owned();
        let (width, height) = (640, 480);
        let picture = What::Picture { width, height };
        let told = [
            ClipboardNews::NotCopied {
                source: work(),
                why: "its clipboard is empty".to_owned(),
            },
            ClipboardNews::Pasted {
                source: work(),
                target: "vault".to_owned(),
                what: What::Text,
                bytes: 12,
            },
            ClipboardNews::Pasted {
                source: work(),
                target: "vault".to_owned(),
                what: picture,
                bytes: 1_228_800,
            },
            ClipboardNews::Refused {
                source: work(),
                target: "<b>".to_owned(),
                what: What::Text,
            },
            ClipboardNews::NothingToPaste { target: work() },
            ClipboardNews::Expired {
                source: work(),
                what: picture,
            },
            ClipboardNews::Cleared {
                source: work(),
                what: What::Text,
            },
        ];
        let told = told.iter().map(|news| {
            let notice = clipboard(news);
            assert!(notice.is_of_clipboard());
            let qubes = notice.qubes.join(", ");
            format!("{}: {} [{qubes}]", notice.title, notice.body)
        });
        insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @r"
        Nothing copied from work: its clipboard is empty [work]
        work to vault: 12 bytes of text is on the clipboard of vault now. [work, vault]
        work to vault: Picture of 640 by 480 (1228800 bytes) is on the clipboard of vault now. [work, vault]
        Not pasted into <b>: Policy does not allow it: text from work. [work, <b>]
        Nothing to paste into work: Press the copy keys in a window of another qube first. [work]
        Picture of 640 by 480 from work was wiped: Nobody pasted it in time. [work]
        Text from work was wiped: Nothing is carried now. [work]
        ");
    }

    #[test]
    fn a_notice_says_what_was_decided() {
        let mut notices = Notices::default();
        let told = [
            notices.record(&record("personal", "deny"), seconds(0)),
            notices.record(&record("work", "allow"), seconds(0)),
        ];
        let told: Vec<String> = told
            .into_iter()
            .flatten()
            .map(|notice| {
                let qubes = notice.qubes.join(", ");
                format!("{}: {} [{qubes}]", notice.title, notice.body)
            })
            .collect();
        insta::assert_debug_snapshot!(told, @r#"
        [
            "Call of personal refused: personal may not copy files to vault (a.policy:3) [personal, vault]",
            "Call of work allowed: work may copy files to vault (a.policy:3) [work, vault]",
        ]
        "#);
    }

    #[test]
    fn what_the_rule_does_not_want_told_is_not() {
        let mut quiet = record("work", "deny");
        quiet.notify = false;
        let mut notices = Notices::default();
        assert_eq!(notices.record(&quiet, seconds(0)), None);
        assert_eq!(notices.next(), None);
    }

    #[test]
    fn one_notice_too_many_of_a_qube_is_counted() {
        let mut notices = Notices::default();
        let denied = record("work", "deny");
        for _ in 0..NOTICES_PER_SOURCE {
            assert!(notices.record(&denied, seconds(1)).is_some());
        }
        for _ in 0..12 {
            assert_eq!(notices.record(&denied, seconds(2)), None);
        }
        assert!(
            notices
                .record(&record("mail", "deny"), seconds(2))
                .is_some(),
            "not mail's"
        );
        assert_eq!(notices.next(), Some(seconds(2) + COUNT_FOR));
        assert!(notices.due(seconds(3)).is_empty());
        let due = notices.due(seconds(2) + COUNT_FOR);
        assert_eq!(due[0].title, "12 more calls of work refused");
        assert_eq!(due[0].slot.as_deref(), Some("work"));
        assert_eq!(notices.next(), None);
        assert!(
            notices.record(&denied, seconds(2) + PERIOD).is_some(),
            "a new period"
        );
    }

    #[test]
    fn one_notice_too_many_in_all_is_counted() {
        let mut notices = Notices::default();
        for n in 0..NOTICES_MAX {
            assert!(
                notices
                    .record(&record(&format!("q{n}"), "deny"), seconds(0))
                    .is_some()
            );
        }
        assert_eq!(notices.record(&record("work", "deny"), seconds(0)), None);
        assert!(
            notices.due(seconds(20)).is_empty(),
            "counts are notices too"
        );
        assert_eq!(notices.next(), Some(PERIOD));
        assert_eq!(notices.due(PERIOD)[0].title, "1 more call of work refused");
    }

    #[test]
    fn one_source_too_many_shares_a_count() {
        let mut notices = Notices::default();
        for n in 0..=SOURCES_MAX {
            let mut many = record(&format!("q{n}"), "deny");
            many.count = 2;
            assert_eq!(notices.record(&many, seconds(0)), None);
        }
        assert_eq!(notices.sources.len(), SOURCES_MAX + 1);
        assert_eq!(notices.sources[""].counted(), 2);
        let mut more = record("another", "deny");
        more.count = 2;
        notices.record(&more, seconds(0));
        assert_eq!(notices.sources.len(), SOURCES_MAX + 1);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_screen_is_not_filled(
            calls in prop::collection::vec((0..6_u64, 0..4_usize, 1..5_u64), 0..300)
        ) {
            let mut notices = Notices::default();
            let mut now = Duration::ZERO;
            let (mut told, mut sent) = (0, Vec::new());
            let mut all = 0;
            let counted = |notice: &Notice| -> u64 {
                notice.title.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(1)
            };
            for (wait, source, count) in calls {
                now += seconds(wait);
                let mut record = record(["a", "b", "c", "d"][source], "deny");
                record.count = count;
                all += count;
                let shown: Vec<Notice> = notices
                    .record(&record, now)
                    .into_iter()
                    .chain(notices.due(now))
                    .collect();
                told += shown.iter().map(counted).sum::<u64>();
                sent.extend(shown.iter().map(|_| now));
            }
            let left: u64 = notices.sources.values().map(Source::counted).sum();
            prop_assert_eq!(told + left, all);
            for (index, time) in sent.iter().enumerate() {
                // Periods follow each other, so two of them may meet in any one stretch.
                let after = sent.iter().skip(index).filter(|t| **t < *time + PERIOD).count();
                prop_assert!(after <= 2 * NOTICES_MAX as usize);
            }
        }
    }
}
