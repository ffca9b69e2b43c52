//! The agent's line to dom0: offered, taken, lost, offered again.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use bulkhead_vchan::channel::{Channel, Wants};
use bulkhead_vchan::{DomId, Listener, Port, SocketChannel, SocketDir, VchanError};
use bulkhead_wire::qrexec::CONTROL_PORT;
use bulkhead_wire::qrexec::control::{AgentEvent, AgentLink, ControlError};
use rustix::event::PollFlags;

/// Unsent bytes after which dom0 counts as gone: sixteen of the longest messages.
const QUEUE_MAX: usize = 1024 * 1024;

/// The line, in whatever state it is.
#[derive(Debug)]
pub(super) enum Line {
    /// Nobody has taken it.
    Offered(Listener),
    /// dom0 is there.
    Taken {
        channel: SocketChannel,
        link: AgentLink,
        queue: Vec<u8>,
    },
}

/// Why a line ended.
#[derive(Debug)]
pub(super) enum Lost {
    /// dom0 closed it.
    Closed,
    /// dom0 broke the protocol.
    Protocol(ControlError),
    /// It failed.
    Failed(io::Error),
}

impl Line {
    pub(super) fn offer(dir: &SocketDir) -> Result<Self, VchanError> {
        dir.listen(DomId::DOM0, Port::new(CONTROL_PORT))
            .map(Self::Offered)
    }

    pub(super) fn poll(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self {
            Self::Offered(listener) => (listener.as_fd(), PollFlags::IN),
            Self::Taken { channel, queue, .. } => {
                let wants = Wants {
                    read: true,
                    write: !queue.is_empty(),
                };
                (channel.fd(), channel.poll_flags(wants))
            }
        }
    }

    /// Takes dom0's connection if it is there.
    pub(super) fn accept(self) -> Self {
        match self {
            Self::Offered(listener) => match listener.try_accept() {
                Ok(channel) => {
                    let (link, hello) = AgentLink::start();
                    Self::Taken {
                        channel,
                        link,
                        queue: hello.to_vec(),
                    }
                }
                Err((listener, _)) => Self::Offered(listener),
            },
            taken => taken,
        }
    }

    /// Reads what dom0 said.
    pub(super) fn hear(&mut self) -> Result<Vec<AgentEvent>, Lost> {
        let Self::Taken { channel, link, .. } = self else {
            return Ok(Vec::new());
        };
        let mut buffer = [0; 16 * 1024];
        let n = match channel.read(&mut buffer) {
            Ok(0) => return Err(Lost::Closed),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Vec::new()),
            Err(e) => return Err(Lost::Failed(e)),
        };
        let mut rest = buffer.get(..n).unwrap_or_default();
        let mut events = Vec::new();
        while let Some(event) = link.push(&mut rest).map_err(Lost::Protocol)? {
            events.push(event);
        }
        Ok(events)
    }

    /// The protocol's side, while dom0 is there.
    pub(super) fn link(&self) -> Option<&AgentLink> {
        match self {
            Self::Offered(_) => None,
            Self::Taken { link, .. } => Some(link),
        }
    }

    /// Queues a message; dropped while dom0 is not there.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        if let Self::Taken { queue, .. } = self {
            queue.extend_from_slice(bytes);
        }
    }

    /// Sends what can be sent.
    pub(super) fn flush(&mut self) -> Result<(), Lost> {
        let Self::Taken { channel, queue, .. } = self else {
            return Ok(());
        };
        while !queue.is_empty() {
            match channel.write(&[IoSlice::new(queue)]) {
                Ok(n) => drop(queue.drain(..n.min(queue.len()))),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Err(Lost::Closed),
                Err(e) => return Err(Lost::Failed(e)),
            }
        }
        if queue.len() > QUEUE_MAX {
            return Err(Lost::Failed(io::Error::other("dom0 does not read")));
        }
        Ok(())
    }
}
