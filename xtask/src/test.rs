//! `cargo xtask test`: everything that must hold, ended by one summary line.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::images::{self, Profile};
use crate::process::{Options, cargo};
use crate::xen::{self, Place, Which};
use crate::{check, fuzz, setup, suite, template};

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
    let qubes_sources = options.value("--qubes-sources")?.map(Path::new);
    let place = place(&mut options)?;
    let filter = options.word();
    options.finish()?;
    setup::ensure_all()?;
    if let Some(place) = place {
        let mut tally = Tally::default();
        let which = filter.map_or(Which::All, Which::Named);
        let outcome = xen::scenarios(place, which, qubes_sources, &mut tally);
        println!("{tally}");
        ensure!(tally.passed > 0 || outcome.is_err(), "no scenario ran");
        return outcome;
    }
    ensure!(
        filter.is_none(),
        "only scenarios are chosen by name: `--xen NAME`"
    );
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
    println!("== scenarios on the embedded backend");
    let which = if all { Which::All } else { Which::Core };
    let mut scenarios = |place| {
        let outcome = xen::scenarios(place, which, qubes_sources, &mut tally);
        failures.extend(outcome.err().map(|error| format!("{error:#}")));
    };
    scenarios(Place::Embedded);
    println!("== scenarios on Xen in QEMU");
    scenarios(Place::Qemu);
    if all {
        println!("== a template, built twice");
        match template::reproducible("debian-13-minimal") {
            Ok(()) => tally.passed += 1,
            Err(error) => {
                tally.failed += 1;
                failures.push(format!("{error:#}"));
            }
        }
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
    println!("{tally}");
    ensure!(tally.passed > 0, "no test ran");
    if !failures.is_empty() || tally.failed > 0 {
        bail!("not everything holds");
    }
    Ok(())
}

/// Where scenarios, and nothing else, shall run.
fn place<'a>(options: &mut Options<'a>) -> Result<Option<Place<'a>>> {
    let qemu = options.flag("--xen").then_some(Place::Qemu);
    let embedded = options.flag("--embedded").then_some(Place::Embedded);
    let address = options.value("--host")?;
    let reset = options.value("--reset")?;
    ensure!(
        reset.is_none() || address.is_some(),
        "`--reset` brings back the machine that `--host` names"
    );
    let host = address.map(|address| Place::Host { address, reset });
    let mut places = [qemu, embedded, host].into_iter().flatten();
    let place = places.next();
    ensure!(
        places.next().is_none(),
        "scenarios run in one place at a time"
    );
    Ok(place)
}

/// What the test runner reported, added up over all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    failed: u64,
    skipped: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
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
    let child = command.spawn().context("cannot start `cargo test`")?;
    let status = tallied(child, tally)?;
    ensure!(status.success(), "`cargo test` ended with {status}");
    Ok(())
}

/// Passes on what a test program prints, counts its results and waits for its end.
pub(crate) fn tallied(mut child: Child, tally: &mut Tally) -> Result<ExitStatus> {
    let output = child.stdout.take().context("the tests have no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.read(&line);
    }
    Ok(child.wait()?)
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
