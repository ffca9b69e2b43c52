//! Whether a peer's domain is still there, for who is not told.
//!
//! A domain that is destroyed clears nothing and signals nobody. dom0's daemon learns of it from
//! xenstore; in other domains an end looks by itself, every [`LOOK`] while it waits: who tries to
//! bind to a port that cannot be bound to is told by Xen whether there is such a domain. One that
//! is destroyed is there for as long as somebody maps its memory, so this is for servers: clients
//! are among those who do. (Xen could be asked for the state of the own port, but Linux lets
//! processes of a guest make no hypercall of their own.)

use std::time::{Duration, Instant};

use super::device::EventChannel;
use crate::id::DomId;

/// How often one looks. Long enough to cost nothing, and short beside what people wait for.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// Looks after the peer of one channel.
#[derive(Debug)]
pub(super) struct Watch {
    peer: DomId,
    due: Instant,
}

impl Watch {
    pub(super) fn new(peer: DomId) -> Self {
        Self {
            peer,
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
        !events.has_domain(self.peer)
    }
}
