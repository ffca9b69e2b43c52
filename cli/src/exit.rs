//! How the command ends.

use std::process::ExitCode;

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for is done.
    Done,
    /// It was refused or could not be done, and nothing changed.
    Refused,
    /// The command line makes no sense.
    Usage,
    /// A part was done.
    Partly,
    /// The person would be asked.
    Asks,
    /// A decision would change.
    Changes,
    /// A bug in Bulkhead.
    Bug,
    /// The code of a command that ran in a qube.
    Remote(u8),
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Partly => 3,
            Self::Asks => 4,
            Self::Changes => 5,
            Self::Bug => 70,
            Self::Remote(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Ends for what the parser said: help and version are no errors.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let code = if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Done
    };
    // Nobody left to tell if this fails.
    let _ = error.print();
    code.into()
}
