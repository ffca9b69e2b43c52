//! `qubes-vmexec`: runs the command that is encoded in a service argument.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use bulkhead_wire::qrexec::vmexec::{VmExecError, decode};
use bulkhead_wire::qrexec::{EXIT_NOT_FOUND, EXIT_PROBLEM};
use thiserror::Error;

const NAME: &str = "qubes-vmexec";

#[derive(Debug, Error)]
enum RunError {
    #[error("expected one argument, the encoded command")]
    Usage,
    #[error("the encoded command is broken")]
    Encoding(#[source] VmExecError),
    #[error("the encoded command is empty")]
    Empty,
    #[error("cannot run `{program}`")]
    Run {
        program: String,
        source: std::io::Error,
    },
}

pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let error = run(arguments);
    crate::report::log(NAME, &error);
    match &error {
        RunError::Usage => ExitCode::from(2),
        RunError::Run { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            ExitCode::from(EXIT_NOT_FOUND)
        }
        _ => ExitCode::from(EXIT_PROBLEM),
    }
}

/// Returns only if the command cannot be run.
fn run(arguments: Vec<OsString>) -> RunError {
    let text = match <[OsString; 1]>::try_from(arguments) {
        Ok([text]) => text,
        Err(_) => return RunError::Usage,
    };
    let text = text.to_string_lossy().into_owned();
    let decoded = match decode(&text) {
        Ok(decoded) => decoded,
        Err(e) => return RunError::Encoding(e),
    };
    let mut words = decoded.into_iter().map(OsString::from_vec);
    let Some(program) = words.next().filter(|program| !program.is_empty()) else {
        return RunError::Empty;
    };
    let source = Command::new(&program).args(words).exec();
    RunError::Run {
        program: program.display().to_string(),
        source,
    }
}
