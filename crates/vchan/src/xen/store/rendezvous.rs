//! Where a server says that it is there, and where a client looks.
//!
//! Below the server's home, `data/vchan/<client>/<port>/` has two numbers, `ring-ref` and
//! `event-channel`. They appear and vanish together, and only the client may read them. Only this
//! touches xenstore: what it finds are numbers, which a process that may open nothing can be told.

use std::io;
use std::time::{Duration, Instant};

use super::connection::{Access, Permission, Store, StoreError, Transaction, Tree, strict};
use crate::id::{DomId, Port};
use crate::xen::channel::{Offer, XenChannel, XenError};
use crate::xen::device::{EventDevice, EventPort, GrantDevice};
use crate::xen::layout::GrantRef;

/// A seeker looks again after this even if no watch told it to: watches of domains that end are
/// not for every domain.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The folder of a channel, below the home of its server.
pub(super) fn folder(client: DomId, port: Port) -> String {
    format!("data/vchan/{client}/{port}")
}

/// Keys that were published. Taken back by [`Self::withdraw`], when the channel ends, or once dom0
/// came as client; the next server with the same names also removes them.
#[derive(Debug)]
#[must_use = "keys stay until they are withdrawn"]
pub struct Published {
    client: DomId,
    port: Port,
    offer: Offer,
}

/// Publishes what a server offers, in place of what a predecessor left.
///
/// # Errors
/// [`StoreError`].
pub fn publish(
    store: &mut Store,
    client: DomId,
    port: Port,
    offer: Offer,
) -> Result<Published, StoreError> {
    let own = store.own_domain()?;
    let folder = folder(client, port);
    let permissions = [
        Permission {
            domain: own,
            access: Access::None,
        },
        Permission {
            domain: client,
            access: Access::Read,
        },
    ];
    store.transaction(|t| {
        t.remove(&folder)?;
        for (key, value) in [("ring-ref", offer.page.0), ("event-channel", offer.port.0)] {
            let path = format!("{folder}/{key}");
            t.write(&path, &value.to_string())?;
            t.set_permissions(&path, &permissions)?;
        }
        Ok(())
    })?;
    Ok(Published {
        client,
        port,
        offer,
    })
}

impl Published {
    /// Removes the keys, unless a successor has put its own there, and the client's folder if
    /// nothing else is in it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn withdraw(self, store: &mut Store) -> Result<(), StoreError> {
        let folder = folder(self.client, self.port);
        let above = format!("data/vchan/{}", self.client);
        store.transaction(|t| {
            let Found::Offer(there) = look(t, &folder)? else {
                return Ok(());
            };
            if there != self.offer {
                return Ok(());
            }
            t.remove(&folder)?;
            if t.list(&above)?.is_empty() {
                t.remove(&above)?;
            }
            Ok(())
        })
    }
}

/// What is at a channel's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Offer(Offer),
}

/// Reads both keys as one.
pub(super) fn look(tree: &mut impl Tree, folder: &str) -> Result<Found, StoreError> {
    let mut key = |name: &str| {
        let path = format!("{folder}/{name}");
        match tree.read(&path) {
            Ok(text) if text.is_empty() => Ok(None),
            Ok(text) => match strict(&text) {
                Some(number) if number > 0 => Ok(Some(number)),
                _ => Err(StoreError::Text {
                    path,
                    len: text.len(),
                }),
            },
            // Not there, or not ours to read before its permissions are set.
            Err(e)
                if matches!(
                    e.refusal(),
                    Some(io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    };
    let (page, port) = (key("ring-ref")?, key("event-channel")?);
    Ok(match (page, port) {
        (Some(page), Some(port)) => Found::Offer(Offer {
            page: GrantRef(page),
            port: EventPort(port),
        }),
        _ => Found::Nothing,
    })
}

/// A client that looks for what a server publishes.
#[derive(Debug)]
pub struct Seeker {
    server: DomId,
    port: Port,
    own: DomId,
    leaf: String,
    /// Name of its watches, which others on the same connection have not.
    token: String,
    /// What was found last.
    given: Option<Offer>,
}

/// How a search goes on.
#[derive(Debug)]
enum Next {
    Offer(Offer),
    Wait,
    Dead,
}

/// Begins to look for the channel `port` of `server`.
///
/// # Errors
/// [`StoreError`].
pub fn seek(store: &mut Store, server: DomId, port: Port) -> Result<Seeker, StoreError> {
    let own = store.own_domain()?;
    let seeker = Seeker {
        server,
        port,
        own,
        leaf: leaf(server, own, port),
        token: format!("vchan.{server}.{port}"),
        given: None,
    };
    // The leaf itself: only it may be read by us.
    let mut watched = store.watch(&seeker.leaf, &seeker.token);
    for path in ["domid", "@releaseDomain"] {
        watched = watched.and_then(|()| match store.watch(path, &seeker.token) {
            // Not for every domain; then the search ends by its deadline.
            Err(e) if e.refusal() == Some(io::ErrorKind::PermissionDenied) => Ok(()),
            watched => watched,
        });
    }
    match watched {
        Ok(()) => Ok(seeker),
        Err(e) => {
            // What made it fail is what matters.
            let _ = seeker.end(store);
            Err(e)
        }
    }
}

/// The key whose appearance tells the client `own` of the channel `port` of `server`.
pub(in crate::xen) fn leaf(server: DomId, own: DomId, port: Port) -> String {
    format!("/local/domain/{server}/{}/event-channel", folder(own, port))
}

/// Whether a server's [`leaf`] is not there any longer, so neither is that end of the channel. Where
/// xenstore does not answer, one does not know.
pub(in crate::xen) fn is_withdrawn(store: &mut Store, leaf: &str) -> bool {
    let refusal = store.read(leaf).err().and_then(|e| e.refusal());
    // Who may not read what is above is told of nothing that it is not there.
    matches!(
        refusal,
        Some(io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
    )
}

impl Seeker {
    /// Waits for an offer until `deadline`; looks at least once. After one that turned out to be
    /// stale, the next call waits until something changed. None if the deadline passed or the
    /// server is no more. Events of other watches stay where they are.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Text`] if the server published nonsense.
    pub fn next(
        &mut self,
        store: &mut Store,
        deadline: Instant,
    ) -> Result<Option<Offer>, StoreError> {
        loop {
            // Setting a watch gives an event at once, so the first look does not wait.
            let soon = deadline.min(Instant::now() + LOOK_AGAIN);
            let event = store.next_event_of(&self.token, Some(soon))?;
            let late = Instant::now() >= deadline;
            match self.look(store)? {
                Next::Offer(offer)
                    if self.given.is_none()
                        || !late && (event.is_some() || self.given != Some(offer)) =>
                {
                    self.given = Some(offer);
                    return Ok(Some(offer));
                }
                Next::Dead => return Ok(None),
                _ if late => return Ok(None),
                _ => {}
            }
        }
    }

    fn look(&mut self, store: &mut Store) -> Result<Next, StoreError> {
        self.follow(store)?;
        let folder = format!(
            "/local/domain/{}/{}",
            self.server,
            folder(self.own, self.port)
        );
        if let Found::Offer(offer) =
            store.transaction(|t: &mut Transaction<'_>| look(t, &folder))?
        {
            return Ok(Next::Offer(offer));
        }
        match store.is_introduced(self.server) {
            Ok(false) => Ok(Next::Dead),
            Ok(true) => Ok(Next::Wait),
            // Only dom0 is told.
            Err(e) if e.refusal().is_some() => Ok(Next::Wait),
            Err(e) => Err(e),
        }
    }

    /// The own id changes when a domain is restored; the place to look at with it.
    fn follow(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let own = store.own_domain()?;
        if own != self.own {
            store.unwatch(&self.leaf, &self.token)?;
            self.own = own;
            self.leaf = leaf(self.server, own, self.port);
            store.watch(&self.leaf, &self.token)?;
        }
        Ok(())
    }

    /// Ends the search.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn end(self, store: &mut Store) -> Result<(), StoreError> {
        for path in [&*self.leaf, "domid", "@releaseDomain"] {
            match store.unwatch(path, &self.token) {
                // It was not set.
                Err(e) if e.refusal() == Some(io::ErrorKind::NotFound) => {}
                ended => ended?,
            }
        }
        Ok(())
    }
}

/// Becomes client of the channel `port` of `server`, waiting for it until `deadline`: of what is
/// there already, or a search, and [`XenChannel::connect`] with what it finds, again as long as that
/// is stale.
///
/// # Errors
/// [`XenError`]: [`XenError::Rendezvous`] or [`XenError::NoServer`] where nothing was found, else
/// why the last that was found could not be joined.
pub fn connect(
    store: &mut Store,
    memory: &GrantDevice,
    server: DomId,
    port: Port,
    deadline: Instant,
) -> Result<XenChannel, XenError> {
    // A search is more than twice as many requests, and mostly the server was first.
    let mut last = None;
    if let Some(offer) = glance(store, server, port)? {
        match try_join(memory, server, offer) {
            Err(e) if e.is_stale() => last = Some(e),
            other => return other,
        }
    }
    if Instant::now() >= deadline {
        return Err(last.unwrap_or(XenError::NoServer { server, port }));
    }
    let mut seeker = seek(store, server, port)?;
    let found = join(&mut seeker, store, memory, deadline);
    seeker.end(store)?;
    found
}

/// What is there now.
fn glance(store: &mut Store, server: DomId, port: Port) -> Result<Option<Offer>, StoreError> {
    let own = store.own_domain()?;
    let folder = format!("/local/domain/{server}/{}", folder(own, port));
    match store.transaction(|t: &mut Transaction<'_>| look(t, &folder))? {
        Found::Offer(offer) => Ok(Some(offer)),
        Found::Nothing => Ok(None),
    }
}

fn try_join(memory: &GrantDevice, server: DomId, offer: Offer) -> Result<XenChannel, XenError> {
    let events = EventDevice::open().map_err(|source| XenError::Device {
        name: "evtchn",
        source,
    })?;
    XenChannel::connect(events, memory, server, offer)
}

fn join(
    seeker: &mut Seeker,
    store: &mut Store,
    memory: &GrantDevice,
    deadline: Instant,
) -> Result<XenChannel, XenError> {
    let (server, port) = (seeker.server, seeker.port);
    let mut last = None;
    loop {
        let Some(offer) = seeker.next(store, deadline)? else {
            return Err(last.unwrap_or(XenError::NoServer { server, port }));
        };
        match try_join(memory, server, offer) {
            Err(e) if e.is_stale() => last = Some(e),
            other => return other,
        }
    }
}
