//! The programs of Qubes that show windows, built of their own sources as they are.
//!
//! They are peers and no part of this repository: somebody gives a folder with checkouts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bulkhead_templates::cache::{self, Key};
use bulkhead_templates::progress::step;
use bulkhead_templates::tools::{SUITE, run};

/// Variable with the folder of the checkouts.
const SOURCES: &str = "BULKHEAD_QUBES_SOURCES";

/// Checkouts that are built or read, by the names of their repositories.
const CHECKOUTS: &[&str] = &[
    "qubes-core-agent-linux",
    "qubes-core-qubesdb",
    "qubes-core-vchan-xen",
    "qubes-gui-agent-linux",
    "qubes-gui-common",
    "qubes-gui-daemon",
    "qubes-linux-utils",
];

/// Packages of Debian that they are built with.
const PACKAGES: &[&str] = &[
    "automake",
    "build-essential",
    "libconfig-dev",
    "libdbus-1-dev",
    "libgbm-dev",
    "libltdl-dev",
    "libnotify-dev",
    "libpam0g-dev",
    "libpng-dev",
    "libtool",
    "libunistring-dev",
    "libx11-dev",
    "libx11-xcb-dev",
    "libxcb-shm0-dev",
    "libxcb-util0-dev",
    "libxcomposite-dev",
    "libxcursor-dev",
    "libxdamage-dev",
    "libxen-dev",
    "libxfixes-dev",
    "libxt-dev",
    "lsb-release",
    "pkg-config",
    "x11proto-dev",
    "xserver-xorg-dev",
    "xutils-dev",
];

/// How they are built.
const SCRIPT: &str = include_str!("../stock/build.sh");

/// The folder of the checkouts, where somebody gives one.
pub fn sources() -> Option<PathBuf> {
    std::env::var_os(SOURCES).map(PathBuf::from)
}

/// What was built, by where it is laid over.
#[derive(Debug, Clone)]
pub struct Stock {
    folder: PathBuf,
    key: Key,
}

impl Stock {
    /// Built of the checkouts that are given, or as the cache has it.
    pub fn kept() -> Result<Self> {
        Self::of(&sources().with_context(|| format!("{SOURCES} is not set"))?)
    }

    fn of(sources: &Path) -> Result<Self> {
        let folder = tempfile::tempdir_in("/var/tmp")?;
        let tar = folder.path().join("sources.tar");
        pack(sources, &tar)?;
        let packed = fs::read(&tar)?;
        let packages = PACKAGES.join(",");
        let texts = ["1", SUITE, SCRIPT, &packages];
        let key = Key::of(texts.iter().map(|text| text.as_bytes()).chain([&*packed]));
        let folder = cache::kept("stock", &key, |to| {
            step("building programs of Qubes", || build(&tar, to))
        })?;
        Ok(Self { folder, key })
    }

    /// What is laid over a guest's root, a tar file: the agent and what starts it.
    pub fn guest(&self) -> PathBuf {
        self.folder.join("guest.tar")
    }

    /// What is laid over a dom0's root, a tar file: the daemon, and what an X server preloads.
    pub fn dom0(&self) -> PathBuf {
        self.folder.join("dom0.tar")
    }

    /// Hash of what it was made from.
    pub fn key(&self) -> &Key {
        &self.key
    }
}

/// The same file for the same sources, wherever and whenever they were checked out.
fn pack(sources: &Path, tar: &Path) -> Result<()> {
    for checkout in CHECKOUTS {
        let folder = sources.join(checkout);
        ensure!(
            folder.is_dir(),
            "{} is missing; `git clone https://github.com/QubesOS/{checkout}` makes it",
            folder.display()
        );
    }
    run(Command::new("tar")
        .args(["--create", "--exclude-vcs", "--sort=name", "--mtime=@0"])
        .args(["--owner=0", "--group=0", "--numeric-owner", "--directory"])
        .arg(sources)
        .arg("--file")
        .arg(tar)
        .args(CHECKOUTS))
}

fn build(sources: &Path, to: &Path) -> Result<()> {
    let script = to.join("build.sh");
    fs::write(&script, SCRIPT)?;
    run(Command::new("mmdebstrap")
        .args(["--variant=minbase", "--components=main", "--quiet"])
        .arg("--format=null")
        .arg(r#"--aptopt=Apt::Install-Recommends "false""#)
        .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
        .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
        .arg("--dpkgopt=path-exclude=/usr/share/man/*")
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(r#"--customize-hook=mkdir "$1/src""#)
        .arg(format!(
            "--customize-hook=tar-in {} /src",
            sources.display()
        ))
        .arg(format!(
            "--customize-hook=upload {} /build.sh",
            script.display()
        ))
        .arg(r#"--customize-hook=chroot "$1" sh /build.sh"#)
        .arg(format!(
            "--customize-hook=copy-out /out/guest.tar /out/dom0.tar {}",
            to.display()
        ))
        .args(["--", SUITE, "/dev/null"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_the_same_wherever_they_are_and_a_missing_one_is_named() {
        let packed = |texts: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            for checkout in CHECKOUTS {
                fs::create_dir_all(folder.path().join(checkout).join(".git")).unwrap();
                fs::write(folder.path().join(checkout).join("file"), checkout).unwrap();
            }
            for (path, text) in texts {
                fs::write(folder.path().join(path), text).unwrap();
            }
            let tar = folder.path().join("sources.tar");
            pack(folder.path(), &tar).unwrap();
            fs::read(&tar).unwrap()
        };
        let first = packed(&[]);
        assert_eq!(
            packed(&[("qubes-gui-daemon/.git/HEAD", "x"), ("other", "x")]),
            first
        );
        assert_ne!(packed(&[("qubes-gui-daemon/file", "x")]), first);
        let empty = tempfile::tempdir().unwrap();
        let error = pack(empty.path(), &empty.path().join("tar")).unwrap_err();
        assert!(
            error.to_string().ends_with(
                "qubes-core-agent-linux is missing; \
                 `git clone https://github.com/QubesOS/qubes-core-agent-linux` makes it"
            ),
            "{error}"
        );
    }
}
