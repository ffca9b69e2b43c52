//! When Allow may be pressed.
//!
//! ```text
//!          shown               half a second and movement
//! hidden --------> unarmed ------------------------------> armed
//!                     ^                                      |
//!                     +----- the person goes elsewhere, -----+
//!                            or another prompt is answered
//! ```
//!
//! A click or key that was meant for another window comes before the person has turned to the
//! prompt, so it finds Allow unarmed: `a_click_in_the_first_half_second_allows_nothing`,
//! `a_pointer_that_rests_arms_nothing`, `the_end_of_another_prompt_starts_it_anew`.

use std::time::Duration;

/// How long a prompt is on the screen before it can be allowed: longer than a click or key takes
/// that was on its way when the prompt came.
pub(crate) const ARM_AFTER: Duration = Duration::from_millis(500);

/// How far the pointer must move in the prompt, in pixels: more than a mouse does that somebody
/// knocks against, or a window that is laid out anew below it.
pub(crate) const MOVE_MIN: f64 = 4.0;

/// The way of one prompt to Allow.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Arming {
    since: Option<Duration>,
    /// Where the pointer was first seen.
    anchor: Option<(f64, f64)>,
    /// Whether that was when it came to be over the prompt.
    entered: bool,
    moved: bool,
}

impl Arming {
    /// The prompt is on the screen.
    pub(crate) fn shown(&mut self, now: Duration) {
        if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// All over again.
    pub(crate) fn restart(&mut self, now: Duration) {
        *self = Self {
            since: self.since.map(|_| now),
            ..Self::default()
        };
    }

    /// The pointer is over the prompt from now on: it came, or the prompt came below it.
    pub(crate) fn entered(&mut self, x: f64, y: f64) {
        self.anchor = Some((x, y));
        self.entered = true;
    }

    /// The same where nothing can be told from a movement to that very place.
    pub(crate) fn rests(&mut self, x: f64, y: f64) {
        self.anchor = Some((x, y));
        self.entered = false;
    }

    /// The pointer has moved to a place in the prompt.
    pub(crate) fn pointer(&mut self, x: f64, y: f64) {
        let (from_x, from_y) = *self.anchor.get_or_insert((x, y));
        // A movement that ends where the pointer was first seen has come from outside.
        let came = self.entered && (x, y) == (from_x, from_y);
        self.entered = false;
        if came || (x - from_x).hypot(y - from_y) >= MOVE_MIN {
            self.moved = true;
        }
    }

    /// A key was pressed in the prompt.
    pub(crate) fn key(&mut self) {
        self.moved = true;
    }

    /// Whether the person has moved in the prompt.
    pub(crate) fn moved(&self) -> bool {
        self.moved
    }

    /// When time no longer stands in the way; none while the prompt is not on the screen.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.since.map(|since| since + ARM_AFTER)
    }

    /// Whether Allow may be pressed.
    pub(crate) fn is_armed(&self, now: Duration) -> bool {
        self.moved && self.due().is_some_and(|due| now >= due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_click_in_the_first_half_second_allows_nothing() {
        let mut arming = Arming::default();
        arming.shown(ms(1000));
        arming.pointer(10.0, 10.0);
        arming.pointer(200.0, 10.0);
        assert!(!arming.is_armed(ms(1000) + ARM_AFTER - ms(1)));
        assert!(arming.is_armed(ms(1000) + ARM_AFTER));
    }

    #[test]
    fn a_pointer_that_rests_arms_nothing() {
        let mut arming = Arming::default();
        arming.shown(ms(0));
        for _ in 0..100 {
            arming.pointer(10.0, 10.0);
            arming.pointer(10.0 + MOVE_MIN - 0.1, 10.0);
        }
        assert!(!arming.is_armed(ms(60_000)));
        arming.pointer(10.0 + MOVE_MIN, 10.0);
        assert!(arming.is_armed(ms(60_000)));
    }

    #[test]
    fn a_pointer_that_comes_from_outside_has_moved_and_one_that_is_knocked_has_not() {
        let mut arming = Arming::default();
        arming.shown(ms(0));
        arming.entered(50.0, 50.0);
        arming.pointer(50.5, 50.0);
        arming.pointer(50.0, 50.0);
        assert!(!arming.is_armed(ms(1000)), "knocked");
        arming.entered(50.0, 50.0);
        arming.pointer(50.0, 50.0);
        assert!(arming.is_armed(ms(1000)), "came");
        arming.restart(ms(1000));
        arming.rests(50.0, 50.0);
        arming.pointer(50.0, 50.0);
        assert!(!arming.is_armed(ms(9000)), "cannot be told from rest");
    }

    #[test]
    fn a_key_is_movement() {
        let mut arming = Arming::default();
        arming.shown(ms(0));
        arming.key();
        assert!(!arming.is_armed(ms(499)) && arming.is_armed(ms(500)));
    }

    #[test]
    fn what_is_not_on_the_screen_is_never_armed() {
        let mut arming = Arming::default();
        arming.key();
        assert!(!arming.is_armed(ms(1_000_000)));
        arming.restart(ms(5));
        arming.key();
        assert!(!arming.is_armed(ms(1_000_000)), "a restart shows nothing");
    }

    #[test]
    fn a_restart_asks_for_time_and_movement_again() {
        let mut arming = Arming::default();
        arming.shown(ms(0));
        arming.key();
        assert!(arming.is_armed(ms(500)));
        arming.restart(ms(600));
        assert!(!arming.is_armed(ms(5000)));
        arming.key();
        assert!(arming.is_armed(ms(1100)));
        // Being drawn again is no restart, and gives nothing away either.
        arming.shown(ms(2000));
        assert!(arming.is_armed(ms(2000)));
    }
}
