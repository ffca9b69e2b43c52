//! The sockets on which local programs talk to qrexec: a daemon's in dom0, an agent's in a guest.
//!
//! On the daemon's socket the daemon says HELLO (version 3) first, the client answers and sends
//! one command; the daemon answers a command with the endpoint, and closes the socket when the
//! connection has ended. On the agent's socket a caller writes one trigger and gets eight bytes,
//! the endpoint, or end of file for a refusal.

use super::control::{ControlError, exec_message, read_hello};
use super::frame::message;
use super::{CONTROL_BODY_MAX, Endpoint, FrameReader, IDENT_LEN, Ident, Kind, Version};

/// What a client wants of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCommand {
    /// Run a command.
    Execute {
        /// The caller's domain; the port is for the daemon to choose if 0.
        endpoint: Endpoint,
        /// `user:command`, without the NUL.
        cmdline: Vec<u8>,
        /// No streams wanted.
        just_exec: bool,
    },
    /// Answer a request that the daemon's guest made.
    Connect {
        /// Where the service is. Port 0 asks the daemon for one (service in dom0).
        endpoint: Endpoint,
        /// Which request.
        ident: Ident,
    },
}

impl ClientCommand {
    /// The message.
    ///
    /// # Errors
    /// [`ControlError`] if a command line is empty, too long or contains a NUL.
    pub fn encode(&self) -> Result<Vec<u8>, ControlError> {
        match self {
            Self::Execute {
                endpoint,
                cmdline,
                just_exec,
            } => {
                let kind = if *just_exec {
                    Kind::JustExec
                } else {
                    Kind::ExecCmdline
                };
                exec_message(kind, *endpoint, cmdline)
            }
            Self::Connect { endpoint, ident } => {
                let parts: [&[u8]; 2] = [&endpoint.encode(), &ident.encode()];
                Ok(message(Kind::ServiceConnect, CONTROL_BODY_MAX, &parts)?)
            }
        }
    }

    fn decode(kind: Kind, body: &[u8]) -> Result<Self, ControlError> {
        let malformed = || ControlError::Malformed {
            kind,
            len: body.len(),
        };
        let (endpoint, rest) = Endpoint::split(body).ok_or_else(malformed)?;
        match kind {
            Kind::ExecCmdline | Kind::JustExec => match rest.split_last() {
                Some((0, text)) if !text.is_empty() && !text.contains(&0) => Ok(Self::Execute {
                    endpoint,
                    cmdline: text.to_vec(),
                    just_exec: kind == Kind::JustExec,
                }),
                _ => Err(malformed()),
            },
            Kind::ServiceConnect => {
                let field = <&[u8; IDENT_LEN]>::try_from(rest).map_err(|_| malformed())?;
                let ident = Ident::from_field(field).ok_or_else(malformed)?;
                if endpoint.port != 0 {
                    super::control::check_port(endpoint.port)?;
                }
                Ok(Self::Connect { endpoint, ident })
            }
            _ => Err(ControlError::Unexpected {
                kind,
                version: Version::LOCAL,
            }),
        }
    }
}

/// The daemon's end of one local client's connection.
#[derive(Debug)]
pub struct DaemonSide {
    frames: FrameReader,
    greeted: bool,
    done: bool,
}

impl DaemonSide {
    /// A new client, and the HELLO to send it.
    #[must_use]
    pub fn start() -> (Self, [u8; 12]) {
        let frames = FrameReader::new(CONTROL_BODY_MAX);
        (
            Self {
                frames,
                greeted: false,
                done: false,
            },
            super::hello(Version::LOCAL),
        )
    }

    /// Takes bytes from the client; returns its one command once it is whole.
    ///
    /// # Errors
    /// [`ControlError`], also for anything after the command: drop the client then.
    pub fn push(&mut self, mut input: &[u8]) -> Result<Option<ClientCommand>, ControlError> {
        let mut command = None;
        while let Some((kind, body)) = self.frames.push(&mut input)? {
            if !self.greeted {
                let version = read_hello(kind, &body)?;
                if version < Version::LOCAL {
                    return Err(super::VersionError {
                        theirs: version.number(),
                    }
                    .into());
                }
                self.greeted = true;
            } else if self.done {
                return Err(ControlError::Unexpected {
                    kind,
                    version: Version::LOCAL,
                });
            } else {
                command = Some(ClientCommand::decode(kind, &body)?);
                self.done = true;
            }
        }
        if self.done && !self.frames.is_between_messages() {
            return Err(ControlError::NotUp);
        }
        Ok(command)
    }

    /// The answer to a command: where the connection is to be made.
    #[must_use]
    pub fn answer(command: &ClientCommand, endpoint: Endpoint) -> Vec<u8> {
        let kind = match command {
            ClientCommand::Execute {
                just_exec: false, ..
            } => Kind::ExecCmdline,
            ClientCommand::Execute {
                just_exec: true, ..
            } => Kind::JustExec,
            ClientCommand::Connect { .. } => Kind::ServiceConnect,
        };
        let mut out = super::Header { kind, len: 8 }.encode().to_vec();
        out.extend_from_slice(&endpoint.encode());
        out
    }
}

/// What a daemon said to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonAnswer {
    /// Its HELLO; send ours and the command.
    Hello,
    /// Where the connection is to be made.
    Endpoint(Endpoint),
}

/// The client's end of a connection to a daemon.
#[derive(Debug)]
pub struct ClientSide {
    frames: FrameReader,
    greeted: bool,
}

impl Default for ClientSide {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientSide {
    /// A connection on which nothing was said.
    #[must_use]
    pub fn new() -> Self {
        // Answers are short; anything longer is no daemon.
        Self {
            frames: FrameReader::new(64),
            greeted: false,
        }
    }

    /// Takes bytes from the daemon up to the next answer; call until `None`.
    ///
    /// # Errors
    /// [`ControlError`] for anything but HELLO and then endpoints.
    pub fn push(&mut self, input: &mut &[u8]) -> Result<Option<DaemonAnswer>, ControlError> {
        let Some((kind, body)) = self.frames.push(input)? else {
            return Ok(None);
        };
        if !self.greeted {
            let version = read_hello(kind, &body)?;
            if version < Version::LOCAL {
                return Err(super::VersionError {
                    theirs: version.number(),
                }
                .into());
            }
            self.greeted = true;
            return Ok(Some(DaemonAnswer::Hello));
        }
        match (kind, Endpoint::split(&body)) {
            (Kind::ExecCmdline | Kind::JustExec | Kind::ServiceConnect, Some((endpoint, []))) => {
                Ok(Some(DaemonAnswer::Endpoint(endpoint)))
            }
            _ => Err(ControlError::Malformed {
                kind,
                len: body.len(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hello;
    use super::*;
    use proptest::prelude::*;

    const HERE: Endpoint = Endpoint { domain: 0, port: 0 };

    fn greeted() -> DaemonSide {
        let (mut side, first) = DaemonSide::start();
        assert_eq!(first, hello(Version::V3));
        assert_eq!(side.push(&hello(Version::V3)), Ok(None));
        side
    }

    fn command() -> ClientCommand {
        ClientCommand::Execute {
            endpoint: HERE,
            cmdline: b"user:x".to_vec(),
            just_exec: false,
        }
    }

    #[test]
    fn one_command_and_nothing_after_it() {
        let bytes = command().encode().unwrap();
        assert_eq!(greeted().push(&bytes), Ok(Some(command())));
        let twice = [&bytes[..], &bytes[..]].concat();
        assert!(greeted().push(&twice).is_err());
        let and_more = [&bytes[..], &[1]].concat();
        assert!(greeted().push(&and_more).is_err());
        assert!(DaemonSide::start().0.push(&bytes).is_err(), "no HELLO");
        assert!(
            DaemonSide::start().0.push(&hello(Version::V2)).is_err(),
            "too old"
        );
    }

    #[test]
    fn ports_of_a_connect_are_zero_or_in_range() {
        for (port, ok) in [
            (0, true),
            (512, false),
            (513, true),
            (768, true),
            (769, false),
        ] {
            let endpoint = Endpoint { domain: 4, port };
            let it = ClientCommand::Connect {
                endpoint,
                ident: Ident::for_slot(1),
            };
            assert_eq!(greeted().push(&it.encode().unwrap()).is_ok(), ok, "{port}");
        }
    }

    #[test]
    fn a_client_reads_hello_then_its_endpoint() {
        let mut bytes = hello(Version::V3).to_vec();
        let endpoint = Endpoint {
            domain: 42,
            port: 513,
        };
        bytes.extend(DaemonSide::answer(&command(), endpoint));
        let (mut side, mut rest) = (ClientSide::new(), &bytes[..]);
        assert_eq!(side.push(&mut rest), Ok(Some(DaemonAnswer::Hello)));
        assert_eq!(
            side.push(&mut rest),
            Ok(Some(DaemonAnswer::Endpoint(endpoint)))
        );
        assert_eq!(side.push(&mut rest), Ok(None));
    }

    proptest! {
        #[test]
        fn decode_of_encode_is_identity(
            domain: u32, cmdline in "[ -~]{1,300}", just_exec: bool, slot: Option<u32>, cut in 0usize..40,
        ) {
            let endpoint = Endpoint { domain, port: 0 };
            let it = match slot {
                Some(slot) => ClientCommand::Connect { endpoint, ident: Ident::for_slot(slot) },
                None => ClientCommand::Execute { endpoint, cmdline: cmdline.into(), just_exec },
            };
            let bytes = it.encode().unwrap();
            let (a, b) = bytes.split_at(cut.min(bytes.len() - 1));
            let mut side = greeted();
            prop_assert_eq!(side.push(a), Ok(None));
            prop_assert_eq!(side.push(b), Ok(Some(it)));
        }
    }
}
