//! One per running qube: decodes what the guest sends, and holds no privilege.
//!
//! ```text
//!  guest agent --qrexec control--> +-------+ <--typed messages--> bulkheadd
//!  guest QubesDB ----vchan 111---> | relay |
//!  dom0 clients --qrexec.<qube>--> +-------+
//! ```
//!
//! [`Core`] is the relay without I/O: bytes and messages in, bytes and messages out, every queue
//! with a bound. [`serve`] carries them between descriptors in one thread, after the process has
//! given up everything but those descriptors.
//!
//! The same program is the pump of one call that dom0 serves ([`call`]) or makes ([`caller`]), and reads what a qube wants
//! notified ([`notifications`]), confined in the same way.
//!
//! What a guest does wrong ends its own link and nothing else. What it does too much of waits in
//! its own socket: the relay stops reading from whoever leaves answers unread or asks faster than
//! [`control::CALL_RATE`].

#![forbid(unsafe_code)]

pub mod call;
pub mod caller;
mod clients;
pub mod control;
mod core;
pub mod database;
mod ends;
mod io;
mod line;
pub mod notifications;
mod queue;
mod start;

pub use self::core::{Core, Setup};
pub use self::ends::EndError;
pub use self::io::{Sockets, serve};
pub use self::queue::QUEUE_HIGH;
pub use self::start::{StartError, confinement, receive_setup};
