//! Failures as people see them, and the exit codes that scripts see.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use bulkhead_api::{ApiError, ErrorKind};

use crate::args::ColorChoice;
use crate::output::{Paint, wants_color};
use crate::text;

/// How the command ends. Documented in `bulkhead --help` and the manual page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It is done.
    Done,
    /// Refused, or the person's mistake; nothing was changed.
    Refused,
    /// The command line makes no sense.
    Usage,
    /// Some of it was done and could not be undone.
    Partly,
    /// A bug.
    Bug,
    /// What the program that ran in a qube returned.
    Program(u8),
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Partly => 3,
            Self::Bug => 70,
            Self::Program(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A failure of a command.
#[derive(Debug)]
pub struct CommandError {
    /// How the command ends.
    pub exit: Exit,
    /// What did not happen.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What would help.
    pub hints: Vec<String>,
    /// Already shown, or nobody is there to read it: only the exit code is left to give.
    pub silent: bool,
}

impl CommandError {
    /// A refusal.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Refused,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            silent: false,
        }
    }

    /// Nothing more to say.
    #[must_use]
    pub fn silent(exit: Exit) -> Self {
        Self {
            exit,
            silent: true,
            ..Self::new("")
        }
    }

    /// Adds an error and its sources to the causes.
    #[must_use]
    pub fn because(mut self, error: &(dyn StdError + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Ends with another exit code.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Writes it to standard error and gives the exit code.
    #[must_use]
    pub fn report(&self, color: ColorChoice) -> ExitCode {
        if !self.silent {
            let paint = Paint(wants_color(color, &io::stderr()));
            // If standard error is closed there is nobody to tell.
            let _ = write!(io::stderr().lock(), "{}", self.render(paint));
        }
        self.exit.into()
    }

    /// Writes it to standard error, uncoloured: another failure follows and gives the exit code.
    pub(crate) fn show(&self) {
        let _ = write!(io::stderr().lock(), "{}", self.render(Paint(false)));
    }

    /// As it is shown, with a line break at the end.
    #[must_use]
    pub fn render(&self, paint: Paint) -> Rendered<'_> {
        Rendered { error: self, paint }
    }
}

/// A [`CommandError`] on its way to the terminal.
#[derive(Debug)]
pub struct Rendered<'a> {
    error: &'a CommandError,
    paint: Paint,
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, paint } = self;
        let message = text::plain_lines(&error.message);
        writeln!(f, "{} {}", paint.red_bold("error:"), message.trim_end())?;
        for cause in &error.causes {
            let cause = text::plain_lines(cause);
            writeln!(f, "{} {}", paint.bold("caused by:"), cause.trim_end())?;
        }
        for hint in &error.hints {
            let hint = text::plain_lines(hint);
            writeln!(f, "{} {}", paint.cyan_bold("hint:"), hint.trim_end())?;
        }
        Ok(())
    }
}

impl From<ApiError> for CommandError {
    fn from(error: ApiError) -> Self {
        let exit = match error.kind {
            ErrorKind::PartlyApplied => Exit::Partly,
            ErrorKind::Internal => Exit::Bug,
            _ => Exit::Refused,
        };
        let mut hints = error.hints;
        if exit == Exit::Bug {
            hints.push("this is a bug in Bulkhead; please report it with the lines above".into());
        }
        Self {
            exit,
            message: error.message,
            causes: error.causes,
            hints,
            silent: false,
        }
    }
}

impl From<zbus::Error> for CommandError {
    fn from(error: zbus::Error) -> Self {
        ApiError::from(error).into()
    }
}

/// Writing to standard output failed. A reader that has seen enough (`| head`) is no failure.
impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(Exit::Done);
        }
        Self::new("standard output cannot be written").because(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [
            Exit::Done,
            Exit::Refused,
            Exit::Usage,
            Exit::Partly,
            Exit::Bug,
        ];
        assert_eq!(codes.map(Exit::code), [0, 1, 2, 3, 70]);
        assert_eq!(Exit::Program(42).code(), 42);
    }

    #[test]
    fn every_kind_has_its_exit_code() {
        for kind in ErrorKind::ALL {
            let exit = CommandError::from(ApiError::new(kind, "x")).exit;
            let expected = match kind {
                ErrorKind::PartlyApplied => Exit::Partly,
                ErrorKind::Internal => Exit::Bug,
                _ => Exit::Refused,
            };
            assert_eq!(exit, expected, "{kind:?}");
        }
    }

    #[test]
    fn shows_error_causes_and_hints() {
        let error = CommandError::new("qube `work` did not start")
            .because(&io::Error::other("no space left on device"))
            .hint("free some space in /var/lib/bulkhead");
        insta::assert_snapshot!(error.render(Paint(false)), @r"
        error: qube `work` did not start
        caused by: no space left on device
        hint: free some space in /var/lib/bulkhead
        ");
    }

    #[test]
    fn what_a_guest_wrote_cannot_act_on_the_terminal() {
        let error = CommandError::new("agent said \u{1b}]0;owned\u{7}\r\nsecond line");
        insta::assert_snapshot!(error.render(Paint(false)), @r"
        error: agent said _]0;owned__
        second line
        ");
    }
}
