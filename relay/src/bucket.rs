//! How fast one guest may make work for the daemon.

use std::time::Duration;

/// Allows `burst` events at once and then one every `interval`.
#[derive(Debug)]
pub(crate) struct Bucket {
    interval: Duration,
    burst: Duration,
    /// When the bucket will be full again.
    full_at: Duration,
}

impl Bucket {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            burst: interval * burst,
            full_at: Duration::ZERO,
        }
    }

    /// How long until [`Bucket::take`] may be called; zero if it may be now.
    pub(crate) fn wait(&self, now: Duration) -> Duration {
        (self.full_at + self.interval).saturating_sub(now + self.burst)
    }

    pub(crate) fn take(&mut self, now: Duration) {
        self.full_at = self.full_at.max(now) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_one_more_waits_its_interval() {
        let mut bucket = Bucket::new(100, 5);
        let start = Duration::from_secs(1000);
        for _ in 0..5 {
            assert_eq!(bucket.wait(start), Duration::ZERO);
            bucket.take(start);
        }
        assert_eq!(bucket.wait(start), Duration::from_millis(10));
        let later = start + Duration::from_millis(10);
        assert_eq!(bucket.wait(later), Duration::ZERO);
        bucket.take(later);
        assert_eq!(bucket.wait(later), Duration::from_millis(10));
    }

    #[test]
    fn rest_refills_no_more_than_the_burst() {
        let mut bucket = Bucket::new(100, 5);
        let mut passed = 0;
        let now = Duration::from_secs(10_000);
        while bucket.wait(now) == Duration::ZERO {
            bucket.take(now);
            passed += 1;
        }
        assert_eq!(passed, 5);
    }
}
