//! Ends that are prepared in one process and used in another.
//!
//! Who may open devices and talk to xenstore binds the event channel, and where it is the server
//! also shares the memory and writes the page; who speaks to the peer gets two descriptors and some
//! numbers, and can ask nothing of the devices but [`REQUESTS_OF_HANDED`].
//!
//! ```text
//!           prepared                           used
//!  client   bound to the server's channel      maps the page and the rings, reads the page
//!  server   channel, memory, page written      maps the memory; the page is not read again
//! ```
//!
//! Where the second process never comes to it, closing the descriptors gives everything back, and a
//! peer that had come is told.

use std::io;
use std::os::fd::OwnedFd;

use super::channel::{Offer, Server, XenChannel, XenError, as_large_as_may_be, short};
use super::device::{AllocDevice, EventChannel, EventDevice, EventPort, GrantDevice, OnUnmap};
use super::home::Rings;
use super::layout::{Described, GrantRef, Orders, SERVER_LIVE};
use super::ring::End;
use crate::id::DomId;

pub use super::device::REQUESTS_OF_HANDED;

fn missing(name: &'static str) -> impl Fn(io::Error) -> XenError {
    move |source| XenError::Device { name, source }
}

/// The client's end of an offered channel.
#[derive(Debug)]
pub struct ClientEnd {
    /// Whose channel it is.
    pub server: DomId,
    /// Its shared page.
    pub page: GrantRef,
    /// Our own number of the event channel.
    pub port: EventPort,
    /// `/dev/xen/evtchn`, on which the event channel is bound, and nothing else can be.
    pub events: OwnedFd,
    /// `/dev/xen/gntdev`.
    pub memory: OwnedFd,
}

impl ClientEnd {
    /// Opens the devices and binds the event channel.
    ///
    /// # Errors
    /// [`XenError`]; where [`XenError::is_stale`], what the server offers next may do.
    pub fn prepare(server: DomId, offer: Offer) -> Result<Self, XenError> {
        let failed = |source| XenError::Events {
            peer: server,
            source,
        };
        let events = EventDevice::open().map_err(missing("evtchn"))?;
        events.restrict(server).map_err(failed)?;
        let events = events.bind(server, offer.port).map_err(failed)?;
        let memory = GrantDevice::open().map_err(missing("gntdev"))?;
        Ok(Self {
            server,
            page: offer.page,
            port: events.port(),
            events: events.into_fd(),
            memory: memory.into_fd(),
        })
    }

    /// Becomes the client.
    ///
    /// # Errors
    /// [`XenError`].
    pub fn join(self) -> Result<XenChannel, XenError> {
        let events = EventChannel::adopt(self.events, self.port);
        let memory = GrantDevice::adopt(self.memory);
        XenChannel::join(events, &memory, self.server, self.page)
    }
}

/// The server's end of a channel that nobody has come to.
#[derive(Debug)]
pub struct ServerEnd {
    /// For whom it is.
    pub client: DomId,
    /// What the client is told. Its port is also our own number of the event channel.
    pub offer: Offer,
    /// Where on `memory` its pages are.
    pub index: u64,
    /// How large the rings are.
    pub orders: Orders,
    /// `/dev/xen/evtchn`, on which the event channel is bound, and nothing else can be.
    pub events: OwnedFd,
    /// `/dev/xen/gntalloc`, which shares its pages.
    pub memory: OwnedFd,
}

impl ServerEnd {
    /// Opens the devices, makes the event channel, and shares memory with `client`. A client that
    /// finds it may come at once, and waits for who takes this up.
    ///
    /// # Errors
    /// [`XenError`].
    pub fn prepare(client: DomId, rings: Rings) -> Result<Self, XenError> {
        let failed = |source| XenError::Events {
            peer: client,
            source,
        };
        let events = EventDevice::open().map_err(missing("evtchn"))?;
        let events = events.offer(client).map_err(failed)?;
        // Not before: a restricted device offers nothing at all.
        events.restrict(client).map_err(failed)?;
        let memory = AllocDevice::open().map_err(missing("gntalloc"))?;
        let then = OnUnmap {
            byte: SERVER_LIVE,
            signal: &events,
        };
        let (orders, (index, region, grants)) =
            as_large_as_may_be(client, rings.wanted, rings.at_least, |pages| {
                memory.prepare(client, pages, then)
            })?;
        let mut grants = grants.into_iter();
        let page = grants.next().ok_or_else(|| short(client))?;
        let described = Described {
            orders,
            grants: grants.collect(),
        };
        // Gone at once, and with it our mapping; what it wrote stays.
        End::serve(region, &described).ok_or_else(|| short(client))?;
        Ok(Self {
            client,
            offer: Offer {
                page,
                port: events.port(),
            },
            index,
            orders,
            events: events.into_fd(),
            memory: memory.into_fd(),
        })
    }

    /// Becomes the server.
    ///
    /// # Errors
    /// [`XenError`].
    pub fn take_up(self) -> Result<Server, XenError> {
        let client = self.client;
        let (left, right) = self.orders.pages();
        let region = AllocDevice::adopt(self.memory)
            .take(self.index, 1 + left + right)
            .map_err(|source| XenError::Share { client, source })?;
        let end = End::served(region, self.orders).ok_or_else(|| short(client))?;
        let events = EventChannel::adopt(self.events, self.offer.port);
        Ok(Server::of(end, events, client, self.offer, self.orders))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xen::layout::RingSizes;

    fn file() -> OwnedFd {
        tempfile::tempfile().unwrap().into()
    }

    #[test]
    fn numbers_that_are_none_are_refused_and_lose_nothing_but_the_end() {
        let peer = DomId::new(7).unwrap();
        let (page, port) = (GrantRef(1), EventPort(1));
        let client = ClientEnd {
            server: peer,
            page,
            port,
            events: file(),
            memory: file(),
        };
        let error = client.join().unwrap_err();
        assert!(matches!(error, XenError::Map { .. }), "{error}");
        let server = ServerEnd {
            client: peer,
            offer: Offer { page, port },
            index: 4096,
            orders: Orders::choose(RingSizes::CONTROL).unwrap(),
            events: file(),
            memory: file(),
        };
        let error = server.take_up().unwrap_err();
        assert!(matches!(error, XenError::Share { .. }), "{error}");
    }

    #[test]
    fn orders_come_back_from_their_numbers_and_others_do_not() {
        for sizes in [
            RingSizes::CONTROL,
            RingSizes::DATA,
            RingSizes::both(RingSizes::MAX),
        ] {
            let orders = Orders::choose(sizes).unwrap();
            assert_eq!(Orders::of_numbers(orders.numbers()), Ok(orders));
        }
        for none in [(10, 10), (9, 12), (12, 21)] {
            assert!(Orders::of_numbers(none).is_err(), "{none:?}");
        }
    }
}
