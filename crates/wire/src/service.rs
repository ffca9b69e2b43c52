//! What is said about one service call that dom0 serves, among the three processes it takes.
//!
//! ```text
//! bulkheadd --ToPump--> pump (unprivileged; speaks to the guest)
//!     |                  ^
//!     | Order            | Report
//!     v                  |
//!   starter (the service's user) --fork--> service
//! ```
//!
//! Packets as between the daemon and a relay: [`crate::relay::encode`] and [`crate::relay::decode`]
//! over `SOCK_SEQPACKET`, with descriptors beside them. Nothing is ever said to the daemon: it
//! sees only that a process has ended. Each of the three ends its part when a socket to another is
//! closed.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::end::{Carrier, End};

/// Longest packet of a [`ToPump`], with some to spare.
pub const TO_PUMP_MAX: usize = 64;

/// From `bulkheadd` to the pump of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToPump {
    /// First message. Carries where [`Report`]s come from, the service's standard input, its
    /// standard output and its standard error.
    Setup {
        /// The calling qube.
        domid: u32,
        /// What carries its channels.
        carrier: Carrier,
    },
    /// The caller is there: the data channel, a connected socket or the client of rings.
    Channel(End),
}

/// From `bulkheadd` to the pump of a call that dom0 itself makes of a service in a qube: the only
/// message. Carries what the service is sent, then what is closed when the qube will not come, then
/// the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToCaller {
    /// The qube that is called.
    pub domid: u32,
    /// The data channel that it will come to: a listening socket, or the server of rings.
    pub end: End,
}

/// From whoever starts the service to the pump of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It runs, on the streams of the setup.
    Running,
    /// It is a socket service. Carries the connection to it.
    Connected {
        /// The service is over when its caller has sent everything.
        exit_on_client_eof: bool,
        /// The call is over when the service has sent everything.
        exit_on_service_eof: bool,
    },
    /// There is no service: the caller gets this exit code.
    Failed {
        /// As the reserved exit codes say.
        code: i32,
    },
    /// The running service wants its standard input for both directions.
    Switch,
    /// The running service has ended. Last message.
    Ended {
        /// 128 + n where signal n ended it.
        code: i32,
    },
}

/// From `bulkheadd` to a starter: the one service to start. Carries what becomes the service's
/// standard input, output and error, and where to send [`Report`]s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Whom to become first; none means staying who started us.
    pub user: Option<Identity>,
    /// `SERVICE+ARGUMENT SOURCE[ TYPE TARGET]`, as socket services are told.
    pub descriptor: String,
    /// A program that waits for the user's session, and the name that it reads.
    pub session: Option<(PathBuf, String)>,
    /// What the service is.
    pub what: What,
}

/// Who a service runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
    /// Login name.
    pub name: String,
    /// Home folder, in which services start.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// What a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A program.
    Program(PathBuf),
    /// Something that listens.
    Socket {
        /// Where.
        at: Address,
        /// It is told the descriptor first.
        introduce: bool,
        /// See [`Report::Connected`].
        exit_on_client_eof: bool,
        /// See [`Report::Connected`].
        exit_on_service_eof: bool,
    },
}

/// Where a socket service listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qrexec::SERVICE_FIELD_MAX;
    use crate::relay::{decode, encode};

    fn order(service: usize, groups: u32) -> Order {
        Order {
            user: Some(Identity {
                uid: 1000,
                gid: 1000,
                groups: (0..groups).collect(),
                name: "ann".to_owned(),
                home: "/home/ann".into(),
                shell: "/bin/sh".into(),
            }),
            descriptor: format!("{} work keyword adminvm", "s".repeat(service)),
            session: Some(("/etc/qubes-rpc/qubes.WaitForSession".into(), "ann".into())),
            what: What::Program("/etc/qubes-rpc/test.X".into()),
        }
    }

    #[test]
    fn the_longest_call_of_a_user_in_many_groups_fits_a_packet() {
        let order = order(SERVICE_FIELD_MAX, 1000);
        let packet = encode(&order).unwrap();
        assert_eq!(decode::<Order>(&packet).unwrap(), order);
    }

    #[test]
    fn the_longest_end_fits_what_a_pump_reads() {
        let end = End::Server {
            client: u32::MAX,
            page: u32::MAX,
            port: u32::MAX,
            index: u64::MAX,
            orders: (u16::MAX, u16::MAX),
        };
        let calling = ToCaller {
            domid: u32::MAX,
            end,
        };
        let packet = encode(&calling).unwrap();
        assert!(packet.len() <= TO_PUMP_MAX, "{}", packet.len());
        assert_eq!(decode::<ToCaller>(&packet).unwrap(), calling);
        let packet = encode(&ToPump::Channel(end)).unwrap();
        assert!(packet.len() <= TO_PUMP_MAX, "{}", packet.len());
        assert_eq!(decode::<ToPump>(&packet).unwrap(), ToPump::Channel(end));
    }

    #[test]
    fn reports_are_told_apart() {
        let connected = Report::Connected {
            exit_on_client_eof: true,
            exit_on_service_eof: false,
        };
        for report in [
            Report::Running,
            connected,
            Report::Failed { code: 127 },
            Report::Switch,
            Report::Ended { code: -1 },
        ] {
            let packet = encode(&report).unwrap();
            assert_eq!(decode::<Report>(&packet).unwrap(), report);
        }
        assert!(decode::<Report>(&[9]).is_err() && decode::<Report>(&[]).is_err());
    }
}
