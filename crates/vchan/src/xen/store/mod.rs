//! xenstore: the tree of small texts in which domains find each other.
//!
//! [`Store`] is a connection of one owner, blocking, with transactions, permissions and watches.
//! Events of watches that come while a reply is awaited are kept, so a watch that nobody looks at
//! holds up nothing. `rendezvous` is where channels are published and found, and [`Finder`] does so
//! with many at a time.

mod connection;
mod finder;
mod rendezvous;
pub mod wire;

pub use connection::{Access, Permission, Store, StoreError, Transaction, Tree, Watched};
pub use finder::{Finder, FoundOffer};
pub use rendezvous::{Published, Seeker, connect, publish, seek};
pub(in crate::xen) use rendezvous::{is_withdrawn, leaf};
