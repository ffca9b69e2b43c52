//! The control link between a guest's agent and dom0 (vchan port 512).
//!
//! The agent is the vchan server and says HELLO first; dom0 answers. Afterwards dom0 sends
//! commands and answers, the agent requests and ends of connections.
//!
//! ```text
//! AgentLink:  start() -> HELLO sent --HELLO--> up --ExecCmdline/JustExec/Connect/Refused--> up
//! DaemonLink: new() --HELLO--> up (HELLO sent) --Trigger/ConnectionTerminated--> up
//! any state --error--> failed (every later push fails)
//! ```
//!
//! Both answer a peer that announces more than we speak with our own newest version, and choose
//! the form of triggers by the version that was agreed, whatever the peer can do besides.

use super::frame::message;
use super::{
    CONTROL_BODY_MAX, DATA_PORT_MAX, DATA_PORT_MIN, Endpoint, FrameError, FrameReader, IDENT_LEN,
    Ident, Kind, Version, VersionError, hello,
    trigger::{Trigger, TriggerError, UntrustedTrigger, WITHDRAW},
};
use thiserror::Error;

/// The link cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ControlError {
    /// Not a message.
    #[error("malformed message on the control link")]
    Frame(#[from] FrameError),
    /// First message was something else.
    #[error("expected HELLO on the control link, got {0:?} of {1} bytes")]
    NoHello(Kind, usize),
    /// Peer too old.
    #[error("no common version on the control link")]
    Version(#[from] VersionError),
    /// A message that the other side never sends, or not in this version.
    #[error("message {kind:?} does not belong on a control link of version {}", version.number())]
    Unexpected {
        /// The kind.
        kind: Kind,
        /// Of the link.
        version: Version,
    },
    /// A body of impossible length or content.
    #[error("message {kind:?} of {len} bytes is malformed")]
    Malformed {
        /// The kind.
        kind: Kind,
        /// Bytes of its body.
        len: usize,
    },
    /// A request that cannot be understood.
    #[error("malformed request for a call")]
    Trigger(#[from] TriggerError),
    /// A port outside the range for data channels.
    #[error("port {0} is not a data port")]
    Port(u32),
    /// Used after an error, or before HELLO.
    #[error("control link is not up")]
    NotUp,
}

/// What reached an agent from dom0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// The link is up.
    Connected {
        /// Agreed version.
        version: Version,
    },
    /// Run a command; connect its data channel as vchan client.
    Execute {
        /// Where the caller listens.
        endpoint: Endpoint,
        /// `user:command`, without the NUL.
        cmdline: Vec<u8>,
        /// No streams wanted.
        just_exec: bool,
    },
    /// A request of this guest was allowed: be vchan server for `endpoint`.
    Connect {
        /// The other side.
        endpoint: Endpoint,
        /// Which request.
        ident: Ident,
    },
    /// A request of this guest was refused.
    Refused {
        /// Which request.
        ident: Ident,
    },
}

/// The agent's side.
#[derive(Debug)]
pub struct AgentLink {
    frames: FrameReader,
    version: Option<Version>,
    failed: bool,
}

impl AgentLink {
    /// A new link, and the bytes to send first.
    #[must_use]
    pub fn start() -> (Self, [u8; 12]) {
        let link = Self {
            frames: FrameReader::new(CONTROL_BODY_MAX),
            version: None,
            failed: false,
        };
        (link, hello(Version::NEWEST))
    }

    /// The agreed version, once up.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Takes bytes off the front of `input` up to the next event. Call until it returns `None`.
    ///
    /// # Errors
    /// [`ControlError`]; the link is of no more use then.
    pub fn push(&mut self, input: &mut &[u8]) -> Result<Option<AgentEvent>, ControlError> {
        if self.failed {
            return Err(ControlError::NotUp);
        }
        let event = self.step(input);
        self.failed = event.is_err();
        event
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Option<AgentEvent>, ControlError> {
        let Some((kind, body)) = self.frames.push(input)? else {
            return Ok(None);
        };
        let Some(version) = self.version else {
            let version = read_hello(kind, &body)?;
            self.version = Some(version);
            return Ok(Some(AgentEvent::Connected { version }));
        };
        let malformed = ControlError::Malformed {
            kind,
            len: body.len(),
        };
        match kind {
            Kind::ExecCmdline | Kind::JustExec => {
                let (endpoint, rest) = Endpoint::split(&body).ok_or(malformed.clone())?;
                let Some((0, cmdline)) = rest.split_last() else {
                    return Err(malformed);
                };
                if cmdline.contains(&0) {
                    return Err(malformed);
                }
                let just_exec = kind == Kind::JustExec;
                let cmdline = cmdline.to_vec();
                Ok(Some(AgentEvent::Execute {
                    endpoint,
                    cmdline,
                    just_exec,
                }))
            }
            Kind::ServiceConnect => {
                let (endpoint, rest) = Endpoint::split(&body).ok_or(malformed.clone())?;
                let ident = read_ident(rest).ok_or(malformed)?;
                Ok(Some(AgentEvent::Connect { endpoint, ident }))
            }
            Kind::ServiceRefused => {
                let ident = read_ident(&body).ok_or(malformed)?;
                Ok(Some(AgentEvent::Refused { ident }))
            }
            _ => Err(ControlError::Unexpected { kind, version }),
        }
    }

    /// A request for a call, passed on for a local caller.
    ///
    /// # Errors
    /// [`ControlError::NotUp`], or [`ControlError::Trigger`] where the agreed version cannot say
    /// it; the link stays up.
    pub fn trigger(
        &self,
        request: &UntrustedTrigger,
        ident: &Ident,
    ) -> Result<Vec<u8>, ControlError> {
        let version = self.version.ok_or(ControlError::NotUp)?;
        Ok(request.forward(version, ident)?)
    }

    /// Takes back the request `ident`, whose caller is gone before it was answered.
    ///
    /// # Errors
    /// [`ControlError::NotUp`].
    pub fn withdraw(&self, ident: &Ident) -> Result<Vec<u8>, ControlError> {
        let version = self.version.ok_or(ControlError::NotUp)?;
        let mut request = Trigger::ask("", "@default", WITHDRAW);
        request.ident = ident.clone();
        Ok(request.encode(version)?)
    }

    /// Says that the data channel to `endpoint` has ended.
    #[must_use]
    pub fn terminated(endpoint: Endpoint) -> Vec<u8> {
        let mut out = super::Header {
            kind: Kind::ConnectionTerminated,
            len: 8,
        }
        .encode()
        .to_vec();
        out.extend_from_slice(&endpoint.encode());
        out
    }
}

/// What reached dom0 from a guest, sanitised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonEvent {
    /// The link is up; [`DaemonLink::push`] has queued our HELLO.
    Connected {
        /// Agreed version.
        version: Version,
    },
    /// The guest wants a call.
    Request(Trigger),
    /// It takes back this request, if there is one.
    Withdrawn(Ident),
    /// A data channel has ended. The port is in range; whether the guest may speak for it is for
    /// the caller to check.
    Terminated(Endpoint),
}

/// dom0's side.
#[derive(Debug)]
pub struct DaemonLink {
    frames: FrameReader,
    version: Option<Version>,
    failed: bool,
}

impl Default for DaemonLink {
    fn default() -> Self {
        Self::new()
    }
}

impl DaemonLink {
    /// A link to an agent that has not said anything yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            frames: FrameReader::new(CONTROL_BODY_MAX),
            version: None,
            failed: false,
        }
    }

    /// The agreed version, once up.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Takes bytes off the front of `untrusted` up to the next event, and appends what must be
    /// sent to `reply`. Call until it returns `None`.
    ///
    /// # Errors
    /// [`ControlError`]; the link must be dropped then (only this one: the qube lives on).
    pub fn push(
        &mut self,
        untrusted: &mut &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Option<DaemonEvent>, ControlError> {
        if self.failed {
            return Err(ControlError::NotUp);
        }
        let event = self.step(untrusted, reply);
        self.failed = event.is_err();
        event
    }

    fn step(
        &mut self,
        untrusted: &mut &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Option<DaemonEvent>, ControlError> {
        let Some((kind, body)) = self.frames.push(untrusted)? else {
            return Ok(None);
        };
        let Some(version) = self.version else {
            let version = read_hello(kind, &body)?;
            self.version = Some(version);
            // Agents take the reply for the agreed version, so it is never more than theirs.
            reply.extend_from_slice(&hello(version));
            return Ok(Some(DaemonEvent::Connected { version }));
        };
        match kind {
            Kind::Trigger2 | Kind::Trigger3 | Kind::Trigger4 => {
                let request = UntrustedTrigger::parse(kind, &body)?;
                if request.version() != version && !tolerates(version, kind) {
                    return Err(ControlError::Unexpected { kind, version });
                }
                let request = request.validate()?;
                Ok(Some(match request.service.as_str() {
                    WITHDRAW => DaemonEvent::Withdrawn(request.ident),
                    _ => DaemonEvent::Request(request),
                }))
            }
            Kind::ConnectionTerminated => {
                let malformed = ControlError::Malformed {
                    kind,
                    len: body.len(),
                };
                match Endpoint::split(&body) {
                    Some((endpoint, [])) => {
                        check_port(endpoint.port)?;
                        Ok(Some(DaemonEvent::Terminated(endpoint)))
                    }
                    _ => Err(malformed),
                }
            }
            _ => Err(ControlError::Unexpected { kind, version }),
        }
    }

    /// Nothing of a message has come yet, so that a peer which hangs up now loses none.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.frames.is_between_messages()
    }

    /// Runs `cmdline` (`user:command`, no NUL) in the guest.
    ///
    /// # Errors
    /// [`ControlError`] if the link is not up, the port is out of range, or the command line is
    /// empty, too long or contains a NUL.
    pub fn execute(
        &self,
        endpoint: Endpoint,
        cmdline: &[u8],
        just_exec: bool,
    ) -> Result<Vec<u8>, ControlError> {
        self.up(endpoint)?;
        let kind = if just_exec {
            Kind::JustExec
        } else {
            Kind::ExecCmdline
        };
        exec_message(kind, endpoint, cmdline)
    }

    /// Tells the guest to connect its request `ident` to `endpoint`.
    ///
    /// # Errors
    /// [`ControlError`] if the link is not up or the port is out of range.
    pub fn connect(&self, endpoint: Endpoint, ident: &Ident) -> Result<Vec<u8>, ControlError> {
        self.up(endpoint)?;
        let parts: [&[u8]; 2] = [&endpoint.encode(), &ident.encode()];
        Ok(message(Kind::ServiceConnect, CONTROL_BODY_MAX, &parts)?)
    }

    /// Tells the guest that its request `ident` is refused.
    ///
    /// # Errors
    /// [`ControlError::NotUp`].
    pub fn refuse(&self, ident: &Ident) -> Result<Vec<u8>, ControlError> {
        self.version.ok_or(ControlError::NotUp)?;
        Ok(message(
            Kind::ServiceRefused,
            CONTROL_BODY_MAX,
            &[&ident.encode()],
        )?)
    }

    fn up(&self, endpoint: Endpoint) -> Result<(), ControlError> {
        self.version.ok_or(ControlError::NotUp)?;
        check_port(endpoint.port)
    }
}

/// Trigger forms that a link takes besides its own: agents for version 4 may keep to the older
/// form when nothing is relayed.
fn tolerates(version: Version, kind: Kind) -> bool {
    (version, kind) == (Version::V4, Kind::Trigger3)
}

/// Checks that `port` is one for data channels.
///
/// # Errors
/// [`ControlError::Port`].
pub fn check_port(port: u32) -> Result<(), ControlError> {
    if (DATA_PORT_MIN..=DATA_PORT_MAX).contains(&port) {
        Ok(())
    } else {
        Err(ControlError::Port(port))
    }
}

pub(super) fn exec_message(
    kind: Kind,
    endpoint: Endpoint,
    cmdline: &[u8],
) -> Result<Vec<u8>, ControlError> {
    if cmdline.is_empty() || cmdline.contains(&0) {
        return Err(ControlError::Malformed {
            kind,
            len: cmdline.len(),
        });
    }
    Ok(message(
        kind,
        CONTROL_BODY_MAX,
        &[&endpoint.encode(), cmdline, &[0]],
    )?)
}

pub(super) fn read_hello(kind: Kind, body: &[u8]) -> Result<Version, ControlError> {
    match (kind, <[u8; 4]>::try_from(body)) {
        (Kind::Hello, Ok(number)) => Ok(Version::negotiate(u32::from_le_bytes(number))?),
        _ => Err(ControlError::NoHello(kind, body.len())),
    }
}

fn read_ident(field: &[u8]) -> Option<Ident> {
    Ident::from_field(<&[u8; IDENT_LEN]>::try_from(field).ok()?)
}

#[cfg(test)]
mod tests {
    use super::super::announced::Announced;
    use super::*;
    use proptest::prelude::*;

    const HERE: Endpoint = Endpoint {
        domain: 7,
        port: 513,
    };

    fn daemon(version: u32) -> DaemonLink {
        let mut link = DaemonLink::new();
        let mut reply = Vec::new();
        let bytes = message(Kind::Hello, 4, &[&version.to_le_bytes()]).unwrap();
        let event = link.push(&mut &bytes[..], &mut reply).unwrap().unwrap();
        let agreed = Version::negotiate(version).unwrap();
        assert_eq!(event, DaemonEvent::Connected { version: agreed });
        assert_eq!(reply, hello(agreed));
        link
    }

    fn agent(version: u32) -> AgentLink {
        let (mut link, first) = AgentLink::start();
        assert_eq!(first, hello(Version::V4));
        let bytes = message(Kind::Hello, 4, &[&version.to_le_bytes()]).unwrap();
        link.push(&mut &bytes[..]).unwrap().unwrap();
        link
    }

    fn tell(link: &mut DaemonLink, bytes: &[u8]) -> Result<Option<DaemonEvent>, ControlError> {
        link.push(&mut &bytes[..], &mut Vec::new())
    }

    #[test]
    fn each_version_takes_its_own_trigger_and_a_wrong_one_ends_the_link() {
        let ask = Trigger::ask("", "work", "qubes.X");
        for (announced, form, ok) in [
            (2, Version::V2, true),
            (2, Version::V3, false),
            (2, Version::V4, false),
            (3, Version::V2, false),
            (3, Version::V3, true),
            (3, Version::V4, false),
            (4, Version::V2, false),
            (4, Version::V3, true),
            (4, Version::V4, true),
            (9, Version::V4, true),
        ] {
            let mut link = daemon(announced);
            let seen = tell(&mut link, &ask.encode(form).unwrap());
            assert_eq!(seen.is_ok(), ok, "{announced} {form:?}");
            let after = tell(&mut link, &AgentLink::terminated(HERE));
            assert_eq!(after.is_ok(), ok, "{announced} {form:?}");
        }
    }

    #[test]
    fn an_agent_sends_the_form_of_the_agreed_version() {
        let bytes = Trigger::ask("", "work", "qubes.X")
            .encode(Version::V4)
            .unwrap();
        let raw = UntrustedTrigger::parse(Kind::Trigger4, &bytes[8..]).unwrap();
        for (announced, version) in [(2, Version::V2), (3, Version::V3), (4, Version::V4)] {
            let sent = agent(announced).trigger(&raw, &Ident::for_slot(5)).unwrap();
            let mut link = daemon(version.number());
            let Ok(Some(DaemonEvent::Request(seen))) = tell(&mut link, &sent) else {
                panic!("no request")
            };
            assert_eq!(seen.ident, Ident::for_slot(5));
            assert_eq!(
                (seen.target.as_str(), seen.service.as_str()),
                ("work", "qubes.X")
            );
        }
        let (fresh, _) = AgentLink::start();
        assert_eq!(
            fresh.trigger(&raw, &Ident::for_slot(5)),
            Err(ControlError::NotUp)
        );
    }

    #[test]
    fn a_request_is_taken_back_in_each_version() {
        let ident = Ident::for_slot(5);
        for version in [2, 3, 4] {
            let sent = agent(version).withdraw(&ident).unwrap();
            let seen = tell(&mut daemon(version), &sent);
            assert_eq!(seen, Ok(Some(DaemonEvent::Withdrawn(ident.clone()))));
        }
        let (fresh, _) = AgentLink::start();
        assert_eq!(fresh.withdraw(&ident), Err(ControlError::NotUp));
    }

    #[test]
    fn anything_before_hello_or_an_old_peer_fails_for_good() {
        let mut link = DaemonLink::new();
        let error = ControlError::NoHello(Kind::ConnectionTerminated, 8);
        assert_eq!(tell(&mut link, &AgentLink::terminated(HERE)), Err(error));
        assert_eq!(
            tell(&mut link, &hello(Version::V4)),
            Err(ControlError::NotUp)
        );
        let old = message(Kind::Hello, 4, &[&1u32.to_le_bytes()]).unwrap();
        let mut link = DaemonLink::new();
        let error = ControlError::Version(VersionError { theirs: 1 });
        assert_eq!(tell(&mut link, &old), Err(error));
        let long = message(Kind::Hello, 8, &[&[4, 0, 0, 0, 0]]).unwrap();
        assert_eq!(
            tell(&mut DaemonLink::new(), &long),
            Err(ControlError::NoHello(Kind::Hello, 5))
        );
    }

    #[test]
    fn ports_outside_the_range_end_the_link() {
        for (port, ok) in [(512, false), (513, true), (768, true), (769, false)] {
            let end = AgentLink::terminated(Endpoint { domain: 1, port });
            assert_eq!(tell(&mut daemon(4), &end).is_ok(), ok, "{port}");
            let sent = daemon(4).execute(Endpoint { domain: 1, port }, b"user:x", false);
            assert_eq!(sent.is_ok(), ok, "{port}");
        }
    }

    #[test]
    fn commands_arrive_as_they_were_sent() {
        let link = daemon(4);
        for just_exec in [false, true] {
            let sent = link.execute(HERE, b"user:echo hi", just_exec).unwrap();
            let seen = agent(4).push(&mut &sent[..]).unwrap();
            let cmdline = b"user:echo hi".to_vec();
            assert_eq!(
                seen,
                Some(AgentEvent::Execute {
                    endpoint: HERE,
                    cmdline,
                    just_exec
                })
            );
        }
        let ident = Ident::for_slot(3);
        let sent = link.connect(HERE, &ident).unwrap();
        let seen = agent(4).push(&mut &sent[..]).unwrap();
        assert_eq!(
            seen,
            Some(AgentEvent::Connect {
                endpoint: HERE,
                ident: ident.clone()
            })
        );
        let sent = link.refuse(&ident).unwrap();
        assert_eq!(
            agent(4).push(&mut &sent[..]).unwrap(),
            Some(AgentEvent::Refused { ident })
        );
        assert!(link.execute(HERE, b"", false).is_err());
        assert!(link.execute(HERE, b"a\0b", false).is_err());
        let max = CONTROL_BODY_MAX as usize - 9;
        assert!(link.execute(HERE, &vec![b'x'; max], false).is_ok());
        assert!(link.execute(HERE, &vec![b'x'; max + 1], false).is_err());
    }

    #[test]
    fn a_command_without_its_nul_is_malformed() {
        for body in [
            &b"12345678"[..],
            b"12345678x",
            b"12345678a\0b\0",
            b"1234567",
        ] {
            let bytes = message(Kind::ExecCmdline, 99, &[body]).unwrap();
            assert!(agent(4).push(&mut &bytes[..]).is_err(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(cuts in prop::collection::vec(1usize..30, 0..40)) {
            let mut bytes = hello(Version::V4).to_vec();
            for slot in 0..4 {
                let mut ask = Trigger::ask("", "work", "qubes.Filecopy");
                let announced = Announced {
                    files: 3,
                    folders: 1,
                    bytes: u64::MAX >> (slot * 16),
                    at_least: false,
                };
                ask.ident = match slot % 2 {
                    0 => Ident::for_slot(slot),
                    _ => Ident::announcing(slot, announced),
                };
                bytes.extend(ask.encode(Version::V4).unwrap());
                bytes.extend(AgentLink::terminated(HERE));
            }
            let run = |cuts: &[usize]| {
                let mut link = DaemonLink::new();
                let (mut events, mut reply, mut rest) = (Vec::new(), Vec::new(), &bytes[..]);
                for cut in cuts.iter().copied().chain([usize::MAX]) {
                    let (mut part, after) = rest.split_at(cut.min(rest.len()));
                    rest = after;
                    while let Some(event) = link.push(&mut part, &mut reply).unwrap() {
                        events.push(event);
                    }
                }
                (events, reply)
            };
            prop_assert_eq!(run(&cuts), run(&[]));
            prop_assert_eq!(run(&cuts).0.len(), 9);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), up: bool) {
            let mut link = if up { daemon(4) } else { DaemonLink::new() };
            let mut rest = &bytes[..];
            while let Ok(Some(_)) = link.push(&mut rest, &mut Vec::new()) {}
            let mut link = if up { agent(4) } else { AgentLink::start().0 };
            let mut rest = &bytes[..];
            while let Ok(Some(_)) = link.push(&mut rest) {}
        }
    }
}
