//! `cargo xtask test --xen` and its like: the scenarios, on Xen in QEMU or elsewhere.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::deb;
use crate::images::{self, AGENT_TARGET, Profile, build_words};
use crate::process::{cargo, root, run, target_dir};
use crate::test::{Tally, tallied};

/// Where scenarios run.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// On Xen in QEMU.
    Qemu,
    /// On this machine.
    Embedded,
    /// On a bench machine.
    Host {
        /// Its address.
        address: &'a str,
        /// A command that brings it back, where it may be harmed.
        reset: Option<&'a str>,
    },
}

/// Which scenarios run.
#[derive(Clone, Copy)]
pub(crate) enum Which<'a> {
    /// What holds as long as the rest does, as a rule, and does not take long.
    Core,
    /// All but measurements.
    All,
    /// Those whose names contain this text.
    Named(&'a str),
}

/// Runs scenarios, those with programs of Qubes only where there is a folder with their sources.
pub(crate) fn scenarios(
    place: Place<'_>,
    which: Which<'_>,
    qubes_sources: Option<&Path>,
    tally: &mut Tally,
) -> Result<()> {
    let mut command = cargo();
    command
        .args(["run", "--quiet", "-p", "bulkhead-hw-tests", "--"])
        .env("BULKHEAD_HW_LOGS", target_dir().join("hw-tests"))
        .stdout(Stdio::piped());
    if let Some(folder) = qubes_sources {
        let folder = std::path::absolute(folder).context("`--qubes-sources` names no folder")?;
        command.env("BULKHEAD_QUBES_SOURCES", folder);
    }
    match which {
        Which::Core => &mut command,
        Which::All => command.env("BULKHEAD_HW_ALL", "1"),
        // Who names a measurement wants it.
        Which::Named(name) => command.args([name, "--include-ignored"]),
    };
    match place {
        Place::Qemu => command.env("BULKHEAD_HW_PLACE", "qemu").envs(build_all()?),
        Place::Embedded => {
            images::build(Profile::Dev)?;
            command.env("BULKHEAD_HW_PLACE", "embedded")
        }
        Place::Host { address, reset } => {
            command.env("BULKHEAD_HW_PLACE", address);
            match reset {
                None => command.envs(build_xl()?),
                Some(reset) => command.env("BULKHEAD_HW_RESET", reset).envs(build_all()?),
            }
        }
    };
    let child = command.spawn().context("cannot start the scenarios")?;
    let status = tallied(child, tally)?;
    ensure!(status.success(), "not every scenario holds there");
    Ok(())
}

/// Everything that is put into a machine; where it is, by variable.
fn build_all() -> Result<Vec<(&'static str, PathBuf)>> {
    let programs = build_programs()?;
    let mut all = vec![
        ("BULKHEAD_HAND", programs.join("bulkhead-hand")),
        ("BULKHEAD_PEER", programs.join("bulkhead-peer")),
        ("BULKHEAD_RECIPES", root().join("templates")),
        ("BULKHEAD_DEBS", deb::build(Profile::Dev)?),
        ("BULKHEAD_AGENT", images::agent(Profile::Dev)),
    ];
    all.extend(build_xl()?);
    Ok(all)
}

/// The programs of the tests in dom0 and in guests, in one folder: static, because dom0 is another
/// Debian than this one, and a guest may be none.
fn build_programs() -> Result<PathBuf> {
    run(cargo()
        .args(build_words())
        .args([
            "--release",
            "-p",
            "bulkhead-hw-tests",
            "--bin",
            "bulkhead-hand",
            "--bin",
            "bulkhead-peer",
        ])
        .args(["--target", AGENT_TARGET])
        .env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(target_dir().join(AGENT_TARGET).join("release"))
}

/// The process that uses libxl, and what drives it in tests; where they are, by variable.
fn build_xl() -> Result<[(&'static str, PathBuf); 2]> {
    // This Debian is older than dom0's, so what is linked here runs there.
    let programs = images::build_xl(Profile::Dev)?;
    run(cargo().args(build_words()).args([
        "-p",
        "bulkhead-hw-tests",
        "--bin",
        "bulkhead-drive-xl",
    ]))?;
    Ok([
        ("BULKHEAD_XL", programs.join("bulkhead-xl")),
        ("BULKHEAD_DRIVE_XL", programs.join("bulkhead-drive-xl")),
    ])
}
