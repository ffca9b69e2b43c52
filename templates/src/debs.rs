//! The packages of a lock, fetched and verified, as a small archive that apt can install from.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::{self, Key};
use crate::lock::{Lock, Package};
use crate::progress::step;

/// Every package that a mirror of Debian ever had, by the time at which it had it.
const SNAPSHOT: &str = "http://snapshot.debian.org/archive";

/// A folder with the packages of `lock` and a list of them.
pub(crate) fn fetched(lock: &Lock) -> Result<PathBuf> {
    let key = Key::of(["1".to_owned(), lock.to_text()]);
    cache::kept_in(&cache::folder("templates")?, "packages", &key, |folder| {
        let what = format!("fetching {} packages", lock.packages.len());
        step(&what, || fetch(lock, folder))?;
        fs::write(folder.join("Packages"), index(lock, folder)?)?;
        Ok(())
    })
}

/// From the mirror, and from the archive of old mirrors what that no longer has.
fn fetch(lock: &Lock, folder: &Path) -> Result<()> {
    let first = download(&lock.packages, folder, |package| package.url.clone());
    let Err(error) = first else {
        return Ok(());
    };
    let stamp = stamp(lock.epoch)?;
    let left: Vec<Package> = lock
        .packages
        .iter()
        .filter(|p| !folder.join(&p.file).exists())
        .cloned()
        .collect();
    ensure!(!left.is_empty(), error);
    download(&left, folder, |package| old_address(&package.url, &stamp)).with_context(|| {
        format!(
            "{} packages are no longer there; `--update-lock` takes today's",
            left.len()
        )
    })
}

/// Downloads what matches its digest; anything else is not kept.
fn download(packages: &[Package], folder: &Path, url: impl Fn(&Package) -> String) -> Result<()> {
    let mut helper = Command::new("/usr/lib/apt/apt-helper");
    // As this user, who may write into the folder.
    helper.args(["-o", "APT::Sandbox::User=", "-q", "download-file"]);
    for package in packages {
        helper.arg(url(package)).arg(folder.join(&package.file));
        helper.arg(format!("SHA256:{}", package.sha256));
    }
    crate::tools::run(&mut helper)?;
    for package in packages {
        let size = fs::metadata(folder.join(&package.file)).map(|meta| meta.len());
        let size = size.with_context(|| format!("{} was not fetched", package.url))?;
        ensure!(size == package.size, "{} has {size} bytes", package.url);
    }
    Ok(())
}

/// `http://HOST/ARCHIVE/REST` as it was at `stamp`.
fn old_address(url: &str, stamp: &str) -> String {
    let path = url
        .split("://")
        .last()
        .and_then(|rest| rest.split_once('/'));
    let path = path.map_or(url, |(_, path)| path);
    let (archive, rest) = path.split_once('/').unwrap_or((path, ""));
    format!("{SNAPSHOT}/{archive}/{stamp}/{rest}")
}

fn stamp(epoch: u64) -> Result<String> {
    let date = Command::new("date")
        .args(["--utc", "+%Y%m%dT%H%M%SZ", &format!("--date=@{epoch}")])
        .output()?;
    Ok(String::from_utf8(date.stdout)?.trim().to_owned())
}

/// What `apt` reads in the place of a mirror's list.
fn index(lock: &Lock, folder: &Path) -> Result<String> {
    let mut index = String::new();
    for Package {
        file, sha256, size, ..
    } in &lock.packages
    {
        let fields = Command::new("dpkg-deb")
            .arg("--field")
            .arg(folder.join(file))
            .output()?;
        ensure!(fields.status.success(), "`dpkg-deb` cannot read {file}");
        let fields = String::from_utf8(fields.stdout)?;
        let _ = write!(
            index,
            "{fields}Filename: ./{file}\nSize: {size}\nSHA256: {sha256}\n\n"
        );
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_packages_are_asked_for_by_time() {
        assert_eq!(stamp(1_700_000_000).unwrap(), "20231114T221320Z");
        assert_eq!(
            old_address(
                "http://deb.debian.org/debian-security/pool/updates/main/x.deb",
                "T"
            ),
            "http://snapshot.debian.org/archive/debian-security/T/pool/updates/main/x.deb"
        );
    }
}
