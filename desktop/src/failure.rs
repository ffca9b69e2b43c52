//! Why the program ends, in words and as an exit code.

use std::error::Error as StdError;
use std::io::Write;
use std::process::ExitCode;

use bulkhead_api::{ApiError, ErrorKind};

use crate::text;

/// It could not start.
pub(crate) const REFUSED: u8 = 1;
/// The command line makes no sense.
pub(crate) const USAGE: u8 = 2;
/// A bug.
pub(crate) const BUG: u8 = 70;

/// Why it could not start or go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(ApiError);

impl Failure {
    /// One lower-case sentence that names its subject.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(ApiError::new(ErrorKind::Host, message))
    }

    #[must_use]
    pub(crate) fn because(self, error: &(dyn StdError + 'static)) -> Self {
        Self(self.0.because(error))
    }

    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self(self.0.hint(hint))
    }

    /// Writes it to standard error.
    pub(crate) fn show(&self) {
        // Nobody is left to tell if this fails.
        let _ = std::io::stderr().write_all(self.render().as_bytes());
    }

    /// Shows it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        self.show();
        REFUSED.into()
    }

    fn render(&self) -> String {
        let lines = |heading: &str, texts: &[String]| -> String {
            let texts = texts.iter();
            texts
                .map(|t| format!("{heading}: {}\n", text::line(t)))
                .collect()
        };
        format!(
            "error: {}\n{}{}",
            text::line(&self.0.message),
            lines("caused by", &self.0.causes),
            lines("hint", &self.0.hints)
        )
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

/// Makes a panic end with the exit code of a bug and words for a report.
pub(crate) fn report_bugs() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let what = panic.payload_as_str().unwrap_or("unknown");
        let message = "bulkhead-desktop has a bug and stopped";
        let bug = ApiError::new(ErrorKind::Internal, message)
            .cause(what)
            .cause(format!("at {}", place.unwrap_or_default()))
            .hint("Please report it; until it runs again, use `bulkhead ask`.");
        Failure(bug).show();
        std::process::exit(BUG.into());
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_causes_and_hints_have_their_lines() {
        let error = std::io::Error::other("refused\x1b[2J");
        let failure = Failure::new("no display")
            .because(&error)
            .hint("Log in first.");
        insta::assert_snapshot!(failure.render(), @r"
        error: no display
        caused by: refused\u{1b}[2J
        hint: Log in first.
        ");
    }
}
