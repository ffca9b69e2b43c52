//! The layout of dom0's monitors: the service `qubes.SetMonitorLayout` leaves it as a file in the
//! runtime folder, where it is for a compositor that starts later, too.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bulkhead_wire::causes::chain;
use bulkhead_wire::monitors::{FILE, LAYOUT_MAX, Layout, LayoutError};
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use smithay::reexports::calloop::generic::Generic;
use smithay::reexports::calloop::{Interest, Mode, PostAction};
use thiserror::Error;

use super::{Agent, AgentError};

/// Names the runtime folder.
const RUNTIME: &str = "XDG_RUNTIME_DIR";

/// Bytes of events that are read at once: several of a name of ours.
const EVENTS: usize = 1024;

#[derive(Debug, Error)]
enum ReadError {
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error("it is none")]
    Layout(#[from] LayoutError),
}

/// The layout in a folder, if there is one.
fn read(folder: &Path) -> Result<Option<Layout>, ReadError> {
    let file = match File::open(folder.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut text = Vec::new();
    // One more says that it is too long.
    let limit = u64::try_from(LAYOUT_MAX + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut text)?;
    Ok(Some(Layout::parse(&text)?))
}

/// Tells when a file is put into a folder.
fn watch(folder: &Path) -> io::Result<OwnedFd> {
    let events = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    add_watch(&events, folder, WatchFlags::MOVED_TO)?;
    Ok(events)
}

/// Whether one of the events that wait is about the layout.
fn is_told(events: &OwnedFd) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); EVENTS];
    let mut reader = Reader::new(events, &mut buffer);
    let mut told = false;
    loop {
        match reader.next() {
            // One without a name says that others were lost.
            Ok(event) => {
                let name = event.file_name();
                told |= name.is_none_or(|name| name.to_bytes() == FILE.as_bytes());
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(told),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Agent {
    /// Has the layout that there is, and any that comes.
    pub(super) fn watch_layout(&mut self) -> Result<(), AgentError> {
        let Some(folder) = std::env::var_os(RUNTIME).map(PathBuf::from) else {
            // Then there is no Wayland socket either, and that is told of.
            return Ok(());
        };
        // First: what comes meanwhile is told of.
        let events = watch(&folder).map_err(AgentError::Layout)?;
        self.read_layout(&folder);
        let source = Generic::new(events, Interest::READ, Mode::Level);
        let inserted = self.events.insert_source(source, move |_, events, agent| {
            if is_told(events)? {
                agent.read_layout(&folder);
            }
            Ok(PostAction::Continue)
        });
        inserted
            .map(|_| ())
            .map_err(|error| AgentError::Loop(error.error))
    }

    fn read_layout(&mut self, folder: &Path) {
        match read(folder) {
            Ok(Some(layout)) => self.set_layout(layout),
            Ok(None) => {}
            Err(error) => tracing::warn!("a layout of monitors is passed over: {}", chain(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path()), Ok(None)));
        let file = folder.path().join(FILE);
        let line = "1920 1080 0 0\n";
        let most = format!("{line}{}", "\n".repeat(LAYOUT_MAX - line.len()));
        std::fs::write(&file, &most).unwrap();
        let layout = read(folder.path()).unwrap().unwrap();
        assert_eq!(layout.to_string(), line);
        std::fs::write(&file, most + "\n").unwrap();
        let error = read(folder.path()).unwrap_err();
        assert!(matches!(error, ReadError::Layout(LayoutError::TooLong)));
    }

    #[test]
    fn only_what_is_put_there_by_its_name_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let events = watch(folder.path()).unwrap();
        let put = |name: &str| {
            let new = folder.path().join("new");
            std::fs::write(&new, "x").unwrap();
            std::fs::rename(&new, folder.path().join(name)).unwrap();
        };
        put("other");
        assert!(!is_told(&events).unwrap());
        for _ in 0..200 {
            put("other");
        }
        put(FILE);
        assert!(is_told(&events).unwrap());
        assert!(!is_told(&events).unwrap());
    }
}
