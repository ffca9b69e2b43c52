//! The D-Bus face: `org.bulkhead.Manager1` for everyone who may ask.
//!
//! ```text
//! client ── Unix socket ── listener ─ gate ─┐
//!                                           ├─ served ── manager ── Backend
//! client ── system bus ──── system ── gate ─┘
//! ```
//!
//! Peer-to-peer needs no bus daemon: one connection per client, each with tasks and queues of its
//! own, so that a client that stalls stops nobody but itself. The face holds no logic: [`Backend`]
//! is what it calls, and the daemon implements that over [`crate::ops`] and [`crate::runtime`].
//!
//! Invariant: nobody gets an answer before the gate has admitted them (test
//! `tests::a_stranger_is_refused_with_a_reason`).

mod backend;
mod events;
mod gate;
mod listener;
mod manager;
mod served;
mod system;
#[cfg(test)]
mod tests;

pub use backend::{Backend, Caller};
pub use events::Events;
pub use gate::{GROUP, Gate};
pub(crate) use listener::bind_guarded;
pub use listener::{BusError, Listener};
pub use system::serve_system_bus;
