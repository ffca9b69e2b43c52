//! The asking end.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use bulkhead_wire::causes::chain;

use super::{is_url, name_field};
use crate::call;

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("`{}` cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the call cannot be made")]
    Call(#[source] io::Error),
    #[error("`{}` cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the call broke off; what had come back of the file is in `{}`", .0.display())]
    Broken(PathBuf),
}

pub(super) fn run(name: &str, target: Option<&str>, mut arguments: Vec<OsString>) -> ExitCode {
    let view_only = arguments
        .first()
        .is_some_and(|first| first == "--view-only");
    if view_only {
        arguments.remove(0);
    }
    if arguments.first().is_some_and(|first| first == "--") {
        arguments.remove(0);
    }
    let fixed = target.map(OsString::from);
    let words: Vec<OsString> = fixed.into_iter().chain(arguments).collect();
    let [target, what] = words.as_slice() else {
        let target = if target.is_some() { "" } else { " TARGET" };
        eprintln!("usage: {name} [--view-only]{target} FILE|URL");
        return ExitCode::FAILURE;
    };
    let target = target.to_string_lossy();
    let result = match what.to_str().filter(|text| is_url(text)) {
        Some(url) => open_url(&target, url),
        None => open_file(&target, Path::new(what), view_only),
    };
    match result {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => call::exit_code(status),
        Err(error) => {
            eprintln!("{name}: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn open_url(target: &str, url: &str) -> Result<ExitStatus, OpenError> {
    let mut call = call::start(target, "qubes.OpenURL", None).map_err(OpenError::Call)?;
    let mut out = File::from(call.out);
    // A refused call is reported by its exit code, not by the broken pipe.
    let _ = writeln!(out, "{url}");
    drop(out);
    let _ = io::copy(&mut File::from(call.answer), &mut io::sink());
    call.child.wait().map_err(OpenError::Call)
}

fn open_file(target: &str, path: &Path, view_only: bool) -> Result<ExitStatus, OpenError> {
    let failed = |source| OpenError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let name = path.file_name().unwrap_or_default();
    let mut call = call::start(target, "qubes.OpenInVM", None).map_err(OpenError::Call)?;
    let mut out = File::from(call.out);
    let field = name_field(name.as_bytes(), view_only);
    let sent = out
        .write_all(&field)
        .and_then(|()| io::copy(&mut file, &mut out));
    drop(out);
    let mut answer = File::from(call.answer);
    if view_only {
        let _ = io::copy(&mut answer, &mut io::sink());
        return call.child.wait().map_err(OpenError::Call);
    }
    let received = Received::new(path)?;
    let length = received.fill(&mut answer)?;
    let status = call.child.wait().map_err(OpenError::Call)?;
    let broken = !status.success() || sent.is_err();
    match (length, broken) {
        (0, _) => received.discard(),
        (_, true) => return Err(OpenError::Broken(received.path)),
        (_, false) => received.replace(path)?,
    }
    Ok(status)
}

/// The edited content while it arrives: beside the file, or in the folder for temporary files if
/// nothing can be created there.
struct Received {
    file: File,
    path: PathBuf,
    beside: bool,
}

impl Received {
    fn new(original: &Path) -> Result<Self, OpenError> {
        let name = original.file_name().unwrap_or_default();
        let beside = original.parent().unwrap_or(Path::new("."));
        let mut last = (
            beside.to_owned(),
            io::Error::from(io::ErrorKind::AlreadyExists),
        );
        for (folder, is_beside) in [(beside.to_owned(), true), (std::env::temp_dir(), false)] {
            for number in 0..TRIES {
                let mut leaf = name.to_owned();
                leaf.push(format!(".edited-{}-{number}", std::process::id()));
                let path = folder.join(leaf);
                let mut options = fs::OpenOptions::new();
                match options.write(true).create_new(true).mode(0o600).open(&path) {
                    Ok(file) => {
                        return Ok(Self {
                            file,
                            path,
                            beside: is_beside,
                        });
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => {
                        last = (path, error);
                        break;
                    }
                }
            }
        }
        let (path, source) = last;
        Err(OpenError::Write { path, source })
    }

    fn fill(&self, answer: &mut File) -> Result<u64, OpenError> {
        io::copy(answer, &mut &self.file).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> OpenError {
        OpenError::Write {
            path: self.path.clone(),
            source,
        }
    }

    fn discard(self) {
        // Empty, so nothing is lost if it stays.
        let _ = fs::remove_file(&self.path);
    }

    fn replace(self, original: &Path) -> Result<(), OpenError> {
        if !self.beside {
            eprintln!(
                "the folder of `{}` cannot be written to; the edited file is `{}`",
                original.display(),
                self.path.display()
            );
            return Ok(());
        }
        let permissions = fs::metadata(original).map(|found| found.permissions());
        permissions
            .and_then(|permissions| self.file.set_permissions(permissions))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.path, original))
            .map_err(|source| self.failed(source))
    }
}

/// Names tried beside each other: only leftovers of this very process can be in the way.
const TRIES: u32 = 16;
