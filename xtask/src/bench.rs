//! `cargo xtask bench`: every figure that is wanted, measured on what ships, in one table.
//!
//! A benchmark is a program that prints lines `figure NAME VALUE UNIT`; [`marks`] says what is
//! wanted of them. All programs are built before the first runs, so that no compiler runs beside.

mod marks;
mod table;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::images::{self, Profile};
use crate::process::{Options, cargo};
use crate::setup;
use marks::{BENCHES, Bench, MARKS};
use table::{Row, Run};

/// What a benchmark found: value and unit by name.
type Figures = BTreeMap<String, (f64, String)>;

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let (wanted, arguments): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|word| !word.starts_with('-'));
    let arguments: Vec<String> = arguments.into_iter().cloned().collect();
    let mut options = Options::new(&arguments);
    let json = options.flag("--json");
    options.finish()?;
    let benches = choose(&wanted)?;

    setup::ensure_all()?;
    eprintln!("Building (the first build takes some minutes) ...");
    let programs = images::build(Profile::Release)?;
    let executables = build(&benches)?;
    let mut run = Run::now();
    let mut failures = Vec::new();
    for bench in &benches {
        eprintln!("== {}: {}", bench.name, bench.what);
        let path = executables
            .get(bench.target)
            .with_context(|| format!("cargo built no benchmark `{}`", bench.target))?;
        let found = measure(bench, path, &programs);
        if let Err(error) = &found {
            eprintln!("failed: {error:#}");
            failures.push(bench.name);
        }
        let figures = found.unwrap_or_default();
        let marks = MARKS.iter().filter(|mark| mark.bench == bench.name);
        run.rows.extend(marks.map(|mark| Row::of(mark, &figures)));
        run.figures.insert(bench.name, figures);
    }
    if json {
        println!("{:#}", run.json());
    } else {
        println!("{}", run.markdown());
    }
    ensure!(
        failures.is_empty(),
        "no figures of: {}",
        failures.join(", ")
    );
    Ok(())
}

fn choose(wanted: &[&String]) -> Result<Vec<&'static Bench>> {
    if wanted.is_empty() {
        return Ok(BENCHES.iter().collect());
    }
    let find = |name: &&String| {
        let found = BENCHES.iter().find(|bench| bench.name == name.as_str());
        let names: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        found.with_context(|| format!("no benchmark `{name}`; there are: {}", names.join(", ")))
    };
    wanted.iter().map(find).collect()
}

/// Builds the benchmarks; their programs by target.
fn build(benches: &[&Bench]) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = cargo();
    command.args(["bench", "--quiet", "--no-run", "--message-format=json"]);
    for bench in benches {
        command.args(["-p", bench.package, "--bench", bench.target]);
    }
    command.stderr(Stdio::inherit());
    let output = command.output().context("cannot start `cargo bench`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<serde_json::Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    if !output.status.success() {
        for message in &messages {
            eprint!(
                "{}",
                text_of(message, "/message/rendered").unwrap_or_default()
            );
        }
        bail!("the benchmarks do not build");
    }
    Ok(messages
        .iter()
        .filter(|message| text_of(message, "/target/kind/0") == Some("bench"))
        .filter_map(|message| {
            let name = text_of(message, "/target/name")?;
            let path = text_of(message, "/executable")?;
            Some((name.to_owned(), path.into()))
        })
        .collect())
}

fn text_of<'a>(message: &'a serde_json::Value, pointer: &str) -> Option<&'a str> {
    message.pointer(pointer)?.as_str()
}

/// Runs one benchmark; shows its figures as they come.
fn measure(bench: &Bench, path: &Path, programs: &Path) -> Result<Figures> {
    let mut child = Command::new(path)
        .args(["--bench", "--figures"])
        .env("BULKHEAD_LIBEXEC", programs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", path.display()))?;
    let output = child.stdout.take().context("a benchmark has no output")?;
    let mut figures = Figures::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        eprintln!("   {line}");
        figures.extend(read_figure(&line));
    }
    let status = child.wait()?;
    ensure!(status.success(), "`{}` ended with {status}", bench.name);
    Ok(figures)
}

fn read_figure(line: &str) -> Option<(String, (f64, String))> {
    let mut words = line.split_whitespace();
    let (Some("figure"), Some(name), Some(value)) = (words.next(), words.next(), words.next())
    else {
        return None;
    };
    let unit = words.next().unwrap_or_default();
    Some((name.to_owned(), (value.parse().ok()?, unit.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_nothing_else() {
        let found = read_figure("figure call_p50 2.630 ms");
        assert_eq!(
            found,
            Some(("call_p50".to_owned(), (2.63, "ms".to_owned())))
        );
        for line in [
            "",
            "call_p50 2.63 ms",
            "figure call_p50",
            "figure call_p50 much ms",
        ] {
            assert_eq!(read_figure(line), None, "{line}");
        }
    }

    #[test]
    fn benchmarks_are_chosen_by_name_and_unknown_names_are_told_of() {
        let (call, wrong) = ("call".to_owned(), "cal".to_owned());
        let names = |benches: Vec<&Bench>| -> Vec<_> { benches.iter().map(|b| b.name).collect() };
        assert_eq!(names(choose(&[&call]).unwrap()), ["call"]);
        assert_eq!(choose(&[]).unwrap().len(), BENCHES.len());
        let error = choose(&[&call, &wrong]).unwrap_err().to_string();
        assert!(
            error.starts_with("no benchmark `cal`; there are: plan, "),
            "{error}"
        );
    }
}
