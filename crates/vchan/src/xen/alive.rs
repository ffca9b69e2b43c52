//! Whether a peer's domain is still there, for who is not told.
//!
//! A domain that is destroyed clears nothing and signals nobody. dom0's daemon learns of it from
//! xenstore; in other domains an end looks by itself, every [`LOOK`] while it waits.
//!
//! - A server tries to bind to a port that cannot be bound to: Xen says whether there is such a
//!   domain. A destroyed one is there for as long as somebody maps its memory, so a client, who
//!   does, learns nothing from that.
//! - A client reads the key by which it found its server. A server leaves its keys until its end of
//!   the channel ends, and with a domain goes all that it has in xenstore.
//!
//! (Xen could be asked for the state of the own port, but Linux lets processes of a guest make no
//! hypercall of their own.)

use std::time::{Duration, Instant};

use super::device::EventChannel;
use super::home::Keys;
use super::store::{self, Store};
use crate::id::DomId;

/// How often one looks. Long enough to cost nothing, and short beside what people wait for.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// Looks after the peer of one channel.
#[derive(Debug)]
pub(super) struct Watch {
    after: After,
    due: Instant,
}

/// Whom one looks after.
#[derive(Debug)]
enum After {
    /// A client, which may look for the keys in turn.
    Client {
        domain: DomId,
        _keys: Option<Box<Keys>>,
    },
    /// The server that has this key in xenstore.
    Server { key: String },
}

impl Watch {
    /// A server's, which holds its keys where the client looks for them.
    pub(super) fn client(domain: DomId, keys: Option<Box<Keys>>) -> Self {
        Self::new(After::Client {
            domain,
            _keys: keys,
        })
    }

    /// A client's.
    pub(super) fn server(key: String) -> Self {
        Self::new(After::Server { key })
    }

    fn new(after: After) -> Self {
        Self {
            after,
            due: Instant::now() + LOOK,
        }
    }

    /// How long until one has to look again.
    pub(super) fn patience(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Whether the peer is gone, if it is time to look.
    pub(super) fn finds_it_gone(&mut self, events: &EventChannel) -> bool {
        let now = Instant::now();
        if now < self.due {
            return false;
        }
        self.due = now + LOOK;
        match &self.after {
            After::Client { domain, .. } => !events.has_domain(*domain),
            After::Server { key } => {
                Store::open().is_ok_and(|mut store| store::is_withdrawn(&mut store, key))
            }
        }
    }
}
