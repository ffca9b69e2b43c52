//! What the person sees while files travel.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Least time between two updates: faster than this nobody reads.
const STEP: Duration = Duration::from_millis(100);
const KIB: u64 = 1024;

/// A line on standard error that grows, if that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    total: u64,
    shown: bool,
    last: Option<Instant>,
}

impl Progress {
    /// Silent if not wanted or if nobody is looking.
    pub(crate) fn new(wanted: bool) -> Self {
        Self {
            total: 0,
            shown: wanted && std::io::stderr().is_terminal(),
            last: None,
        }
    }

    pub(crate) fn is_shown(&self) -> bool {
        self.shown
    }

    pub(crate) fn set_total(&mut self, bytes: u64) {
        self.total = bytes;
    }

    pub(crate) fn update(&mut self, bytes: u64) {
        if self.shown && self.last.is_none_or(|last| last.elapsed() >= STEP) {
            self.last = Some(Instant::now());
            self.print(bytes, "\r");
        }
    }

    pub(crate) fn finish(&mut self, bytes: u64) {
        if self.shown {
            self.print(bytes, "\n");
        }
    }

    fn print(&self, bytes: u64, end: &str) {
        let line = format!("\rsent {}/{} KiB{end}", bytes / KIB, self.total / KIB);
        // A terminal that went away is no reason to stop the transfer.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
