//! `bulkhead check`: what the daemon would say about a description, without a daemon.

use std::path::{Path, PathBuf};

use bulkhead_model::diagnostic::{Color, Diagnostics};
use bulkhead_model::source::DiskReader;
use serde::Serialize;

use crate::args::CheckArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::style::{self, Paint};
use crate::output::{note, print_json, print_line};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    system: PathBuf,
    ok: bool,
    qubes: usize,
    rules: usize,
    diagnostics: Diagnostics,
}

pub(crate) fn check(args: &CheckArgs) -> Result<Exit, Failure> {
    let asked = args.system.as_deref().or(args.system_option.as_deref());
    let report = examine(find_system(asked)?);
    if args.json {
        print_json(&report)?;
    } else {
        note(&report.diagnostics.render(color(style::stderr())));
        if report.ok {
            let (qubes, rules) = (count(report.qubes, "qube"), count(report.rules, "rule"));
            let shown = report.system.display();
            print_line(&format!("`{shown}` is in order: {qubes}, {rules}"))?;
        }
    }
    if report.ok {
        return Ok(Exit::Done);
    }
    let shown = report.system.display();
    let errors = count(report.diagnostics.errors(), "error");
    let failure = Failure::new(format!("the description `{shown}` has {errors}"));
    Err(match asked {
        None if !report.system.exists() => failure.hint(hint_here()),
        _ => failure,
    })
}

/// What to do where the usual description is not there.
fn hint_here() -> String {
    if Path::new("system.ron").is_file() {
        "There is a system.ron in this folder: `bulkhead check .` checks it.".to_owned()
    } else {
        "Name one with `bulkhead check FILE`, or write one to start from with `bulkhead init`."
            .to_owned()
    }
}

fn examine(system: PathBuf) -> Report {
    match bulkhead_policy::load(&system, &DiskReader) {
        Err(diagnostics) => Report {
            ok: false,
            qubes: 0,
            rules: 0,
            diagnostics,
            system,
        },
        Ok((loaded, engine)) => Report {
            ok: true,
            qubes: loaded.description.qubes.len(),
            rules: engine.rules().len(),
            diagnostics: loaded.warnings,
            system,
        },
    }
}

pub(super) fn color(paint: Paint) -> Color {
    if paint.is_on() {
        Color::Always
    } else {
        Color::Never
    }
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// The root file of a description.
pub(super) fn find_system(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    let Some(asked) = asked else {
        return Ok(usual_system());
    };
    if asked.is_dir() {
        let file = asked.join("system.ron");
        if file.is_file() {
            return Ok(file);
        }
        let shown = asked.display();
        return Err(
            Failure::new(format!("folder `{shown}` has no system.ron")).hint(format!(
                "Write one to start from with `bulkhead init {shown}`."
            )),
        );
    }
    Ok(asked.to_owned())
}

fn usual_system() -> PathBuf {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let config = var("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| var("HOME").map(|home| Path::new(&home).join(".config")));
    let own = config.map(|folder| folder.join("bulkhead/system.ron"));
    own.filter(|path| !rustix::process::geteuid().is_root() && path.exists())
        .unwrap_or_else(|| PathBuf::from("/etc/bulkhead/system.ron"))
}
