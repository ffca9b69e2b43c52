//! The graphical session of a user: the compositor `qube-gui-agent`, and what programs must know to
//! show windows by it.
//!
//! The compositor writes a file into the user's runtime folder when applications can come
//! (`qube-gui-agent --session FILE`): lines of variables. Whoever starts programs for that user
//! reads it anew each time.
//!
//! - [`keep`]: starts the compositor where there is no systemd to do it.
//! - [`layout`]: the service `qubes.SetMonitorLayout`.
//! - [`wait`]: the service `qubes.WaitForSession`.

mod keep;
mod layout;
mod wait;

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::geteuid;

pub(crate) use keep::{main as keep_main, start as start_keeping};
pub(crate) use layout::main as set_layout;
pub(crate) use wait::main as wait_main;

use crate::qubesdb::{Connection, RequestError};

/// The compositor, where it is installed.
const PROGRAM: &str = "/usr/lib/qubes/qube-gui-agent";
/// Names another program instead of it.
const PROGRAM_VARIABLE: &str = "QUBE_GUI_AGENT";

/// Whether dom0 shows windows of this qube.
const ENABLED: &[u8] = b"/qubes-gui-enabled";
/// The value that says so.
const YES: &[u8] = b"True";

/// The file in the user's runtime folder that the compositor writes.
const FILE: &str = "qube-gui-session";
/// Longest file that is read; it has two lines.
const FILE_MAX: u64 = 4096;
/// Longest value: a socket's name.
const VALUE_MAX: usize = 107;

/// Folder of the runtime folders of all users.
const RUNTIME: &str = "/run/user";
/// The session bus in a runtime folder, where there is one.
const BUS: &str = "bus";

/// What programs must know of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    runtime: PathBuf,
    /// The Wayland socket in the runtime folder.
    wayland: String,
    /// The X display, if X is served.
    display: Option<String>,
}

impl Session {
    /// The session of a user, if one was announced.
    pub(crate) fn of(uid: u32) -> Option<Self> {
        let runtime = runtime_folder(uid);
        let text = read_owned(&runtime.join(FILE), uid)?;
        Self::parse(runtime, &text)
    }

    fn parse(runtime: PathBuf, text: &str) -> Option<Self> {
        let value = |wanted: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let (_, value) = lines.find(|(name, _)| *name == wanted)?;
            is_plain(value).then(|| value.to_owned())
        };
        Some(Self {
            wayland: value("WAYLAND_DISPLAY")?,
            display: value("DISPLAY"),
            runtime,
        })
    }

    /// The variables by which programs find it.
    pub(crate) fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut all = vec![
            ("XDG_RUNTIME_DIR", self.runtime.clone().into_os_string()),
            ("XDG_SESSION_TYPE", "wayland".into()),
            ("WAYLAND_DISPLAY", self.wayland.clone().into()),
        ];
        if let Some(display) = &self.display {
            all.push(("DISPLAY", display.into()));
        }
        let bus = self.runtime.join(BUS);
        if bus.exists() {
            let mut address = OsString::from("unix:path=");
            address.push(bus);
            all.push(("DBUS_SESSION_BUS_ADDRESS", address));
        }
        all
    }

    /// Whether somebody serves it: a compositor that was killed leaves its file behind.
    fn answers(&self) -> bool {
        UnixStream::connect(self.runtime.join(&self.wayland)).is_ok()
    }
}

/// A name of a socket or display, and nothing that could be anything else.
fn is_plain(value: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'.' | b'-' | b'_');
    !value.is_empty()
        && value.len() <= VALUE_MAX
        && !value.starts_with('.')
        && value.bytes().all(plain)
}

/// Where a user's session has its sockets.
fn runtime_folder(uid: u32) -> PathBuf {
    let told = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| uid == geteuid().as_raw());
    told.map_or_else(|| Path::new(RUNTIME).join(uid.to_string()), PathBuf::from)
}

/// A file that is the user's own. The agent may be root, and what lies there is up to the user.
fn read_owned(path: &Path, uid: u32) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
    let file = std::fs::File::from(file);
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.uid() != uid || meta.len() > FILE_MAX {
        return None;
    }
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The compositor, if it is installed.
fn program() -> Option<PathBuf> {
    let told = std::env::var_os(PROGRAM_VARIABLE);
    let path = told.map_or_else(|| PROGRAM.into(), PathBuf::from);
    path.is_file().then_some(path)
}

/// Whether dom0 shows windows of this qube, as far as it has said.
fn is_enabled(settings: &mut Connection) -> Result<bool, RequestError> {
    match settings.read(ENABLED) {
        Ok(value) => Ok(value.as_bytes() == YES),
        Err(RequestError::Missing) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn parse(text: &str) -> Option<Vec<String>> {
        let session = Session::parse("/run/user/7".into(), text)?;
        let shown = |(name, value): (&str, OsString)| format!("{name}={}", value.display());
        Some(session.variables().into_iter().map(shown).collect())
    }

    #[test]
    fn a_session_becomes_variables() {
        let both = parse("WAYLAND_DISPLAY=wayland-0\nDISPLAY=:0\nLD_PRELOAD=/x\n").unwrap();
        assert_eq!(
            both,
            [
                "XDG_RUNTIME_DIR=/run/user/7",
                "XDG_SESSION_TYPE=wayland",
                "WAYLAND_DISPLAY=wayland-0",
                "DISPLAY=:0"
            ]
        );
        assert_eq!(parse("WAYLAND_DISPLAY=w\n").unwrap().len(), 3);
    }

    #[test]
    fn what_is_no_name_is_no_session() {
        let longest = "w".repeat(VALUE_MAX);
        assert!(parse(&format!("WAYLAND_DISPLAY={longest}")).is_some());
        for bad in ["", "/etc/x", "..", "a b", "w\u{e9}", &(longest + "w")] {
            assert_eq!(parse(&format!("WAYLAND_DISPLAY={bad}")), None, "{bad}");
        }
        assert_eq!(parse("DISPLAY=:0"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn only_a_short_file_of_the_user_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let own = geteuid().as_raw();
        let file = folder.path().join("file");
        let longest = "x".repeat(usize::try_from(FILE_MAX).unwrap());
        std::fs::write(&file, &longest).unwrap();
        assert!(read_owned(&file, own).is_some());
        assert_eq!(read_owned(&file, own + 1), None);
        let link = folder.path().join("link");
        symlink(&file, &link).unwrap();
        assert_eq!(read_owned(&link, own), None);
        assert_eq!(read_owned(folder.path(), own), None);
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(read_owned(&pipe, own), None);
        std::fs::write(&file, longest + "x").unwrap();
        assert_eq!(read_owned(&file, own), None);
    }
}
