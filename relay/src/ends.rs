//! From what the daemon hands over to a channel.

use std::io;
use std::os::fd::OwnedFd;

use bulkhead_vchan::xen::device::EventPort;
use bulkhead_vchan::xen::handed::{ClientEnd, ServerEnd};
use bulkhead_vchan::xen::layout::{GrantRef, LayoutError, Orders};
use bulkhead_vchan::xen::{Offer, Server, XenChannel, XenError};
use bulkhead_vchan::{DomId, IdError};
use bulkhead_wire::end::End;
use thiserror::Error;

/// Why what was handed over is no channel.
#[derive(Debug, Error)]
pub enum EndError {
    /// Descriptors do not fit.
    #[error("an end of a channel came with {got} descriptors, {wanted} belong to it")]
    Descriptors {
        /// That came.
        got: usize,
        /// That belong to it.
        wanted: usize,
    },
    /// It is the wrong end, or the other kind of channel.
    #[error("another end of a channel came than was due")]
    Other,
    /// A socket cannot be used.
    #[error("a channel cannot be used")]
    Socket(#[source] io::Error),
    /// The domain's number is none.
    #[error("an end of a channel is of no domain")]
    Domain(#[from] IdError),
    /// The rings' sizes are none.
    #[error("an end of a channel has no rings")]
    Rings(#[from] LayoutError),
    /// The channel could not be made.
    #[error("a channel cannot be made")]
    Xen(#[from] XenError),
}

/// A channel to a guest.
#[derive(Debug)]
pub(crate) enum Connected {
    Socket(OwnedFd),
    Rings(XenChannel),
}

fn checked<const N: usize>(end: End, fds: Vec<OwnedFd>) -> Result<[OwnedFd; N], EndError> {
    fds.try_into().map_err(|fds: Vec<_>| EndError::Descriptors {
        got: fds.len(),
        wanted: end.descriptors(),
    })
}

/// A channel of which the guest is the server, or a connected socket.
pub(crate) fn join(end: End, fds: Vec<OwnedFd>) -> Result<Connected, EndError> {
    match end {
        End::Socket => {
            let [socket] = checked(end, fds)?;
            Ok(Connected::Socket(socket))
        }
        End::Client { server, page, port } => {
            let [events, memory] = checked(end, fds)?;
            let end = ClientEnd {
                server: DomId::new(server)?,
                page: GrantRef(page),
                port: EventPort(port),
                events,
                memory,
            };
            Ok(Connected::Rings(end.join()?))
        }
        End::Server { .. } => Err(EndError::Other),
    }
}

/// A channel that a guest is to come to.
pub(crate) fn serve(end: End, fds: Vec<OwnedFd>) -> Result<Server, EndError> {
    let End::Server {
        client,
        page,
        port,
        index,
        orders,
    } = end
    else {
        return Err(EndError::Other);
    };
    let [events, memory] = checked(end, fds)?;
    let (page, port) = (GrantRef(page), EventPort(port));
    let end = ServerEnd {
        client: DomId::new(client)?,
        offer: Offer { page, port },
        index,
        orders: Orders::of_numbers(orders)?,
        events,
        memory,
    };
    Ok(end.take_up()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: End = End::Client {
        server: 7,
        page: 1,
        port: 1,
    };

    fn server(client: u32, orders: (u16, u16)) -> End {
        End::Server {
            client,
            page: 1,
            port: 1,
            index: 0,
            orders,
        }
    }

    fn files(count: usize) -> Vec<OwnedFd> {
        let file = |_| tempfile::tempfile().unwrap().into();
        (0..count).map(file).collect()
    }

    #[test]
    fn as_many_descriptors_come_as_belong_to_it() {
        for (end, count) in [(End::Socket, 0), (End::Socket, 2), (CLIENT, 1), (CLIENT, 3)] {
            let error = join(end, files(count)).unwrap_err();
            assert!(matches!(error, EndError::Descriptors { got, .. } if got == count));
        }
        let error = serve(server(7, (12, 12)), files(1)).unwrap_err();
        assert!(matches!(error, EndError::Descriptors { got: 1, wanted: 2 }));
        assert!(join(End::Socket, files(1)).is_ok());
    }

    #[test]
    fn the_wrong_end_and_numbers_that_are_none_are_refused() {
        let is_other = |error| matches!(error, EndError::Other);
        assert!(is_other(join(server(7, (12, 12)), files(2)).unwrap_err()));
        assert!(is_other(serve(CLIENT, files(2)).unwrap_err()));
        assert!(is_other(serve(End::Socket, files(1)).unwrap_err()));
        let no_domain = DomId::LIMIT;
        let error = serve(server(no_domain, (12, 12)), files(2)).unwrap_err();
        assert!(matches!(error, EndError::Domain(_)));
        let error = serve(server(7, (12, 21)), files(2)).unwrap_err();
        assert!(matches!(error, EndError::Rings(_)));
        // No device of Xen's.
        let error = join(CLIENT, files(2)).unwrap_err();
        assert!(matches!(error, EndError::Xen(_)));
    }
}
