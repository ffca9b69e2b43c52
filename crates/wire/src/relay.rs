//! What `bulkheadd` and a qube's relay say to each other.
//!
//! One `SOCK_SEQPACKET` pair per relay, inherited at its start: one packet is one message
//! (postcard), and descriptors travel as `SCM_RIGHTS` in the order in which a message names them.
//! The daemon checks every [`FromRelay`] again: the relay has read guest bytes and may be lying.

use serde::{Deserialize, Serialize};

use crate::end::{Carrier, End};
use crate::qrexec::announced::Announced;

pub use packet::{PacketError, decode, encode};

mod packet;

/// Largest packet in either direction: a full command line (65,535) with room for its fields.
pub const PACKET_MAX: usize = 72 * 1024;

/// Names one pending guest request on one relay; never reused during the relay's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Names one dom0 client of one relay's `qrexec.<qube>` socket; never reused during its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId(pub u64);

/// From `bulkheadd` to a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRelay {
    /// First message. Carries, where channels are sockets, the listening QubesDB socket (vchan port
    /// 111), and with `serve_clients` the listening `qrexec.<qube>` socket for dom0 clients.
    Setup {
        /// The qube's name, for logs and QubesDB.
        qube: String,
        /// The qube's domain id.
        domid: u32,
        /// Replaces `DEFAULT` in command lines.
        default_user: String,
        /// The descriptor for dom0 clients is there.
        serve_clients: bool,
        /// What carries the qube's channels.
        carrier: Carrier,
    },
    /// The agent's control channel (vchan port 512): a connected socket, or the client of rings.
    AttachControl(End),
    /// The QubesDB channel (vchan port 111) where it is of rings, as their server. Replaces an
    /// earlier one.
    AttachDatabase(End),
    /// Run `cmdline` (`user:command`, no NUL) in the qube.
    Execute {
        /// Peer of the data connection: 0 for dom0, else the calling qube.
        connect_domain: u32,
        /// Port of the data connection.
        connect_port: u32,
        /// `user:command` or `user:QUBESRPC service+arg source`.
        cmdline: Vec<u8>,
        /// Discard standard streams (JUST_EXEC).
        just_exec: bool,
    },
    /// A call that this qube made was allowed: connect it.
    CallAllowed {
        /// Which call.
        request: RequestId,
        /// Domain that runs the service.
        connect_domain: u32,
        /// Port of the data connection.
        connect_port: u32,
    },
    /// A call that this qube made was refused.
    CallRefused {
        /// Which call.
        request: RequestId,
    },
    /// The port for a dom0 client's command; the relay answers the client and tells the agent.
    /// Without one the client is turned away.
    ClientPort {
        /// Which client.
        client: ClientId,
        /// Port of the data connection, in 513..=768.
        connect_port: Option<u32>,
    },
    /// Set a QubesDB key.
    DbWrite {
        /// Key.
        path: String,
        /// Value.
        value: Vec<u8>,
    },
    /// Remove a QubesDB key, or a subtree where `path` ends in `/`.
    DbRemove {
        /// Key or prefix.
        path: String,
    },
}

/// From a relay to `bulkheadd`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromRelay {
    /// Confined and serving.
    Ready {
        /// What confines the relay, one short sentence for the log.
        confinement: String,
    },
    /// The relay cannot serve and exits.
    Failed {
        /// Why.
        reason: String,
    },
    /// The agent has said hello on the control channel.
    AgentConnected {
        /// Negotiated protocol version.
        version: u32,
    },
    /// The control channel is gone; another may be attached.
    AgentLost {
        /// Why, sanitised; empty after an orderly end.
        reason: String,
    },
    /// The guest asks for a call. All fields are sanitised.
    CallRequest {
        /// Names the request in the answer.
        request: RequestId,
        /// Service with `+argument` if there is one.
        service: String,
        /// Requested target, possibly empty.
        target: String,
        /// Claimed source of a relayed call (protocol 4), else empty.
        requested_source: String,
        /// What the caller says it will send; each figure within its limit.
        announced: Option<Announced>,
    },
    /// A call that waits for its answer is taken back: its caller is gone.
    CallWithdrawn {
        /// Which call.
        request: RequestId,
    },
    /// A data connection ended.
    ConnectionTerminated {
        /// The other domain.
        domain: u32,
        /// Its port.
        port: u32,
    },
    /// A dom0 client asks to run `cmdline` (`user:command`, no NUL, `DEFAULT` not yet replaced);
    /// answered by [`ToRelay::ClientPort`].
    ClientExec {
        /// Names the client in the answer.
        client: ClientId,
        /// `user:command`.
        cmdline: Vec<u8>,
        /// Discard standard streams (JUST_EXEC).
        just_exec: bool,
    },
    /// A dom0 client that had sent a command hung up; its data connection goes on.
    ClientGone {
        /// Which client.
        client: ClientId,
    },
    /// The guest has taken the QubesDB dump.
    DbSynchronised,
    /// The guest's QubesDB link ended; it may connect again.
    DbLost {
        /// Why, sanitised; empty after an orderly end.
        reason: String,
    },
    /// The guest set or removed a key.
    DbChanged {
        /// Key.
        path: String,
        /// New value; none if it was removed.
        value: Option<Vec<u8>>,
    },
}
