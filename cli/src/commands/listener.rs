//! Where a qube that was told to run something connects to this process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_api::call::RingEnd;
use bulkhead_vchan::xen::device::EventPort;
use bulkhead_vchan::xen::handed::ServerEnd;
use bulkhead_vchan::xen::layout::{GrantRef, Orders};
use bulkhead_vchan::xen::{Offer, Server};
use bulkhead_vchan::{AnyChannel, DomId};

/// A server that waits for its one client, as the daemon has prepared it.
#[derive(Debug)]
pub(super) enum Listener {
    Socket(bulkhead_vchan::Listener),
    Rings(Server),
}

impl Listener {
    /// Of what the daemon said of a connection of `domain`.
    pub(super) fn of(domain: u32, fd: OwnedFd, rings: Vec<RingEnd>) -> io::Result<Self> {
        let Some(end) = rings.into_iter().next() else {
            return bulkhead_vchan::Listener::adopt(fd).map(Self::Socket);
        };
        let end = ServerEnd {
            client: DomId::new(domain).map_err(io::Error::other)?,
            offer: Offer {
                page: GrantRef(end.page),
                port: EventPort(end.event_port),
            },
            index: end.index,
            orders: Orders::of_numbers(end.orders).map_err(io::Error::other)?,
            events: fd,
            memory: end.memory.into(),
        };
        end.take_up().map(Self::Rings).map_err(io::Error::other)
    }

    /// Takes the client if it is there.
    ///
    /// # Errors
    /// Itself with `WouldBlock` if nobody is there, or with what the transport said.
    pub(super) fn try_accept(self) -> Result<AnyChannel, (Self, io::Error)> {
        match self {
            Self::Socket(listener) => match listener.try_accept() {
                Ok(channel) => Ok(channel.into()),
                Err((back, error)) => Err((Self::Socket(back), error)),
            },
            Self::Rings(server) => match server.try_accept() {
                Ok(channel) => Ok(channel.into()),
                Err((back, error)) => Err((Self::Rings(back), error)),
            },
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(listener) => listener.as_fd(),
            Self::Rings(server) => server.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_that_are_none_are_refused_with_the_reason() {
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        let end = |orders| RingEnd {
            memory: file().into(),
            index: 0,
            page: 1,
            event_port: 1,
            orders,
        };
        let error = |domain, orders| {
            let made = Listener::of(domain, file(), vec![end(orders)]);
            made.unwrap_err().to_string()
        };
        assert_eq!(
            error(7, (12, 99)),
            "the shared page describes rings of orders 12 and 99, which cannot be"
        );
        assert_eq!(
            error(99_999, (12, 12)),
            "`99999` is no domain id (0 to 32751)"
        );
        assert_eq!(error(7, (12, 12)), "cannot share memory with domain 7");
    }
}
