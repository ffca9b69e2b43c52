//! Servers and clients on Xen: a ring, an event channel, and what polls them.
//!
//! What a program has to know that it need not know of sockets:
//!
//! - The descriptor tells that *something* happened and is taken note of by
//!   [`Channel::acknowledge`]. Read and write until `WouldBlock` before polling: only that arms
//!   the next signal. A signal may be for nothing.
//! - There is no half close: [`Channel::finish`] does nothing, and the peer sees an end when the
//!   channel is dropped. Protocols that need the end of a stream say it themselves, as qrexec does.
//! - A domain that is destroyed signals nobody. Who knows of it says so
//!   ([`Channel::peer_died`]); channels that [`super::Home`] makes look by themselves.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

use super::alive::Watch;
use super::device::{AllocDevice, EventChannel, EventDevice, EventPort, GrantDevice, OnUnmap};
use super::layout::{
    CLIENT_LIVE, Described, GrantRef, LayoutError, Orders, RingSizes, SERVER_LIVE, SizeError,
};
use super::ring::{AttachError, BrokenError, End, Event, Moved, State};
use super::store::StoreError;
use crate::channel::{Channel, Wants};
use crate::id::{DomId, Port};

/// What a client has to know of a server: two numbers of the server's domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Offer {
    /// Its shared page.
    pub page: GrantRef,
    /// Its event channel.
    pub port: EventPort,
}

/// A channel that could not be made.
#[derive(Debug, Error)]
pub enum XenError {
    /// Rings were asked for that cannot be.
    #[error("the rings of a channel cannot be as asked for")]
    Sizes(#[from] SizeError),
    /// No memory was to be had.
    #[error("cannot share memory with domain {client}")]
    Share {
        /// With whom.
        client: DomId,
        /// Why.
        source: io::Error,
    },
    /// No event channel was to be had.
    #[error("cannot make an event channel with domain {peer}")]
    Events {
        /// With whom.
        peer: DomId,
        /// Why.
        source: io::Error,
    },
    /// The server's memory cannot be mapped.
    #[error("cannot map what domain {server} shares")]
    Map {
        /// Whose.
        server: DomId,
        /// Why.
        source: io::Error,
    },
    /// The server's page makes no sense.
    #[error("what domain {server} shares is no channel")]
    Layout {
        /// Whose.
        server: DomId,
        /// Why.
        source: LayoutError,
    },
    /// The channel is not for us, or no more.
    #[error("cannot join the channel of domain {server}")]
    Attach {
        /// Whose.
        server: DomId,
        /// Why.
        source: AttachError,
    },
    /// A device of this domain cannot be used.
    #[error("cannot open `/dev/xen/{name}`")]
    Device {
        /// Its name.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Waiting failed.
    #[error("cannot wait for domain {client}")]
    Wait {
        /// For whom.
        client: DomId,
        /// Why.
        source: io::Error,
    },
    /// The two could not find each other.
    #[error("cannot meet by xenstore")]
    Rendezvous(#[from] StoreError),
    /// The server did not come, or its domain is no more.
    #[error("domain {server} offers no channel {port}")]
    NoServer {
        /// Whose.
        server: DomId,
        /// Which.
        port: Port,
    },
    /// Nobody came.
    #[error("domain {client} did not connect in time")]
    Timeout {
        /// Who.
        client: DomId,
    },
}

/// Fewer pages than were asked for.
pub(super) fn short(client: DomId) -> XenError {
    XenError::Share {
        client,
        source: io::ErrorKind::UnexpectedEof.into(),
    }
}

/// Has pages shared for rings of `sizes`, and where there is no room for them, of half of it and
/// half again, but never smaller than `at_least`.
pub(super) fn as_large_as_may_be<T>(
    client: DomId,
    sizes: RingSizes,
    at_least: RingSizes,
    share: impl Fn(usize) -> io::Result<T>,
) -> Result<(Orders, T), XenError> {
    let mut sizes = sizes;
    loop {
        let orders = Orders::choose(sizes)?;
        let (left, right) = orders.pages();
        let source = match share(1 + left + right) {
            Ok(shared) => return Ok((orders, shared)),
            Err(source) => source,
        };
        let full = source.kind() == io::ErrorKind::StorageFull
            || source.kind() == io::ErrorKind::OutOfMemory;
        let half = sizes
            .halved()
            .filter(|half| half.left >= at_least.left && half.right >= at_least.right);
        match half.filter(|_| full) {
            Some(half) => sizes = half,
            None => return Err(XenError::Share { client, source }),
        }
    }
}

/// A server that waits for its one client.
#[derive(Debug)]
pub struct Server {
    channel: Box<XenChannel>,
    client: DomId,
    offer: Offer,
    sizes: RingSizes,
}

impl Server {
    /// Shares rings of at least `sizes` with `client`. Where the domain may not share as much
    /// memory, the rings are smaller, down to those that reference programs have, but never
    /// smaller than `at_least`.
    ///
    /// # Errors
    /// [`XenError`].
    pub fn new(
        events: EventDevice,
        memory: &AllocDevice,
        client: DomId,
        sizes: RingSizes,
        at_least: RingSizes,
    ) -> Result<Self, XenError> {
        let events = events.offer(client).map_err(|source| XenError::Events {
            peer: client,
            source,
        })?;
        let then = OnUnmap {
            byte: SERVER_LIVE,
            signal: &events,
        };
        let (orders, (region, grants)) = as_large_as_may_be(client, sizes, at_least, |pages| {
            memory.share_until(client, pages, Some(then))
        })?;
        Self::with(events, region, grants, client, orders)
    }

    fn with(
        events: EventChannel,
        region: super::memory::Region,
        grants: Vec<GrantRef>,
        client: DomId,
        orders: Orders,
    ) -> Result<Self, XenError> {
        let none = || short(client);
        let mut grants = grants.into_iter();
        let offer = Offer {
            page: grants.next().ok_or_else(none)?,
            port: events.port(),
        };
        let described = Described {
            orders,
            grants: grants.collect(),
        };
        let end = End::serve(region, &described).ok_or_else(none)?;
        Ok(Self::of(end, events, client, offer, orders))
    }

    pub(super) fn of(
        end: End,
        events: EventChannel,
        client: DomId,
        offer: Offer,
        orders: Orders,
    ) -> Self {
        Self {
            channel: Box::new(XenChannel::new(end, events)),
            client,
            offer,
            sizes: orders.sizes(),
        }
    }

    /// What the client has to be told.
    #[must_use]
    pub fn offer(&self) -> Offer {
        self.offer
    }

    /// How large the rings are.
    #[must_use]
    pub fn sizes(&self) -> RingSizes {
        self.sizes
    }

    /// Takes the client if it is there. The descriptor is readable when it may be.
    ///
    /// # Errors
    /// The server with `WouldBlock` if nobody is there, or with what the device said.
    pub fn try_accept(mut self) -> Result<XenChannel, (Self, io::Error)> {
        if let Err(e) = self.channel.acknowledge() {
            return Err((self, e));
        }
        // A client that came and left is one that came.
        if self.channel.end.state() == State::Waiting {
            return Err((self, io::ErrorKind::WouldBlock.into()));
        }
        Ok(*self.channel)
    }

    /// Waits for the client; forever without a deadline. That its domain dies wakes nobody.
    ///
    /// # Errors
    /// [`XenError::Timeout`] or [`XenError::Wait`].
    pub fn accept(self, deadline: Option<Instant>) -> Result<XenChannel, XenError> {
        let client = self.client;
        let failed = |source| XenError::Wait { client, source };
        let mut it = self;
        loop {
            match it.try_accept() {
                Ok(channel) => return Ok(channel),
                Err((back, e)) if e.kind() == io::ErrorKind::WouldBlock => it = back,
                Err((_, e)) => return Err(failed(e)),
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(XenError::Timeout { client });
            }
            let timeout = left.map(|left| Timespec::try_from(left).unwrap_or_default());
            match poll(&mut [PollFd::new(&it, PollFlags::IN)], timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(failed(e.into())),
            }
        }
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.bell.as_fd()
    }
}

/// How the two ends of a ring wake each other.
pub trait Bell: AsFd + Debug + Send {
    /// Wakes the peer.
    ///
    /// # Errors
    /// The transport's.
    fn signal(&self) -> io::Result<()>;

    /// Takes the signal that came, if one did, and lets the next come. The descriptor is readable
    /// when one came.
    ///
    /// # Errors
    /// The transport's.
    fn acknowledge(&self) -> io::Result<()>;

    /// How long a wait may last until one has to look whether the peer is there; forever if
    /// somebody tells.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Whether one looked, because it was time to, and the peer is gone.
    fn finds_peer_gone(&mut self) -> bool {
        false
    }
}

impl Bell for EventChannel {
    fn signal(&self) -> io::Result<()> {
        EventChannel::signal(self)
    }

    fn acknowledge(&self) -> io::Result<()> {
        EventChannel::acknowledge(self)
    }

    fn patience(&self) -> Option<Duration> {
        EventChannel::patience(self)
    }

    fn finds_peer_gone(&mut self) -> bool {
        EventChannel::finds_peer_gone(self)
    }
}

/// A connected channel over shared memory.
#[derive(Debug)]
pub struct RingChannel<B: Bell> {
    // Before the bell: unmapping signals by it.
    end: End,
    bell: B,
}

/// A connected channel on Xen.
pub type XenChannel = RingChannel<EventChannel>;

impl XenChannel {
    /// Becomes the client of what `server` offers.
    ///
    /// # Errors
    /// [`XenError`]; where [`XenError::is_stale`], what it offers next may do.
    pub fn connect(
        events: EventDevice,
        memory: &GrantDevice,
        server: DomId,
        offer: Offer,
    ) -> Result<Self, XenError> {
        let events = events
            .bind(server, offer.port)
            .map_err(|source| XenError::Events {
                peer: server,
                source,
            })?;
        Self::join(events, memory, server, offer.page)
    }

    /// Becomes the client of what `server` shares as `page`, with the event channel bound.
    pub(super) fn join(
        events: EventChannel,
        memory: &GrantDevice,
        server: DomId,
        page: GrantRef,
    ) -> Result<Self, XenError> {
        let map_error = |source| XenError::Map { server, source };
        let then = OnUnmap {
            byte: CLIENT_LIVE,
            signal: &events,
        };
        let page = memory
            .map_until(server, &[page], Some(then))
            .map_err(map_error)?;
        let described =
            Described::copy(&page).map_err(|source| XenError::Layout { server, source })?;
        let rings = match described.grants.as_slice() {
            [] => None,
            grants => Some(memory.map(server, grants).map_err(map_error)?),
        };
        let end = End::attach(page, rings, described.orders)
            .map_err(|source| XenError::Attach { server, source })?;
        events.signal().map_err(|source| XenError::Events {
            peer: server,
            source,
        })?;
        Ok(Self::new(end, events))
    }
}

impl XenChannel {
    /// Looks after the peer's domain from now on.
    pub(super) fn watch(&mut self, watch: Watch) {
        self.bell.watch(watch);
    }
}

impl<B: Bell> RingChannel<B> {
    pub(super) fn new(end: End, bell: B) -> Self {
        Self { end, bell }
    }

    /// Whether the peer is gone. There may be bytes to read nevertheless.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.end.state() == State::Disconnected
    }

    /// Tells the peer if it asked. That it cannot be told means that it is gone.
    fn signal(&self, moved: Moved) -> usize {
        if moved.signal {
            let _ = self.bell.signal();
        }
        moved.bytes
    }
}

impl XenError {
    /// Whether this is what a server that died left behind: its successor may offer a channel
    /// that works.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(
            self,
            Self::Events { .. } | Self::Map { .. } | Self::Layout { .. } | Self::Attach { .. }
        )
    }
}

fn broken(error: BrokenError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<B: Bell> Channel for RingChannel<B> {
    fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn poll_flags(&self, _: Wants) -> PollFlags {
        // One signal for everything, the end among it.
        PollFlags::IN
    }

    fn acknowledge(&mut self) -> io::Result<()> {
        self.bell.acknowledge()?;
        if self.bell.finds_peer_gone() {
            self.peer_died();
        }
        Ok(())
    }

    fn patience(&self) -> Option<Duration> {
        self.bell.patience()
    }

    fn peer_died(&mut self) {
        self.end.peer_died();
    }

    fn hung_up(&self, _: PollFlags) -> bool {
        self.is_gone()
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let moved = self.end.read(buffer).map_err(broken)?;
        if moved.bytes > 0 {
            return Ok(self.signal(moved));
        }
        self.end.ask(Event::Written);
        // In this order: what the peer wrote before it left is seen by then.
        let gone = self.is_gone();
        let moved = self.end.read(buffer).map_err(broken)?;
        if moved.bytes > 0 || gone {
            return Ok(self.signal(moved));
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_gone() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let moved = self.end.write(parts).map_err(broken)?;
        if moved.bytes > 0 || parts.iter().all(|part| part.is_empty()) {
            return Ok(self.signal(moved));
        }
        self.end.ask(Event::Consumed);
        let moved = self.end.write(parts).map_err(broken)?;
        if moved.bytes > 0 {
            return Ok(self.signal(moved));
        }
        if self.is_gone() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl<B: Bell> Drop for RingChannel<B> {
    fn drop(&mut self) {
        self.end.close();
        // Fails only where nobody listens.
        let _ = self.bell.signal();
    }
}
