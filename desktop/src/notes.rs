//! Notices that are shown in a window of dom0's own, where the session has no notification service:
//! which are on the screen, and for how long.
//!
//! Pure: notices and a time go in, what the window shows comes out. A qube can neither fill the
//! screen with notes nor push one away: those that find no room wait for it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::notices::{NOTICES_MAX, Notice};

/// Notes on the screen at a time. That of the clipboard comes on top: the person has just asked for
/// it.
pub(crate) const NOTES_MAX: usize = 3;

/// Notes that wait for room: all that there can be in a minute. What comes on top is dropped, as the
/// audit log has it anyway.
pub(crate) const WAITING_MAX: usize = NOTICES_MAX as usize;

/// How long a note is on the screen: enough to read its two sentences.
pub(crate) const SHOWN_FOR: Duration = Duration::from_secs(8);

/// A click so soon after a note went was meant for that one, and not for what moved to its place.
pub(crate) const MOVED_FOR: Duration = Duration::from_millis(500);

/// A note on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// Names it for as long as it is there.
    pub(crate) number: u64,
    pub(crate) notice: Notice,
    until: Duration,
}

/// All notes.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    last: u64,
    /// That of the clipboard first, else the oldest.
    shown: Vec<Note>,
    waiting: VecDeque<Notice>,
    /// When one last went.
    went: Option<Duration>,
}

impl Notes {
    /// Takes a notice, in the place of one with the same slot.
    pub(crate) fn add(&mut self, notice: Notice, now: Duration) {
        let same = |other: &Notice| notice.slot.is_some() && other.slot == notice.slot;
        if let Some(note) = self.shown.iter_mut().find(|note| same(&note.notice)) {
            note.notice = notice;
            note.until = now + SHOWN_FOR;
        } else if let Some(waits) = self.waiting.iter_mut().find(|waits| same(waits)) {
            *waits = notice;
        } else if notice.is_of_clipboard() {
            let note = self.note(notice, now);
            self.shown.insert(0, note);
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(notice);
            self.fill(now);
        }
    }

    fn note(&mut self, notice: Notice, now: Duration) -> Note {
        self.last += 1;
        Note {
            number: self.last,
            notice,
            until: now + SHOWN_FOR,
        }
    }

    /// Gives room to those that wait.
    fn fill(&mut self, now: Duration) {
        let counted = |notes: &[Note]| {
            let counted = notes.iter().filter(|note| !note.notice.is_of_clipboard());
            counted.count()
        };
        while counted(&self.shown) < NOTES_MAX
            && let Some(notice) = self.waiting.pop_front()
        {
            let note = self.note(notice, now);
            self.shown.push(note);
        }
    }

    /// Takes a note off the screen that was clicked.
    #[must_use]
    pub(crate) fn dismiss(&mut self, number: u64, now: Duration) -> Gone {
        if self.went.is_some_and(|went| now < went + MOVED_FOR) {
            return Gone::None;
        }
        self.retain(now, |note| note.number != number)
    }

    /// Takes off the screen what has been there long enough.
    #[must_use]
    pub(crate) fn tick(&mut self, now: Duration) -> Gone {
        self.retain(now, |note| now < note.until)
    }

    fn retain(&mut self, now: Duration, keep: impl Fn(&Note) -> bool) -> Gone {
        let before = self.shown.len();
        self.shown.retain(keep);
        if self.shown.len() == before {
            return Gone::None;
        }
        self.went = Some(now);
        self.fill(now);
        Gone::Some
    }

    /// What is on the screen, from the corner on.
    pub(crate) fn shown(&self) -> &[Note] {
        &self.shown
    }

    /// When [`Notes::tick`] next takes something off the screen.
    pub(crate) fn next_change(&self) -> Option<Duration> {
        self.shown.iter().map(|note| note.until).min()
    }
}

/// Whether a note has left the screen, and what lay below it is bare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    None,
    Some,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::notices::CLIPBOARD;

    fn notice(slot: Option<&str>, title: &str) -> Notice {
        Notice {
            slot: slot.map(str::to_owned),
            title: title.to_owned(),
            body: String::new(),
            qubes: Vec::new(),
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn titles(notes: &Notes) -> Vec<&str> {
        let shown = notes.shown().iter();
        shown.map(|note| note.notice.title.as_str()).collect()
    }

    #[test]
    fn a_note_goes_by_itself_and_when_it_is_dismissed() {
        let mut notes = Notes::default();
        notes.add(notice(None, "one"), seconds(0));
        notes.add(notice(None, "two"), seconds(1));
        assert_eq!(notes.dismiss(1, seconds(2)), Gone::Some);
        assert_eq!(titles(&notes), ["two"]);
        assert_eq!(notes.dismiss(1, seconds(2)), Gone::None, "a second click");
        let end = seconds(1) + SHOWN_FOR;
        assert_eq!(notes.next_change(), Some(end));
        let just_before = end - Duration::from_nanos(1);
        assert_eq!(notes.tick(just_before), Gone::None);
        assert_eq!(notes.tick(end), Gone::Some);
        assert_eq!(titles(&notes), [""; 0]);
        assert_eq!(notes.next_change(), None);
    }

    #[test]
    fn a_double_click_dismisses_one_note() {
        let mut notes = Notes::default();
        notes.add(notice(None, "one"), seconds(0));
        notes.add(notice(None, "two"), seconds(0));
        assert_eq!(notes.dismiss(1, seconds(1)), Gone::Some);
        let just_before = seconds(1) + MOVED_FOR - Duration::from_nanos(1);
        assert_eq!(notes.dismiss(2, just_before), Gone::None);
        assert_eq!(notes.dismiss(2, seconds(1) + MOVED_FOR), Gone::Some);
    }

    #[test]
    fn one_note_too_many_waits_for_room() {
        let mut notes = Notes::default();
        for n in 0..=NOTES_MAX {
            notes.add(notice(None, &format!("{n}")), seconds(0));
        }
        assert_eq!(titles(&notes), ["0", "1", "2"]);
        assert_eq!(notes.dismiss(2, seconds(5)), Gone::Some);
        assert_eq!(titles(&notes), ["0", "2", "3"]);
        assert_eq!(notes.tick(SHOWN_FOR), Gone::Some);
        assert_eq!(titles(&notes), ["3"], "its time began when it was shown");
    }

    #[test]
    fn one_too_many_of_those_that_wait_is_dropped() {
        let mut notes = Notes::default();
        for n in 0..=NOTES_MAX + WAITING_MAX {
            notes.add(notice(None, &format!("{n}")), seconds(0));
        }
        assert_eq!(notes.waiting.len(), WAITING_MAX);
        let last = notes.waiting.back().map(|notice| notice.title.clone());
        let expected = (NOTES_MAX + WAITING_MAX - 1).to_string();
        assert_eq!(last, Some(expected));
    }

    #[test]
    fn the_clipboards_note_never_waits_and_is_nearest_to_the_corner() {
        let mut notes = Notes::default();
        for n in 0..=NOTES_MAX {
            notes.add(notice(None, &format!("{n}")), seconds(0));
        }
        notes.add(notice(Some(CLIPBOARD), "copied"), seconds(1));
        assert_eq!(titles(&notes), ["copied", "0", "1", "2"]);
        notes.add(notice(Some(CLIPBOARD), "pasted"), seconds(7));
        assert_eq!(titles(&notes), ["pasted", "0", "1", "2"]);
        assert_eq!(notes.tick(SHOWN_FOR), Gone::Some);
        assert_eq!(titles(&notes), ["pasted", "3"], "it is as if it were new");
    }

    #[test]
    fn a_count_takes_the_place_of_the_last_one_shown_or_not() {
        let mut notes = Notes::default();
        notes.add(notice(Some("work"), "5 more"), seconds(0));
        notes.add(notice(Some("work"), "9 more"), seconds(1));
        assert_eq!(titles(&notes), ["9 more"]);
        for n in 1..NOTES_MAX {
            notes.add(notice(None, &format!("{n}")), seconds(1));
        }
        notes.add(notice(Some("mail"), "1 more"), seconds(1));
        notes.add(notice(Some("mail"), "2 more"), seconds(1));
        assert_eq!(notes.waiting.len(), 1);
        assert_eq!(notes.dismiss(1, seconds(2)), Gone::Some);
        assert_eq!(titles(&notes), ["1", "2", "2 more"]);
    }

    proptest! {
        #[test]
        fn the_screen_is_not_filled_and_nobody_waits_beside_room(
            ops in prop::collection::vec((0..5_u8, 0..30_u64, 0..4_u64), 0..200)
        ) {
            let mut notes = Notes::default();
            let mut now = Duration::ZERO;
            for (op, what, wait) in ops {
                now += seconds(wait);
                match op {
                    0 => drop(notes.dismiss(what, now)),
                    1 => notes.add(notice(Some(CLIPBOARD), ""), now),
                    2 => notes.add(notice(Some(&format!("q{what}")), ""), now),
                    3 => notes.add(notice(None, ""), now),
                    _ => drop(notes.tick(now)),
                }
                let shown = notes.shown();
                let others = shown.iter().filter(|note| !note.notice.is_of_clipboard()).count();
                prop_assert!(others <= NOTES_MAX && shown.len() <= others + 1);
                prop_assert!(notes.waiting.is_empty() || others == NOTES_MAX);
                prop_assert!(notes.waiting.len() <= WAITING_MAX);
            }
            // Without anything new the screen is empty in the end.
            while let Some(next) = notes.next_change() {
                prop_assert_eq!(notes.tick(next.max(now)), Gone::Some);
            }
            prop_assert!(notes.shown().is_empty() && notes.waiting.is_empty());
        }
    }
}
