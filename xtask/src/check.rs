//! What needs no run: format, lints, documentation, licences.

use anyhow::{Result, bail};

use crate::process::{Options, capture, cargo, run};
use crate::setup;

/// One check and how it is run.
type Check = (&'static str, fn() -> Result<()>);

const QUICK: &[Check] = &[("format", format), ("lints", lints)];
const FULL: &[Check] = &[("documentation", documentation), ("licences", licences)];

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    Options::new(arguments).finish()?;
    setup::ensure_all()?;
    let checks: Vec<&Check> = QUICK.iter().chain(FULL).collect();
    perform(&checks)
}

/// The checks that every test run begins with.
pub(crate) fn quick() -> Result<()> {
    perform(&QUICK.iter().collect::<Vec<_>>())
}

/// Runs all of them and then names every one that failed.
fn perform(checks: &[&Check]) -> Result<()> {
    let mut failed = Vec::new();
    for (name, check) in checks {
        println!("== {name}");
        if let Err(error) = check() {
            eprintln!("{error:#}");
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("failed: {}", failed.join(", "))
    }
}

fn format() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn lints() -> Result<()> {
    run(cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn documentation() -> Result<()> {
    run(cargo()
        .args(["doc", "--quiet", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}

/// Licences, sources and banned crates. Advisories need a database from outside and are left to
/// whoever has one: `cargo deny check advisories`.
pub(crate) fn licences() -> Result<()> {
    if capture(cargo().args(["deny", "--version"])).is_err() {
        println!("Installing cargo-deny (once, some minutes)");
        run(cargo().args(["install", "--locked", "--quiet", "cargo-deny"]))?;
    }
    run(cargo().args([
        "deny",
        "--all-features",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))
}
