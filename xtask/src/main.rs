//! Every developer command. Run as `cargo xtask COMMAND`.
//!
//! Links no system library, so that it builds before `setup` has installed any.

#![forbid(unsafe_code)]

mod bench;
mod check;
mod deb;
mod demo;
mod fuzz;
mod images;
mod process;
mod setup;
mod suite;
mod template;
mod test;
mod xen;

use std::process::ExitCode;

const HELP: &str = "\
Developer commands of Bulkhead

Usage: cargo xtask COMMAND [OPTIONS]

Commands:
  setup   install the Debian packages that a build, demo or test needs, only the missing ones,
          and fetch Xen's headers into the cache
  demo    bring up the example desktop, use it, change it, roll it back
            --keep          leave it running and print the commands to play on
            --release       as it ships: builds for some minutes longer, runs faster
  build   every program as tests and the demo use it; with --release as it ships
  deb     Debian packages of what this workspace builds, in target/debian
  template NAME
          a template image from templates/NAME; prints its folder
            --update-lock   take the packages that Debian has now, and build nothing
            --twice         build it two times from nothing and compare
  test    format, lints, unit and end-to-end tests, a short run of each fuzz target
            --all           also what takes long: licences, long fuzzing, Debian templates
            --qrexec-suite DIR
                            run the public socket suite of qubes-core-qrexec in DIR
                            (a checkout of it) against our programs, and nothing else
            --xen [NAME], --embedded [NAME], --host ssh://[USER@]HOST[:PORT] [NAME]
                            the scenarios in hw-tests whose names contain NAME, and nothing
                            else: on Xen in QEMU, on this machine, on a bench machine
            --reset COMMAND with --host: the machine may be harmed, and this command brings it
                            back as it was, before each scenario that needs it so
            --qubes-sources DIR
                            also the scenarios with programs of Qubes, built of the checkouts
                            of its repositories in DIR
            --fuzz-seconds N
                            seconds per fuzz target (default 3; 60 with --all)
  check   everything that needs no run: format, lints, documentation, licences
  bench   what is to be fast or small, measured on what ships; prints the table of
          docs/performance.md
            NAME ...        only these benchmarks: plan, qubes, call, filecopy, relay, gui, policy
            --json          the table and every figure as JSON
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let outcome = match command {
        "setup" => setup::command(rest),
        "build" => images::command(rest),
        "deb" => deb::command(rest),
        "demo" => demo::command(rest),
        "template" => template::command(rest),
        "test" => test::command(rest),
        "check" => check::command(rest),
        "bench" => bench::command(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("error: unknown command `{other}`\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("caused by: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}
