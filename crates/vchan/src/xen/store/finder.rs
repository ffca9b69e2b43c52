//! Many searches and offers at a time, over one connection: what dom0 has with its qubes.
//!
//! Nothing here waits for a peer. That a server's domain ended is not told: dom0 knows it otherwise
//! and ends the search.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::connection::{Store, StoreError, Tree};
use super::rendezvous::{Found, Published, folder, leaf, look, publish};
use crate::id::{DomId, Port};
use crate::xen::channel::Offer;

/// A peer and a port.
type Place = (DomId, Port);

/// Who offers what as which port.
pub type FoundOffer = (DomId, Port, Offer);

/// Searches and offers of one domain.
#[derive(Debug)]
pub struct Finder {
    store: Store,
    own: DomId,
    /// By the token of their watches.
    searches: BTreeMap<String, Place>,
    published: BTreeMap<Place, Published>,
}

impl Finder {
    /// Takes over a connection.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn new(store: Store) -> Result<Self, StoreError> {
        let mut store = store;
        Ok(Self {
            own: store.own_domain()?,
            store,
            searches: BTreeMap::new(),
            published: BTreeMap::new(),
        })
    }

    /// Begins to look for what `server` offers as `port`. What is there by now is the first that
    /// [`Self::found`] has of it. A search that is under way begins again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn seek(&mut self, server: DomId, port: Port) -> Result<(), StoreError> {
        self.end(server, port)?;
        let token = token(server, port);
        self.store.watch(&leaf(server, self.own, port), &token)?;
        self.searches.insert(token, (server, port));
        Ok(())
    }

    /// Ends a search; that there is none is fine.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn end(&mut self, server: DomId, port: Port) -> Result<(), StoreError> {
        let token = token(server, port);
        if self.searches.remove(&token).is_none() {
            return Ok(());
        }
        match self.store.unwatch(&leaf(server, self.own, port), &token) {
            // Gone with its domain.
            Err(e) if e.refusal() == Some(io::ErrorKind::NotFound) => Ok(()),
            ended => ended,
        }
    }

    /// What is offered where something changed since the last time, each once; none if nothing
    /// changed. Does not wait. Whoever publishes nonsense offers nothing.
    ///
    /// Only after none may one wait for the descriptor: what changes during a look is heard with
    /// it, and told the next time.
    ///
    /// # Errors
    /// [`StoreError`], after which the connection is of no use.
    pub fn found(&mut self) -> Result<Option<Vec<FoundOffer>>, StoreError> {
        let mut changed = Vec::new();
        while let Some(event) = self.store.next_event(Some(Instant::now()))? {
            if let Some(place) = self.searches.get(&event.token)
                && !changed.contains(place)
            {
                changed.push(*place);
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        let mut found = Vec::new();
        for (server, port) in changed {
            let home = format!("/local/domain/{server}/{}", folder(self.own, port));
            match self.store.transaction(|t| look(t, &home)) {
                Ok(Found::Offer(offer)) => found.push((server, port, offer)),
                Ok(Found::Nothing) | Err(StoreError::Text { .. }) => {}
                Err(e) if e.refusal().is_some() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Some(found))
    }

    /// Publishes an offer, in place of an earlier one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn publish(&mut self, client: DomId, port: Port, offer: Offer) -> Result<(), StoreError> {
        let published = publish(&mut self.store, client, port, offer)?;
        self.published.insert((client, port), published);
        Ok(())
    }

    /// Takes back what this published; that there is nothing is fine.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn withdraw(&mut self, client: DomId, port: Port) -> Result<(), StoreError> {
        match self.published.remove(&(client, port)) {
            Some(published) => published.withdraw(&mut self.store),
            None => Ok(()),
        }
    }

    /// Ends every search for what `domain` offers, and takes back all that anybody of this domain
    /// published for it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget(&mut self, domain: DomId) -> Result<(), StoreError> {
        let of_it = |(peer, port): &Place| (*peer == domain).then_some(*port);
        let ports: Vec<Port> = self.searches.values().filter_map(of_it).collect();
        for port in ports {
            self.end(domain, port)?;
        }
        self.published.retain(|(client, _), _| *client != domain);
        self.store.remove(&format!("data/vchan/{domain}"))
    }
}

impl AsFd for Finder {
    /// Readable when [`Finder::found`] may have something, after it had nothing.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.store.as_fd()
    }
}

fn token(server: DomId, port: Port) -> String {
    format!("found.{server}.{port}")
}
