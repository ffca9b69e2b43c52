//! What the proxy has to say, on standard error. Never quotes the agent.

use std::io::Write as _;

/// Lines that one agent may cause. Whoever reads the log has seen enough then.
pub const LINES_MAX: u32 = 200;

/// A log of one qube.
#[derive(Debug)]
pub struct Log {
    qube: String,
    lines: u32,
}

impl Log {
    /// Whose lines begin with the name of this qube.
    #[must_use]
    pub fn new(qube: &str) -> Self {
        Self {
            qube: qube.to_owned(),
            lines: 0,
        }
    }

    /// Writes a line.
    pub fn say(&self, text: &str) {
        // Standard error may be closed; there is nobody else to tell.
        let _ = writeln!(std::io::stderr(), "bulkhead-gui {}: {text}", self.qube);
    }

    /// Writes a line that the agent has caused, up to [`LINES_MAX`] of them.
    pub fn of_agent(&mut self, text: &str) {
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            ..LINES_MAX => self.say(text),
            LINES_MAX => self.say("what the agent does wrong is not told any more"),
            _ => {}
        }
    }
}
