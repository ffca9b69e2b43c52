//! Turns every error into what a person reads and the exit code.

use std::error::Error as StdError;
use std::io;
use std::process::ExitCode;

use bulkhead_api::{ApiError, ErrorKind};

use crate::exit::Exit;
use crate::output::{style, text};

/// Why a command did not do all that was asked of it.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    /// A refusal: one lower-case sentence that names its subject.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Refused,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// A failed operation of the system.
    pub(crate) fn io(doing: impl Into<String>, error: &io::Error) -> Self {
        Self::new(doing).because(error)
    }

    /// An end without words: whoever read the output has closed it and wants no more.
    fn silent() -> Self {
        Self {
            exit: Exit::Done,
            ..Self::new("")
        }
    }

    /// Failed to write to standard output.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::silent()
        } else {
            Self::io("cannot write the output", error)
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
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Ends with another code, unless it is a bug.
    #[must_use]
    pub(crate) fn exit_unless_bug(self, exit: Exit) -> Self {
        if self.exit == Exit::Bug {
            self
        } else {
            self.exit(exit)
        }
    }

    /// Shows it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        self.show();
        self.exit.into()
    }

    /// Shows it.
    pub(crate) fn show(&self) {
        if !self.message.is_empty() {
            crate::output::note(&self.render());
        }
    }

    fn render(&self) -> String {
        let paint = style::stderr();
        let mut out = String::new();
        out.push_str(&paint.error("error:"));
        push_text(&mut out, &self.message);
        for cause in &self.causes {
            // Diagnostics come with their own headings.
            if cause.trim_end().contains('\n') {
                out.push('\n');
                out.push_str(text::block(cause).trim_end());
                out.push('\n');
            } else {
                out.push_str(&paint.strong("caused by:"));
                push_text(&mut out, cause);
            }
        }
        for hint in &self.hints {
            out.push_str(&paint.hint("hint:"));
            push_text(&mut out, hint);
        }
        out
    }
}

fn push_text(out: &mut String, message: &str) {
    out.push(' ');
    out.push_str(text::block(message).trim_end());
    out.push('\n');
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let exit = match error.kind {
            ErrorKind::PartlyApplied => Exit::Partly,
            ErrorKind::Internal => Exit::Bug,
            _ => Exit::Refused,
        };
        Self {
            exit,
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
        Failure::new("bulkhead has a bug and stopped")
            .cause(panic.payload_as_str().unwrap_or("unknown").to_owned())
            .cause(format!("at {}", place.unwrap_or_default()))
            .hint("Please report it with the command that led to it.")
            .show();
        std::process::exit(Exit::Bug.code().into());
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_causes_and_hints_have_their_lines() {
        let failure = Failure::from(
            ApiError::new(ErrorKind::WrongState, "cannot pause `work`")
                .because(&io::Error::other("it does not run"))
                .hint("Start it with `bulkhead start work`."),
        );
        insta::assert_snapshot!(failure.render(), @r"
        error: cannot pause `work`
        caused by: it does not run
        hint: Start it with `bulkhead start work`.
        ");
    }

    #[test]
    fn diagnostics_keep_their_own_headings() {
        let failure = Failure::new("the description `system.ron` has 1 error")
            .cause("error: unknown field `netmv`\n --> system.ron:4:9\n");
        insta::assert_snapshot!(failure.render(), @r"
        error: the description `system.ron` has 1 error

        error: unknown field `netmv`
         --> system.ron:4:9
        ");
    }

    #[test]
    fn nothing_that_acts_on_a_terminal_gets_through() {
        let failure = Failure::new("bad \x1b[2J name").cause("\u{202e}evil\r");
        let shown = failure.render();
        assert!(!shown.contains(['\x1b', '\u{202e}', '\r']), "{shown:?}");
    }

    #[test]
    fn every_kind_has_the_documented_exit_code() {
        for kind in ErrorKind::ALL {
            let expected = match kind {
                ErrorKind::PartlyApplied => 3,
                ErrorKind::Internal => 70,
                _ => 1,
            };
            let failure = Failure::from(ApiError::new(kind, "x"));
            assert_eq!(failure.exit.code(), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_closed_output_is_no_failure() {
        let failure = Failure::output(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Done, ""));
        let full = Failure::output(&io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit, Exit::Refused);
    }
}
