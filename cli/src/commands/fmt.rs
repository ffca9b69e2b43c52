//! `bulkhead fmt`.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bulkhead_model::diagnostic::Diagnostics;
use bulkhead_model::format::format;
use bulkhead_model::load::load;
use bulkhead_model::source::{DiskReader, FILE_BYTES_MAX, SourceReader};

use super::check::{color, find_system};
use crate::args::FmtArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{note, print, print_line, style};

pub(crate) fn fmt(args: &FmtArgs) -> Result<Exit, Failure> {
    if args.files.iter().any(|file| file.as_os_str() == "-") {
        return standard_input(args);
    }
    let files = files(&args.files)?;
    // All are read before any is written: one that cannot be formatted leaves all as they are.
    let mut changed = Vec::new();
    for path in files {
        let text = DiskReader
            .read(&path)
            .map_err(|error| Failure::new("cannot format").because(&error))?;
        let formatted = formatted(&path.display().to_string(), &text)?;
        if formatted != text {
            changed.push((path, formatted));
        }
    }
    for (path, formatted) in &changed {
        if !args.check {
            write(path, formatted)?;
        }
        print_line(&path.display().to_string())?;
    }
    if args.check && !changed.is_empty() {
        return Err(Failure::new("these files are not in their usual form")
            .hint("Change them with `bulkhead fmt`."));
    }
    Ok(Exit::Done)
}

fn standard_input(args: &FmtArgs) -> Result<Exit, Failure> {
    if args.files.len() > 1 {
        return Err(Failure::new(
            "`-` stands alone: files cannot be named beside it",
        ));
    }
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(limit.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(|error| Failure::io("cannot read standard input", &error))?;
    if text.len() > FILE_BYTES_MAX {
        return Err(Failure::new(format!(
            "standard input is longer than {FILE_BYTES_MAX} bytes"
        )));
    }
    let formatted = formatted("standard input", &text)?;
    if args.check && formatted != text {
        return Err(Failure::new("standard input is not in its usual form"));
    }
    if !args.check {
        print(&formatted)?;
    }
    Ok(Exit::Done)
}

fn formatted(name: &str, text: &str) -> Result<String, Failure> {
    format(name, text).map_err(|found| {
        show(&found);
        Failure::new(format!(
            "`{name}` cannot be read as a description; nothing was changed"
        ))
    })
}

fn show(found: &Diagnostics) {
    note(&found.render(color(style::stderr())));
}

/// The files that were named, and every file of a description whose folder was named or that is
/// the usual one.
fn files(asked: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    if asked.is_empty() {
        return files_of(&find_system(None)?);
    }
    let mut files = Vec::new();
    for path in asked {
        if path.is_dir() {
            files.extend(files_of(&find_system(Some(path))?)?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn files_of(system: &Path) -> Result<Vec<PathBuf>, Failure> {
    let loaded = load(system, &DiskReader).map_err(|found| {
        show(&found);
        let shown = system.display();
        Failure::new(format!(
            "the files of `{shown}` cannot be told while it has errors"
        ))
        .hint("Mend it first, or name the files to format.")
    })?;
    let mut files = loaded.files;
    // Policy files have a form of their own.
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ron"));
    Ok(files)
}

/// Replaces a file as a whole, so that no crash leaves half of it.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let shown = path.display();
    let replace = || -> io::Result<()> {
        // The file itself is replaced, not a link to it.
        let path = fs::canonicalize(path)?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let new = path.with_file_name(name);
        let written = (|| {
            let mut file = fs::File::create_new(&new)?;
            file.set_permissions(fs::metadata(&path)?.permissions())?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)
        })();
        if written.is_err() {
            // Ours alone, and of no use.
            let _ = fs::remove_file(&new);
        }
        written
    };
    replace().map_err(|error| Failure::io(format!("cannot write `{shown}`"), &error))
}
