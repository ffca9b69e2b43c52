//! `bulkhead-guest-gui`: the compositor of a qube and what starts it.

use super::{File, From, Package};

pub(super) const PACKAGE: Package = Package {
    name: "bulkhead-guest-gui",
    debian: "qube-gui-agent/dist/debian",
    files: FILES,
    generate: |_, _| Ok(()),
};

const fn file(from: From, to: &'static str) -> File {
    File { from, to }
}

const FILES: &[File] = &[
    // Where the agent looks for it.
    file(
        From::Program("qube-gui-agent"),
        "usr/lib/qubes/qube-gui-agent",
    ),
    file(
        From::Source("qube-gui-agent/dist/qube-gui-agent.service"),
        "usr/lib/systemd/system/qube-gui-agent.service",
    ),
    file(
        From::Link("../qube-gui-agent.service"),
        "usr/lib/systemd/system/multi-user.target.wants/qube-gui-agent.service",
    ),
    file(
        From::Source("qube-gui-agent/dist/pam"),
        "etc/pam.d/qube-gui-agent",
    ),
];
