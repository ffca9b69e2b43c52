//! How a running service asks to use its standard input for both directions.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// Set once, from a signal thread; seen by the pump. Clones share one state.
///
/// A service's standard input is a socket. After `SIGUSR1` to `$QREXEC_AGENT_PID`, what the
/// service writes to it is its standard output.
#[derive(Debug, Clone)]
pub struct Switch(Arc<OwnedFd>);

impl Switch {
    /// A switch that is not set.
    ///
    /// # Errors
    /// What making its descriptor said.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(eventfd(0, flags)?)))
    }

    /// Sets it.
    pub fn set(&self) {
        // Only a counter at its maximum refuses, and then it is set.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    /// Takes the setting back, if there was one.
    pub(super) fn take(&self) -> bool {
        rustix::io::read(&*self.0, &mut [0; 8][..]).is_ok()
    }
}

impl AsFd for Switch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (*self.0).as_fd()
    }
}
