//! Exactly which packages a template is made of: `packages.lock`.
//!
//! One package a line: its digest, size and address. Which ones they are apt decides once, when the
//! lock is made; a build takes these and no others, whatever the mirror has by then.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};

/// Where packages come from.
const MIRROR: &str = "http://deb.debian.org";

/// Keys that Debian signs its lists with.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// First line of a lock: seconds since 1970 at which it was made. Files of the template carry it.
const EPOCH: &str = "epoch ";

/// The packages of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lock {
    /// When it was made, in seconds since 1970.
    pub(crate) epoch: u64,
    pub(crate) packages: Vec<Package>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    /// The name of its file on the mirror.
    pub(crate) file: String,
    /// In hexadecimal digits.
    pub(crate) sha256: String,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) url: String,
}

impl Lock {
    /// Asks apt which packages `wanted` takes on a machine that has none.
    pub(crate) fn resolve(suite: &str, wanted: &[String]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let apt = |words: &[&str]| apt(folder.path(), words);
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.path().join(name))?;
        }
        let source = |archive: &str, suite: &str| {
            format!("deb [signed-by={KEYS}] {MIRROR}/{archive} {suite} main\n")
        };
        let sources = source("debian", suite)
            + &source("debian", &format!("{suite}-updates"))
            + &source("debian-security", &format!("{suite}-security"));
        fs::write(folder.path().join("sources.list"), sources)?;
        apt(&["--quiet=2", "--error-on=any", "update"])?;
        let mut words = vec![
            "--quiet=2",
            "--yes",
            "--print-uris",
            "install",
            "?essential",
            "apt",
        ];
        words.extend(wanted.iter().map(String::as_str));
        let said = apt(&words)?;
        let lines = said.lines().filter(|line| line.starts_with('\''));
        let mut packages = lines.map(printed).collect::<Result<Vec<_>>>()?;
        ensure!(!packages.is_empty(), "apt finds nothing to install");
        packages.sort();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(Self {
            epoch: now.as_secs(),
            packages,
        })
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = String::from(
            "# Made by `--update-lock`: SHA256, bytes and address of every package.\n",
        );
        let _ = writeln!(text, "{EPOCH}{}", self.epoch);
        for package in &self.packages {
            let Package {
                sha256, size, url, ..
            } = package;
            let _ = writeln!(text, "{sha256} {size} {url}");
        }
        text
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let epoch = lines.next().and_then(|line| line.strip_prefix(EPOCH));
        let epoch = epoch.with_context(|| format!("the first line is `{EPOCH}` and a number"))?;
        let packages = lines.map(
            |line| match line.split(' ').collect::<Vec<_>>().as_slice() {
                [sha256, size, url] => package(url, size, sha256),
                _ => bail!("`{line}` is no digest, size and address"),
            },
        );
        Ok(Self {
            epoch: epoch.parse().context("the epoch is no number")?,
            packages: packages.collect::<Result<_>>()?,
        })
    }
}

/// Runs apt as if on a machine of its own.
fn apt(folder: &Path, words: &[&str]) -> Result<String> {
    let at = |name: &str| folder.join(name).display().to_string();
    let options = [
        format!("Dir::Etc::SourceList={}", at("sources.list")),
        "Dir::Etc::SourceParts=/dev/null".into(),
        "Dir::Etc::Preferences=/dev/null".into(),
        "Dir::Etc::PreferencesParts=/dev/null".into(),
        format!("Dir::State={}", at("")),
        "Dir::State::status=/dev/null".into(),
        format!("Dir::Cache={}", at("cache")),
        "APT::Architecture=amd64".into(),
        "APT::Architectures::=amd64".into(),
        "APT::Install-Recommends=false".into(),
        "APT::Sandbox::User=".into(),
        "Acquire::ForceHash=SHA256".into(),
        "Acquire::Languages=none".into(),
        "Debug::NoLocking=1".into(),
    ];
    let mut command = Command::new("apt-get");
    for option in options {
        command.arg("-o").arg(option);
    }
    let output = command
        .args(words)
        .output()
        .context("cannot start `apt-get`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`apt-get` ended with {}\n{said}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// A line of `apt-get --print-uris`: `'URL' FILE SIZE SHA256:DIGEST`.
fn printed(line: &str) -> Result<Package> {
    let words: Vec<&str> = line.split(' ').collect();
    if let [url, _, size, hash] = words.as_slice()
        && let Some(sha256) = hash.strip_prefix("SHA256:")
    {
        return package(url.trim_matches('\''), size, sha256);
    }
    bail!("apt says `{line}`, which is no address, name, size and SHA256")
}

fn package(url: &str, size: &str, sha256: &str) -> Result<Package> {
    let digits = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    ensure!(
        sha256.len() == 64 && digits(sha256),
        "`{sha256}` is no SHA256"
    );
    let file = url.rsplit('/').next().unwrap_or_default();
    // It becomes the name of a file, and a word in lists.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+~%-:".contains(&b);
    ensure!(
        file.ends_with(".deb") && !file.starts_with('.') && file.bytes().all(plain),
        "`{url}` is no package"
    );
    Ok(Package {
        file: file.to_owned(),
        sha256: sha256.to_owned(),
        size: size
            .parse()
            .with_context(|| format!("`{size}` is no size"))?,
        url: url.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "a9d751b4d73a489120ef68a21caedf0b58fba80598fb22a17f85060f308bfe7e";

    #[test]
    fn what_apt_prints_survives_a_lock() {
        let line = format!(
            "'http://deb.debian.org/debian/pool/main/s/systemd/udev_257.13-1%7edeb13u1_amd64.deb' udev_257.13-1~deb13u1_amd64.deb 1418624 SHA256:{DIGEST}"
        );
        let lock = Lock {
            epoch: 1_700_000_000,
            packages: vec![printed(&line).unwrap()],
        };
        assert_eq!(lock.packages[0].size, 1_418_624);
        assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);
    }

    #[test]
    fn a_damaged_lock_is_refused() {
        let refused = |text: &str| format!("{:#}", Lock::parse(text).unwrap_err());
        assert_eq!(refused(""), "the first line is `epoch ` and a number");
        assert_eq!(
            refused("epoch x"),
            "the epoch is no number: invalid digit found in string"
        );
        let with = |line: &str| refused(&format!("# comment\nepoch 1\n{line}\n"));
        assert_eq!(with("x 1"), "`x 1` is no digest, size and address");
        assert_eq!(with("x 1 http://h/a.deb"), "`x` is no SHA256");
        assert_eq!(
            with(&format!("{DIGEST} y http://h/a.deb")),
            "`y` is no size: invalid digit found in string"
        );
        for bad in [
            "http://h/..",
            "http://h/.deb",
            "http://h/a b.deb",
            "http://h/a\u{e9}.deb",
        ] {
            assert!(
                Lock::parse(&format!("epoch 1\n{DIGEST} 1 {bad}")).is_err(),
                "{bad}"
            );
        }
        assert!(Lock::parse(&format!("epoch 1\n{} 1 http://h/a.deb", &DIGEST[1..])).is_err());
    }
}
