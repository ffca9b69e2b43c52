//! How much work one qube may make for the display.

use std::time::Duration;

/// Changes of windows a second, for long: several animations of menus at once.
const PER_SECOND: u32 = 300;

/// Changes of windows at once: an agent that connects again shows all that it has.
const BURST: u32 = 2000;

/// Allows a burst at once and then one change every interval. What is more is owed, and the qube
/// is not listened to until it is paid.
#[derive(Debug)]
pub(crate) struct Bucket {
    interval: Duration,
    burst: Duration,
    /// When the bucket will be full again.
    full_at: Duration,
}

impl Default for Bucket {
    fn default() -> Self {
        Self::new(PER_SECOND, BURST)
    }
}

impl Bucket {
    fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            burst: interval * burst,
            full_at: Duration::ZERO,
        }
    }

    /// How long until there is room again; zero if there is now.
    pub(crate) fn wait(&self, now: Duration) -> Duration {
        self.full_at.saturating_sub(now + self.burst)
    }

    /// Notes so many changes, which are done whether there was room or not.
    pub(crate) fn take(&mut self, now: Duration, changes: usize) {
        let changes = u32::try_from(changes).unwrap_or(u32::MAX);
        let cost = self.interval.saturating_mul(changes);
        self.full_at = self.full_at.max(now).saturating_add(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_more_is_owed() {
        let mut bucket = Bucket::new(100, 5);
        let start = Duration::from_secs(1000);
        bucket.take(start, 5);
        assert_eq!(bucket.wait(start), Duration::ZERO);
        bucket.take(start, 3);
        assert_eq!(bucket.wait(start), Duration::from_millis(30));
        let later = start + Duration::from_millis(30);
        assert_eq!(bucket.wait(later), Duration::ZERO);
        bucket.take(later, 1);
        assert_eq!(bucket.wait(later), Duration::from_millis(10));
    }

    #[test]
    fn rest_refills_no_more_than_the_burst() {
        let mut bucket = Bucket::new(100, 5);
        let now = Duration::from_secs(10_000);
        bucket.take(now, 6);
        assert_eq!(bucket.wait(now), Duration::from_millis(10));
    }
}
