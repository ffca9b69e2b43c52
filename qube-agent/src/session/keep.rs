//! `session`: keeps the compositor running for the user of this process. Part of init mode where
//! that user is not root; where systemd runs the qube, a unit of its does it.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bulkhead_qrexec::children;
use bulkhead_sandbox::spawn::{Program, Stream};
use bulkhead_wire::qubesdb::message::Kind;
use rustix::process::geteuid;
use thiserror::Error;

use super::{ENABLED, FILE, is_enabled, program, runtime_folder};
use crate::qubesdb::{Connection, RequestError};

const NAME: &str = "session";

/// How large applications are shown, as the compositor's `--scale` takes it: what dom0 has as the
/// feature `vm-config.gui-scale` of the qube.
const SCALE: &[u8] = b"/vm-config/gui-scale";

/// Between two looks whether settings are there.
const LOOK: Duration = Duration::from_millis(50);
/// Before a compositor that has ended is started again, for the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The same at last; each pause is twice the one before.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// One that ran for so long did not fail at its start.
const LASTED: Duration = Duration::from_secs(60);

#[derive(Debug, Error)]
enum KeepError {
    #[error("takes no arguments")]
    Usage,
    #[error("the settings of this qube cannot be read")]
    Settings(#[from] RequestError),
    #[error("there is no compositor to start: install `bulkhead-guest-gui`")]
    NoProgram,
    #[error("cannot make `{}`", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot start `{}`", path.display())]
    Start { path: PathBuf, source: io::Error },
    #[error("`{}` ended with {code} and is started again", path.display())]
    Ended { path: PathBuf, code: i32 },
}

pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    if !arguments.is_empty() {
        crate::report::log(NAME, &KeepError::Usage);
        return ExitCode::from(2);
    }
    crate::report::fail(NAME, &keep(&AtomicBool::new(false)))
}

/// The same in a thread, until `stopping`.
pub(crate) fn start(stopping: Arc<AtomicBool>) -> io::Result<()> {
    let thread = std::thread::Builder::new()
        .name(NAME.into())
        .stack_size(128 * 1024);
    let keep = move || {
        let error = keep(&stopping);
        if !stopping.load(Ordering::SeqCst) {
            crate::report::log(NAME, &error);
        }
    };
    thread.spawn(keep).map(drop)
}

/// Returns when there will be no session, and why.
fn keep(stopping: &AtomicBool) -> KeepError {
    let scale = match wait_until_enabled().and_then(|mut settings| scale(&mut settings)) {
        Ok(scale) => scale,
        Err(e) => return e.into(),
    };
    let Some(program) = program() else {
        return KeepError::NoProgram;
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let code = match run(&program, scale.as_deref()) {
            Ok(code) => code,
            Err(e) => return e,
        };
        let ended = KeepError::Ended {
            path: program.clone(),
            code,
        };
        if stopping.load(Ordering::SeqCst) {
            return ended;
        }
        crate::report::log(NAME, &ended);
        if begun.elapsed() >= LASTED {
            pause = FIRST_PAUSE;
        }
        std::thread::sleep(pause);
        pause = LAST_PAUSE.min(pause * 2);
    }
}

/// Until dom0 says that it shows windows of this qube; where its settings are read.
fn wait_until_enabled() -> Result<Connection, RequestError> {
    let mut settings = loop {
        match Connection::open(None) {
            Ok(settings) => break settings,
            Err(RequestError::Connect(_)) => std::thread::sleep(LOOK),
            Err(e) => return Err(e),
        }
    };
    settings.act(Kind::Watch, ENABLED, b"")?;
    while !is_enabled(&mut settings)? {
        settings.changed()?;
    }
    Ok(settings)
}

/// How large applications are to be shown, where dom0 has an opinion.
fn scale(settings: &mut Connection) -> Result<Option<OsString>, RequestError> {
    match settings.read(SCALE) {
        Ok(value) => Ok(Some(OsString::from_vec(value.as_bytes().to_vec()))),
        Err(RequestError::Missing) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Runs the compositor to its end; its exit code.
fn run(program: &Path, scale: Option<&OsStr>) -> Result<i32, KeepError> {
    let runtime = runtime_folder(geteuid().as_raw());
    make_private(&runtime)?;
    let file = runtime.join(FILE);
    let failed = |source| KeepError::Start {
        path: program.to_owned(),
        source,
    };
    let mut compositor = Program::new(program);
    compositor
        .arg("--session")
        .arg(&file)
        .env("XDG_RUNTIME_DIR", &runtime);
    if let Some(scale) = scale {
        compositor.arg("--scale").arg(scale);
    }
    let streams = [Stream::Inherit, Stream::Inherit, Stream::Inherit];
    let mut child = children::spawn(&compositor, streams).map_err(failed)?;
    let outcome = child.wait();
    children::forget(child.id());
    // What is left of a compositor that was killed announces nothing any more.
    let _ = std::fs::remove_file(&file);
    outcome.map_err(failed)
}

/// Makes a folder that only its user may enter, and those above it; one that is there stays.
fn make_private(path: &Path) -> Result<(), KeepError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| KeepError::Folder {
        path: path.to_owned(),
        source,
    })
}
