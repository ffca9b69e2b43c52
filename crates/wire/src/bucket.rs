//! How much work one guest may make.

use std::time::Duration;

/// Allows `burst` events at once and then one every interval. Times are on any clock that only
/// goes forward.
#[derive(Debug)]
pub struct Bucket {
    interval: Duration,
    burst: Duration,
    /// When the bucket will be full again.
    full_at: Duration,
}

impl Bucket {
    /// A full bucket; one event a second is the least.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            burst: interval.saturating_mul(burst),
            full_at: Duration::ZERO,
        }
    }

    /// How long until there is room for so many events; zero if there is now. Room for none is
    /// there as soon as nothing is owed.
    #[must_use]
    pub fn wait(&self, now: Duration, events: u32) -> Duration {
        let cost = self.interval.saturating_mul(events);
        let full = now.saturating_add(self.burst);
        self.full_at
            .max(now)
            .saturating_add(cost)
            .saturating_sub(full)
    }

    /// Notes so many events, whether there was room or not: what is more than fits is owed.
    pub fn take(&mut self, now: Duration, events: u32) {
        let cost = self.interval.saturating_mul(events);
        self.full_at = self.full_at.max(now).saturating_add(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(10);

    fn bucket() -> Bucket {
        Bucket::new(100, 5)
    }

    #[test]
    fn a_burst_passes_and_one_more_waits_its_interval() {
        let mut bucket = bucket();
        let start = Duration::from_secs(1000);
        for _ in 0..5 {
            assert_eq!(bucket.wait(start, 1), Duration::ZERO);
            bucket.take(start, 1);
        }
        assert_eq!(bucket.wait(start, 0), Duration::ZERO);
        assert_eq!(bucket.wait(start, 1), INTERVAL);
        let later = start + INTERVAL;
        assert_eq!(bucket.wait(later, 1), Duration::ZERO);
        bucket.take(later, 1);
        assert_eq!(bucket.wait(later, 1), INTERVAL);
    }

    #[test]
    fn what_is_more_than_fits_is_owed() {
        let mut bucket = bucket();
        let start = Duration::from_secs(1000);
        bucket.take(start, 8);
        assert_eq!(bucket.wait(start, 0), 3 * INTERVAL);
        assert_eq!(bucket.wait(start, 2), 5 * INTERVAL);
        assert_eq!(bucket.wait(start + 3 * INTERVAL, 0), Duration::ZERO);
    }

    #[test]
    fn rest_refills_no_more_than_the_burst() {
        let mut bucket = bucket();
        let now = Duration::from_secs(10_000);
        assert_eq!(bucket.wait(now, 5), Duration::ZERO);
        assert_eq!(bucket.wait(now, 6), INTERVAL);
        bucket.take(now, 6);
        assert_eq!(bucket.wait(now, 0), INTERVAL);
    }

    #[test]
    fn no_number_overflows() {
        let mut bucket = Bucket::new(0, u32::MAX);
        bucket.take(Duration::MAX, u32::MAX);
        assert_eq!(bucket.wait(Duration::MAX, u32::MAX), Duration::ZERO);
    }
}
