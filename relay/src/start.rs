//! From a fresh process to one that may read guest bytes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bulkhead_sandbox::confine::{Confinement, MemoryFiles};
use bulkhead_vchan::seqpacket;
use bulkhead_vchan::xen::handed::REQUESTS_OF_HANDED;
use bulkhead_wire::end::Carrier;
use bulkhead_wire::relay::{self, PACKET_MAX, PacketError, ToRelay};
use thiserror::Error;

use crate::{Setup, Sockets};

/// First user id of relays; the domain id is added. systemd gives nothing to 0x7000_0000 and up.
const UID_BASE: u32 = 0x7000_0000;
/// Domain ids wrap within the ids that are free above [`UID_BASE`].
const UIDS: u32 = 0x0fff_0000;

/// Clients, links, listeners, standard streams, and some room.
const FILES_MAX: u64 = 300;

/// Heap that no honest use comes near: bounded queues add up to less than 8 MiB.
const MEMORY_MAX: u64 = 64 * 1024 * 1024;

/// Why a relay cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The daemon's socket failed or was closed.
    #[error("cannot receive the setup from the daemon")]
    Receive(#[source] io::Error),
    /// The first packet is no message.
    #[error("the setup from the daemon is malformed")]
    Malformed(#[source] PacketError),
    /// Another message came first.
    #[error("the first message from the daemon is not a setup")]
    NotSetup,
    /// Descriptors do not fit the setup.
    #[error("the setup came with {got} descriptors, {wanted} were announced")]
    Descriptors {
        /// That came.
        got: usize,
        /// That belong to it.
        wanted: usize,
    },
}

/// Waits for the first message on `daemon`.
///
/// # Errors
/// Where there is none, or it is not a setup with its descriptors.
pub fn receive_setup(daemon: OwnedFd) -> Result<(Setup, Sockets), StartError> {
    let (mut buffer, mut fds) = (vec![0; PACKET_MAX], Vec::new());
    let len = seqpacket::recv_packet(daemon.as_fd(), &mut buffer, &mut fds)
        .map_err(StartError::Receive)?;
    if len == 0 {
        return Err(StartError::Receive(io::ErrorKind::UnexpectedEof.into()));
    }
    let message =
        relay::decode(buffer.get(..len).unwrap_or_default()).map_err(StartError::Malformed)?;
    let ToRelay::Setup {
        qube,
        domid,
        default_user,
        serve_clients,
        carrier,
    } = message
    else {
        return Err(StartError::NotSetup);
    };
    let sockets = carrier == Carrier::Sockets;
    let (got, wanted) = (fds.len(), usize::from(sockets) + usize::from(serve_clients));
    if got != wanted {
        return Err(StartError::Descriptors { got, wanted });
    }
    let mut fds = fds.into_iter();
    let database = if sockets { fds.next() } else { None };
    let clients = fds.next();
    Ok((
        Setup {
            qube,
            domid,
            default_user,
            carrier,
        },
        Sockets {
            daemon,
            database,
            clients,
        },
    ))
}

/// What a confined process may ask of devices where channels are of this kind.
pub(crate) fn requests(carrier: Carrier) -> &'static [u32] {
    match carrier {
        Carrier::Sockets => &[],
        Carrier::Rings => &REQUESTS_OF_HANDED,
    }
}

/// How the relay of domain `domid` is confined.
#[must_use]
pub fn confinement(domid: u32, carrier: Carrier) -> Confinement {
    let uid = UID_BASE + domid % UIDS;
    Confinement {
        uid,
        files_max: FILES_MAX,
        memory_max: MEMORY_MAX,
        requests: requests(carrier),
        memory_files: MemoryFiles::None,
    }
}
