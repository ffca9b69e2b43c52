//! `guard PROGRAM [ARGUMENT...]`: the first step in a qube of the embedded hypervisor. Closes the
//! folder of sockets to all but sockets and becomes the program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use bulkhead_sandbox::guard::{GuardError, busy_folder, only_sockets};
use qube_agent::filecopy;
use thiserror::Error;

const NAME: &str = "guard";

#[derive(Debug, Error)]
enum FirstStepError {
    #[error("expected PROGRAM [ARGUMENT...]")]
    Usage,
    #[error("the qube is not closed")]
    Guard(#[from] GuardError),
    #[error("cannot run `{program}`")]
    Run {
        program: String,
        source: std::io::Error,
    },
}

pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    match run(&arguments) {
        Ok(never) => match never {},
        Err(error) => crate::report::fail(NAME, &error),
    }
}

fn run(arguments: &[OsString]) -> Result<std::convert::Infallible, FirstStepError> {
    let (program, rest) = arguments.split_first().ok_or(FirstStepError::Usage)?;
    only_sockets(received())?;
    Err(FirstStepError::Run {
        program: program.display().to_string(),
        source: Command::new(program).args(rest).exec(),
    })
}

/// Where files from other qubes are made, perhaps many thousands. Without it they are made too, and
/// take longer.
fn received() -> Option<std::os::fd::OwnedFd> {
    busy_folder(&std::env::home_dir()?, &filecopy::staging_areas()).ok()
}
