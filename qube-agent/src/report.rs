//! What goes wrong, for people.

use std::error::Error;
use std::process::ExitCode;

use bulkhead_wire::causes::chain;
use bulkhead_wire::qrexec::EXIT_PROBLEM;

/// Writes an error and its causes to standard error.
pub(crate) fn log(name: &str, error: &dyn Error) {
    eprintln!("{name}: {}", chain(error));
}

/// The same, and the exit code for problems of qrexec itself.
pub(crate) fn fail(name: &str, error: &dyn Error) -> ExitCode {
    log(name, error);
    ExitCode::from(EXIT_PROBLEM)
}
