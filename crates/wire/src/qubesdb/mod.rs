//! QubesDB: the small key-value store that dom0 and a guest mirror to each other.
//!
//! [`message`] frames bytes, [`store`] keeps keys, [`link`] is either end of the vchan (port 111),
//! [`server`] and [`client`] the two ends of a daemon's local sockets, and [`daemon`] joins store,
//! server and link into what a guest runs. Either side may write any key, so dom0 treats every
//! value it reads here as the guest's.
//!
//! Facts: `wire/qubesdb.md`.

pub mod client;
pub mod daemon;
pub mod link;
pub mod message;
mod outbox;
pub mod path;
pub mod server;
pub mod store;

/// The vchan port of the link between the two daemons; dom0 is the vchan server.
pub const VCHAN_PORT: u32 = 111;

/// Unsent bytes past which a peer's next request waits: one slow reader then costs one buffer.
pub const OUTPUT_HIGH: usize = 64 * 1024;
