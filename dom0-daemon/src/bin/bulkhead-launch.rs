//! `bulkhead-launch`: becomes one qube of the embedded hypervisor; `bulkhead-launch --service N`
//! starts one service that a qube called in dom0, as its user, and attends to it.
//!
//! Started by `bulkheadd` alone. For a service, N is a socket to it. For a qube, standard input is
//! a [`LaunchSpec`] in JSON, standard output is where the status goes (one JSON object a line),
//! standard error is the qube's console.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use bulkhead_qrexec::attend;
use bulkhead_sandbox::inherit;
use bulkhead_sandbox::launch::{LaunchSpec, launch};
use bulkhead_sandbox::user::become_user;
use bulkhead_wire::causes::chain;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [service, number] = &words[..]
        && service == "--service"
    {
        return match attend_to(number.to_str().unwrap_or_default()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Nobody reads it if standard error is closed.
                let _ = writeln!(io::stderr(), "bulkhead-launch: {}", chain(&*error));
                ExitCode::FAILURE
            }
        };
    }
    let Err(error) = run();
    let text = chain(&*error);
    let status = serde_json::json!({ "launch-error": text });
    // Nobody listens: then the exit code must do.
    let _ = writeln!(io::stdout(), "{status}");
    ExitCode::FAILURE
}

fn attend_to(number: &str) -> Result<(), Box<dyn Error>> {
    let daemon = inherit::take_inherited(number.parse()?)?;
    // A service gets its three streams and nothing else.
    inherit::close_uninvited()?;
    let (order, ends) = attend::receive(daemon)?;
    if let Some(user) = &order.user {
        become_user(user.uid, user.gid, &user.groups)?;
    }
    let (signalled, pipe) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGUSR1, pipe)?;
    Ok(attend::attend(&order, ends, signalled.into())?)
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
