//! The local sockets of a daemon: several clients, one store.

use std::collections::BTreeMap;

use thiserror::Error;

use super::OUTPUT_HIGH;
use super::message::{Frame, Framer, Kind, Message};
use super::outbox::Outbox;
use super::path::DbPath;
use super::store::{Change, Store, StoreError};

/// Most clients of one daemon.
pub const CLIENTS_MAX: usize = 256;

/// Most watches of one client: the reference's tools use one, its library a few.
pub const WATCHES_MAX: usize = 256;

/// Unsent bytes past which a client that does not read its watch events is dropped.
pub const CLIENT_OUTPUT_MAX: usize = 4 * OUTPUT_HIGH;

/// Names a client; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

/// Which socket a client came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// May change keys.
    ReadWrite,
    /// May not.
    ReadOnly,
}

/// [`CLIENTS_MAX`] are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a QubesDB daemon serves at most {CLIENTS_MAX} clients")]
pub struct TooManyClientsError;

/// All clients of a daemon. Owners forward the [`Change`]s that come out to their link.
#[derive(Debug)]
pub struct Server {
    clients: BTreeMap<ClientId, Client>,
    next: u64,
    /// Most that the store may hold after a client's write.
    limit: usize,
}

#[derive(Debug)]
struct Client {
    access: Access,
    framer: Framer,
    input: Vec<u8>,
    output: Outbox,
    watches: Vec<DbPath>,
    listing: Option<Listing>,
    closing: bool,
}

/// An answer of many parts, made as the client takes them.
#[derive(Debug)]
struct Listing {
    reply: Kind,
    prefix: DbPath,
    last: Option<DbPath>,
}

impl Server {
    /// No clients yet. Their writes may fill the store to `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            clients: BTreeMap::new(),
            next: 0,
            limit,
        }
    }

    /// Adds a client.
    ///
    /// # Errors
    /// At [`CLIENTS_MAX`].
    pub fn connect(&mut self, access: Access) -> Result<ClientId, TooManyClientsError> {
        if self.clients.len() >= CLIENTS_MAX {
            return Err(TooManyClientsError);
        }
        let id = ClientId(self.next);
        self.next += 1;
        let client = Client {
            access,
            framer: Framer::default(),
            input: Vec::new(),
            output: Outbox::default(),
            watches: Vec::new(),
            listing: None,
            closing: false,
        };
        self.clients.insert(id, client);
        Ok(id)
    }

    /// Forgets a client and its watches.
    pub fn disconnect(&mut self, id: ClientId) {
        self.clients.remove(&id);
    }

    /// Bytes to send to a client.
    #[must_use]
    pub fn output(&self, id: ClientId) -> &[u8] {
        self.clients
            .get(&id)
            .map_or(&[], |client| client.output.pending())
    }

    /// Whether to read from a client: not while it leaves answers unread.
    #[must_use]
    pub fn wants_input(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_some_and(Client::wants_input)
    }

    /// Whether the client is to be disconnected once its output is sent.
    #[must_use]
    pub fn is_closing(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_none_or(|client| client.closing)
    }

    /// Takes bytes from a client, answers what is whole and returns what it changed.
    pub fn receive(&mut self, id: ClientId, bytes: &[u8], store: &mut Store) -> Vec<Change> {
        if let Some(client) = self.clients.get_mut(&id) {
            client.input.extend_from_slice(bytes);
        }
        self.pump(id, store)
    }

    /// Drops `n` sent bytes from a client's output and goes on with what waited for the room.
    pub fn sent(&mut self, id: ClientId, n: usize, store: &mut Store) -> Vec<Change> {
        if let Some(client) = self.clients.get_mut(&id) {
            client.output.consume(n);
        }
        self.pump(id, store)
    }

    /// Fires the watches for a change of `changed`: one event for each watch.
    pub fn notify(&mut self, changed: &DbPath) {
        for client in self.clients.values_mut() {
            let fired = client
                .watches
                .iter()
                .filter(|watch| watch.watches(changed))
                .count();
            for _ in 0..fired {
                if client.output.len() >= CLIENT_OUTPUT_MAX {
                    client.closing = true;
                    break;
                }
                client.output.push(Kind::WatchEvent, changed, &[]);
            }
        }
    }

    fn pump(&mut self, id: ClientId, store: &mut Store) -> Vec<Change> {
        let mut changes = Vec::new();
        let limit = self.limit;
        let Some(client) = self.clients.get_mut(&id) else {
            return changes;
        };
        let input = std::mem::take(&mut client.input);
        let mut rest = &input[..];
        while let Some(client) = self.clients.get_mut(&id) {
            if client.closing || client.output.len() >= OUTPUT_HIGH {
                break;
            }
            if client.listing.is_some() {
                client.list_on(store);
                continue;
            }
            let change = match client.framer.next(&mut rest) {
                None => break,
                Some(Frame::Bad(_)) => {
                    client.output.push(Kind::Error, &DbPath::empty(), &[]);
                    None
                }
                Some(Frame::Message(message)) => client.request(message, store, limit),
            };
            if let Some(change) = change {
                self.notify(&change.path);
                changes.push(change);
            }
        }
        if let Some(client) = self.clients.get_mut(&id)
            && !client.closing
        {
            client.input.extend_from_slice(rest);
        }
        changes
    }
}

impl Client {
    fn wants_input(&self) -> bool {
        let busy = self.closing || self.listing.is_some() || !self.input.is_empty();
        !busy && self.output.len() < OUTPUT_HIGH
    }

    fn request(&mut self, message: Message, store: &mut Store, limit: usize) -> Option<Change> {
        let Message { kind, path, data } = message;
        let bare = data.as_bytes().is_empty();
        let whole_store = matches!(kind, Kind::MultiRead | Kind::List);
        let writes = matches!(kind, Kind::Write | Kind::Remove);
        if kind == Kind::Read && !bare {
            self.closing = true;
            return None;
        }
        if path.is_empty() && !whole_store
            || writes && self.access == Access::ReadOnly
            || kind != Kind::Write && !bare
        {
            self.answer(Kind::Error, &path);
            return None;
        }
        match kind {
            Kind::Read => match store.get(&path) {
                Some(value) => self.output.push(Kind::ReadReply, &path, value.as_bytes()),
                None => self.answer(Kind::NoEntry, &path),
            },
            Kind::MultiRead => self.list(Kind::MultiReadReply, path),
            Kind::List => self.list(Kind::ListReply, path),
            Kind::Watch if self.watches.len() < WATCHES_MAX => {
                self.answer(Kind::Ok, &path);
                self.watches.push(path);
            }
            Kind::Unwatch => match self.watches.iter().position(|watch| *watch == path) {
                Some(at) => {
                    self.watches.swap_remove(at);
                    self.answer(Kind::Ok, &path);
                }
                None => self.answer(Kind::NoEntry, &path),
            },
            Kind::Remove if store.remove(&path) => {
                self.answer(Kind::Ok, &path);
                return Some(Change { path, value: None });
            }
            Kind::Remove => self.answer(Kind::NoEntry, &path),
            Kind::Write => match store.write(&path, data.clone(), limit) {
                Ok(()) => {
                    self.answer(Kind::Ok, &path);
                    return Some(Change {
                        path,
                        value: Some(data),
                    });
                }
                Err(e) => {
                    self.answer(Kind::Error, &path);
                    self.closing = e == StoreError::Path;
                }
            },
            _ => self.answer(Kind::Error, &path),
        }
        None
    }

    fn answer(&mut self, kind: Kind, path: &DbPath) {
        self.output.push(kind, path, &[]);
    }

    fn list(&mut self, reply: Kind, prefix: DbPath) {
        self.listing = Some(Listing {
            reply,
            prefix,
            last: None,
        });
    }

    /// One more part of the listing. MULTIREAD of everything descends, all else ascends.
    fn list_on(&mut self, store: &Store) {
        let Some(listing) = &mut self.listing else {
            return;
        };
        let reply = listing.reply;
        let entry = if reply == Kind::MultiReadReply && listing.prefix.is_empty() {
            store.descending(listing.last.as_ref()).next()
        } else {
            store.below(&listing.prefix, listing.last.as_ref()).next()
        };
        match entry {
            Some((key, value)) => {
                let data = if reply == Kind::ListReply {
                    &[]
                } else {
                    value.as_bytes()
                };
                self.output.push(reply, key, data);
                listing.last = Some(key.clone());
            }
            None => {
                self.output.push(reply, &DbPath::empty(), &[]);
                self.listing = None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
