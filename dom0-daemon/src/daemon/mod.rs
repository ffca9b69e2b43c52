//! The assembly of the daemon.

use std::process::ExitCode;

/// Runs the daemon until it is told to stop.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
