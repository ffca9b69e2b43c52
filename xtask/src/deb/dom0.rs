//! `bulkhead-dom0`: the daemon, its helpers and the commands in dom0.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::stage::Stage;
use super::{File, From, Package};
use crate::process::capture;

pub(super) const PACKAGE: Package = Package {
    name: "bulkhead-dom0",
    debian: "dom0-daemon/dist/debian",
    files: FILES,
    generate,
};

const fn file(from: From, to: &'static str) -> File {
    File { from, to }
}

const FILES: &[File] = &[
    file(From::Program("bulkheadd"), "usr/sbin/bulkheadd"),
    file(From::Program("bulkhead"), "usr/bin/bulkhead"),
    file(From::Program("qrexec-client"), "usr/bin/qrexec-client"),
    // Where scripts of Qubes look for it.
    file(
        From::Link("../../bin/qrexec-client"),
        "usr/lib/qubes/qrexec-client",
    ),
    // Helpers of the daemon; what else it starts belongs here too.
    file(
        From::Program("bulkhead-relay"),
        "usr/libexec/bulkhead/bulkhead-relay",
    ),
    file(
        From::Program("bulkhead-xl"),
        "usr/libexec/bulkhead/bulkhead-xl",
    ),
    file(
        From::Program("bulkhead-device-model"),
        "usr/libexec/bulkhead/bulkhead-device-model",
    ),
    file(
        From::Program("bulkhead-block"),
        "usr/libexec/bulkhead/bulkhead-block",
    ),
    file(
        From::Program("bulkhead-launch"),
        "usr/libexec/bulkhead/bulkhead-launch",
    ),
    file(
        From::Program("bulkhead-policy-admin"),
        "usr/libexec/bulkhead/bulkhead-policy-admin",
    ),
    // What qubes of the embedded backend run.
    file(
        From::Program("qube-agent"),
        "usr/libexec/bulkhead/qube-agent",
    ),
    file(
        From::Source("dom0-daemon/dist/bulkheadd.service"),
        "usr/lib/systemd/system/bulkheadd.service",
    ),
    file(
        From::Source("dom0-daemon/dist/bulkhead.sysusers.conf"),
        "usr/lib/sysusers.d/bulkhead.conf",
    ),
    file(
        From::Source("dom0-daemon/dist/bulkhead.tmpfiles.conf"),
        "usr/lib/tmpfiles.d/bulkhead.conf",
    ),
    file(
        From::Source("dom0-daemon/dist/modprobe.conf"),
        "usr/lib/modprobe.d/bulkhead-dom0.conf",
    ),
    file(
        From::Source("dom0-daemon/dist/grub.cfg"),
        "etc/default/grub.d/bulkhead-xen.cfg",
    ),
    file(
        From::Source("dom0-daemon/dist/org.bulkhead.Manager1.conf"),
        "usr/share/dbus-1/system.d/org.bulkhead.Manager1.conf",
    ),
    file(From::Folder(0o755), "etc/bulkhead"),
    file(From::Folder(0o755), "etc/qubes/policy.d"),
    file(From::Folder(0o755), "etc/qubes/rpc-config"),
    file(From::Folder(0o755), "etc/qubes-rpc"),
];

/// Where each shell looks for what `bulkhead completions SHELL` prints.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/bulkhead"),
    ("fish", "usr/share/fish/vendor_completions.d/bulkhead.fish"),
    ("zsh", "usr/share/zsh/vendor-completions/_bulkhead"),
];

fn generate(programs: &Path, stage: &Stage) -> Result<()> {
    let bulkhead = programs.join("bulkhead");
    for (shell, to) in COMPLETIONS {
        let script = capture(Command::new(&bulkhead).args(["completions", shell]))?;
        stage.write(&script.stdout, to, 0o644)?;
    }
    let pages = stage.place("usr/share/man/man1/bulkhead.1")?;
    let Some(folder) = pages.parent() else {
        return Ok(());
    };
    capture(
        Command::new(&bulkhead)
            .args(["man", "--out-dir"])
            .arg(folder),
    )?;
    for entry in std::fs::read_dir(folder)? {
        capture(Command::new("gzip").arg("-9n").arg(entry?.path()))?;
    }
    Ok(())
}
