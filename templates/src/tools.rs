//! QEMU, file system tools and Xen's headers, as Debian 13 ships them.
//!
//! They are unpacked from Debian's packages into a folder of the cache and run from there with
//! their own libraries: nothing is installed, and every Debian runs the same QEMU.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::{self, Key};
use crate::emulator;
use crate::progress::step;

/// The release that dom0, tools and headers come from.
pub const SUITE: &str = "trixie";

/// Packages that are unpacked, with what they need.
const PACKAGES: &[&str] = &[
    "e2fsprogs",
    "libarchive13t64",
    "libxen-dev",
    "qemu-system-x86",
    "qemu-utils",
    "seabios",
];

/// What [`Tools::command`] calls the emulator.
pub const EMULATOR: &str = "bin/qemu-system-x86_64";

/// What the cache calls them.
const KIND: &str = "tools";

/// Where the machine's libraries are in a Debian tree.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// An unpacked tree of programs.
#[derive(Debug, Clone)]
pub struct Tools {
    root: PathBuf,
}

impl Tools {
    /// The tree; unpacked now if the cache does not have it.
    pub fn find() -> Result<Self> {
        let root = cache::kept(KIND, &key(), |dir| {
            let root = dir.join("root");
            step("fetching QEMU and tools from Debian's packages", || {
                extract(PACKAGES, &root)
            })?;
            if !emulator::mend(&root.join("usr").join(EMULATOR))? {
                eprintln!("   this QEMU is not known: it may lose domains more often");
            }
            Ok(())
        })?;
        Ok(Self {
            root: root.join("root"),
        })
    }

    /// The tree, if the cache has it.
    pub fn kept() -> Result<Option<Self>> {
        let root = cache::folder(cache::HW_TESTS)?
            .join(KIND)
            .join(key().as_str());
        Ok(root.is_dir().then(|| Self {
            root: root.join("root"),
        }))
    }

    /// A file of the tree.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A command of the tree, `bin/qemu-img` say.
    pub fn command(&self, program: &str) -> Command {
        let libraries = self.root.join(LIBRARIES);
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(libraries)
            .arg(self.root.join("usr").join(program));
        command
    }
}

/// A tree of other packages of that release, for a dom0 that lacks them.
pub fn unpacked(packages: &[&str]) -> Result<PathBuf> {
    let key = Key::of([&["1", SUITE], packages].concat());
    let folder = cache::kept("unpacked", &key, |dir| extract(packages, &dir.join("root")))?;
    Ok(folder.join("root"))
}

fn key() -> Key {
    Key::of([&["3", SUITE], PACKAGES].concat())
}

fn extract(packages: &[&str], root: &Path) -> Result<()> {
    run(Command::new("mmdebstrap")
        .args(["--variant=extract", "--components=main", "--quiet"])
        .arg(r#"--aptopt=Apt::Install-Recommends "false""#)
        .arg(format!("--include={}", packages.join(",")))
        .args(["--", SUITE])
        .arg(root))
}

/// Runs a command to its end; fails with what it said.
pub fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{program}`"))?;
    ensure!(
        output.status.success(),
        "`{program}` ended with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
