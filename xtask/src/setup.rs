//! Debian packages that a build, demo or test needs.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{Options, capture, run};

/// A Debian package and what it is for.
pub(crate) type Package = (&'static str, &'static str);

const PACKAGES: &[Package] = &[
    ("bubblewrap", "the embedded hypervisor's namespaces"),
    ("g++", "libFuzzer, for the fuzz targets"),
    ("gcc", "linking"),
    ("libc6-dev", "linking, also statically for the agent"),
    ("libsqlite3-dev", "bulkheadd's journal and generations"),
    ("mmdebstrap", "Debian templates"),
    ("pkg-config", "finding the libraries above"),
];

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    Options::new(arguments).finish()?;
    ensure()
}

/// Installs what is missing; says nothing when nothing is.
pub(crate) fn ensure() -> Result<()> {
    install(PACKAGES)
}

/// Installs those of `packages` that are missing.
pub(crate) fn install(packages: &[Package]) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    println!("Installing {} Debian package(s):", missing.len());
    for (name, purpose) in packages.iter().filter(|(name, _)| missing.contains(name)) {
        println!("  {name:<16} {purpose}");
    }
    let mut install = vec![
        "apt-get",
        "install",
        "--yes",
        "--quiet=2",
        "--no-install-recommends",
    ];
    install.extend(&missing);
    if as_root(&install).is_err() {
        // A list that was never fetched, or is too old to name the versions the mirror has.
        as_root(&["apt-get", "update", "--quiet=2"])?;
        as_root(&install)?;
    }
    Ok(())
}

fn missing(packages: &[Package]) -> Result<Vec<&'static str>> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(packages.iter().map(|(name, _)| name))
        .output()
        .context(
            "cannot start `dpkg-query`: this set-up needs Debian or a system derived from it",
        )?;
    let listed = String::from_utf8_lossy(&output.stdout);
    let installed: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .collect();
    Ok(packages
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !installed.contains(name))
        .collect())
}

fn as_root(words: &[&str]) -> Result<()> {
    let uid = capture(Command::new("id").arg("-u"))?;
    let is_root = uid.stdout.trim_ascii() == b"0";
    let mut command = if is_root {
        Command::new("env")
    } else {
        Command::new("sudo")
    };
    command
        .arg("DEBIAN_FRONTEND=noninteractive")
        .args(words)
        .stdout(std::process::Stdio::null());
    match run(&mut command) {
        Err(error) if !is_root => {
            bail!("{error}\nhint: run this as root: {}", words.join(" "))
        }
        outcome => outcome,
    }
}
