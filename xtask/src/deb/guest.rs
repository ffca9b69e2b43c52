//! `bulkhead-guest`: the agent and what starts it.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::stage::Stage;
use super::{File, From, Package};
use crate::process::capture;

pub(super) const PACKAGE: Package = Package {
    name: "bulkhead-guest",
    debian: "qube-agent/dist/debian",
    files: FILES,
    generate,
};

const fn file(from: From, to: &'static str) -> File {
    File { from, to }
}

const FILES: &[File] = &[
    file(From::Program("qube-agent"), "usr/lib/qubes/qube-agent"),
    // For the initrd of a template.
    file(From::Program("qube-boot"), "usr/lib/qubes/qube-boot"),
    // Other places where guests of Qubes have these.
    file(From::Link("qube-agent"), "usr/lib/qubes/qrexec-agent"),
    file(From::Link("qube-agent"), "usr/lib/qubes/qrexec-client-vm"),
    file(From::Link("qube-agent"), "usr/lib/qubes/qvm-copy-to-vm"),
    file(From::Link("qube-agent"), "usr/lib/qubes/qvm-move-to-vm"),
    file(
        From::Link("../lib/qubes/qube-agent"),
        "usr/sbin/qubesdb-daemon",
    ),
    file(
        From::Source("qube-agent/dist/qube-agent.service"),
        "usr/lib/systemd/system/qube-agent.service",
    ),
    // Before everything that waits for devices, disks or the network; needs no script to enable.
    file(
        From::Link("../qube-agent.service"),
        "usr/lib/systemd/system/sysinit.target.wants/qube-agent.service",
    ),
    file(
        From::Source("qube-agent/dist/qube-network.service"),
        "usr/lib/systemd/system/qube-network.service",
    ),
    file(
        From::Link("../qube-network.service"),
        "usr/lib/systemd/system/sysinit.target.wants/qube-network.service",
    ),
    file(
        From::Source("qube-agent/dist/qube-swap.service"),
        "usr/lib/systemd/system/qube-swap.service",
    ),
    file(
        From::Link("../qube-swap.service"),
        "usr/lib/systemd/system/swap.target.wants/qube-swap.service",
    ),
    file(
        From::Source("qube-agent/dist/qube-grow.service"),
        "usr/lib/systemd/system/qube-grow.service",
    ),
    file(
        From::Link("../qube-grow.service"),
        "usr/lib/systemd/system/sysinit.target.wants/qube-grow.service",
    ),
    file(
        From::Source("qube-agent/dist/modules-load.conf"),
        "usr/lib/modules-load.d/bulkhead-guest.conf",
    ),
    file(
        From::Source("qube-agent/dist/modprobe.conf"),
        "usr/lib/modprobe.d/bulkhead-guest.conf",
    ),
    file(
        From::Source("qube-agent/dist/udev.rules"),
        "usr/lib/udev/rules.d/60-bulkhead-guest.rules",
    ),
    file(
        From::Source("qube-agent/dist/sysusers.conf"),
        "usr/lib/sysusers.d/bulkhead-guest.conf",
    ),
    file(
        From::Source("qube-agent/dist/tmpfiles.conf"),
        "usr/lib/tmpfiles.d/bulkhead-guest.conf",
    ),
    file(From::Folder(0o755), "etc/qubes/rpc-config"),
    file(From::Folder(0o755), "rw"),
];

/// The names of the agent and the services that it has.
fn generate(programs: &Path, stage: &Stage) -> Result<()> {
    let mut agent = Command::new(programs.join("qube-agent"));
    capture(agent.arg("install-root").arg(stage.path())).map(drop)
}
