//! Waiting for a name in a folder.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

/// Wakes when something appears in a folder. Without inotify (no watches left, no folder yet) it
/// only sleeps: callers look again after each wait in any case.
#[derive(Debug)]
pub(crate) struct FolderWatch(Option<OwnedFd>);

impl FolderWatch {
    pub(crate) fn new(folder: &Path) -> Self {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watched = inotify::init(flags).ok().filter(|fd| {
            let events = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(fd, folder, events).is_ok()
        });
        Self(watched)
    }

    /// Returns after `at_most`, or sooner when something appeared.
    pub(crate) fn wait(&self, at_most: Duration) {
        let Some(fd) = &self.0 else {
            std::thread::sleep(at_most);
            return;
        };
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        let timeout = Timespec::try_from(at_most).unwrap_or_default();
        if poll(&mut fds, Some(&timeout)).is_ok_and(|n| n > 0) {
            let mut space = [MaybeUninit::uninit(); 2048];
            let mut events = inotify::Reader::new(fd, &mut space);
            // What it was does not matter: the caller looks for its own name.
            while events.next().is_ok() {}
        }
    }
}
