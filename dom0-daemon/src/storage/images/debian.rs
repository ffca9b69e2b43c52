//! Debian trees, built by mmdebstrap and kept as tar files under a digest of what they are built
//! from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::super::{Config, ProgressFn, StorageError, failed, hex};
use super::program::{follow, spawn_tidy, wait};

const PROGRAM: &str = "mmdebstrap";

/// What the names of a tree that is being built, and of what is said about it, end in. Before it
/// comes the number of the process that builds it.
const PARTIAL: &str = "partial";
const LOG: &str = "log";

/// How old a tree may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// One that was built before will do.
    Any,
    /// It is built now, from the packages that the archive has now.
    New,
}

#[derive(Debug)]
pub(super) struct Debian {
    cache: PathBuf,
    mmdebstrap: PathBuf,
    /// One build at a time: two templates may be the same tree.
    building: tokio::sync::Mutex<()>,
}

impl Debian {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            cache: config.cache_dir.join("templates"),
            mmdebstrap: config.mmdebstrap.clone(),
            building: tokio::sync::Mutex::new(()),
        }
    }

    /// The tar file of a tree. A build that fails leaves the one from before.
    pub(super) async fn tar(
        &self,
        suite: &str,
        packages: &[String],
        age: Age,
        progress: ProgressFn<'_>,
    ) -> Result<PathBuf, StorageError> {
        let mut packages = packages.to_vec();
        packages.sort();
        packages.dedup();
        let packages = packages.join(",");
        let inputs = format!("debian 1\n{}\n{suite}\n{packages}", std::env::consts::ARCH);
        let name = hex(&Sha256::digest(inputs));
        let tar = self.cache.join(format!("{name}.tar"));
        let _one = self.building.lock().await;
        if age == Age::Any && tar.is_file() {
            progress("taking the tree that was built before");
            return Ok(tar);
        }
        fs::create_dir_all(&self.cache)
            .map_err(|error| failed(&self.cache, "creating folder", error))?;
        self.remove_dead();
        let partial = tar.with_extension(format!("{}.{PARTIAL}", std::process::id()));
        let built = self.build(suite, &packages, &partial, progress).await;
        let built = built.and_then(|()| {
            fs::rename(&partial, &tar).map_err(|error| failed(&tar, "storing", error))
        });
        // The first error is the one to tell; what stays goes with a later build.
        let _ = fs::remove_file(partial.with_extension(LOG));
        if built.is_err() {
            let _ = fs::remove_file(&partial);
        }
        built.map(|()| tar)
    }

    async fn build(
        &self,
        suite: &str,
        packages: &str,
        at: &Path,
        progress: ProgressFn<'_>,
    ) -> Result<(), StorageError> {
        let mut command = Command::new(&self.mmdebstrap);
        command.arg("--variant=minbase").arg("--format=tar");
        if !packages.is_empty() {
            command.arg(format!("--include={packages}"));
        }
        // After `--` nothing is an option, whatever the description says.
        command.arg("--").arg(suite).arg(at);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let log = at.with_extension(LOG);
        let opened = fs::File::create(&log).and_then(|to| Ok((to, fs::File::open(&log)?)));
        let (to, from) = opened.map_err(|error| failed(&log, "creating", error))?;
        let (mut child, interrupt) = spawn_tidy(PROGRAM, &mut command, to)?;
        let told = |line: &str| {
            if let Some(text) = line.strip_prefix("I: ") {
                progress(text);
            }
        };
        let lines = follow(&mut child, from, told).await;
        let ended = wait(PROGRAM, &mut child, || reasons(&lines)).await;
        interrupt.disarm();
        ended
    }

    /// Removes what daemons that were killed had built so far. The cache is shared, so only what
    /// no running process can be writing.
    fn remove_dead(&self) {
        for entry in fs::read_dir(&self.cache).into_iter().flatten().flatten() {
            let path = entry.path();
            let builder = path
                .file_stem()
                .map(Path::new)
                .and_then(Path::extension)
                .and_then(|pid| pid.to_str()?.parse::<u32>().ok());
            let ours = path
                .extension()
                .is_some_and(|end| end == PARTIAL || end == LOG);
            if let Some(pid) = builder.filter(|_| ours)
                && !Path::new("/proc").join(pid.to_string()).exists()
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(file = %path.display(), %error, "half a tree stays in the cache");
            }
        }
    }
}

/// What went wrong by mmdebstrap's own words: the errors that come first name the cause, those
/// after them repeat each command line that failed because of it.
fn reasons(lines: &[String]) -> String {
    let is_echo = |text: &str| {
        text.ends_with(" failed")
            || text.starts_with("setup failed")
            || text.starts_with("mmdebstrap failed")
    };
    let errors: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("E: "))
        .filter(|text| !is_echo(text))
        .collect();
    if errors.is_empty() {
        return lines.join("; ");
    }
    errors.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(said: &str, expect: &str) {
        let lines: Vec<String> = said.lines().map(str::to_owned).collect();
        assert_eq!(reasons(&lines), expect);
    }

    #[test]
    fn the_cause_is_told_without_its_echoes() {
        check(
            "I: installing remaining packages inside the chroot...\n\
             E: Unable to locate package no-such\nE: Unable to locate package nor-this\n\
             E: setup failed: E: apt-get -o Dir::Bin::dpkg=env --yes install no-such failed\n\
             I: main() received signal PIPE: waiting for setup...\n\
             I: removing tempdir /tmp/mmdebstrap.x...\nE: mmdebstrap failed to run",
            "Unable to locate package no-such; Unable to locate package nor-this",
        );
    }

    #[test]
    fn where_only_echoes_are_left_everything_is_told() {
        check(
            "dpkg: error processing archive\nE: apt-get install failed",
            "dpkg: error processing archive; E: apt-get install failed",
        );
    }
}
