//! `bulkhead check`: what the daemon would say about a description, without a daemon.

use std::path::{Path, PathBuf};

use bulkhead_model::diagnostic::{Color, Diagnostic, Diagnostics, Place, Severity};
use bulkhead_model::load::{Loaded, load};
use bulkhead_model::qube::PolicyText;
use bulkhead_model::source::DiskReader;
use bulkhead_policy::{Engine, PolicyError};
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
    let system = find_system(args.system.as_deref().or(args.system_option.as_deref()))?;
    let report = examine(system);
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
    Err(Failure::new(format!(
        "the description `{shown}` has {errors}"
    )))
}

fn examine(system: PathBuf) -> Report {
    let empty = |diagnostics| Report {
        system: system.clone(),
        ok: false,
        qubes: 0,
        rules: 0,
        diagnostics,
    };
    match load(&system, &DiskReader) {
        Err(diagnostics) => empty(diagnostics),
        Ok(loaded) => match Engine::parse(&loaded.description.policy) {
            Err(errors) => empty(with_policy(&loaded, &errors)),
            Ok(engine) => Report {
                ok: true,
                qubes: loaded.description.qubes.len(),
                rules: engine.rules().len(),
                diagnostics: loaded.warnings.clone(),
                system,
            },
        },
    }
}

fn with_policy(loaded: &Loaded, errors: &[PolicyError]) -> Diagnostics {
    let mut all = loaded.warnings.clone();
    let texts = &loaded.description.policy;
    all.list
        .extend(errors.iter().map(|error| diagnostic(error, texts)));
    all
}

fn diagnostic(error: &PolicyError, texts: &[PolicyText]) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        message: error.kind.to_string(),
        place: place(error, texts),
        related: Vec::new(),
        help: vec![error.remedy()],
        notes: Vec::new(),
    }
}

/// Where a policy error is: from its column to the end of the word.
fn place(error: &PolicyError, texts: &[PolicyText]) -> Option<Place> {
    let text = texts.iter().find(|text| {
        let lines = u32::try_from(text.text.lines().count()).unwrap_or(u32::MAX);
        let range = text.first_line..=text.first_line.saturating_add(lines);
        *text.origin == *error.origin.file && range.contains(&error.origin.line)
    })?;
    let line = error.origin.line - text.first_line;
    let content = text.text.lines().nth(line as usize).unwrap_or_default();
    let skipped = error.column.saturating_sub(1) as usize;
    let word = content.chars().skip(skipped);
    let word = word.take_while(|c| !c.is_whitespace()).count();
    let end = error.column + u32::try_from(word.max(1)).unwrap_or(1);
    let origin = text.origin.as_str();
    let mut place = Place::in_text(origin, &text.text, line + 1, error.column..end);
    place.line = error.origin.line;
    Some(place)
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
