//! Byte channels between domains: the transport trait and its Unix-socket flavour.
//!
//! A vchan is a point-to-point, ordered, reliable stream of bytes, named by server, client and
//! port. Exactly one client may ever connect to one server. [`Channel`] is what programs move
//! bytes through; [`socket`] makes channels of Unix sockets, byte-compatible with the public
//! socket flavour; [`xen`] of memory that two domains share; [`transport`] chooses between them.
//! [`share`] is for memory beside a channel, by which windows are seen.
//! [`guard`] is how dom0 reaches into the folders of qubes without being led astray. With the
//! feature `tokio`, tasks read and write channels. [`local`] is for the sockets of programs in one
//! domain, [`seqpacket`] the daemon's private line to its relays.

#![deny(unsafe_code)]

#[cfg(any(test, feature = "tokio"))]
pub mod asynchronous;
pub mod channel;
pub mod files;
pub mod guard;
pub mod id;
pub mod local;
pub mod seqpacket;
pub mod share;
pub mod socket;
pub mod transport;
mod watch;
pub mod xen;

pub use channel::Channel;
pub use id::{DomId, IdError, Port};
pub use share::{PeerMemory, SharedMemory, Sharer, Viewer};
pub use socket::{Listener, SocketChannel, SocketDir, VchanError, socket_name};
pub use transport::{AnyChannel, AnyListener, Transport, TransportError};
pub use xen::Rings;
