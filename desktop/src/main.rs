//! `bulkhead-desktop`: asks the person at the screen about calls between qubes, and tells them
//! what was decided without them.
//!
//! [`desk`] is the model of the prompts, [`notices`] that of the notices, and [`notes`] that of those
//! notices that the session has no service for; all are pure. [`bus`] speaks D-Bus on a thread of its
//! own, where [`shown`] are the notifications of qubes; [`ui`] shows windows on this one.
//!
//! Invariant: it never sees a byte of a qube, only texts that `bulkheadd` has cleaned, and cleans
//! them again ([`text`]).

#![forbid(unsafe_code)]

mod args;
mod bus;
mod desk;
mod failure;
mod notes;
mod notices;
mod session;
mod shown;
mod text;
mod ui;
mod words;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::failure::Failure;

fn main() -> ExitCode {
    failure::report_bugs();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = error.print();
            let code = if error.use_stderr() {
                failure::USAGE
            } else {
                0
            };
            return code.into();
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(args: Args) -> Result<(), Failure> {
    ui::open_display()?;
    let shows_windows = args.guivm.is_none();
    let bus = bus::start(bus::socket(args.socket.as_deref()), shows_windows)?;
    ui::run(bus, args.guivm);
    Ok(())
}
