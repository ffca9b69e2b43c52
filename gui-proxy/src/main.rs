//! `bulkhead-gui`: shows the windows of one qube on `$DISPLAY`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use bulkhead_gui::start::{Arguments, run};
use bulkhead_wire::causes::chain;
use clap::Parser;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bulkhead-gui: {}", chain(&e));
            ExitCode::FAILURE
        }
    }
}
