//! Building the programs, each the way it ships.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Result;

use crate::process::{Options, cargo, run, target_dir};
use crate::setup;

/// How far the compiler goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Profile {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Dev => &[],
            Self::Release => &["--release"],
        }
    }

    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// The agent runs in any template, so it must not need that template's libraries.
pub(crate) const AGENT_TARGET: &str = "x86_64-unknown-linux-gnu";

/// `cargo build`: a person sees how far it is, a log does not get a line for each crate.
pub(crate) fn build_words() -> &'static [&'static str] {
    if std::io::stderr().is_terminal() {
        &["build"]
    } else {
        &["build", "--quiet"]
    }
}

/// What runs in qubes.
const GUEST_PROGRAMS: &[&str] = &["qube-agent", "qube-boot"];

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let mut options = Options::new(arguments);
    let release = options.flag("--release");
    options.finish()?;
    let profile = if release {
        Profile::Release
    } else {
        Profile::Dev
    };
    setup::ensure_all()?;
    let programs = build(profile)?;
    build_xl(profile)?;
    build_desktop(profile)?;
    println!("programs in {}", programs.display());
    Ok(())
}

/// Builds what only a dom0 on Xen has, into the same folder, and returns it.
pub(crate) fn build_xl(profile: Profile) -> Result<PathBuf> {
    // Not static: libxl is loaded while it runs.
    run(cargo()
        .args(build_words())
        .args(profile.arguments())
        .args(["-p", "bulkhead-xl"]))?;
    Ok(target_dir().join(profile.folder()))
}

/// Builds what only a session in dom0 has into the same folder.
pub(crate) fn build_desktop(profile: Profile) -> Result<()> {
    run(cargo()
        .args(build_words())
        .args(profile.arguments())
        .args(["-p", "bulkhead-desktop"]))
}

/// Where [`build`] leaves the agent.
pub(crate) fn agent(profile: Profile) -> PathBuf {
    target_dir().join(profile.folder()).join("qube-agent")
}

/// Builds every program into one folder and returns it.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    run(cargo().args(build_words()).args(profile.arguments()).args([
        "-p",
        "bulkheadd",
        "-p",
        "bulkhead-relay",
        "-p",
        "bulkhead-cli",
        "-p",
        "bulkhead-gui",
        "-p",
        "qube-gui-agent",
    ]))?;
    run(cargo()
        .args(build_words())
        .args(profile.arguments())
        .args(["-p", "qube-agent", "--target", AGENT_TARGET])
        .env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    let programs = target_dir().join(profile.folder());
    let guest = target_dir().join(AGENT_TARGET).join(profile.folder());
    for name in GUEST_PROGRAMS {
        // A running qube may be executing the old file, so it is replaced and not written over.
        let new = programs.join(format!("{name}.new"));
        std::fs::copy(guest.join(name), &new)?;
        std::fs::rename(new, programs.join(name))?;
    }
    Ok(programs)
}
