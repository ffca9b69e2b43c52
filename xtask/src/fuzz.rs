//! Fuzz targets: `fuzz/run` builds and runs them, on the stable compiler.

use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::process::{root, target_dir};

/// Runs each target for `seconds`; returns how many there are.
pub(crate) fn run_all(seconds: u32) -> Result<u64> {
    let output = Command::new(root().join("fuzz/run"))
        .arg(seconds.to_string())
        // Their instrumentation would rebuild everything else in the ordinary folder.
        .env("CARGO_TARGET_DIR", target_dir().join("fuzz"))
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let passed = text
        .lines()
        .filter(|line| line.contains(" ... ok "))
        .count();
    if !output.status.success() {
        bail!("fuzz targets ended with {}", output.status);
    }
    ensure!(passed > 0, "there is no fuzz target");
    Ok(passed.try_into()?)
}
