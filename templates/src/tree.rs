//! Debian's tree, and what becomes of it in a template.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::cache::{self, Key};
use crate::debs;
use crate::lock::Lock;
use crate::progress::step;
use crate::recipe::Recipe;
use crate::tools::run;

/// What nobody reads in a qube; licences stay.
const LEFT_OUT: &[&str] = &[
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
];

/// Debian as installed from the lock, without anything of ours: a tar file that is kept.
pub(crate) fn debian(recipe: &Recipe, lock: &Lock) -> Result<PathBuf> {
    let written = &recipe.written;
    let mut inputs = vec![
        include_str!("tree.rs").to_owned(),
        lock.to_text(),
        written.suite.clone(),
    ];
    inputs.extend(written.packages.iter().cloned());
    let folder = cache::kept_in(
        &cache::folder("templates")?,
        "trees",
        &Key::of(inputs),
        |folder| bootstrapped(recipe, lock, &folder.join("tree.tar")),
    )?;
    Ok(folder.join("tree.tar"))
}

/// The same, made now as the file `tar`.
pub(crate) fn bootstrapped(recipe: &Recipe, lock: &Lock, tar: &Path) -> Result<()> {
    let packages = debs::fetched(lock)?;
    step("building Debian's tree", || {
        bootstrap(recipe, lock, &packages, tar)
    })
}

/// mmdebstrap with what every step of it has in common: the same inputs give the same bytes.
fn mmdebstrap(variant: &str, lock: &Lock) -> Command {
    let mut command = Command::new("mmdebstrap");
    command
        .args([&format!("--variant={variant}"), "--format=tar", "--quiet"])
        .env("SOURCE_DATE_EPOCH", lock.epoch.to_string());
    command
}

fn bootstrap(recipe: &Recipe, lock: &Lock, packages: &Path, tar: &Path) -> Result<()> {
    let mut command = mmdebstrap("apt", lock);
    for pattern in LEFT_OUT {
        command.arg(format!("--dpkgopt=path-exclude={pattern}"));
    }
    // Digests of the packages were compared already; there is nobody to sign this list of them.
    let archive = format!("deb [trusted=yes] copy:{} ./", packages.display());
    run(command
        .arg(r#"--aptopt=Apt::Install-Recommends "false""#)
        .arg(format!("--include={}", recipe.written.packages.join(",")))
        .arg(&recipe.written.suite)
        .arg(tar)
        .arg(archive))
}

/// The template's own tree from Debian's: with the packages `own`, and what the recipe asks for.
pub(crate) fn template(
    recipe: &Recipe,
    lock: &Lock,
    debian: &Path,
    own: &[PathBuf],
    tar: &Path,
) -> Result<()> {
    let masked = recipe.written.masked.iter();
    let masked: Vec<String> = masked
        .map(|unit| format!(r#"ln -sf /dev/null "$1/etc/systemd/system/{unit}""#))
        .collect();
    let suite = &recipe.written.suite;
    // A qube's own list of packages is that of its mirror and not of the archive it came from.
    let sources = format!(
        "Types: deb\\nURIs: http://deb.debian.org/debian\\nSuites: {suite} {suite}-updates\\n\
         Components: main\\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\\n\\n\
         Types: deb\\nURIs: http://deb.debian.org/debian-security\\nSuites: {suite}-security\\n\
         Components: main\\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\\n"
    );
    let mut command = mmdebstrap("custom", lock);
    command
        // tar-in's reader would leave at the end mark, and who writes what pads it be killed.
        .env("TAR_OPTIONS", "--ignore-zeros")
        .arg("--skip=setup,update,cleanup/apt,cleanup/mmdebstrap")
        .arg(format!("--setup-hook=tar-in {} /", debian.display()));
    for package in own {
        command
            .arg(format!(
                "--customize-hook=upload {} /own.deb",
                package.display()
            ))
            .arg(r#"--customize-hook=chroot "$1" dpkg --install /own.deb && rm "$1/own.deb""#);
    }
    run(command
        .arg(format!("--customize-hook={}", masked.join(" && ")))
        .arg(format!(
            r#"--customize-hook=rm -f "$1"/etc/apt/sources.list.d/* "$1/etc/apt/sources.list" && printf '{sources}' > "$1/etc/apt/sources.list.d/debian.sources""#
        ))
        .arg(format!(
            "--customize-hook={}",
            CUSTOMISE.trim_end().replace('\n', "; ")
        ))
        .arg(suite)
        .arg(tar)
        .arg(""))
}

/// The kernel is loaded from outside, so it and its tools' leavings need no room; an empty identity
/// is one of the running qube's own, where none would be a first boot each time. dom0, which owns
/// the qube anyway, has a shell on the console.
const CUSTOMISE: &str = r#"set -eu
rm -rf "$1"/boot/* "$1"/vmlinuz* "$1"/initrd.img* "$1"/var/lib/initramfs-tools/*
: > "$1/etc/machine-id"
echo qube > "$1/etc/hostname"
: > "$1/etc/fstab"
ln -sf /usr/lib/systemd/system/multi-user.target "$1/etc/systemd/system/default.target"
mkdir -p "$1/etc/systemd/system/serial-getty@hvc0.service.d"
printf '[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --keep-baud 115200 - $TERM\n' > "$1/etc/systemd/system/serial-getty@hvc0.service.d/console.conf"
"#;
