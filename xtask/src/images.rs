//! Building the programs, each the way it ships.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{capture, cargo, run, target_dir};

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

    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// The agent runs in any template, so it must not need that template's libraries. And it starts
/// for every call: glibc's start asks the processor for its caches with dozens of CPUID
/// instructions, each of which leaves a virtual machine; musl's start asks nothing.
pub(crate) const AGENT_TARGET: &str = "x86_64-unknown-linux-musl";

/// For a Rust without a library for [`AGENT_TARGET`]: a static agent too, but slower to start.
const AGENT_TARGET_SLOW: &str = "x86_64-unknown-linux-gnu";

/// Whether this Rust can build for `target`.
pub(crate) fn has_library(target: &str) -> Result<bool> {
    let sysroot = capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    let sysroot = String::from_utf8(sysroot.stdout).context("rustc's folder is not text")?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(target);
    Ok(library.join("lib").is_dir())
}

/// Builds every program into one folder and returns it.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let quiet = ["build", "--quiet"];
    run(cargo().args(quiet).args(profile.arguments()).args([
        "-p",
        "bulkheadd",
        "-p",
        "bulkhead-relay",
        "-p",
        "bulkhead-cli",
    ]))?;
    let target = if has_library(AGENT_TARGET)? {
        AGENT_TARGET
    } else {
        AGENT_TARGET_SLOW
    };
    run(cargo()
        .args(quiet)
        .args(profile.arguments())
        .args(["-p", "qube-agent", "--target", target])
        .env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    let programs = target_dir().join(profile.folder());
    let agent = target_dir()
        .join(target)
        .join(profile.folder())
        .join("qube-agent");
    // A running qube may be executing the old file, so it is replaced and not written over.
    let new = programs.join("qube-agent.new");
    std::fs::copy(agent, &new)?;
    std::fs::rename(new, programs.join("qube-agent"))?;
    Ok(programs)
}
