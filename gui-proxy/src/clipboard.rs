//! What is between a qube's clipboard and the daemon, without any I/O.
//!
//! ```text
//! person: copy ──> agent is asked ──> it answers ────> carried, or why not
//!                        ├─────────> ANSWER_TIME ───> no answer
//!                        └─> a picture, its parts ──> carried, or why not
//! person: paste ─> daemon is asked ─> it allows ────> the agent gets it
//! ```
//!
//! A clipboard is taken from an agent only while it is asked for one, which it is by a keystroke.

use std::time::Duration;

use bulkhead_wire::bucket::Bucket;
use bulkhead_wire::gui::picture::{Arriving, PictureSize};
use bulkhead_wire::proxy::NotCopied;

/// How long an agent may take to say what it has: its program may have to be asked.
pub const ANSWER_TIME: Duration = Duration::from_secs(5);

/// How long all of a picture may take: of the largest, some two megabytes a second.
pub const PICTURE_TIME: Duration = Duration::from_secs(30);

/// Keystrokes a second, for long: what a person can mean.
const KEYSTROKES_PER_SECOND: u32 = 4;

/// Keystrokes at once.
pub const KEYSTROKES_BURST: u32 = 10;

/// What became of an agent's clipboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nobody asked for it.
    Unasked,
    /// A picture is to be carried, once its bytes have come.
    Arrives,
    /// It is to be carried.
    Copied {
        /// When the person pressed the keys.
        time: u32,
        /// One byte or more.
        bytes: Vec<u8>,
    },
    /// It cannot be carried.
    NotCopied {
        /// When the person pressed the keys.
        time: u32,
        /// Why.
        why: NotCopied,
    },
}

/// What became of some of a picture's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartAnswer {
    /// Nobody waits for them.
    Unasked,
    /// They are its next.
    More,
    /// They are its last.
    Whole {
        /// When the person pressed the keys.
        time: u32,
        /// Of the picture.
        size: PictureSize,
    },
    /// They are more than it has: it cannot be carried.
    TooMuch {
        /// When the person pressed the keys.
        time: u32,
    },
}

/// Whether a keystroke counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// It does.
    Yes,
    /// There were too many just now; this is the first.
    TooMany,
    /// It is one of those after the first.
    Still,
}

#[derive(Debug)]
struct Asked {
    time: u32,
    until: Duration,
    picture: Option<Arriving>,
}

/// The clipboard of one qube.
#[derive(Debug)]
pub struct Clipboard {
    max: usize,
    picture_max: usize,
    asked: Option<Asked>,
    bucket: Bucket,
    too_many: bool,
}

impl Clipboard {
    /// Of a qube that may have so many bytes of text carried, and so many of a picture.
    #[must_use]
    pub fn new(max: usize, picture_max: usize) -> Self {
        Self {
            max,
            picture_max,
            asked: None,
            bucket: Bucket::new(KEYSTROKES_PER_SECOND, KEYSTROKES_BURST),
            too_many: false,
        }
    }

    /// Takes note of a keystroke.
    pub fn keystroke(&mut self, now: Duration) -> Allowed {
        let was = std::mem::replace(&mut self.too_many, !self.bucket.wait(now, 1).is_zero());
        match (self.too_many, was) {
            (false, _) => {
                self.bucket.take(now, 1);
                Allowed::Yes
            }
            (true, false) => Allowed::TooMany,
            (true, true) => Allowed::Still,
        }
    }

    /// The person copies; says whether the agent is to be asked, which it may be already.
    pub fn copy(&mut self, time: u32, now: Duration) -> bool {
        if let Some(asked) = &mut self.asked {
            asked.time = time;
            return false;
        }
        let (until, picture) = (now + ANSWER_TIME, None);
        self.asked = Some(Asked {
            time,
            until,
            picture,
        });
        true
    }

    /// The agent says what is on its clipboard; nothing where that is too much for any.
    pub fn answered(&mut self, text: Option<Vec<u8>>) -> Answer {
        let asked = self.asked.take_if(|asked| asked.picture.is_none());
        let Some(Asked { time, .. }) = asked else {
            return Answer::Unasked;
        };
        let why = match text {
            Some(bytes) if bytes.is_empty() => NotCopied::Empty,
            Some(bytes) if bytes.len() <= self.max => return Answer::Copied { time, bytes },
            Some(_) | None => NotCopied::TooLarge,
        };
        Answer::NotCopied { time, why }
    }

    /// The agent says that there is a picture on its clipboard; none where it is too large for any.
    pub fn picture(&mut self, size: Option<PictureSize>, now: Duration) -> Answer {
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.picture.is_none()) else {
            return Answer::Unasked;
        };
        match size.filter(|size| size.bytes() <= self.picture_max) {
            Some(size) => {
                asked.until = now + PICTURE_TIME;
                asked.picture = Some(Arriving::new(size));
                Answer::Arrives
            }
            None => {
                let (time, why) = (asked.time, NotCopied::TooLarge);
                self.asked = None;
                Answer::NotCopied { time, why }
            }
        }
    }

    /// Some of the picture's bytes have come.
    pub fn part(&mut self, bytes: &[u8]) -> PartAnswer {
        let asked = self.asked.as_mut();
        let arriving = asked.and_then(|asked| Some((asked.time, asked.picture.as_mut()?)));
        let Some((time, picture)) = arriving else {
            return PartAnswer::Unasked;
        };
        let answer = match picture.part(bytes) {
            Ok(false) => return PartAnswer::More,
            Ok(true) => PartAnswer::Whole {
                time,
                size: picture.size(),
            },
            Err(_) => PartAnswer::TooMuch { time },
        };
        self.asked = None;
        answer
    }

    /// When the person pressed the keys, once an answer to that is overdue.
    pub fn overdue(&mut self, now: Duration) -> Option<u32> {
        self.asked
            .take_if(|asked| asked.until <= now)
            .map(|asked| asked.time)
    }

    /// How long until an answer is overdue.
    #[must_use]
    pub fn patience(&self, now: Duration) -> Option<Duration> {
        let asked = self.asked.as_ref();
        asked.map(|asked| asked.until.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 300;
    const PICTURE_MAX: usize = 6 * 4;
    const NOW: Duration = Duration::from_secs(100);

    fn copied(len: usize) -> Answer {
        let mut it = Clipboard::new(MAX, PICTURE_MAX);
        assert!(it.copy(7, NOW));
        let answer = it.answered(Some(vec![1; len]));
        assert_eq!(it.answered(Some(vec![1; len])), Answer::Unasked);
        answer
    }

    fn not(why: NotCopied) -> Answer {
        Answer::NotCopied { time: 7, why }
    }

    #[test]
    fn a_clipboard_is_taken_once_for_each_time_that_it_is_asked_for() {
        let bytes = |len| vec![1; len];
        assert_eq!(
            Clipboard::new(MAX, PICTURE_MAX).answered(Some(bytes(1))),
            Answer::Unasked
        );
        for len in [1, MAX] {
            let time = 7;
            let bytes = bytes(len);
            assert_eq!(copied(len), Answer::Copied { time, bytes });
        }
        assert_eq!(copied(0), not(NotCopied::Empty));
        assert_eq!(copied(MAX + 1), not(NotCopied::TooLarge));
        let mut it = Clipboard::new(MAX, PICTURE_MAX);
        it.copy(7, NOW);
        assert_eq!(it.answered(None), not(NotCopied::TooLarge));
    }

    fn size(width: u32, height: u32) -> Option<PictureSize> {
        PictureSize::new(width, height)
    }

    #[test]
    fn a_picture_is_taken_part_by_part_while_it_is_asked_for() {
        let mut it = Clipboard::new(MAX, PICTURE_MAX);
        assert_eq!(it.picture(size(1, 1), NOW), Answer::Unasked);
        assert_eq!(it.part(&[1]), PartAnswer::Unasked);
        it.copy(7, NOW);
        assert_eq!(it.part(&[1]), PartAnswer::Unasked);
        assert_eq!(it.picture(size(2, 3), NOW), Answer::Arrives);
        assert_eq!(it.part(&[1; 20]), PartAnswer::More);
        // It has answered: nothing else is taken of it, and it is not asked again.
        assert_eq!(it.picture(size(1, 1), NOW), Answer::Unasked);
        assert_eq!(it.answered(Some(vec![1])), Answer::Unasked);
        assert!(!it.copy(8, NOW));
        let (time, size) = (8, size(2, 3).expect("a size"));
        assert_eq!(it.part(&[1; 4]), PartAnswer::Whole { time, size });
        assert_eq!(it.part(&[1]), PartAnswer::Unasked);
    }

    #[test]
    fn a_picture_that_is_not_as_announced_is_not_taken() {
        let mut it = Clipboard::new(MAX, PICTURE_MAX);
        for wrong in [size(7, 1), size(1, 7), None] {
            it.copy(7, NOW);
            assert_eq!(it.picture(wrong, NOW), not(NotCopied::TooLarge));
            assert_eq!(it.part(&[1]), PartAnswer::Unasked);
        }
        it.copy(7, NOW);
        it.picture(size(1, 1), NOW);
        assert_eq!(it.part(&[1; 5]), PartAnswer::TooMuch { time: 7 });
        assert_eq!(it.part(&[1; 4]), PartAnswer::Unasked);
        // One that stops coming.
        it.copy(9, NOW);
        it.picture(size(1, 1), NOW + ANSWER_TIME / 2);
        it.part(&[1; 3]);
        let end = NOW + ANSWER_TIME / 2 + PICTURE_TIME;
        assert_eq!(it.overdue(NOW + PICTURE_TIME), None);
        assert_eq!(it.patience(NOW + PICTURE_TIME), Some(ANSWER_TIME / 2));
        assert_eq!(it.overdue(end), Some(9));
        assert_eq!(it.part(&[1]), PartAnswer::Unasked);
        let mut none = Clipboard::new(MAX, 0);
        none.copy(7, NOW);
        assert_eq!(none.picture(size(1, 1), NOW), not(NotCopied::TooLarge));
    }

    #[test]
    fn an_answer_is_overdue_from_the_first_request_on() {
        let mut it = Clipboard::new(MAX, PICTURE_MAX);
        assert_eq!((it.patience(NOW), it.overdue(NOW)), (None, None));
        assert!(it.copy(7, NOW));
        let later = NOW + ANSWER_TIME / 2;
        assert_eq!(it.patience(later), Some(ANSWER_TIME / 2));
        // The keystroke that counts is the last, and the agent is asked once.
        assert!(!it.copy(8, later));
        let end = NOW + ANSWER_TIME;
        assert_eq!(
            it.overdue(end.saturating_sub(Duration::from_millis(1))),
            None
        );
        assert_eq!(it.overdue(end), Some(8));
        assert_eq!((it.patience(end), it.overdue(end)), (None, None));
        assert_eq!(it.answered(Some(vec![1])), Answer::Unasked);
        assert!(it.copy(9, end));
    }

    #[test]
    fn one_keystroke_more_than_a_person_can_mean_does_not_count() {
        let mut it = Clipboard::new(MAX, PICTURE_MAX);
        for _ in 0..KEYSTROKES_BURST {
            assert_eq!(it.keystroke(NOW), Allowed::Yes);
        }
        assert_eq!(it.keystroke(NOW), Allowed::TooMany);
        assert_eq!(it.keystroke(NOW), Allowed::Still);
        let later = NOW + Duration::from_secs(1) / KEYSTROKES_PER_SECOND;
        assert_eq!(it.keystroke(later), Allowed::Yes);
        assert_eq!(it.keystroke(later), Allowed::TooMany);
    }
}
