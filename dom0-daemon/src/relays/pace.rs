//! What one relay may make the daemon do: so much at a time, and nothing about an agent that it
//! was not given.

use std::time::Duration;

use bulkhead_wire::backoff::Backoff;
use bulkhead_wire::relay::FromRelay;
use tokio::time::Instant;

/// Messages that a relay may send at once. A relay that is well holds back its guest at 2,000
/// calls a second, each of which has an end too.
pub(super) const MESSAGES_BURST: u32 = 4096;
/// Pause for each message beyond: 5,000 a second, a tenth of what the daemon could take.
pub(super) const MESSAGE_INTERVAL: Duration = Duration::from_micros(200);

/// Pause between two connections to one agent; doubled while they are lost at once.
const ATTACH_FIRST: Duration = Duration::from_millis(50);
/// Longest such pause.
const ATTACH_MAX: Duration = Duration::from_secs(5);
/// An agent that stayed this long did well; the next pause is the first again.
const ATTACH_CALM: Duration = Duration::from_secs(10);

/// Counts what one relay says.
#[derive(Debug)]
pub(super) struct Pace {
    /// When a full burst may come again.
    rested: Instant,
    attached: Option<Instant>,
    backoff: Backoff,
    pause: Duration,
    /// Connections handed over of which it has not said that they speak.
    silent: u32,
    /// Connections handed over of which it has not said that they are gone.
    open: u32,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rested: now,
            attached: None,
            backoff: Backoff::new(ATTACH_FIRST, ATTACH_MAX, ATTACH_CALM),
            pause: Duration::ZERO,
            silent: 0,
            open: 0,
        }
    }

    /// Takes note of a message; returns how long to wait before the next one is read, or what it
    /// could not have said.
    pub(super) fn message(
        &mut self,
        message: &FromRelay,
        now: Instant,
    ) -> Result<Duration, &'static str> {
        let left = match message {
            FromRelay::AgentConnected { .. } => Some(&mut self.silent),
            FromRelay::AgentLost { .. } => Some(&mut self.open),
            _ => None,
        };
        if let Some(left) = left {
            *left = left
                .checked_sub(1)
                .ok_or("news of an agent that it was not given")?;
        }
        self.rested = self.rested.max(now) + MESSAGE_INTERVAL;
        Ok((self.rested - now).saturating_sub(MESSAGE_INTERVAL * MESSAGES_BURST))
    }

    /// A connection to the agent was handed over.
    pub(super) fn attached(&mut self, now: Instant) {
        self.tried(now);
        self.silent = self.silent.saturating_add(1);
        self.open = self.open.saturating_add(1);
    }

    /// A connection was tried, of which the relay will say nothing.
    pub(super) fn tried(&mut self, now: Instant) {
        let lasted = self.attached.map(|at| now - at);
        self.pause = self.backoff.pause_after(lasted.unwrap_or_default());
        self.attached = Some(now);
    }

    /// When the next connection may be made.
    pub(super) fn attach_at(&self, now: Instant) -> Instant {
        self.attached.map_or(now, |at| now.max(at + self.pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTED: FromRelay = FromRelay::AgentConnected { version: 3 };

    fn lost() -> FromRelay {
        FromRelay::AgentLost {
            reason: String::new(),
        }
    }

    #[test]
    fn one_message_past_the_burst_waits() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..MESSAGES_BURST {
            assert_eq!(
                pace.message(&FromRelay::DbSynchronised, now),
                Ok(Duration::ZERO)
            );
        }
        let wait = pace.message(&FromRelay::DbSynchronised, now);
        assert_eq!(wait, Ok(MESSAGE_INTERVAL));
        let later = now + MESSAGE_INTERVAL * 2;
        assert_eq!(
            pace.message(&FromRelay::DbSynchronised, later),
            Ok(Duration::ZERO)
        );
    }

    #[test]
    fn each_connection_speaks_once_and_is_lost_once() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert!(pace.message(&CONNECTED, now).is_err());
        assert!(pace.message(&lost(), now).is_err());
        // A second one replaces the first, which is lost before the second speaks.
        pace.attached(now);
        pace.message(&CONNECTED, now).unwrap();
        pace.attached(now);
        pace.message(&lost(), now).unwrap();
        pace.message(&CONNECTED, now).unwrap();
        assert!(pace.message(&CONNECTED, now).is_err());
        pace.message(&lost(), now).unwrap();
        assert!(pace.message(&lost(), now).is_err());
    }

    #[test]
    fn an_agent_that_hangs_up_at_once_is_tried_ever_more_rarely() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.attach_at(now), now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            pace.attached(now);
            let next = pace.attach_at(now);
            pauses.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert!(
            pace.message(&lost(), now).is_ok(),
            "each may be told of as lost"
        );
        pace.tried(now);
        assert_eq!(pace.attach_at(now), now + ATTACH_MAX);
        now += ATTACH_CALM;
        assert_eq!(pace.attach_at(now), now);
        pace.attached(now);
        assert_eq!(pace.attach_at(now), now + ATTACH_FIRST);
    }
}
