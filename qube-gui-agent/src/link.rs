//! The channel to the daemon: waits for one, hears it out, and waits for the next.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use bulkhead_vchan::channel::Wants;
use bulkhead_vchan::share::SharedMemory;
use bulkhead_vchan::transport::{AnyChannel, AnyListener, Transport, TransportError};
use bulkhead_vchan::xen::layout::RingSizes;
use bulkhead_vchan::{Channel, DomId, Port, Rings};
use bulkhead_wire::gui::agent_end::{AgentEnd, DaemonEvent};
use bulkhead_wire::gui::{
    AgentMessage, DaemonMessage, Dump, GuiError, PORT, RING_LEN, Screen, Version, WindowId,
};
use rustix::event::PollFlags;
use thiserror::Error;

use crate::model::Said;

/// Nothing is painted while more than this is still to be sent: a daemon that does not read gets
/// the newest picture when it does.
const BACKLOG_MAX: usize = 64 * 1024;

/// Bytes that are read at a time.
const READ_LEN: usize = 16 * 1024;

/// What became of the daemon.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    Came(Version, Screen),
    Said(WindowId, DaemonMessage),
    /// And why, where it did not just leave.
    Left(Option<LinkError>),
}

#[derive(Debug, Error)]
pub(crate) enum LinkError {
    #[error("cannot wait for a GUI daemon")]
    Listen(#[source] TransportError),
    #[error("the channel to the GUI daemon failed")]
    Channel(#[source] io::Error),
    #[error("the GUI daemon cannot be given a picture")]
    Share(#[source] io::Error),
    #[error("the GUI daemon cannot be understood")]
    Protocol(#[source] GuiError),
}

#[derive(Debug)]
struct Connected {
    channel: AnyChannel,
    end: AgentEnd,
    /// What the channel had no room for yet.
    output: Vec<u8>,
    /// Why it cannot go on.
    failed: Option<LinkError>,
}

#[derive(Debug)]
enum State {
    Listening(AnyListener),
    Connected(Box<Connected>),
    /// Only while one of the others is made of the other.
    Between,
}

#[derive(Debug)]
pub(crate) struct Link {
    transport: Transport,
    daemon: DomId,
    state: State,
    /// How many listeners and channels there were.
    turn: u64,
}

impl Link {
    pub(crate) fn new(transport: Transport, daemon: DomId) -> Result<Self, LinkError> {
        let mut link = Self {
            transport,
            daemon,
            state: State::Between,
            turn: 0,
        };
        link.listen()?;
        Ok(link)
    }

    fn listen(&mut self) -> Result<(), LinkError> {
        let rings = Rings::exactly(RingSizes::both(RING_LEN));
        let listener = self
            .transport
            .listen(self.daemon, Port::new(PORT), rings)
            .map_err(LinkError::Listen)?;
        self.state = State::Listening(listener);
        self.turn += 1;
        Ok(())
    }

    /// What is to be polled, and for what.
    pub(crate) fn polled(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.state {
            State::Listening(listener) => Some((listener.as_fd(), PollFlags::IN)),
            State::Connected(connected) => {
                let wants = Wants {
                    read: true,
                    write: !connected.output.is_empty(),
                };
                let channel = &connected.channel;
                Some((channel.fd(), channel.poll_flags(wants)))
            }
            State::Between => None,
        }
    }

    /// Changes whenever there is something else to poll.
    pub(crate) fn turn(&self) -> u64 {
        self.turn
    }

    /// As [`Channel::patience`].
    pub(crate) fn patience(&self) -> Option<Duration> {
        match &self.state {
            State::Connected(connected) => connected.channel.patience(),
            State::Listening(_) | State::Between => None,
        }
    }

    /// Whether new pictures would only wait behind old ones.
    pub(crate) fn is_behind(&self) -> bool {
        matches!(&self.state, State::Connected(connected) if connected.output.len() > BACKLOG_MAX)
    }

    /// Whether the channel has no room for all that was said.
    pub(crate) fn has_waiting(&self) -> bool {
        matches!(&self.state, State::Connected(connected) if !connected.output.is_empty())
    }

    /// Whether the daemon knows of pictures.
    pub(crate) fn has_pictures(&self) -> bool {
        let State::Connected(connected) = &self.state else {
            return false;
        };
        let version = connected.end.version();
        version.is_some_and(Version::has_pictures)
    }

    /// Whether the daemon tells which window the pointer is over while a button is held. Those of
    /// Qubes do not say more than that it is not over the one where the button went down.
    pub(crate) fn tells_all_crossings(&self) -> bool {
        // None that knows pictures does not.
        self.has_pictures()
    }

    /// Sends what the channel has room for. Why it does not is told by [`Self::go_on`].
    pub(crate) fn flush(&mut self) {
        if let State::Connected(connected) = &mut self.state {
            let flushed = connected.flush();
            connected.failed = connected.failed.take().or(flushed.err());
        }
    }

    /// Puts messages behind those that wait; [`Self::go_on`] sends them. A picture that the daemon
    /// cannot be given ends the connection: it would go on with the one before.
    pub(crate) fn send(&mut self, said: &[(WindowId, Said<SharedMemory>)]) {
        if let State::Connected(connected) = &mut self.state {
            let mut rest = said.iter();
            let sent = rest.try_for_each(|(window, said)| connected.send(*window, said));
            connected.failed = connected.failed.take().or(sent.err());
        }
    }

    /// Goes on with whatever can go on, after the poll has told of something or the patience is
    /// over.
    ///
    /// # Errors
    /// [`LinkError::Listen`], after which no daemon can come.
    pub(crate) fn go_on(&mut self) -> Result<Vec<LinkEvent>, LinkError> {
        let mut events = Vec::new();
        if let State::Listening(_) = self.state {
            self.accept();
        }
        if let State::Connected(connected) = &mut self.state {
            let left = match connected.failed.take() {
                Some(error) => Err(error),
                None => connected.hear(&mut events).and_then(|open| {
                    connected.flush()?;
                    Ok(open)
                }),
            };
            match left {
                Ok(true) => return Ok(events),
                Ok(false) => events.push(LinkEvent::Left(None)),
                Err(error) => events.push(LinkEvent::Left(Some(error))),
            }
            self.state = State::Between;
            self.listen()?;
        }
        Ok(events)
    }

    fn accept(&mut self) {
        let State::Listening(listener) = std::mem::replace(&mut self.state, State::Between) else {
            return;
        };
        self.state = match listener.try_accept() {
            Ok(channel) => {
                self.turn += 1;
                let mut output = Vec::new();
                let end = AgentEnd::new(Version::NEWEST, &mut output);
                State::Connected(Box::new(Connected {
                    channel,
                    end,
                    output,
                    failed: None,
                }))
            }
            Err((listener, error)) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::warn!("a GUI daemon could not be taken: {error}");
                }
                State::Listening(listener)
            }
        };
    }
}

impl Connected {
    fn send(&mut self, window: WindowId, said: &Said<SharedMemory>) -> Result<(), LinkError> {
        let dump;
        let message = match said {
            Said::Message(message) => message,
            Said::Dump(size, memory) => {
                let offered = self.channel.offer(memory, self.output.len());
                let pages = offered.map_err(LinkError::Share)?;
                dump = AgentMessage::Dump(Dump { size: *size, pages });
                &dump
            }
        };
        self.end.send(window, message, &mut self.output);
        Ok(())
    }

    /// False when the daemon has left.
    fn hear(&mut self, events: &mut Vec<LinkEvent>) -> Result<bool, LinkError> {
        self.channel.acknowledge().map_err(LinkError::Channel)?;
        let mut buffer = [0; READ_LEN];
        loop {
            let read = match self.channel.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(LinkError::Channel(e)),
            };
            let mut input = buffer.get(..read).unwrap_or_default();
            while let Some(event) = self.end.receive(&mut input).map_err(LinkError::Protocol)? {
                events.push(match event {
                    DaemonEvent::Ready(version, screen) => LinkEvent::Came(version, screen),
                    DaemonEvent::Message(window, message) => LinkEvent::Said(window, message),
                });
            }
        }
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        let mut sent = 0;
        while let Some(rest) = self.output.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.channel.write(&[IoSlice::new(rest)]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LinkError::Channel(e)),
            }
        }
        self.output.drain(..sent);
        Ok(())
    }
}
