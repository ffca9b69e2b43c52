//! Channels over memory that two domains share, on Xen.
//!
//! ```text
//!   store ──> numbers ──> channel ──> ring (pure) ──> memory (atomics)
//!   (who, where:          (poll,      └─ layout
//!    xenstore)             signal) ──> device (ioctls)
//! ```
//!
//! The format is that of Xen's libxenvchan, with which it works in both roles.

mod alive;
pub mod channel;
pub mod device;
pub mod handed;
pub mod home;
pub mod layout;
pub mod memory;
pub mod pair;
pub mod ring;
pub mod store;

pub use channel::{Offer, RingChannel, Server, XenChannel, XenError};
pub use home::{Home, Rings};
pub use layout::RingSizes;
