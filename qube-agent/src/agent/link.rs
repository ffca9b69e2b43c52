//! The agent's line to dom0: offered, taken, lost, offered again.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use bulkhead_vchan::channel::{Channel, Wants};
use bulkhead_vchan::{AnyChannel, AnyListener, DomId, Port, Rings, Transport, TransportError};
use bulkhead_wire::qrexec::CONTROL_PORT;
use bulkhead_wire::qrexec::control::{AgentEvent, AgentLink, ControlError};
use rustix::event::PollFlags;

/// Unsent bytes after which dom0 counts as gone: sixteen of the longest messages.
const QUEUE_MAX: usize = 1024 * 1024;

/// The line, in whatever state it is.
#[derive(Debug)]
pub(super) enum Line {
    /// Nobody has taken it.
    Offered(AnyListener),
    /// dom0 is there.
    Taken(Box<Taken<AnyChannel>>),
}

/// A line with dom0 at its other end.
#[derive(Debug)]
pub(super) struct Taken<C> {
    channel: C,
    link: AgentLink,
    queue: Vec<u8>,
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
    pub(super) fn offer(transport: &Transport) -> Result<Self, TransportError> {
        transport
            .listen(DomId::DOM0, Port::new(CONTROL_PORT), Rings::CONTROL)
            .map(Self::Offered)
    }

    pub(super) fn poll(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self {
            Self::Offered(listener) => (listener.as_fd(), PollFlags::IN),
            Self::Taken(taken) => {
                let wants = Wants {
                    read: true,
                    write: !taken.queue.is_empty(),
                };
                (taken.channel.fd(), taken.channel.poll_flags(wants))
            }
        }
    }

    /// Takes dom0's connection if it is there.
    pub(super) fn accept(self) -> Self {
        match self {
            Self::Offered(listener) => match listener.try_accept() {
                Ok(channel) => Self::Taken(Box::new(Taken::new(channel))),
                Err((listener, _)) => Self::Offered(listener),
            },
            taken => taken,
        }
    }

    /// Takes note of what poll reported, and reads what dom0 said. What it said before the line
    /// ended counts.
    pub(super) fn hear(&mut self) -> (Vec<AgentEvent>, Result<(), Lost>) {
        let mut events = Vec::new();
        let heard = match self {
            Self::Offered(_) => Ok(()),
            Self::Taken(taken) => taken.hear(&mut events),
        };
        (events, heard)
    }

    /// The protocol's side, while dom0 is there.
    pub(super) fn link(&self) -> Option<&AgentLink> {
        match self {
            Self::Offered(_) => None,
            Self::Taken(taken) => Some(&taken.link),
        }
    }

    /// Queues a message; dropped while dom0 is not there.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        if let Self::Taken(taken) = self {
            taken.queue.extend_from_slice(bytes);
        }
    }

    /// Sends what can be sent.
    pub(super) fn flush(&mut self) -> Result<(), Lost> {
        match self {
            Self::Offered(_) => Ok(()),
            Self::Taken(taken) => taken.flush(),
        }
    }
}

impl<C: Channel> Taken<C> {
    /// Begins to speak.
    fn new(channel: C) -> Self {
        let (link, hello) = AgentLink::start();
        Self {
            channel,
            link,
            queue: hello.to_vec(),
        }
    }

    /// Reads until poll will tell of more.
    fn hear(&mut self, events: &mut Vec<AgentEvent>) -> Result<(), Lost> {
        let Self { channel, link, .. } = self;
        channel.acknowledge().map_err(Lost::Failed)?;
        let mut buffer = [0; 16 * 1024];
        loop {
            let n = match channel.read(&mut buffer) {
                Ok(0) => return Err(Lost::Closed),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(Lost::Failed(e)),
            };
            let mut rest = buffer.get(..n).unwrap_or_default();
            while let Some(event) = link.push(&mut rest).map_err(Lost::Protocol)? {
                events.push(event);
            }
            if channel.tells_of_bytes() {
                return Ok(());
            }
        }
    }

    fn flush(&mut self) -> Result<(), Lost> {
        let Self { channel, queue, .. } = self;
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

#[cfg(test)]
mod tests {
    use bulkhead_vchan::xen::RingSizes;
    use bulkhead_vchan::xen::channel::RingChannel;
    use bulkhead_vchan::xen::pair::{PairedBell, pair};
    use bulkhead_wire::qrexec::Endpoint;
    use bulkhead_wire::qrexec::control::DaemonLink;
    use rustix::event::{PollFd, Timespec, poll};

    use super::*;

    const HERE: Endpoint = Endpoint {
        domain: 0,
        port: 513,
    };

    fn readable(channel: &impl Channel) -> bool {
        let flags = channel.poll_flags(Wants::default());
        let mut fds = [PollFd::from_borrowed_fd(channel.fd(), flags)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    }

    struct Dom0 {
        channel: RingChannel<PairedBell>,
        link: DaemonLink,
    }

    impl Dom0 {
        fn say(&mut self, bytes: &[u8]) {
            let sent = self.channel.write(&[IoSlice::new(bytes)]).unwrap();
            assert_eq!(sent, bytes.len());
        }

        fn order(&mut self) {
            let order = self.link.execute(HERE, b"user:true", false).unwrap();
            self.say(&order);
        }
    }

    /// Both ends of a line over rings of one page, and hello was said.
    fn line() -> (Taken<RingChannel<PairedBell>>, Dom0) {
        let (agent, channel, _memory) = pair(RingSizes::CONTROL).unwrap();
        let mut agent = Taken::new(agent);
        agent.flush().unwrap();
        let mut dom0 = Dom0 {
            channel,
            link: DaemonLink::new(),
        };
        let mut hello = [0; 64];
        let n = dom0.channel.read(&mut hello).unwrap();
        let mut reply = Vec::new();
        dom0.link.push(&mut &hello[..n], &mut reply).unwrap();
        dom0.say(&reply);
        (agent, dom0)
    }

    #[test]
    fn all_that_came_over_a_ring_is_heard_at_once_and_more_tells() {
        let (mut agent, mut dom0) = line();
        // More than one message, and one signal for all.
        dom0.order();
        dom0.order();
        assert!(readable(&agent.channel));
        let mut events = Vec::new();
        agent.hear(&mut events).unwrap();
        assert_eq!(events.len(), 3, "{events:?}");
        assert!(!readable(&agent.channel));
        // What it says last counts, and then its end.
        dom0.order();
        drop(dom0);
        assert!(readable(&agent.channel));
        assert!(matches!(agent.hear(&mut events), Err(Lost::Closed)));
        assert_eq!(events.len(), 4);
    }

    #[test]
    fn what_does_not_fit_into_a_ring_goes_when_there_is_room() {
        let (mut agent, mut dom0) = line();
        agent.hear(&mut Vec::new()).unwrap();
        let long = vec![7; 10_000];
        agent.queue.extend_from_slice(&long);
        let mut heard = Vec::new();
        agent.flush().unwrap();
        while heard.len() < long.len() {
            let mut buffer = [0; 4096];
            assert!(!readable(&agent.channel));
            let n = dom0.channel.read(&mut buffer).unwrap();
            heard.extend_from_slice(&buffer[..n]);
            assert!(readable(&agent.channel) || agent.queue.is_empty());
            agent.hear(&mut Vec::new()).unwrap();
            agent.flush().unwrap();
        }
        assert_eq!(heard, long);
    }
}
