//! What needs no daemon: descriptions as files, completions, manual pages.

use std::io::Write;
use std::path::{Path, PathBuf};

use bulkhead_model::diagnostic::{Color, Diagnostics};
use bulkhead_model::load::{Loaded, load};
use bulkhead_model::source::DiskReader;
use clap::CommandFactory;
use serde::Serialize;

use super::Session;
use crate::args;
use crate::client::default_system;
use crate::error::{CommandError, Exit};
use crate::output::Paint;
use crate::text::{count, plain};

/// What `check --json` prints.
#[derive(Debug, Serialize)]
struct CheckReport<'a> {
    system: &'a Path,
    valid: bool,
    qubes: usize,
    templates: usize,
    diagnostics: &'a Diagnostics,
}

pub(super) fn check(mut session: Session, args: &args::Check) -> Result<Exit, CommandError> {
    let path = args.file.clone().unwrap_or_else(default_system);
    let loaded = load(&path, &DiskReader);
    let (valid, diagnostics) = match &loaded {
        Ok(loaded) => (true, &loaded.warnings),
        Err(diagnostics) => (false, diagnostics),
    };
    if args.json {
        let machine = loaded.as_ref().ok().map(|loaded| &loaded.description);
        session.out.json(&CheckReport {
            system: &path,
            valid,
            qubes: machine.map_or(0, |machine| machine.qubes.len()),
            templates: machine.map_or(0, |machine| machine.templates.len()),
            diagnostics,
        })?;
        return if valid {
            Ok(Exit::Done)
        } else {
            Err(CommandError::silent(Exit::Refused))
        };
    }
    show(diagnostics, session.out.paint)?;
    match &loaded {
        Ok(loaded) => {
            session.out.text(&summary(&path, loaded))?;
            Ok(Exit::Done)
        }
        Err(_) => Err(refusal(&path)),
    }
}

fn summary(path: &Path, loaded: &Loaded) -> String {
    let machine = &loaded.description;
    let number = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
    format!(
        "{} is in order: {}, {}, {}",
        plain(&path.display().to_string()),
        count(number(machine.qubes.len()), "qube"),
        count(number(machine.templates.len()), "template"),
        count(number(loaded.files.len()), "file"),
    )
}

fn refusal(path: &Path) -> CommandError {
    let path = path.display();
    CommandError::new(format!("description `{path}` cannot be used"))
}

/// Diagnostics go to standard error, as every message about a mistake does.
fn show(diagnostics: &Diagnostics, paint: Paint) -> Result<(), CommandError> {
    let color = if paint.0 { Color::Always } else { Color::Never };
    std::io::stderr()
        .write_all(diagnostics.render(color).as_bytes())
        .map_err(CommandError::from)
}

pub(super) fn completions(
    mut session: Session,
    args: &args::Completions,
) -> Result<Exit, CommandError> {
    let mut command = args::Args::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "bulkhead", &mut script);
    session.out.text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

pub(super) fn man(mut session: Session, args: &args::Man) -> Result<Exit, CommandError> {
    let failed = |path: PathBuf| {
        move |error: std::io::Error| {
            CommandError::new(format!("`{}` cannot be written", path.display())).because(&error)
        }
    };
    std::fs::create_dir_all(&args.folder).map_err(failed(args.folder.clone()))?;
    let mut written: u64 = 0;
    let mut command = args::Args::command();
    command.build();
    let mut pages = vec![command];
    while let Some(command) = pages.pop() {
        pages.extend(command.get_subcommands().cloned());
        let name = command
            .get_display_name()
            .unwrap_or_else(|| command.get_name());
        let path = args.folder.join(format!("{name}.1"));
        let mut page = Vec::new();
        let made = clap_mangen::Man::new(command).render(&mut page);
        made.map_err(failed(path.clone()))?;
        std::fs::write(&path, page).map_err(failed(path))?;
        written += 1;
    }
    session
        .out
        .text(&format!("wrote {}", count(written, "page")))?;
    Ok(Exit::Done)
}
