//! Why the program ends, in words and as an exit code.

use std::error::Error as StdError;
use std::io::Write;
use std::process::ExitCode;

use bulkhead_api::ApiError;

use crate::text;

/// It could not start.
pub(crate) const REFUSED: u8 = 1;
/// The command line makes no sense.
pub(crate) const USAGE: u8 = 2;
/// A bug.
pub(crate) const BUG: u8 = 70;

/// Why it could not start or go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    /// One lower-case sentence that names its subject.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    #[must_use]
    pub(crate) fn because(mut self, error: &(dyn StdError + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
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
            text::line(&self.message),
            lines("caused by", &self.causes),
            lines("hint", &self.hints)
        )
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self {
            message: error.message,
            causes: error.causes,
            hints: error.hints,
        }
    }
}

/// Makes a panic end with the exit code of a bug and words for a report.
pub(crate) fn report_bugs() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let what = panic.payload_as_str().unwrap_or("unknown");
        Failure {
            message: "bulkhead-desktop has a bug and stopped".to_owned(),
            causes: vec![what.to_owned(), format!("at {}", place.unwrap_or_default())],
            hints: vec!["Please report it; until it runs again, use `bulkhead ask`.".to_owned()],
        }
        .show();
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
