//! One end of a channel in shared memory.
//!
//! Everything in that memory may change at any time to anything. So: the peer's counter is read
//! once for an operation and checked before it is used; our own counters are kept here and never
//! read back; what the page says of its rings was copied before ([`Described`]). A peer whose
//! counter cannot be has broken the channel, for good.
//!
//! ```text
//!              cons           prod
//!   ┌───────────┬──────────────┬─────────┐     readable = prod - cons   (wrapping)
//!   │  writable │   readable   │ writable│     writable = size - readable
//!   └───────────┴──────────────┴─────────┘     position = counter mod size
//! ```
//!
//! Who waits says so in a byte of the page ([`End::ask`]), *looks again*, and only then sleeps.
//! Who reads or writes looks at that byte afterwards, and signals if it was asked to.

use std::io::IoSlice;
use std::sync::atomic::{AtomicU8, Ordering, fence};

use thiserror::Error;

use super::layout::{
    CLIENT_LIVE, CLIENT_NOTIFY, Counters, Described, LEFT, Orders, RIGHT, SERVER_LIVE,
    SERVER_NOTIFY,
};
use super::memory::{PAGE, Region};

/// What a live byte can be.
const GONE: u8 = 0;
const LIVE: u8 = 1;
const NEVER_CAME: u8 = 2;

/// Which end of a channel one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It owns the memory.
    Server,
    /// It maps the memory.
    Client,
}

/// What is known of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No client came so far.
    Waiting,
    /// It is there.
    Connected,
    /// It left, or its byte says something that no byte says.
    Disconnected,
}

/// What a sleeper may ask to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The peer wrote.
    Written,
    /// The peer read.
    Consumed,
}

impl Event {
    fn bit(self) -> u8 {
        match self {
            Self::Written => 1,
            Self::Consumed => 2,
        }
    }
}

/// What an operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the peer may wait for a signal"]
pub struct Moved {
    /// Bytes that were read or written.
    pub bytes: usize,
    /// The peer asked to be signalled of this.
    pub signal: bool,
}

impl Moved {
    const NOTHING: Self = Self {
        bytes: 0,
        signal: false,
    };
}

/// The peer's counter cannot be: the channel is closed and stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the peer's counter is {distance} bytes from ours in a ring of {size}")]
pub struct BrokenError {
    distance: u32,
    size: u32,
}

/// A page that this client cannot join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AttachError {
    /// What a server that died left behind.
    #[error("the server of the shared page is gone")]
    NoServer,
    /// Another client is there, or was.
    #[error("the shared page was used by another client")]
    Used,
    /// Fewer pages were mapped than the rings have.
    #[error("the rings are not all mapped")]
    Short,
}

/// One direction.
#[derive(Debug)]
struct Ring {
    data: Region,
    start: usize,
    size: u32,
    counters: Counters,
    /// Our own counter, which is only ever written to the page.
    own: u32,
}

impl Ring {
    fn new(data: Region, start: usize, size: usize, counters: Counters) -> Option<Self> {
        let fits = start.checked_add(size).is_some_and(|end| end <= data.len());
        let size = u32::try_from(size).ok().filter(|_| fits)?;
        Some(Self {
            data,
            start,
            size,
            counters,
            own: 0,
        })
    }

    /// How many bytes lie between the counters, `produced - consumed`.
    fn checked(&self, distance: u32) -> Result<u32, BrokenError> {
        if distance <= self.size {
            Ok(distance)
        } else {
            Err(BrokenError {
                distance,
                size: self.size,
            })
        }
    }

    fn readable(&self, page: &Region) -> Result<usize, BrokenError> {
        let peer = page.word(self.counters.produced).load(Ordering::Acquire);
        let there = self.checked(peer.wrapping_sub(self.own))?;
        fence(Ordering::SeqCst);
        Ok(there as usize)
    }

    fn writable(&self, page: &Region) -> Result<usize, BrokenError> {
        let peer = page.word(self.counters.consumed).load(Ordering::Acquire);
        let there = self.checked(self.own.wrapping_sub(peer))?;
        fence(Ordering::SeqCst);
        Ok((self.size - there) as usize)
    }

    /// Splits `len` bytes from our counter on, `ahead` further, where the ring ends.
    fn place(&self, ahead: usize, len: usize) -> (usize, usize) {
        let size = self.size as usize;
        let position = (self.own as usize).wrapping_add(ahead) & (size - 1);
        (self.start + position, len.min(size - position))
    }

    /// Copies out, `to.len()` bytes at most a ring.
    fn copy_out(&self, to: &mut [u8]) {
        let (at, first) = self.place(0, to.len());
        let (head, tail) = to.split_at_mut(first);
        self.data.read(at, head);
        self.data.read(self.start, tail);
    }

    /// Copies in behind `ahead` bytes that are not published yet.
    fn copy_in(&self, ahead: usize, from: &[u8]) {
        let (at, first) = self.place(ahead, from.len());
        let (head, tail) = from.split_at(first);
        self.data.write(at, head);
        self.data.write(self.start, tail);
    }

    fn publish(&mut self, page: &Region, counter: usize, moved: usize) {
        // At most the size of a ring, checked before.
        let moved = u32::try_from(moved).unwrap_or_default();
        self.own = self.own.wrapping_add(moved);
        page.word(counter).store(self.own, Ordering::Release);
        fence(Ordering::SeqCst);
    }
}

/// One end of a channel.
#[derive(Debug)]
pub struct End {
    side: Side,
    page: Region,
    receive: Ring,
    send: Ring,
    broken: Option<BrokenError>,
    /// Somebody who knows said that the peer's domain is no more.
    peer_dead: bool,
}

impl End {
    /// Prepares fresh memory, all zero, for a client: the shared page, then the rings' pages,
    /// which the client will map by the references in `described`.
    ///
    /// None if the memory is too short.
    #[must_use]
    pub fn serve(memory: Region, described: &Described) -> Option<Self> {
        let it = Self::served(memory, described.orders)?;
        let memory = &it.page;
        described.publish(memory);
        memory
            .byte(CLIENT_LIVE)
            .store(NEVER_CAME, Ordering::Relaxed);
        memory
            .byte(CLIENT_NOTIFY)
            .store(Event::Written.bit(), Ordering::Relaxed);
        memory.byte(SERVER_LIVE).store(LIVE, Ordering::Release);
        Some(it)
    }

    /// The server's end of memory that was prepared ([`Self::serve`]) by somebody who is trusted,
    /// and through which nothing went so far. Nothing is read of what the client may have changed.
    ///
    /// None if the memory is too short.
    #[must_use]
    pub fn served(memory: Region, orders: Orders) -> Option<Self> {
        let paged = memory.after_first_page();
        let [receive, send] = rings(&memory, &paged, orders)?;
        Some(Self {
            side: Side::Server,
            page: memory,
            receive,
            send,
            broken: None,
            peer_dead: false,
        })
    }

    /// Joins the server of a shared page as its one client. The server is to be signalled next.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(
        page: Region,
        rings_memory: Option<Region>,
        orders: Orders,
    ) -> Result<Self, AttachError> {
        let paged = rings_memory.as_ref().unwrap_or(&page);
        let needs = orders.pages() != (0, 0);
        let [left, right] = rings(&page, paged, orders)
            .filter(|_| rings_memory.is_some() || !needs)
            .ok_or(AttachError::Short)?;
        if page.byte(SERVER_LIVE).load(Ordering::Acquire) != LIVE {
            return Err(AttachError::NoServer);
        }
        if page.byte(CLIENT_LIVE).load(Ordering::Acquire) != NEVER_CAME {
            return Err(AttachError::Used);
        }
        page.byte(SERVER_NOTIFY)
            .store(Event::Written.bit(), Ordering::Relaxed);
        page.byte(CLIENT_LIVE).store(LIVE, Ordering::SeqCst);
        Ok(Self {
            side: Side::Client,
            page,
            receive: right,
            send: left,
            broken: None,
            peer_dead: false,
        })
    }

    /// Which end it is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// Bytes that fit into the ring that we write to.
    #[must_use]
    pub fn room(&self) -> usize {
        self.send.size as usize
    }

    /// Whether the peer is there. Ask before reading: bytes that came before it left can be read
    /// afterwards.
    #[must_use]
    pub fn state(&self) -> State {
        if self.broken.is_some() || self.peer_dead {
            return State::Disconnected;
        }
        let (peer, may_wait) = match self.side {
            Side::Server => (CLIENT_LIVE, true),
            Side::Client => (SERVER_LIVE, false),
        };
        match self.page.byte(peer).load(Ordering::SeqCst) {
            LIVE => State::Connected,
            NEVER_CAME if may_wait => State::Waiting,
            _ => State::Disconnected,
        }
    }

    /// Takes note that the peer's domain is no more, which leaves its byte as it was.
    pub fn peer_died(&mut self) {
        self.peer_dead = true;
    }

    /// Reads what is there; nothing if nothing is.
    ///
    /// # Errors
    /// [`BrokenError`], from then on always.
    pub fn read(&mut self, to: &mut [u8]) -> Result<Moved, BrokenError> {
        let there = self.checked(|end| end.receive.readable(&end.page))?;
        let bytes = there.min(to.len());
        let (to, _) = to.split_at_mut(bytes);
        if to.is_empty() {
            return Ok(Moved::NOTHING);
        }
        self.receive.copy_out(to);
        let counter = self.receive.counters.consumed;
        self.receive.publish(&self.page, counter, bytes);
        Ok(Moved {
            bytes,
            signal: self.is_asked(Event::Consumed),
        })
    }

    /// Writes what fits of `parts`, one after another; nothing if nothing does.
    ///
    /// # Errors
    /// [`BrokenError`], from then on always.
    pub fn write(&mut self, parts: &[IoSlice<'_>]) -> Result<Moved, BrokenError> {
        let room = self.checked(|end| end.send.writable(&end.page))?;
        let mut bytes = 0;
        for part in parts {
            let fits = part.len().min(room - bytes);
            let (part, _) = part.split_at(fits);
            self.send.copy_in(bytes, part);
            bytes += part.len();
        }
        if bytes == 0 {
            return Ok(Moved::NOTHING);
        }
        let counter = self.send.counters.produced;
        self.send.publish(&self.page, counter, bytes);
        Ok(Moved {
            bytes,
            signal: self.is_asked(Event::Written),
        })
    }

    /// Asks the peer for a signal. Look again before sleeping: it may have happened just before.
    pub fn ask(&self, event: Event) {
        let byte = match self.side {
            Side::Server => CLIENT_NOTIFY,
            Side::Client => SERVER_NOTIFY,
        };
        self.page.byte(byte).fetch_or(event.bit(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Leaves the channel; what was written stays readable. The peer is to be signalled next.
    pub fn close(&self) {
        let byte = match self.side {
            Side::Server => SERVER_LIVE,
            Side::Client => CLIENT_LIVE,
        };
        self.page.byte(byte).store(GONE, Ordering::SeqCst);
    }

    /// Whether the peer asked to hear of this; it has to ask again afterwards.
    fn is_asked(&self, event: Event) -> bool {
        let byte: &AtomicU8 = match self.side {
            Side::Server => self.page.byte(SERVER_NOTIFY),
            Side::Client => self.page.byte(CLIENT_NOTIFY),
        };
        byte.load(Ordering::Relaxed) & event.bit() != 0
            && byte.fetch_and(!event.bit(), Ordering::SeqCst) & event.bit() != 0
    }

    fn checked(
        &mut self,
        count: impl Fn(&Self) -> Result<usize, BrokenError>,
    ) -> Result<usize, BrokenError> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        count(self).inspect_err(|&broken| {
            self.broken = Some(broken);
            self.close();
        })
    }
}

/// The left and the right ring of a page, each in the page, or one after the other in `paged`.
fn rings(page: &Region, paged: &Region, orders: Orders) -> Option<[Ring; 2]> {
    if page.len() < PAGE {
        return None;
    }
    let sizes = orders.sizes();
    let (left_in, right_in) = orders.in_page();
    let (left_pages, _) = orders.pages();
    let at = |in_page: Option<usize>, offset| match in_page {
        Some(offset) => (page.clone(), offset),
        None => (paged.clone(), offset),
    };
    let (left, right) = (at(left_in, 0), at(right_in, PAGE * left_pages));
    Some([
        Ring::new(left.0, left.1, sizes.left, LEFT)?,
        Ring::new(right.0, right.1, sizes.right, RIGHT)?,
    ])
}

#[cfg(test)]
mod tests;
