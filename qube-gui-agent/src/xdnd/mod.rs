//! What is dragged between applications of X and of Wayland, as X sees it (XDND 5): a source that
//! drags what is dragged in Wayland, and a target over the windows of Wayland.
//!
//! It waits for X servers and their applications, and so has a thread and a connection of its own.
//! [`source`] and [`target`] decide; [`server`] does what they say. The compositor gives
//! [`Command`]s and hears [`News`].

mod aim;
pub(crate) mod kinds;
mod message;
mod selection;
mod server;
mod source;
mod target;
mod transfer;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use rustix::event::{EventfdFlags, eventfd};
use smithay::reexports::calloop::channel::SyncSender as NewsSender;
use smithay::reexports::wayland_server::protocol::wl_data_device_manager::DndAction;
use smithay::reexports::x11rb::protocol::xproto::{Timestamp, Window};

/// The selection of which applications of X read what is dragged.
pub(crate) const SELECTION: &str = "XdndSelection";

/// What the compositor has said and the thread has not heard, at most. It hears all at once.
const COMMANDS_MAX: usize = 1024;

/// News that wait for the compositor, at most; the thread waits then.
pub(crate) const NEWS_MAX: usize = 64;

/// A drag of Wayland, or a visit of a source of X: news and commands that were on their way while
/// another began say by it that they are not about that one.
pub(crate) type Number = u64;

/// What the compositor wants.
#[derive(Debug)]
pub(crate) enum Command {
    /// An application of Wayland drags something that it can give as these kinds.
    Offer {
        drag: Number,
        kinds: Vec<String>,
        actions: DndAction,
    },
    /// The pointer with that is there, in pixels of the screen, and over this window of X.
    Point {
        over: Option<Window>,
        at: (u16, u16),
    },
    /// It is dropped where the pointer is.
    Drop,
    /// It is dragged no more.
    Cancel,
    /// What an application of X wanted of it, if it can be had.
    Give {
        request: Number,
        bytes: Option<Vec<u8>>,
    },
    /// Whether what applications of X drag is over none of their windows.
    Cover(bool),
    /// The button of such a drag came up.
    Release,
    /// How what is dragged would be taken by an application of Wayland.
    Answer {
        visit: Number,
        action: Option<DndAction>,
    },
    /// How what was dropped was taken.
    Finish {
        visit: Number,
        action: Option<DndAction>,
    },
}

/// What the compositor hears of a drag of Wayland.
#[derive(Debug)]
pub(crate) enum OfferNews {
    /// It would be taken so, or not.
    Status(Option<DndAction>),
    /// It was handed to the target.
    Dropped,
    /// It is over: how it was taken, if it was.
    Ended(Option<DndAction>),
    /// An application of X wants it as this kind.
    Wanted { request: Number, kind: String },
}

/// What the compositor hears of a drag of X.
#[derive(Debug)]
pub(crate) enum VisitNews {
    /// The source is over what covers windows of Wayland, with these kinds and actions.
    Entered {
        kinds: Vec<String>,
        actions: DndAction,
    },
    /// It has moved, and would have it taken so.
    Moved(DndAction, Timestamp),
    Left,
    Dropped(Timestamp),
}

/// What the compositor hears.
#[derive(Debug)]
pub(crate) enum News {
    /// An application of X drags something.
    Began,
    /// The one that did is gone.
    Gone,
    Offer(Number, OfferNews),
    Visit(Number, VisitNews),
}

/// The compositor's end. The thread ends with it.
#[derive(Debug)]
pub(crate) struct Handle {
    commands: Option<SyncSender<Command>>,
    wake: Arc<OwnedFd>,
}

impl Handle {
    /// Begins to serve a display.
    pub(crate) fn start(display: u32, tell: NewsSender<News>) -> rustix::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let wake = Arc::new(wake);
        let (commands, hear) = std::sync::mpsc::sync_channel(COMMANDS_MAX);
        let woken = Arc::clone(&wake);
        std::thread::spawn(move || {
            if let Err(error) = server::serve(display, &hear, &woken, tell) {
                let error = bulkhead_wire::causes::chain(&error);
                tracing::debug!("drags of X end: {error}");
            }
        });
        Ok(Self {
            commands: Some(commands),
            wake,
        })
    }

    /// False where the thread does not hear any more.
    pub(crate) fn tell(&self, command: Command) -> bool {
        let sent = self.commands.as_ref().map(|to| to.try_send(command));
        match sent {
            Some(Ok(())) => {
                self.wake();
                true
            }
            Some(Err(TrySendError::Full(_))) => {
                tracing::warn!("the X server does not answer what is dragged");
                false
            }
            Some(Err(TrySendError::Disconnected(_))) | None => false,
        }
    }

    fn wake(&self) {
        if let Err(error) = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes()) {
            // It would be full only where the thread has not yet woken up from what is in it.
            tracing::debug!("the thread of drags is awake: {error}");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.commands = None;
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hears_nothing_is_told_so_much_and_no_more() {
        let (commands, hear) = std::sync::mpsc::sync_channel(COMMANDS_MAX);
        let wake = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let handle = Handle {
            commands: Some(commands),
            wake: Arc::new(wake),
        };
        assert!((0..COMMANDS_MAX).all(|_| handle.tell(Command::Drop)));
        assert!(!handle.tell(Command::Drop));
        assert!(hear.try_recv().is_ok());
        assert!(handle.tell(Command::Drop));
        drop(hear);
        assert!(!handle.tell(Command::Drop));
    }
}
