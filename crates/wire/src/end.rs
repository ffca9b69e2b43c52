//! How one end of a channel is handed to another process: descriptors beside the message, and what
//! else has to be known of them.

use serde::{Deserialize, Serialize};

/// What carries the channels of a qube.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Carrier {
    /// Unix sockets.
    Sockets,
    /// Memory that two domains of Xen share.
    Rings,
}

/// One end of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// A connected stream socket, which is its one descriptor.
    Socket,
    /// The client of rings. Its descriptors: the bound event channel, and the device that maps
    /// what other domains share.
    Client {
        /// Whose memory it is.
        server: u32,
        /// Grant reference of the shared page.
        page: u32,
        /// Our own number of the event channel.
        port: u32,
    },
    /// The server of rings that no client has come to yet. Its descriptors: the bound event
    /// channel, and the device that shares the memory.
    Server {
        /// For whom it is.
        client: u32,
        /// Grant reference of the shared page.
        page: u32,
        /// Our own number of the event channel.
        port: u32,
        /// Where on the device the memory is.
        index: u64,
        /// Logarithms of the sizes of the rings: from the client, and to it.
        orders: (u16, u16),
    },
}

impl End {
    /// How many descriptors belong to it.
    #[must_use]
    pub fn descriptors(self) -> usize {
        match self {
            Self::Socket => 1,
            Self::Client { .. } | Self::Server { .. } => 2,
        }
    }

    /// What carries it.
    #[must_use]
    pub fn carrier(self) -> Carrier {
        match self {
            Self::Socket => Carrier::Sockets,
            Self::Client { .. } | Self::Server { .. } => Carrier::Rings,
        }
    }
}
