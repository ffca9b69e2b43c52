//! What a relay writes to standard error: into the log, with the qube's name, and not too often.
//!
//! A relay has read guest bytes. Should it ever write about them, or be taken over, it must not
//! fill the log or pass for the daemon itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::ChildStderr;
use tokio::time::Instant;

use super::check::printable;

/// Lines of one relay that are logged at once: a panic with its place, some times over.
pub(super) const LINES_BURST: u32 = 16;
/// One more line each time this has passed.
pub(super) const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of a line that are kept; the rest is passed over.
const LINE_MAX: usize = 400;
/// Bytes read at once, and the pause after them: a relay that writes without end costs us nothing.
const CHUNK: usize = 4096;
const CHUNK_PAUSE: Duration = Duration::from_millis(10);

/// Decides which lines are logged.
#[derive(Debug)]
pub(super) struct Lines {
    rested: Instant,
    dropped: u64,
}

impl Lines {
    fn new(now: Instant) -> Self {
        Self {
            rested: now,
            dropped: 0,
        }
    }

    /// Whether there is room for a line; how many there was none for before it.
    fn room(&mut self, now: Instant) -> Option<u64> {
        let rested = self.rested.max(now) + LINE_INTERVAL;
        if rested - now > LINE_INTERVAL * LINES_BURST {
            self.dropped += 1;
            return None;
        }
        self.rested = rested;
        Some(std::mem::take(&mut self.dropped))
    }
}

/// Reads to the end: a relay that is well never waits for us.
pub(crate) async fn log(qube: String, program: &str, stderr: ChildStderr) {
    let lines = Mutex::new(Lines::new(Instant::now()));
    follow(stderr, &lines, |said, dropped| {
        tracing::warn!(%qube, said, dropped, "{program} says");
    })
    .await;
}

/// Lines of several sources, of which no more are logged than of one.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Lines>>);

impl Shared {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Lines::new(Instant::now()))))
    }

    /// Reads what a service of dom0 and those who attend to it say, to the end.
    pub(crate) async fn log(self, qube: String, service: String, from: impl AsyncRead + Unpin) {
        follow(from, &self.0, |said, dropped| {
            tracing::warn!(%qube, service, said, dropped, "service in dom0 says");
        })
        .await;
    }
}

async fn follow(mut from: impl AsyncRead + Unpin, lines: &Mutex<Lines>, write: impl Fn(&str, u64)) {
    let mut line = Vec::new();
    let tell = |line: &mut Vec<u8>| {
        let said = std::mem::take(line);
        if said.is_empty() {
            return;
        }
        let room = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dropped) = { room }.room(Instant::now()) {
            write(&printable(&String::from_utf8_lossy(&said)), dropped);
        }
    };
    let mut chunk = [0; CHUNK];
    // One that cannot be read from any more is told by its other socket.
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        for byte in chunk.get(..n).unwrap_or_default() {
            match byte {
                b'\n' => tell(&mut line),
                byte if line.len() < LINE_MAX => line.push(*byte),
                _ => {}
            }
        }
        tokio::time::sleep(CHUNK_PAUSE).await;
    }
    tell(&mut line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_past_the_burst_is_counted_and_told_with_the_next() {
        let now = Instant::now();
        let mut lines = Lines::new(now);
        for _ in 0..LINES_BURST {
            assert_eq!(lines.room(now), Some(0));
        }
        assert_eq!(lines.room(now), None);
        assert_eq!(lines.room(now), None);
        assert_eq!(lines.room(now + LINE_INTERVAL), Some(2));
        assert_eq!(lines.room(now + LINE_INTERVAL), None);
    }
}
