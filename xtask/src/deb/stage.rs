//! The tree of one package before it is packed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::architecture;
use crate::process::capture;

/// In `control`, the oldest C library that the package's programs can do with.
const LIBC: &str = "${libc}";

/// A tree under `target`, made anew.
pub(super) struct Stage {
    root: PathBuf,
}

impl Stage {
    pub(super) fn new(root: &Path) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(root)?;
        }
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// Where `to` is now; its folder is made.
    pub(super) fn place(&self, to: &str) -> Result<PathBuf> {
        let place = self.root.join(to);
        let parent = place.parent().context("a package has no root of its own")?;
        fs::create_dir_all(parent)?;
        Ok(place)
    }

    pub(super) fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write(&bytes, to, mode)
    }

    /// A program, without what only a debugger wants.
    pub(super) fn program(&self, from: &Path, to: &str) -> Result<()> {
        self.copy(from, to, 0o755)?;
        let place = self.place(to)?;
        if fs::read(&place)?.starts_with(b"\x7fELF") {
            capture(Command::new("strip").arg("--strip-unneeded").arg(place))?;
        }
        Ok(())
    }

    pub(super) fn write(&self, bytes: &[u8], to: &str, mode: u32) -> Result<()> {
        let place = self.place(to)?;
        fs::write(&place, bytes)?;
        Ok(fs::set_permissions(
            &place,
            fs::Permissions::from_mode(mode),
        )?)
    }

    /// The file, packed as Debian wants manual pages and change logs.
    pub(super) fn write_gzip(&self, bytes: &[u8], to: &str) -> Result<()> {
        let plain = self.place(to)?;
        fs::write(&plain, bytes)?;
        capture(Command::new("gzip").args(["-9n", "--force"]).arg(&plain))?;
        Ok(())
    }

    pub(super) fn link(&self, target: &str, to: &str) -> Result<()> {
        Ok(symlink(target, self.place(to)?)?)
    }

    pub(super) fn folder(&self, to: &str, mode: u32) -> Result<()> {
        let place = self.place(to)?;
        fs::create_dir_all(&place)?;
        Ok(fs::set_permissions(
            &place,
            fs::Permissions::from_mode(mode),
        )?)
    }

    /// What every package has in `/usr/share/doc`.
    pub(super) fn document(&self, name: &str, epoch: &str) -> Result<()> {
        let folder = format!("usr/share/doc/{name}");
        let version = env!("CARGO_PKG_VERSION");
        let date = capture(Command::new("date").args([
            "--utc",
            "--rfc-email",
            &format!("--date=@{epoch}"),
        ]))?;
        let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
        let log = format!(
            "{name} ({version}) unstable; urgency=medium\n\n  * Version {version}.\n\n \
             -- {MAINTAINER}  {date}\n"
        );
        self.write_gzip(log.as_bytes(), &format!("{folder}/changelog"))?;
        self.write(COPYRIGHT.as_bytes(), &format!("{folder}/copyright"), 0o644)
    }

    /// What dpkg is told, from the folder `debian`; after everything else is in place.
    pub(super) fn control(&self, name: &str, debian: &Path) -> Result<()> {
        self.open_folders()?;
        let files = self.files()?;
        let size: u64 = files
            .iter()
            .map(|path| size_kib(&self.root.join(path)))
            .sum();
        let control = debian.join("control");
        let text = fs::read_to_string(&control)
            .with_context(|| format!("cannot read {}", control.display()))?;
        let text = text.replace(LIBC, &self.libc(&files)?);
        let (version, architecture) = (env!("CARGO_PKG_VERSION"), architecture()?);
        let head = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n\
             Maintainer: {MAINTAINER}\nInstalled-Size: {size}\n"
        );
        self.write((head + &text).as_bytes(), "DEBIAN/control", 0o644)?;
        self.write(self.sums(&files)?.as_bytes(), "DEBIAN/md5sums", 0o644)?;
        // A link cannot be one: it has no contents to compare.
        let ours = |path: &&String| path.starts_with("etc/") && !self.root.join(path).is_symlink();
        let conffiles: String = files
            .iter()
            .filter(ours)
            .map(|path| format!("/{path}\n"))
            .collect();
        if !conffiles.is_empty() {
            self.write(conffiles.as_bytes(), "DEBIAN/conffiles", 0o644)?;
        }
        for script in ["preinst", "postinst", "prerm", "postrm"] {
            let from = debian.join(script);
            if from.exists() {
                self.copy(&from, &format!("DEBIAN/{script}"), 0o755)?;
            }
        }
        Ok(())
    }

    /// Every file and link, in order.
    fn files(&self) -> Result<Vec<String>> {
        let found = capture(
            Command::new("find")
                .args([
                    ".", "(", "-type", "f", "-o", "-type", "l", ")", "-printf", "%P\\n",
                ])
                .current_dir(&self.root),
        )?;
        let found = String::from_utf8(found.stdout)?;
        let mut files: Vec<String> = found.lines().map(str::to_owned).collect();
        files.sort();
        Ok(files)
    }

    /// Folders that came to be on the way are as Debian's, whatever this user's umask is.
    fn open_folders(&self) -> Result<()> {
        let made = ["-type", "d", "-perm", "/0700", "!", "-perm", "0700"];
        capture(
            Command::new("find")
                .arg(&self.root)
                .args(made)
                .args(["-exec", "chmod", "0755", "{}", "+"]),
        )
        .map(drop)
    }

    fn sums(&self, files: &[String]) -> Result<String> {
        let plain = files
            .iter()
            .filter(|path| !self.root.join(path).is_symlink());
        let sums = Command::new("md5sum")
            .args(plain)
            .current_dir(&self.root)
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(sums.status.success(), "`md5sum` ended with {}", sums.status);
        Ok(String::from_utf8(sums.stdout)?)
    }

    /// The newest version of the C library that a program asks for by name.
    fn libc(&self, files: &[String]) -> Result<String> {
        let mut newest = (2, 0);
        for path in files {
            let path = self.root.join(path);
            if !path.is_symlink() {
                let bytes = fs::read(&path)?;
                newest = newest.max(newest_glibc(&bytes));
            }
        }
        Ok(format!("libc6 (>= {}.{})", newest.0, newest.1))
    }
}

const MAINTAINER: &str = "The Bulkhead developers <bulkhead@localhost>";

const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Bulkhead

Files: *
Copyright: The Bulkhead developers
License: GPL-3.0-or-later
 The text of version 3 of the GNU General Public License is in
 /usr/share/common-licenses/GPL-3.
";

fn size_kib(path: &Path) -> u64 {
    path.symlink_metadata()
        .map_or(0, |meta| meta.len().div_ceil(1024))
}

/// The newest `GLIBC_x.y` in a program's table of versions.
fn newest_glibc(bytes: &[u8]) -> (u32, u32) {
    const NAME: &[u8] = b"GLIBC_";
    let text = |at: usize| {
        let rest = bytes.get(at + NAME.len()..)?;
        let end = rest
            .iter()
            .position(|b| !b.is_ascii_digit() && *b != b'.')?;
        let text = std::str::from_utf8(rest.get(..end)?).ok()?;
        let mut numbers = text.split('.').map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    let starts = bytes.windows(NAME.len()).enumerate();
    let starts = starts.filter(|(_, window)| *window == NAME);
    starts
        .filter_map(|(at, _)| text(at))
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::newest_glibc;

    #[test]
    fn the_newest_version_counts_by_number() {
        let bytes = b"\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.4.1\0GLIBC_PRIVATE\0GLIBC_";
        assert_eq!(newest_glibc(bytes), (2, 34));
        assert_eq!(newest_glibc(b"nothing"), (0, 0));
    }
}
