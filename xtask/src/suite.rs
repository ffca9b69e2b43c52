//! The public socket suite of qubes-core-qrexec, run against our programs.
//!
//! It is a peer's test suite and not part of this repository: give it a checkout.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::images::{self, Profile};
use crate::process::{capture, run};
use crate::setup;

/// Where the suite expects each program, and which of ours stands there.
const PROGRAMS: &[(&str, &str)] = &[
    ("agent/qrexec-agent", "qube-agent"),
    ("agent/qrexec-client-vm", "qube-agent"),
    ("daemon/qrexec-client", "qrexec-client"),
];

/// What drives an agent, a client in a qube and a client in dom0.
const CLASSES: &[&str] = &[
    "qrexec.tests.socket.agent",
    "qrexec.tests.socket.daemon.TestClient",
];

/// Runs the suite on a copy of `checkout`, as an ordinary user and with bash as `sh`: five of its
/// tests rely on both, and fail for the reference too without them.
pub(crate) fn run_suite(checkout: &Path) -> Result<()> {
    ensure!(
        checkout.join("qrexec/tests/socket/agent.py").is_file(),
        "{} is no checkout of qubes-core-qrexec",
        checkout.display()
    );
    setup::install(&[("python3-psutil", "the suite's own tests")])?;
    let programs = images::build(Profile::Dev)?;
    let copy = std::env::temp_dir().join(format!("qrexec-suite.{}", std::process::id()));
    run(Command::new("cp").arg("-r").arg(checkout).arg(&copy))?;
    let outcome = place(&programs, &copy).and_then(|()| run_classes(&copy));
    std::fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    outcome
}

fn place(programs: &Path, copy: &Path) -> Result<()> {
    for (at, program) in PROGRAMS {
        std::fs::copy(programs.join(program), copy.join(at))
            .with_context(|| format!("cannot place {program} at {at}"))?;
    }
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(copy))
}

fn run_classes(copy: &Path) -> Result<()> {
    let is_root = capture(Command::new("id").arg("-u"))?.stdout.trim_ascii() == b"0";
    let mut command = Command::new(if is_root { "setpriv" } else { "env" });
    if is_root {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "env"]);
        command.args(["HOME=/tmp", "USER=nobody", "LOGNAME=nobody"]);
    }
    command
        .args([
            "bwrap",
            "--dev-bind",
            "/",
            "/",
            "--ro-bind",
            "/usr/bin/bash",
            "/usr/bin/dash",
        ])
        .args(["/usr/bin/python3", "-B", "-m", "unittest"])
        .args(CLASSES)
        .current_dir(copy);
    run(&mut command)
}
