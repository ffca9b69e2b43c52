//! `qubes.StartApp ID` and `qubes-desktop-run FILE`: start an application, which goes on by itself.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use thiserror::Error;

use super::command::{Codes, CommandError, words};
use super::find;

/// Terminals for applications that need one, and what comes before a command; the first that is
/// installed is used.
const TERMINALS: &[(&str, &[&str])] = &[
    ("xdg-terminal-exec", &[]),
    ("x-terminal-emulator", &["-e"]),
    ("foot", &[]),
    ("xterm", &["-e"]),
];

#[derive(Debug, Error)]
enum StartError {
    #[error("expected one argument, {0}")]
    Usage(&'static str),
    #[error("there is no application `{0}`")]
    Unknown(String),
    #[error("`{}` cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` describes no application", .0.display())]
    NoEntry(PathBuf),
    #[error("`{program}`, which `{}` needs, is not installed", path.display())]
    NotInstalled { path: PathBuf, program: String },
    #[error("the command of `{}` cannot be used", path.display())]
    Command { path: PathBuf, source: CommandError },
    #[error("no terminal is installed for `{}`", .0.display())]
    NoTerminal(PathBuf),
    #[error("`{program}` cannot be started")]
    Start { program: String, source: io::Error },
}

/// The service.
pub(crate) fn start_app(arguments: Vec<OsString>) -> ExitCode {
    told("qubes.StartApp", by_id(&arguments))
}

/// The command.
pub(crate) fn desktop_run(arguments: Vec<OsString>) -> ExitCode {
    told("qubes-desktop-run", by_file(&arguments))
}

fn told(name: &str, outcome: Result<(), StartError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::report::log(name, &error);
            ExitCode::FAILURE
        }
    }
}

fn by_id(arguments: &[OsString]) -> Result<(), StartError> {
    let [id] = arguments else {
        return Err(StartError::Usage("the name of an application"));
    };
    let id = id.to_string_lossy();
    let path = find::by_id(&find::folders(), &id);
    start(&path.ok_or_else(|| StartError::Unknown(id.into_owned()))?)
}

fn by_file(arguments: &[OsString]) -> Result<(), StartError> {
    match arguments {
        [file] => start(Path::new(file)),
        _ => Err(StartError::Usage("a desktop entry")),
    }
}

fn start(path: &Path) -> Result<(), StartError> {
    let entry = find::read(path).map_err(|source| StartError::Read {
        path: path.to_owned(),
        source,
    })?;
    let no_entry = || StartError::NoEntry(path.to_owned());
    let entry = entry.filter(|entry| entry.is_application());
    let entry = entry.ok_or_else(no_entry)?;
    if let Some(program) = entry.text("TryExec")
        && !find::is_installed(&program)
    {
        let path = path.to_owned();
        return Err(StartError::NotInstalled { path, program });
    }
    let (name, icon) = (entry.text("Name"), entry.text("Icon"));
    let codes = Codes {
        name: name.as_deref().unwrap_or_default(),
        icon: icon.as_deref(),
        file: &path.display().to_string(),
    };
    let line = entry.text("Exec").ok_or_else(no_entry)?;
    let words = words(&line, &codes).map_err(|source| StartError::Command {
        path: path.to_owned(),
        source,
    })?;
    let words = if entry.is("Terminal") {
        in_terminal(path, words)?
    } else {
        words
    };
    let folder = entry.text("Path").filter(|folder| !folder.is_empty());
    detach(&words, folder.as_deref())
}

fn in_terminal(path: &Path, command: Vec<String>) -> Result<Vec<String>, StartError> {
    let mut terminals = TERMINALS.iter();
    let (program, before) = terminals
        .find(|(program, _)| find::is_installed(program))
        .ok_or_else(|| StartError::NoTerminal(path.to_owned()))?;
    let words = std::iter::once(program).chain(before.iter());
    Ok(words.map(|&word| word.to_owned()).chain(command).collect())
}

/// Starts it in a process group of its own and without our streams, so that the call ends, and its
/// end does not end it.
fn detach(words: &[String], folder: Option<&str>) -> Result<(), StartError> {
    let (program, arguments) = words.split_first().map_or(("", words), |(p, a)| (p, a));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    for (name, _) in std::env::vars_os() {
        // It outlives the call of which they tell.
        if name.as_encoded_bytes().starts_with(b"QREXEC") {
            command.env_remove(name);
        }
    }
    let started = command.spawn();
    started.map(drop).map_err(|source| StartError::Start {
        program: program.to_owned(),
        source,
    })
}
