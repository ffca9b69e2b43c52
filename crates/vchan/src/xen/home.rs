//! A domain on Xen: its devices, and how it becomes server or client with xenstore's help.
//!
//! For processes that may open all that. Who may not is given numbers and descriptors
//! ([`super::channel`]).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::alive::Watch;
use super::channel::{Server, XenChannel, XenError};
use super::device::{AllocDevice, EventDevice, GrantDevice};
use super::layout::RingSizes;
use super::store::{self, Published, Store};
use crate::id::{DomId, Port};

/// How large the rings of a server shall be, and have to be: where the domain may not share as
/// much memory, it takes half and half again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rings {
    /// What is asked for.
    pub wanted: RingSizes,
    /// Nothing smaller will do.
    pub at_least: RingSizes,
}

impl Rings {
    /// Of control lines, as reference programs have them.
    pub const CONTROL: Self = Self::exactly(RingSizes::CONTROL);

    /// Of data channels: large ones carry several times as much, and reference programs take
    /// whatever they are offered. Not the largest: each of 256 calls at a time is to have some,
    /// and what is not shared yet has to be made and mapped while a caller waits.
    pub const DATA: Self = Self {
        wanted: RingSizes::both(256 * 1024),
        at_least: RingSizes::DATA,
    };

    /// These and no others.
    #[must_use]
    pub const fn exactly(sizes: RingSizes) -> Self {
        Self {
            wanted: sizes,
            at_least: sizes,
        }
    }

    /// The same for a program that needs rings of at least `bytes` in both directions.
    #[must_use]
    pub fn with_at_least(self, bytes: usize) -> Self {
        let raise = |sizes: RingSizes| RingSizes {
            left: sizes.left.max(bytes),
            right: sizes.right.max(bytes),
        };
        Self {
            wanted: raise(self.wanted),
            at_least: raise(self.at_least),
        }
    }
}

/// This domain. What two channels can use together is opened once, when the first needs it.
#[derive(Debug, Clone, Default)]
pub struct Home(Arc<Devices>);

#[derive(Debug, Default)]
struct Devices {
    grants: OnceLock<GrantDevice>,
    memory: OnceLock<AllocDevice>,
}

/// The device that is there, or else opens it.
fn once<'a, D>(
    cell: &'a OnceLock<D>,
    name: &'static str,
    open: impl FnOnce() -> io::Result<D>,
) -> Result<&'a D, XenError> {
    if let Some(device) = cell.get() {
        return Ok(device);
    }
    let device = open().map_err(|source| XenError::Device { name, source })?;
    // Somebody else may have been faster; then this one is closed again.
    Ok(cell.get_or_init(|| device))
}

impl Home {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Its number.
    ///
    /// # Errors
    /// [`XenError::Rendezvous`].
    pub fn own(&self) -> Result<DomId, XenError> {
        Ok(Store::open()?.own_domain()?)
    }

    /// Becomes server of a channel for `client`, in place of an earlier one.
    ///
    /// # Errors
    /// [`XenError`].
    pub fn listen(&self, client: DomId, port: Port, rings: Rings) -> Result<Listener, XenError> {
        let memory = once(&self.0.memory, "gntalloc", AllocDevice::open)?;
        let events = event_device()?;
        let server = Server::new(events, memory, client, rings.wanted, rings.at_least)?;
        let mut store = Store::open()?;
        let published = store::publish(&mut store, client, port, server.offer())?;
        let keys = Box::new(Keys {
            store,
            published: Some(published),
        });
        Ok(Listener {
            client,
            server,
            keys,
        })
    }

    /// Becomes client of the channel that `server` offers, waiting for it until `deadline`; looks
    /// at least once.
    ///
    /// # Errors
    /// [`XenError`].
    pub fn connect(
        &self,
        server: DomId,
        port: Port,
        deadline: Instant,
    ) -> Result<XenChannel, XenError> {
        let grants = once(&self.0.grants, "gntdev", GrantDevice::open)?;
        // A connection of its own: others wait on theirs at the same time.
        let mut store = Store::open()?;
        let mut channel = store::connect(&mut store, grants, server, port, deadline)?;
        let own = store.own_domain()?;
        // Keys for dom0 go when it came, and those of dom0 when anybody did.
        if server != DomId::DOM0 && own != DomId::DOM0 {
            let key = store::leaf(server, own, port);
            channel.watch(Watch::server(key));
        }
        Ok(channel)
    }
}

/// Each channel has one of its own, which tells of its events alone.
fn event_device() -> Result<EventDevice, XenError> {
    EventDevice::open().map_err(|source| XenError::Device {
        name: "evtchn",
        source,
    })
}

/// A server that waits for its one client. Its keys in xenstore go with it, or where either is dom0,
/// when the client came; one guest is shown by them that the other is there.
#[derive(Debug)]
pub struct Listener {
    server: Server,
    keys: Box<Keys>,
    client: DomId,
}

impl Listener {
    /// How large the rings are.
    #[must_use]
    pub fn sizes(&self) -> RingSizes {
        self.server.sizes()
    }

    /// Takes the client if it is there. Nobody else can connect afterwards.
    ///
    /// # Errors
    /// The listener with `WouldBlock` if nobody is there, or with what the device said.
    pub fn try_accept(self) -> Result<XenChannel, (Self, io::Error)> {
        let Self {
            server,
            keys,
            client,
        } = self;
        match server.try_accept() {
            Ok(channel) => Ok(watched(channel, client, keys)),
            Err((server, e)) => {
                let back = Self {
                    server,
                    keys,
                    client,
                };
                Err((back, e))
            }
        }
    }

    /// Waits for the client; forever without a deadline. That its domain dies wakes nobody.
    ///
    /// # Errors
    /// [`XenError::Timeout`] or [`XenError::Wait`].
    pub fn accept(self, deadline: Option<Instant>) -> Result<XenChannel, XenError> {
        let channel = self.server.accept(deadline)?;
        Ok(watched(channel, self.client, self.keys))
    }
}

/// Looks after a peer of whose end nobody tells us. dom0 does not end before us.
fn watched(mut channel: XenChannel, client: DomId, mut keys: Box<Keys>) -> XenChannel {
    if client != DomId::DOM0 {
        // A client of dom0's does not look for them, and each takes a connection to xenstore.
        let in_guest = (keys.store.own_domain()).is_ok_and(|own| own != DomId::DOM0);
        channel.watch(Watch::client(client, in_guest.then_some(keys)));
    }
    channel
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.server.as_fd()
    }
}

/// What a server has published, and the connection to take it back by.
#[derive(Debug)]
pub(super) struct Keys {
    store: Store,
    published: Option<Published>,
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(published) = self.published.take() {
            // A successor replaces what stays, and a client that finds it goes on looking.
            let _ = published.withdraw(&mut self.store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_larger_rings_gets_no_smaller_ones() {
        let usual = Rings::DATA.with_at_least(1);
        assert_eq!(usual, Rings::DATA);
        let more = Rings::DATA.with_at_least(128 * 1024);
        assert_eq!(more.wanted, Rings::DATA.wanted);
        assert_eq!(more.at_least, RingSizes::both(128 * 1024));
        let most = Rings::DATA.with_at_least(RingSizes::MAX);
        assert_eq!(most, Rings::exactly(RingSizes::both(RingSizes::MAX)));
    }

    #[test]
    fn a_device_is_opened_once_and_named_where_it_cannot_be() {
        let cell = OnceLock::new();
        let missing = || Err(io::ErrorKind::NotFound.into());
        let e = once::<u32>(&cell, "gntdev", missing).unwrap_err();
        assert_eq!(e.to_string(), "cannot open `/dev/xen/gntdev`");
        assert_eq!(once(&cell, "gntdev", || Ok(1)).unwrap(), &1);
        assert_eq!(once(&cell, "gntdev", missing).unwrap(), &1);
    }
}
