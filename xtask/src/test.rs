//! `cargo xtask test`: everything that must hold, ended by one summary line.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use crate::images::{self, Profile};
use crate::process::{Options, cargo};
use crate::{check, fuzz, setup, suite};

/// Seconds per fuzz target in an ordinary run.
const FUZZ_SECONDS: u32 = 3;

/// Seconds per fuzz target with `--all`.
const FUZZ_SECONDS_ALL: u32 = 60;

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let mut options = Options::new(arguments);
    let all = options.flag("--all");
    let suite_dir = options.value("--qrexec-suite")?;
    let default_seconds = if all { FUZZ_SECONDS_ALL } else { FUZZ_SECONDS };
    let seconds = match options.value("--fuzz-seconds")? {
        Some(text) => text.parse().context("`--fuzz-seconds` needs a number")?,
        None => default_seconds,
    };
    options.finish()?;
    setup::ensure_all()?;
    if let Some(dir) = suite_dir {
        return suite::run_suite(dir.as_ref());
    }

    let mut tally = Tally::default();
    let mut failures = Vec::new();
    if let Err(error) = check::quick() {
        failures.push(format!("{error:#}"));
    }
    if all && let Err(error) = check::licences() {
        failures.push(format!("{error:#}"));
    }
    println!("== programs");
    // End-to-end tests start these from the folder that the tests themselves are built into.
    images::build(Profile::Dev)?;
    println!("== tests");
    if let Err(error) = unit_and_end_to_end(all, &mut tally) {
        failures.push(format!("{error:#}"));
    }
    println!("== fuzz targets, {seconds} s each");
    match fuzz::run_all(seconds) {
        Ok(targets) => tally.passed += targets,
        Err(error) => {
            tally.failed += 1;
            failures.push(format!("{error:#}"));
        }
    }
    for failure in &failures {
        eprintln!("failed: {failure}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        tally.passed, tally.failed, tally.skipped
    );
    ensure!(tally.passed > 0, "no test ran");
    if !failures.is_empty() || tally.failed > 0 {
        bail!("not everything holds");
    }
    Ok(())
}

/// What the test runner reported, added up over all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    /// Takes in one line of a test program's output.
    fn read(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in counts.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

fn unit_and_end_to_end(all: bool, tally: &mut Tally) -> Result<()> {
    let mut command = cargo();
    command
        .args(["test", "--quiet", "--workspace", "--no-fail-fast"])
        .stdout(Stdio::piped());
    if all {
        command.args(["--", "--include-ignored"]);
    }
    let mut child = command.spawn().context("cannot start `cargo test`")?;
    let output = child.stdout.take().context("`cargo test` has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.read(&line);
    }
    let status = child.wait()?;
    ensure!(status.success(), "`cargo test` ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn adds_up_the_result_lines_and_nothing_else() {
        let mut tally = Tally::default();
        tally.read("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s");
        tally
            .read("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
        tally.read("99 passed; 99 failed");
        assert_eq!(
            tally,
            Tally {
                passed: 14,
                failed: 1,
                skipped: 1
            }
        );
    }
}
