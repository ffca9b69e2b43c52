//! `bulkhead-launch`: becomes one qube of the embedded hypervisor.
//!
//! Started by `bulkheadd` alone: standard input is a [`LaunchSpec`] in JSON, standard output is
//! where the status goes (one JSON object a line), standard error is the qube's console.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use bulkhead_sandbox::inherit;
use bulkhead_sandbox::launch::{LaunchSpec, launch};

fn main() -> ExitCode {
    let Err(error) = run();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    let status = serde_json::json!({ "launch-error": text });
    // Nobody listens: then the exit code must do.
    let _ = writeln!(io::stdout(), "{status}");
    ExitCode::FAILURE
}

fn run() -> Result<Infallible, Box<dyn Error>> {
    // Whatever somebody above the daemon left open by mistake is not for qubes.
    inherit::close_uninvited()?;
    let spec: LaunchSpec = serde_json::from_reader(io::stdin().lock())?;
    let status: OwnedFd = io::stdout().as_fd().try_clone_to_owned()?;
    let errors: OwnedFd = io::stdout().as_fd().try_clone_to_owned()?;
    // From here on the qube's standard streams: nothing in, everything out to its console.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    launch(&spec, status).map_err(|e| {
        // Standard output is the console by now; the failure goes where the daemon reads.
        let _ = rustix::stdio::dup2_stdout(&errors);
        Box::from(e)
    })
}
