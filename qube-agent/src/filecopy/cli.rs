//! `qvm-copy`, `qvm-move`, `qvm-copy-to-vm` and `qvm-move-to-vm`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use bulkhead_wire::causes::chain;
use bulkhead_wire::filecopy::Names;
use sha2::{Digest, Sha256};

use super::error::SendError;
use super::kept::LARGE;
use super::listing::Listings;
use super::progress::Progress;
use super::send::{OnProgress, Sent, pack_listed, pack_resumable_listed};
use super::survey::{Sizes, Survey};
use super::unpack::state_folder;
use crate::call;

/// Asked for when the person is to choose the target.
const ASK: &str = "@default";
const SERVICE: &str = "qubes.Filecopy";
const SERVICE_ALL_NAMES: &str = "qubes.Filecopy+allow-all-names";
const RESUMING: &str = "bulkhead.Filecopy";
const RESUMING_ALL_NAMES: &str = "bulkhead.Filecopy+allow-all-names";
/// Which of the four commands runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyApplet {
    /// Its name.
    pub name: &'static str,
    /// Whether the files go away here.
    pub moves: bool,
    /// Whether the target is the first argument.
    pub names_target: bool,
}

impl CopyApplet {
    /// `qvm-copy FILE...`
    pub const COPY: Self = Self {
        name: "qvm-copy",
        moves: false,
        names_target: false,
    };
    /// `qvm-move FILE...`
    pub const MOVE: Self = Self {
        name: "qvm-move",
        moves: true,
        names_target: false,
    };
    /// `qvm-copy-to-vm TARGET FILE...`
    pub const COPY_TO: Self = Self {
        name: "qvm-copy-to-vm",
        moves: false,
        names_target: true,
    };
    /// `qvm-move-to-vm TARGET FILE...`
    pub const MOVE_TO: Self = Self {
        name: "qvm-move-to-vm",
        moves: true,
        names_target: true,
    };

    fn usage(self) -> String {
        let target = if self.names_target { " TARGET" } else { "" };
        let what = if self.moves { "Move" } else { "Copy" };
        let asked = if self.names_target {
            "The call may be asked about first."
        } else {
            "The target is asked for."
        };
        format!(
            "usage: {} [--without-progress]{target} FILE [FILE ...]\n\n\
             {what} each FILE, folders with all that is in them, into\n\
             ~/QubesIncoming/<this qube> of the target qube. {asked}\n",
            self.name
        )
    }
}

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Help,
    Wrong,
    Go {
        progress: bool,
        target: String,
        paths: Vec<PathBuf>,
    },
}

fn parse(applet: CopyApplet, arguments: Vec<OsString>) -> Parsed {
    let mut progress = true;
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.peek() {
        match argument.to_str() {
            Some("--without-progress") => progress = false,
            Some("-h" | "--help") => return Parsed::Help,
            Some("--") => {
                arguments.next();
                break;
            }
            Some(text) if text.starts_with('-') => return Parsed::Wrong,
            _ => break,
        }
        arguments.next();
    }
    let target = if applet.names_target {
        match arguments.next().map(OsString::into_string) {
            Some(Ok(target)) => target,
            _ => return Parsed::Wrong,
        }
    } else {
        ASK.to_owned()
    };
    let paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    if paths.is_empty() {
        return Parsed::Wrong;
    }
    Parsed::Go {
        progress,
        target,
        paths,
    }
}

/// Runs one of the commands. Exit codes: 0 done, 1 not done or wrong usage, otherwise what the
/// connection ended with (126 when the call was refused).
pub fn run(applet: CopyApplet, arguments: Vec<OsString>) -> ExitCode {
    match parse(applet, arguments) {
        Parsed::Help => {
            print!("{}", applet.usage());
            ExitCode::SUCCESS
        }
        Parsed::Wrong => {
            eprint!("{}", applet.usage());
            ExitCode::FAILURE
        }
        Parsed::Go {
            progress,
            target,
            paths,
        } => match transfer(applet, &target, &paths, Progress::new(progress)) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("{}: {}", applet.name, chain(&error));
                ExitCode::FAILURE
            }
        },
    }
}

/// Why a command failed beyond what [`SendError`] says.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("the call cannot be started")]
    Call(#[source] io::Error),
    #[error("`{}` was sent but cannot be removed", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

fn transfer(
    applet: CopyApplet,
    target: &str,
    paths: &[PathBuf],
    mut progress: Progress,
) -> Result<ExitCode, CopyError> {
    let sizes = match progress.is_shown() {
        true => Sizes::All,
        false => Sizes::Announced,
    };
    let survey = Survey::of(paths, sizes)?;
    progress.set_total(survey.bytes());
    let broken = Interrupted::new(target, paths);
    let all = survey.names() == Names::All;
    let what = (paths, &survey);
    let mut result = None;
    if broken.is_noted() {
        let service = if all { RESUMING_ALL_NAMES } else { RESUMING };
        let ended = send(target, service, what, &mut progress, pack_resumable_listed)?;
        // No offers: the target is not ours, or its policy does not know the service.
        if !matches!(ended.0, Err(SendError::NoOffers)) {
            result = Some(ended);
        }
    }
    let (sent, status) = match result {
        Some(ended) => ended,
        None => {
            let service = if all { SERVICE_ALL_NAMES } else { SERVICE };
            send(target, service, what, &mut progress, pack_listed)?
        }
    };
    match sent {
        Ok(sent) => {
            progress.finish(sent.bytes + sent.resumed);
            broken.forget();
        }
        // Nothing was lost on the way, there never was one, and that has been said.
        Err(SendError::NoAnswer) if call::never_ran(status) => {
            return Ok(call::exit_code(status));
        }
        Err(error) => {
            if error.is_interruption() && has_large(paths) && broken.note() {
                eprintln!(
                    "{}: interrupted; the same command again goes on if the target can",
                    applet.name
                );
            }
            return Err(error.into());
        }
    }
    if applet.moves {
        for path in paths {
            remove(path)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

type Pack = fn(&[PathBuf], &Listings, OwnedFd, OwnedFd, OnProgress<'_>) -> Result<Sent, SendError>;

/// Sends `paths` through a call of `service` in `target`, announcing what was seen of them.
fn send(
    target: &str,
    service: &str,
    (paths, survey): (&[PathBuf], &Survey),
    progress: &mut Progress,
    pack: Pack,
) -> Result<(Result<Sent, SendError>, ExitStatus), CopyError> {
    let mut call =
        call::start(target, service, Some(survey.announced())).map_err(CopyError::Call)?;
    let mut update = |bytes| progress.update(bytes);
    let sent = pack(paths, &survey.listings, call.out, call.answer, &mut update);
    let status = call.child.wait().map_err(CopyError::Call)?;
    Ok((sent, status))
}

fn has_large(paths: &[PathBuf]) -> bool {
    let mut pending: Vec<PathBuf> = paths.to_vec();
    while let Some(path) = pending.pop() {
        let Ok(found) = path.symlink_metadata() else {
            continue;
        };
        if found.is_file() && found.len() >= LARGE {
            return true;
        }
        if found.is_dir() {
            let entries = path.read_dir().into_iter().flatten().flatten();
            pending.extend(entries.map(|entry| entry.path()));
        }
    }
    false
}

fn remove(path: &Path) -> Result<(), CopyError> {
    let is_folder = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let removed = if is_folder {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    removed.map_err(|source| CopyError::Remove {
        path: path.to_owned(),
        source,
    })
}

/// A note that a transfer of these files to this target broke, so that its repetition asks the
/// target what it still has.
#[derive(Debug)]
struct Interrupted {
    path: PathBuf,
}

impl Interrupted {
    fn new(target: &str, paths: &[PathBuf]) -> Self {
        let mut hash = Sha256::new();
        hash.update(target.as_bytes());
        for path in paths {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            hash.update([0]);
            hash.update(path.as_os_str().as_encoded_bytes());
        }
        let mut name = String::new();
        for byte in hash.finalize().iter().take(16) {
            let _ = write!(name, "{byte:02x}");
        }
        let path = state_folder().join("bulkhead/filecopy-broken").join(name);
        Self { path }
    }

    fn is_noted(&self) -> bool {
        self.path.exists()
    }

    /// False if it cannot be noted: then the repetition starts from the beginning.
    fn note(&self) -> bool {
        let folder = self.path.parent().map(std::fs::create_dir_all);
        folder.is_some_and(|made| made.is_ok()) && std::fs::write(&self.path, b"").is_ok()
    }

    fn forget(&self) {
        // It is usually not there.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn go(progress: bool, target: &str, paths: &[&str]) -> Parsed {
        Parsed::Go {
            progress,
            target: target.to_owned(),
            paths: paths.iter().map(PathBuf::from).collect(),
        }
    }

    #[test]
    fn command_lines_mean_what_they_mean_in_qubes() {
        for (applet, words, expected) in [
            (
                CopyApplet::COPY,
                &["a", "b"][..],
                go(true, "@default", &["a", "b"]),
            ),
            (
                CopyApplet::MOVE,
                &["--without-progress", "a"],
                go(false, "@default", &["a"]),
            ),
            (
                CopyApplet::COPY_TO,
                &["vault", "a"],
                go(true, "vault", &["a"]),
            ),
            (
                CopyApplet::MOVE_TO,
                &["--", "vault", "-a"],
                go(true, "vault", &["-a"]),
            ),
            (
                CopyApplet::COPY,
                &["--", "-x"],
                go(true, "@default", &["-x"]),
            ),
            (
                CopyApplet::COPY,
                &["a", "-x"],
                go(true, "@default", &["a", "-x"]),
            ),
            (CopyApplet::COPY, &["--help"], Parsed::Help),
            (CopyApplet::COPY, &["-h"], Parsed::Help),
            (CopyApplet::COPY, &[], Parsed::Wrong),
            (CopyApplet::COPY, &["--"], Parsed::Wrong),
            (CopyApplet::COPY, &["-x", "a"], Parsed::Wrong),
            (CopyApplet::COPY_TO, &["vault"], Parsed::Wrong),
        ] {
            assert_eq!(parse(applet, arguments(words)), expected, "{words:?}");
        }
    }

    #[test]
    fn a_note_belongs_to_target_and_files() {
        let files = [PathBuf::from("a"), PathBuf::from("b")];
        let note = Interrupted::new("vault", &files).path;
        assert_eq!(Interrupted::new("vault", &files).path, note);
        assert_ne!(Interrupted::new("work", &files).path, note);
        assert_ne!(Interrupted::new("vault", &files[..1]).path, note);
    }
}
