//! Either end of the link between the two daemons of a qube.
//!
//! ```text
//! guest                                dom0
//! connect: MULTIREAD "" ------------>  answer with all keys, then count as synchronised
//! store each entry       <-----------  MULTIREAD reply..., empty one
//! synchronised                         synchronised
//! WRITE, RM (local)  <--------------> WRITE, RM (local); each is answered with OK
//! ```
//!
//! Any break of the table in section 4 of the page ends the link and nothing else: the owner drops
//! it, and a new one starts with a dump.

use thiserror::Error;

use super::OUTPUT_HIGH;
use super::message::{Frame, Framer, HeaderError, Kind, Message};
use super::outbox::Outbox;
use super::path::DbPath;
use super::store::{Change, STORE_GUEST_MAX, STORE_MAX, Store, StoreError};

/// Unsent bytes past which the peer counts as stalled and the link ends: room for a dump of a full
/// store and as much again of changes made meanwhile.
pub const LINK_OUTPUT_MAX: usize = 2 * STORE_MAX;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves the dump.
    Dom0,
    /// Asks for it.
    Guest,
}

/// What a peer's messages did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Both ends have the same keys; local changes are forwarded from now on.
    Synchronised,
    /// The peer changed the store.
    Changed(Change),
    /// The peer refused one of our changes.
    PeerRefused,
}

/// Why a link ends. Never quotes the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LinkError {
    /// A header that cannot be.
    #[error("the QubesDB peer sent a bad header")]
    Header(#[source] HeaderError),
    /// A message that has no place on this link or at this time.
    #[error("the QubesDB peer sent message type {} out of place", *.0 as u8)]
    OutOfPlace(Kind),
    /// Data on a message that has none.
    #[error("the QubesDB peer sent data with message type {}", *.0 as u8)]
    Data(Kind),
    /// A key that cannot be stored.
    #[error("the QubesDB peer sent a key that cannot be stored")]
    Store(#[source] StoreError),
    /// It removed what is not there: the copies differ.
    #[error("the QubesDB peer removed a key that does not exist")]
    RemoveMissing,
    /// It does not read.
    #[error("the QubesDB peer stopped reading")]
    Stalled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dump {
    Awaited,
    Done,
}

/// One connection of one end.
#[derive(Debug)]
pub struct Link {
    role: Role,
    dump: Dump,
    framer: Framer,
    input: Vec<u8>,
    output: Outbox,
}

impl Link {
    /// A link that has just been connected; the guest's end has its request for the dump ready.
    #[must_use]
    pub fn new(role: Role) -> Self {
        let mut output = Outbox::default();
        if role == Role::Guest {
            output.push(Kind::MultiRead, &DbPath::empty(), &[]);
        }
        Self {
            role,
            dump: Dump::Awaited,
            framer: Framer::default(),
            input: Vec::new(),
            output,
        }
    }

    /// The dump is through.
    #[must_use]
    pub fn is_synchronised(&self) -> bool {
        self.dump == Dump::Done
    }

    /// Bytes to send.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.output.pending()
    }

    /// Whether to read from the peer: not while it leaves our answers unread.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.input.is_empty() && self.output.len() < OUTPUT_HIGH
    }

    /// Takes bytes from the peer and applies what is whole to `store`.
    ///
    /// # Errors
    /// Where the link must end; [`Link::output`] may hold a last answer. `events` has what happened
    /// before that.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        store: &mut Store,
        events: &mut Vec<LinkEvent>,
    ) -> Result<(), LinkError> {
        self.input.extend_from_slice(bytes);
        self.pump(store, events)
    }

    /// Drops `n` sent bytes from the output and goes on with what waited for the room.
    ///
    /// # Errors
    /// As [`Link::receive`].
    pub fn sent(
        &mut self,
        n: usize,
        store: &mut Store,
        events: &mut Vec<LinkEvent>,
    ) -> Result<(), LinkError> {
        self.output.consume(n);
        if self.input.is_empty() {
            return Ok(());
        }
        self.pump(store, events)
    }

    /// Forwards a local change, once synchronised; before that it is part of the dump.
    ///
    /// # Errors
    /// [`LinkError::Stalled`] where the peer has left too much unread.
    pub fn forward(&mut self, change: &Change) -> Result<(), LinkError> {
        if !self.is_synchronised() {
            return Ok(());
        }
        match &change.value {
            Some(value) => self.send(Kind::Write, &change.path, value.as_bytes()),
            None => self.send(Kind::Remove, &change.path, &[]),
        }
    }

    fn pump(&mut self, store: &mut Store, events: &mut Vec<LinkEvent>) -> Result<(), LinkError> {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while self.output.len() < OUTPUT_HIGH {
            let Some(frame) = self.framer.next(&mut rest) else {
                break;
            };
            match frame {
                Frame::Message(message) => self.message(message, store, events)?,
                Frame::Bad(error) => return Err(LinkError::Header(error)),
            }
        }
        self.input.extend_from_slice(rest);
        Ok(())
    }

    fn message(
        &mut self,
        message: Message,
        store: &mut Store,
        events: &mut Vec<LinkEvent>,
    ) -> Result<(), LinkError> {
        let kind = message.kind;
        let bare = message.data.as_bytes().is_empty();
        match kind {
            Kind::Write => self.write(message, store, events),
            Kind::MultiRead | Kind::Remove | Kind::Error if !bare => Err(LinkError::Data(kind)),
            Kind::Remove => self.remove(message.path, store, events),
            Kind::MultiRead if self.role == Role::Dom0 && self.dump == Dump::Awaited => {
                self.dump_to_peer(&message.path, store)?;
                self.dump = Dump::Done;
                events.push(LinkEvent::Synchronised);
                Ok(())
            }
            Kind::MultiReadReply if self.role == Role::Guest && self.dump == Dump::Awaited => {
                self.entry(message, store, events)
            }
            Kind::Ok => Ok(()),
            Kind::Error => {
                events.push(LinkEvent::PeerRefused);
                Ok(())
            }
            Kind::Read
            | Kind::MultiRead
            | Kind::List
            | Kind::Watch
            | Kind::Unwatch
            | Kind::NoEntry
            | Kind::ReadReply
            | Kind::MultiReadReply
            | Kind::ListReply
            | Kind::WatchEvent => Err(LinkError::OutOfPlace(kind)),
        }
    }

    /// Guests may not fill the part of a store that is kept for dom0's keys.
    fn peer_limit(&self) -> usize {
        match self.role {
            Role::Dom0 => STORE_GUEST_MAX,
            Role::Guest => STORE_MAX,
        }
    }

    fn write(
        &mut self,
        message: Message,
        store: &mut Store,
        events: &mut Vec<LinkEvent>,
    ) -> Result<(), LinkError> {
        let Message { path, data, .. } = message;
        match store.write(&path, data.clone(), self.peer_limit()) {
            Ok(()) => {
                self.send(Kind::Ok, &path, &[])?;
                events.push(LinkEvent::Changed(Change {
                    path,
                    value: Some(data),
                }));
                Ok(())
            }
            Err(StoreError::Value | StoreError::Full) => self.send(Kind::Error, &path, &[]),
            Err(e @ StoreError::Path) => Err(LinkError::Store(e)),
        }
    }

    fn remove(
        &mut self,
        path: DbPath,
        store: &mut Store,
        events: &mut Vec<LinkEvent>,
    ) -> Result<(), LinkError> {
        if !store.remove(&path) {
            // The answer is fatal for the peer as well: both ends start again with a dump.
            self.send(Kind::NoEntry, &path, &[])?;
            return Err(LinkError::RemoveMissing);
        }
        self.send(Kind::Ok, &path, &[])?;
        events.push(LinkEvent::Changed(Change { path, value: None }));
        Ok(())
    }

    fn dump_to_peer(&mut self, prefix: &DbPath, store: &Store) -> Result<(), LinkError> {
        if prefix.is_empty() {
            for (key, value) in store.descending(None) {
                self.send(Kind::MultiReadReply, key, value.as_bytes())?;
            }
        } else {
            for (key, value) in store.below(prefix, None) {
                self.send(Kind::MultiReadReply, key, value.as_bytes())?;
            }
        }
        self.send(Kind::MultiReadReply, &DbPath::empty(), &[])
    }

    fn entry(
        &mut self,
        message: Message,
        store: &mut Store,
        events: &mut Vec<LinkEvent>,
    ) -> Result<(), LinkError> {
        let Message { path, data, .. } = message;
        if path.is_empty() {
            if !data.as_bytes().is_empty() {
                return Err(LinkError::Data(Kind::MultiReadReply));
            }
            self.dump = Dump::Done;
            events.push(LinkEvent::Synchronised);
            return Ok(());
        }
        store
            .write(&path, data.clone(), self.peer_limit())
            .map_err(LinkError::Store)?;
        events.push(LinkEvent::Changed(Change {
            path,
            value: Some(data),
        }));
        Ok(())
    }

    fn send(&mut self, kind: Kind, path: &DbPath, data: &[u8]) -> Result<(), LinkError> {
        if self.output.len() >= LINK_OUTPUT_MAX {
            return Err(LinkError::Stalled);
        }
        self.output.push(kind, path, data);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
