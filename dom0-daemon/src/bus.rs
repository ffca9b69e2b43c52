//! The D-Bus face of [`crate::ops::Operations`] and of the runtime, and the assembly of the daemon.

/// Runs the daemon until it is told to stop.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
