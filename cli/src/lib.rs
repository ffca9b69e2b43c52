//! `bulkhead`, the command.
//!
//! What needs no daemon (`check`, `fmt`, `schema`, `init`) works on files alone. Everything else is
//! one D-Bus connection to `bulkheadd`: no thread is started, and nothing is asked twice, because a
//! command is started a hundred times a day.
//!
//! Invariant: nothing that a guest can choose reaches the terminal unfiltered ([`text::plain`]).

#![forbid(unsafe_code)]

pub mod args;
mod client;
mod commands;
mod error;
mod output;
mod progress;
pub mod text;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

pub use error::{CommandError, Exit};

/// Runs the command of this process.
#[must_use]
pub fn main() -> ExitCode {
    let matches = match args::Args::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let args = match args::Args::from_arg_matches(&matches) {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let color = args.color;
    match commands::run(args) {
        Ok(exit) => exit.into(),
        Err(error) => error.report(color),
    }
}

/// Help goes to standard output and is no failure; everything else is exit code 2.
fn usage(error: &clap::Error) -> ExitCode {
    let wanted = !error.use_stderr();
    if error.print().is_err() || !wanted {
        return Exit::Usage.into();
    }
    Exit::Done.into()
}
