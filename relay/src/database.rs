//! The qube's QubesDB: store and link to the guest's daemon.

use std::time::Duration;

use bulkhead_wire::bucket::Bucket;
use bulkhead_wire::causes::chain;
use bulkhead_wire::qubesdb::link::{Link, LinkError, LinkEvent, Role};
use bulkhead_wire::qubesdb::message::Value;
use bulkhead_wire::qubesdb::path::{DbPath, PathError};
use bulkhead_wire::qubesdb::store::{Change, STORE_MAX, Store, StoreError};
use bulkhead_wire::relay::FromRelay;
use thiserror::Error;

use crate::queue::Queue;

/// Keys per second that one guest may report to the daemon, after a burst.
pub const CHANGE_RATE: u32 = 2000;
/// Keys at once before the rate counts: all devices of a well-equipped machine.
pub const CHANGE_BURST: u32 = 4096;

/// Why the daemon's own change was not made.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// The path is none.
    #[error("a key from the daemon is malformed")]
    Path(#[from] PathError),
    /// Path or value cannot be stored.
    #[error("a key from the daemon cannot be stored")]
    Store(#[from] StoreError),
}

#[derive(Debug)]
pub(crate) struct Database {
    store: Store,
    link: Option<Link>,
    rate: Bucket,
}

impl Database {
    pub(crate) fn new() -> Self {
        let rate = Bucket::new(CHANGE_RATE, CHANGE_BURST);
        Self {
            store: Store::default(),
            link: None,
            rate,
        }
    }

    pub(crate) fn connected(&mut self) {
        self.link = Some(Link::new(Role::Dom0));
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    pub(crate) fn output(&self) -> &[u8] {
        self.link.as_ref().map_or(&[], Link::output)
    }

    pub(crate) fn wants_input(&self) -> bool {
        self.link.as_ref().is_some_and(Link::wants_input)
    }

    pub(crate) fn wait(&self, now: Duration) -> Duration {
        self.rate.wait(now, 1)
    }

    pub(crate) fn receive(&mut self, bytes: &[u8], now: Duration, queue: &mut Queue) {
        self.with_link(now, queue, |link, store, events| {
            link.receive(bytes, store, events)
        });
    }

    pub(crate) fn sent(&mut self, n: usize, now: Duration, queue: &mut Queue) {
        self.with_link(now, queue, |link, store, events| {
            link.sent(n, store, events)
        });
    }

    /// The link is gone.
    pub(crate) fn lost(&mut self, reason: String, queue: &mut Queue) {
        if self.link.take().is_some() {
            queue.push(&FromRelay::DbLost { reason });
        }
    }

    /// Makes a change for the daemon and forwards it.
    pub(crate) fn change(
        &mut self,
        path: &str,
        value: Option<Vec<u8>>,
        queue: &mut Queue,
    ) -> Result<(), ChangeError> {
        let path = DbPath::new(path)?;
        let value = value.map(Value::new);
        match &value {
            Some(value) => self.store.write(&path, value.clone(), STORE_MAX)?,
            // The guest would take the removal of what it does not have for a broken peer.
            None if !self.store.remove(&path) => return Ok(()),
            None => {}
        }
        let forwarded = match &mut self.link {
            Some(link) => link.forward(&Change { path, value }),
            None => Ok(()),
        };
        self.end_on(forwarded, queue);
        Ok(())
    }

    fn with_link(
        &mut self,
        now: Duration,
        queue: &mut Queue,
        act: impl FnOnce(&mut Link, &mut Store, &mut Vec<LinkEvent>) -> Result<(), LinkError>,
    ) {
        let Some(link) = &mut self.link else { return };
        let mut events = Vec::new();
        let done = act(link, &mut self.store, &mut events);
        for event in events {
            match event {
                LinkEvent::Synchronised => queue.push(&FromRelay::DbSynchronised),
                LinkEvent::Changed(Change { path, value }) => {
                    self.rate.take(now, 1);
                    let path = path.as_str().to_owned();
                    let value = value.map(|value| value.as_bytes().to_vec());
                    queue.push(&FromRelay::DbChanged { path, value });
                }
                LinkEvent::PeerRefused => {}
            }
        }
        self.end_on(done, queue);
    }

    fn end_on(&mut self, done: Result<(), LinkError>, queue: &mut Queue) {
        if let Err(e) = done {
            self.lost(chain(&e), queue);
        }
    }
}
