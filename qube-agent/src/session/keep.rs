//! `session`: keeps the compositor, a session bus and its notification service running for the user of this process. Part of init mode where
//! that user is not root; where systemd runs the qube, a unit of its does it.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bulkhead_qrexec::children;
use bulkhead_sandbox::spawn::{Program, Stream};
use bulkhead_wire::backoff::Backoff;
use bulkhead_wire::qubesdb::message::Kind;
use rustix::process::geteuid;
use thiserror::Error;

use super::{BUS, ENABLED, FILE, is_enabled, program, runtime_folder};
use crate::qubesdb::{Connection, RequestError};

const NAME: &str = "session";

/// How large applications are shown, as the compositor's `--scale` takes it: what dom0 has as the
/// feature `vm-config.gui-scale` of the qube.
const SCALE: &[u8] = b"/vm-config/gui-scale";

/// The keyboard of the person, as dom0 has it.
const KEYBOARD: &[u8] = b"/keyboard-layout";

/// The Wayland socket in the runtime folder.
const SOCKET: &str = "wayland-0";
/// Serves the session bus.
const BUS_PROGRAM: &str = "dbus-daemon";

/// Has the compositor's program serve notifications instead.
const NOTIFICATIONS: &str = "--notifications";

const STACK: usize = 128 * 1024;

/// Between two looks whether settings are there.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks whether there is a session bus: it may be installed while the qube runs.
const BUS_LOOK: Duration = Duration::from_secs(1);
/// Before a program that has ended is started again, for the first time.
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
    crate::report::fail(NAME, &keep(&Arc::default()))
}

/// The same in a thread, until `stopping`.
pub(crate) fn start(stopping: Arc<AtomicBool>) -> io::Result<()> {
    let thread = std::thread::Builder::new()
        .name(NAME.into())
        .stack_size(STACK);
    let keep = move || {
        let error = keep(&stopping);
        if !stopping.load(Ordering::SeqCst) {
            crate::report::log(NAME, &error);
        }
    };
    thread.spawn(keep).map(drop)
}

/// Returns when there will be no session, and why.
fn keep(stopping: &Arc<AtomicBool>) -> KeepError {
    let told = wait_until_enabled().and_then(|mut settings| {
        let mut told = |key| told(&mut settings, key);
        Ok((told(SCALE)?, told(KEYBOARD)?))
    });
    let (scale, keyboard) = match told {
        Ok(told) => told,
        Err(e) => return e.into(),
    };
    let Some(program) = program() else {
        return KeepError::NoProgram;
    };
    let runtime = runtime_folder(geteuid().as_raw());
    let beside = make_private(&runtime)
        .and_then(|()| keep_bus(&runtime, stopping))
        .and_then(|()| keep_notifications(&program, &runtime, stopping));
    if let Err(e) = beside {
        return e;
    }
    let mut compositor = Program::new(&program);
    let file = runtime.join(FILE);
    compositor
        .args(["--socket", SOCKET])
        .args([OsStr::new("--session"), file.as_os_str()])
        .env("XDG_RUNTIME_DIR", &runtime);
    compositor.envs(keymap(&keyboard.unwrap_or_default()));
    if let Some(scale) = scale {
        compositor.args(["--scale".into(), scale]);
    }
    again_and_again(&program, &compositor, Some(&file), stopping)
}

/// Starts the session bus in a thread of its own, unless somebody else serves it already (as the
/// user's systemd does).
fn keep_bus(runtime: &Path, stopping: &Arc<AtomicBool>) -> Result<(), KeepError> {
    let socket = runtime.join(BUS);
    if UnixStream::connect(&socket).is_ok() {
        return Ok(());
    }
    let mut bus = Program::new(BUS_PROGRAM);
    let mut address = OsString::from("--address=unix:path=");
    address.push(&socket);
    bus.args(["--session", "--nofork", "--nopidfile"])
        .arg(address)
        // What is started by a name on the bus shows windows as well.
        .env("XDG_RUNTIME_DIR", runtime)
        .env("XDG_SESSION_TYPE", "wayland")
        .env("WAYLAND_DISPLAY", SOCKET);
    let stopping = Arc::clone(stopping);
    let keep = move || {
        let error = again_and_again(Path::new(BUS_PROGRAM), &bus, Some(&socket), &stopping);
        match &error {
            // Applications do without where it is not installed.
            KeepError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {}
            _ if stopping.load(Ordering::SeqCst) => {}
            _ => crate::report::log(NAME, &error),
        }
    };
    let thread = std::thread::Builder::new()
        .name("session-bus".into())
        .stack_size(STACK);
    let started = thread.spawn(keep).map(drop);
    started.map_err(|source| KeepError::Start {
        path: BUS_PROGRAM.into(),
        source,
    })
}

/// Serves notifications in a thread of its own, as soon as there is a session bus.
fn keep_notifications(
    path: &Path,
    runtime: &Path,
    stopping: &Arc<AtomicBool>,
) -> Result<(), KeepError> {
    let path = path.to_owned();
    let socket = runtime.join(BUS);
    let mut address = OsString::from("unix:path=");
    address.push(&socket);
    let mut program = Program::new(&path);
    program
        .args([NOTIFICATIONS])
        .env("XDG_RUNTIME_DIR", runtime)
        .env("DBUS_SESSION_BUS_ADDRESS", address);
    let stopping = Arc::clone(stopping);
    let name = path.clone();
    let keep = move || {
        while !socket.exists() && !stopping.load(Ordering::SeqCst) {
            std::thread::sleep(BUS_LOOK);
        }
        let error = again_and_again(&name, &program, None, &stopping);
        if !stopping.load(Ordering::SeqCst) {
            crate::report::log(NAME, &error);
        }
    };
    let thread = std::thread::Builder::new()
        .name("notifications".into())
        .stack_size(STACK);
    let started = thread.spawn(keep).map(drop);
    started.map_err(|source| KeepError::Start { path, source })
}

/// Runs a program, and again with a pause when it ends. What it leaves behind at `traces` would
/// announce it when it is gone.
fn again_and_again(
    name: &Path,
    program: &Program,
    traces: Option<&Path>,
    stopping: &AtomicBool,
) -> KeepError {
    let path = name.to_owned();
    let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE, LASTED);
    loop {
        let begun = Instant::now();
        let ended = run(program);
        if let Some(traces) = traces {
            let _ = std::fs::remove_file(traces);
        }
        let code = match ended {
            Ok(code) => code,
            Err(source) => return KeepError::Start { path, source },
        };
        if stopping.load(Ordering::SeqCst) {
            return KeepError::Ended { path, code };
        }
        let path = path.clone();
        crate::report::log(NAME, &KeepError::Ended { path, code });
        std::thread::sleep(backoff.pause_after(begun.elapsed()));
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

/// A setting, where dom0 has one.
fn told(settings: &mut Connection, key: &[u8]) -> Result<Option<OsString>, RequestError> {
    match settings.read(key) {
        Ok(value) => Ok(Some(OsString::from_vec(value.as_bytes().to_vec()))),
        Err(RequestError::Missing) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The variables that make a keymap of `layout`, `layout+variant`, or `layout+variant+options`.
fn keymap(keyboard: &OsStr) -> impl Iterator<Item = (&'static str, OsString)> {
    let names = [
        "XKB_DEFAULT_LAYOUT",
        "XKB_DEFAULT_VARIANT",
        "XKB_DEFAULT_OPTIONS",
    ];
    let values = keyboard
        .as_bytes()
        .splitn(names.len(), |byte| *byte == b'+');
    let all = names.into_iter().zip(values);
    let said = all.filter(|(_, value)| !value.is_empty());
    said.map(|(name, value)| (name, OsStr::from_bytes(value).to_owned()))
}

/// Runs a program to its end; its exit code.
fn run(program: &Program) -> io::Result<i32> {
    let streams = [Stream::Inherit, Stream::Inherit, Stream::Inherit];
    let mut child = children::spawn(program, streams)?;
    let outcome = child.wait();
    children::forget(child.id());
    outcome
}

/// Makes a folder that only its user may enter, and those above it; one that is there stays.
fn make_private(path: &Path) -> Result<(), KeepError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| KeepError::Folder {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyboard_is_as_dom0_has_it() {
        let shown = |text: &str| {
            let all = keymap(OsStr::new(text));
            let all = all.map(|(name, value)| {
                let name = name.strip_prefix("XKB_DEFAULT_").unwrap();
                format!("{name}={}", value.display())
            });
            all.collect::<Vec<_>>().join(" ")
        };
        for (text, expected) in [
            ("", ""),
            ("de", "LAYOUT=de"),
            ("us,de+,nodeadkeys", "LAYOUT=us,de VARIANT=,nodeadkeys"),
            ("de++ctrl:nocaps", "LAYOUT=de OPTIONS=ctrl:nocaps"),
            ("a+b+c+d", "LAYOUT=a VARIANT=b OPTIONS=c+d"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }
}
