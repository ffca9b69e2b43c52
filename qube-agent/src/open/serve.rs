//! The end that opens.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use bulkhead_wire::causes::chain;

use super::{NAME_FIELD, URL_MAX, is_url, read_name};

/// Programs that open a file or an address and return when the person is done; the first that is
/// there is used.
const OPENERS: [&str; 2] = ["qubes-open", "xdg-open"];
/// Folders tried before giving up; only leftovers of this very process can be in the way.
const TRIES: u32 = 16;

#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("the file from the other qube cannot be received")]
    Receive(#[source] io::Error),
    #[error("the other qube sent a name that is none")]
    Name,
    #[error("the other qube sent something that is no http, https or ftp address")]
    Url,
    #[error("the name of the calling qube is missing")]
    Source,
    #[error("`{}` cannot be used", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("neither `qubes-open` nor `xdg-open` is there to open it")]
    NoOpener,
    #[error("`{0}` cannot be started")]
    Start(&'static str, #[source] io::Error),
    #[error("`{0}` could not open it")]
    Opener(&'static str),
    #[error("the edited file cannot be sent back")]
    Answer(#[source] io::Error),
}

pub(super) fn run(name: &str, serve: fn() -> Result<(), ServeError>) -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

pub(super) fn open_url() -> Result<(), ServeError> {
    let mut line = String::new();
    let mut input = io::stdin().lock().take(URL_MAX);
    input.read_line(&mut line).map_err(|_| ServeError::Url)?;
    let url = line.trim_end_matches(['\n', '\r']);
    if !is_url(url) {
        return Err(ServeError::Url);
    }
    open(url.as_ref())
}

pub(super) fn open_file() -> Result<(), ServeError> {
    let source = std::env::var("QREXEC_REMOTE_DOMAIN").map_err(|_| ServeError::Source)?;
    if source.is_empty() || source.starts_with('.') || source.contains('/') {
        return Err(ServeError::Source);
    }
    let mut input = io::stdin().lock();
    let mut field = [0; NAME_FIELD];
    input.read_exact(&mut field).map_err(ServeError::Receive)?;
    let (name, view_only) = read_name(&field).ok_or(ServeError::Name)?;
    let folder = Folder::new(&source)?;
    let path = folder.0.join(name);
    let failed = |source| ServeError::File {
        path: path.clone(),
        source,
    };
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    io::copy(&mut input, &mut file).map_err(ServeError::Receive)?;
    if view_only {
        file.set_permissions(Permissions::from_mode(0o400))
            .map_err(failed)?;
    }
    drop(file);
    let before = changed(&path).map_err(failed)?;
    open(&path)?;
    // An editor may have put another file in its place, so it is looked up by name.
    if view_only || changed(&path).map_err(failed)? == before {
        return Ok(());
    }
    let mut edited = File::open(&path).map_err(failed)?;
    let mut output = io::stdout().lock();
    io::copy(&mut edited, &mut output)
        .and_then(|_| output.flush())
        .map_err(ServeError::Answer)
}

/// What changes whenever the file does: time of change in nanoseconds, and which file it is.
fn changed(path: &Path) -> io::Result<(i64, i64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.mtime(), found.mtime_nsec(), found.ino()))
}

fn open(what: &Path) -> Result<(), ServeError> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &&&str| std::env::split_paths(&search).any(|dir| dir.join(name).is_file());
    let opener: &'static str = OPENERS.iter().find(there).ok_or(ServeError::NoOpener)?;
    let status = Command::new(opener)
        .arg(what)
        .stdin(Stdio::null())
        // What it prints is not the answer.
        .stdout(Stdio::null())
        .status()
        .map_err(|source| ServeError::Start(opener, source))?;
    if status.success() {
        Ok(())
    } else {
        Err(ServeError::Opener(opener))
    }
}

/// A folder for one file, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(source: &str) -> Result<Self, ServeError> {
        let mut number = 0;
        loop {
            let leaf = format!("{source}-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(leaf);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < TRIES => {
                    number += 1;
                }
                Err(source) => return Err(ServeError::File { path, source }),
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
