//! Pauses before what ended is begun again: ever longer ones where it ends at once.

use std::time::Duration;

/// How long to pause.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    calm: Duration,
    next: Duration,
}

impl Backoff {
    /// From `first` on, each pause is twice the one before, up to `last`; after something that went
    /// well for as long as `calm` it is the first again.
    #[must_use]
    pub fn new(first: Duration, last: Duration, calm: Duration) -> Self {
        Self {
            first,
            last,
            calm,
            next: first,
        }
    }

    /// The pause after something that went well for so long.
    pub fn pause_after(&mut self, lasted: Duration) -> Duration {
        if lasted >= self.calm {
            self.reset();
        }
        let pause = self.next;
        self.next = (pause * 2).min(self.last);
        pause
    }

    /// The next pause is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_last_and_begin_again_after_what_went_well() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(500), ms(1000));
        let pauses = [0, 0, 999, 0, 0, 1000, 0].map(|lasted| backoff.pause_after(ms(lasted)));
        assert_eq!(pauses, [100, 200, 400, 500, 500, 100, 200].map(ms));
        backoff.reset();
        assert_eq!(backoff.pause_after(ms(0)), ms(100));
    }
}
