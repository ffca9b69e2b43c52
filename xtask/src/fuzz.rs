//! Fuzz targets, built on the stable compiler with libFuzzer's instrumentation.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{cargo, root, run, target_dir};

/// What `cargo fuzz` passes, less the sanitizers, which need a nightly compiler.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg=fuzzing -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1";

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds every target and runs each for `seconds`; returns how many there are.
pub(crate) fn run_all(seconds: u32) -> Result<u64> {
    let folder = root().join("fuzz");
    let built = target_dir().join("fuzz");
    run(cargo()
        .current_dir(&folder)
        .args([
            "build",
            "--quiet",
            "--release",
            "--bins",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&built)
        .env("RUSTFLAGS", INSTRUMENTATION))?;
    let names = names(&folder.join("fuzz_targets"))?;
    ensure!(!names.is_empty(), "there is no fuzz target");
    let mut failed = Vec::new();
    for name in &names {
        let scratch = built.join("corpus").join(name);
        std::fs::create_dir_all(&scratch)?;
        let mut command = std::process::Command::new(built.join(TARGET).join("release").join(name));
        command
            .arg(&scratch)
            .arg(format!("-max_total_time={seconds}"))
            .args([
                "-verbosity=0",
                "-print_final_stats=0",
                "-rss_limit_mb=1024",
                "-timeout=10",
            ])
            .arg(format!("-artifact_prefix={}/", built.display()));
        let seeds = folder.join("seeds").join(name);
        if seeds.is_dir() {
            command.arg(seeds);
        }
        match run(&mut command) {
            Ok(()) => println!("{name}: ok"),
            Err(error) => {
                println!("{name}: failed: {error}");
                failed.push(name.as_str());
            }
        }
    }
    if !failed.is_empty() {
        bail!(
            "fuzz target(s) failed: {}; inputs are in {}",
            failed.join(", "),
            built.display()
        );
    }
    u64::try_from(names.len()).context("more fuzz targets than fit")
}

fn names(folder: &PathBuf) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(stem) = path.file_stem()
        {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
