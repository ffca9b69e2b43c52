//! `bulkhead`, the command: what a person types, sent to `bulkheadd` and shown.
//!
//! [`args`] says what can be typed, [`commands`] does it, [`output`] shows it, [`failure`] ends it.
//! No decision about the machine is made here: plans, policy and state are the daemon's.
//!
//! Invariant: what a qube has sent reaches a terminal only through [`output::text`] or the filter
//! of the data connection.

#![forbid(unsafe_code)]

mod args;
mod client;
mod commands;
mod exit;
mod failure;
mod output;
mod progress;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    failure::report_bugs();
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    let global = cli.global;
    output::style::choose(global.color);
    match commands::run(cli.command, &global) {
        Ok(code) => code.into(),
        Err(failure) => failure.report(),
    }
}
