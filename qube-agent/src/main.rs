//! The agent in each qube: calls, services, QubesDB, file copy.
//!
//! One static program under many names: the name it is called by, or else its first argument,
//! says which part runs (see [`applet`]).

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

mod agent;
mod announce;
mod applet;
mod applications;
mod client_vm;
mod guard;
mod init;
mod install_root;
mod network;
mod options;
mod qubesdb;
mod report;
mod run_as;
mod session;
mod signals;
mod vmexec;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let mut rest: Vec<OsString> = arguments.collect();
    if let Some(found) = find(&called) {
        return (found.run)(rest);
    }
    if rest.is_empty() {
        return init::main(rest);
    }
    let first = rest.remove(0);
    match find(&first) {
        Some(found) => (found.run)(rest),
        None => {
            let names: Vec<_> = applet::APPLETS.iter().map(|applet| applet.name).collect();
            eprintln!("qube-agent: no part is called `{}`", first.display());
            eprintln!("parts: {}", names.join(" "));
            ExitCode::from(2)
        }
    }
}

fn find(name: &OsString) -> Option<&'static applet::Applet> {
    let base = Path::new(name).file_name()?;
    applet::APPLETS.iter().find(|applet| base == applet.name)
}
