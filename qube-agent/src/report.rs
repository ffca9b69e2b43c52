//! What goes wrong, for people.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_wire::causes::chain;
use bulkhead_wire::qrexec::EXIT_PROBLEM;

/// Writes an error and its causes to standard error.
pub(crate) fn log(name: &str, error: &dyn Error) {
    // A console that takes no more must not end what goes on without it.
    let _ = writeln!(io::stderr(), "{name}: {}", chain(error));
}

/// The same, and the exit code for problems of qrexec itself.
pub(crate) fn fail(name: &str, error: &dyn Error) -> ExitCode {
    log(name, error);
    ExitCode::from(EXIT_PROBLEM)
}
