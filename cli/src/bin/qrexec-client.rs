//! `qrexec-client`: calls from and to dom0, with the arguments that scripts know.
//!
//! Talks to a qube's daemon socket (`qrexec.<qube>`), and speaks the data protocol itself.

#![forbid(unsafe_code)]

#[path = "qrexec_client/mod.rs"]
mod client;

use std::process::ExitCode;

fn main() -> ExitCode {
    client::main()
}
