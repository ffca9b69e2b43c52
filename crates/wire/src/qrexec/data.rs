//! The channel that carries the streams of one call.
//!
//! The caller is the vchan server, the service's side the client; both send HELLO at once and
//! read the other's. Then the caller sends STDIN, the service's side STDOUT, STDERR and last
//! EXIT_CODE. An empty message ends a stream.
//!
//! ```text
//! HELLO --ok--> between messages <--header/body--> in a body
//!                    any --error--> failed
//! ```

use super::frame::take;
use super::{
    FrameError, HEADER_LEN, Header, Kind, Version, VersionError,
    control::{ControlError, read_hello},
};
use thiserror::Error;

/// Which end of the call we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends STDIN, gets STDOUT, STDERR and the exit code.
    Caller,
    /// Runs the service: gets STDIN.
    Service,
}

/// Where received bytes belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sink {
    /// The caller's standard output, or the service's standard input.
    Main,
    /// The caller's standard error.
    Stderr,
}

/// What the channel said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataEvent<'a> {
    /// The peer's HELLO; the channel is up.
    Hello(Version),
    /// Part of a stream. Message boundaries mean nothing.
    Bytes(Sink, &'a [u8]),
    /// A stream has ended.
    Eof(Sink),
    /// The service has ended (only to callers).
    Exit(i32),
}

/// The channel cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DataError {
    /// Not a message.
    #[error("malformed message on a data channel")]
    Frame(#[from] FrameError),
    /// First message was something else.
    #[error("expected HELLO on a data channel, got {0:?} of {1} bytes")]
    NoHello(Kind, usize),
    /// Peer too old.
    #[error("no common version on a data channel")]
    Version(#[from] VersionError),
    /// A message that has no place here.
    #[error("message {0:?} does not belong on a data channel")]
    Unexpected(Kind),
    /// Used after an error.
    #[error("data channel has failed")]
    Failed,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Collecting a header.
    Head {
        have: usize,
        bytes: [u8; HEADER_LEN],
    },
    /// Passing on a body of which `left` bytes are to come.
    Body {
        sink: Sink,
        left: u32,
    },
    /// Dropping a body of which `left` bytes are to come.
    Skip {
        left: u32,
    },
    /// Collecting the first bytes of a HELLO or exit code.
    Small {
        kind: Kind,
        have: usize,
        bytes: [u8; 4],
        len: u32,
    },
    Failed,
}

const BETWEEN: State = State::Head {
    have: 0,
    bytes: [0; HEADER_LEN],
};

/// Reads one direction of a data channel. Holds no more than a header.
#[derive(Debug)]
pub struct DataDecoder {
    role: Role,
    version: Option<Version>,
    state: State,
    misdirected: bool,
}

impl DataDecoder {
    /// A channel on which nothing has been read.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self {
            role,
            version: None,
            state: BETWEEN,
            misdirected: false,
        }
    }

    /// The agreed version, once the peer's HELLO was read.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Whether the peer sent a stream that only our side should send. It was delivered anyway.
    #[must_use]
    pub fn misdirected(&self) -> bool {
        self.misdirected
    }

    /// Whether the channel may end here without cutting a message.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Head { have: 0, .. })
    }

    /// Bytes of the message at hand that the decoder has to see itself; 0 inside a stream's body.
    ///
    /// A pump that moves bodies without looking at them reads at most this many, pushes them, and
    /// moves [`Self::body`] bytes itself.
    #[must_use]
    pub fn wanted(&self) -> usize {
        match self.state {
            State::Head { have, .. } => HEADER_LEN - have,
            State::Small { have, .. } => 4 - have,
            State::Skip { left } => left as usize,
            State::Body { .. } | State::Failed => 0,
        }
    }

    /// The sink and number of bytes of the body that comes next, if one does.
    #[must_use]
    pub fn body(&self) -> Option<(Sink, usize)> {
        match self.state {
            State::Body { sink, left } => Some((sink, left as usize)),
            _ => None,
        }
    }

    /// Notes that `n` bytes of [`Self::body`] were taken from the channel elsewhere.
    pub fn advance(&mut self, n: usize) {
        if let State::Body { sink, left } = self.state {
            let left = left.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
            self.state = if left == 0 {
                BETWEEN
            } else {
                State::Body { sink, left }
            };
        }
    }

    /// Takes bytes off the front of `untrusted` up to the next event; call until `None`.
    ///
    /// # Errors
    /// [`DataError`]; the channel is of no more use then.
    pub fn push<'a>(
        &mut self,
        untrusted: &mut &'a [u8],
    ) -> Result<Option<DataEvent<'a>>, DataError> {
        loop {
            match self.step(untrusted) {
                Ok(Step::Event(event)) => return Ok(Some(event)),
                Ok(Step::Again) => {}
                Ok(Step::Hungry) => return Ok(None),
                Err(error) => {
                    self.state = State::Failed;
                    return Err(error);
                }
            }
        }
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, DataError> {
        match &mut self.state {
            State::Failed => Err(DataError::Failed),
            State::Head { have, bytes } => {
                *have += fill(bytes, *have, input);
                if *have < HEADER_LEN {
                    return Ok(Step::Hungry);
                }
                let header = Header::decode(*bytes)?;
                self.header(header)
            }
            State::Body { sink, left } => {
                let (sink, part) = (*sink, take(input, *left as usize));
                if part.is_empty() {
                    return Ok(Step::Hungry);
                }
                self.advance(part.len());
                Ok(Step::Event(DataEvent::Bytes(sink, part)))
            }
            State::Skip { left } => {
                let skipped = take(input, *left as usize).len();
                *left = left.saturating_sub(u32::try_from(skipped).unwrap_or(u32::MAX));
                if *left > 0 {
                    return Ok(Step::Hungry);
                }
                self.state = BETWEEN;
                Ok(Step::Again)
            }
            State::Small {
                kind,
                have,
                bytes,
                len,
            } => {
                *have += fill(bytes, *have, input);
                if *have < bytes.len() {
                    return Ok(Step::Hungry);
                }
                let (kind, value, left) = (*kind, *bytes, *len - 4);
                self.state = if left == 0 {
                    BETWEEN
                } else {
                    State::Skip { left }
                };
                self.small(kind, value).map(Step::Event)
            }
        }
    }

    fn header(&mut self, Header { kind, len }: Header) -> Result<Step<'static>, DataError> {
        let Some(version) = self.version else {
            if kind != Kind::Hello || len != 4 {
                return Err(DataError::NoHello(kind, len as usize));
            }
            self.state = State::Small {
                kind,
                have: 0,
                bytes: [0; 4],
                len,
            };
            return Ok(Step::Again);
        };
        let max = version.chunk_max();
        let (sink, misdirected) = match (kind, self.role) {
            (Kind::Stdin, role) => (Some(Sink::Main), role == Role::Caller),
            (Kind::Stdout, role) => (Some(Sink::Main), role == Role::Service),
            (Kind::Stderr, Role::Caller) => (Some(Sink::Stderr), false),
            (Kind::Stderr | Kind::ExitCode, Role::Service) => (None, true),
            (Kind::ExitCode, Role::Caller) => (None, false),
            _ => return Err(DataError::Unexpected(kind)),
        };
        if len > max {
            return Err(FrameError::TooLong { kind, len, max }.into());
        }
        self.misdirected |= misdirected;
        self.state = BETWEEN;
        match (sink, kind, self.role) {
            (Some(sink), ..) if len == 0 => return Ok(Step::Event(DataEvent::Eof(sink))),
            (Some(sink), ..) => self.state = State::Body { sink, left: len },
            (None, Kind::ExitCode, Role::Caller) if len < 4 => {
                if len > 0 {
                    self.state = State::Skip { left: len };
                }
                let code = i32::from(super::EXIT_DISCONNECTED);
                return Ok(Step::Event(DataEvent::Exit(code)));
            }
            (None, Kind::ExitCode, Role::Caller) => {
                self.state = State::Small {
                    kind,
                    have: 0,
                    bytes: [0; 4],
                    len,
                };
            }
            (None, ..) if len > 0 => self.state = State::Skip { left: len },
            (None, ..) => {}
        }
        Ok(Step::Again)
    }

    fn small(&mut self, kind: Kind, value: [u8; 4]) -> Result<DataEvent<'static>, DataError> {
        if kind != Kind::Hello {
            return Ok(DataEvent::Exit(i32::from_le_bytes(value)));
        }
        let version = read_hello(kind, &value).map_err(|error| match error {
            ControlError::Version(error) => DataError::Version(error),
            _ => DataError::NoHello(kind, value.len()),
        })?;
        self.version = Some(version);
        Ok(DataEvent::Hello(version))
    }
}

enum Step<'a> {
    Event(DataEvent<'a>),
    Again,
    Hungry,
}

fn fill(to: &mut [u8], have: usize, input: &mut &[u8]) -> usize {
    let room = to.get_mut(have..).unwrap_or_default();
    let part = take(input, room.len());
    for (to, from) in room.iter_mut().zip(part) {
        *to = *from;
    }
    part.len()
}

/// An EXIT_CODE message.
#[must_use]
pub fn exit_code(code: i32) -> [u8; 12] {
    let mut out = [0; 12];
    let (head, body) = out.split_at_mut(HEADER_LEN);
    head.copy_from_slice(
        &Header {
            kind: Kind::ExitCode,
            len: 4,
        }
        .encode(),
    );
    body.copy_from_slice(&code.to_le_bytes());
    out
}

/// The message that ends a stream.
#[must_use]
pub fn eof(kind: Kind) -> [u8; HEADER_LEN] {
    Header { kind, len: 0 }.encode()
}

#[cfg(test)]
mod tests {
    use super::super::{frame::message, hello};
    use super::*;
    use proptest::prelude::*;

    /// Events with the parts of each stream joined, so that splits do not show.
    #[derive(Debug, PartialEq, Default, Clone)]
    struct Seen {
        events: Vec<String>,
        main: Vec<u8>,
        stderr: Vec<u8>,
    }

    fn feed(decoder: &mut DataDecoder, seen: &mut Seen, mut part: &[u8]) -> Result<(), DataError> {
        while let Some(event) = decoder.push(&mut part)? {
            match event {
                DataEvent::Bytes(Sink::Main, b) => seen.main.extend(b),
                DataEvent::Bytes(Sink::Stderr, b) => seen.stderr.extend(b),
                other => seen.events.push(format!(
                    "{other:?} after {} and {}",
                    seen.main.len(),
                    seen.stderr.len()
                )),
            }
        }
        Ok(())
    }

    fn run(role: Role, bytes: &[u8]) -> Result<Seen, DataError> {
        let mut seen = Seen::default();
        feed(&mut DataDecoder::new(role), &mut seen, bytes).map(|()| seen)
    }

    fn after_hello(version: u32, messages: &[(Kind, &[u8])]) -> Vec<u8> {
        let mut out = message(Kind::Hello, 4, &[&version.to_le_bytes()]).unwrap();
        for (kind, body) in messages {
            out.extend(message(*kind, u32::MAX, &[body]).unwrap());
        }
        out
    }

    #[test]
    fn chunks_may_fill_the_limit_of_their_version() {
        for (version, max) in [(2, 4096), (3, 65_536), (4, 65_536)] {
            let fits = vec![1; max];
            let bytes = after_hello(version, &[(Kind::Stdout, &fits)]);
            assert_eq!(run(Role::Caller, &bytes).unwrap().main.len(), max);
            let long = vec![1; max + 1];
            let bytes = after_hello(version, &[(Kind::Stdout, &long)]);
            let (len, max) = (u32::try_from(max + 1).unwrap(), u32::try_from(max).unwrap());
            let error = FrameError::TooLong {
                kind: Kind::Stdout,
                len,
                max,
            };
            assert_eq!(run(Role::Caller, &bytes), Err(DataError::Frame(error)));
        }
    }

    #[test]
    fn exit_codes_short_and_long() {
        for (body, code) in [(&[][..], 255), (&[1, 2, 3], 255), (&[42, 0, 0, 0, 9], 42)] {
            let bytes = after_hello(4, &[(Kind::ExitCode, body), (Kind::Stdout, b"")]);
            let seen = run(Role::Caller, &bytes).unwrap();
            assert_eq!(seen.events[1], format!("Exit({code}) after 0 and 0"));
            assert_eq!(seen.events[2], "Eof(Main) after 0 and 0");
        }
    }

    #[test]
    fn a_service_ignores_stderr_and_exit_but_takes_stdout() {
        let messages: [(Kind, &[u8]); 4] = [
            (Kind::Stderr, b"noise"),
            (Kind::ExitCode, &[0; 4]),
            (Kind::Stdout, b"late"),
            (Kind::Stdin, b""),
        ];
        let seen = run(Role::Service, &after_hello(4, &messages)).unwrap();
        assert_eq!((seen.main.as_slice(), seen.events.len()), (&b"late"[..], 2));
    }

    #[test]
    fn control_messages_and_a_second_hello_are_fatal() {
        for kind in [Kind::Hello, Kind::ExecCmdline, Kind::Trigger4] {
            let bytes = after_hello(4, &[(kind, &[4, 0, 0, 0])]);
            assert_eq!(run(Role::Caller, &bytes), Err(DataError::Unexpected(kind)));
        }
        let mut decoder = DataDecoder::new(Role::Caller);
        let stream = message(Kind::Stdin, 9, &[b"x"]).unwrap();
        let error = DataError::NoHello(Kind::Stdin, 1);
        assert_eq!(decoder.push(&mut &stream[..]), Err(error));
        assert_eq!(
            decoder.push(&mut &hello(Version::V4)[..]),
            Err(DataError::Failed)
        );
        let old = after_hello(1, &[]);
        assert!(matches!(
            run(Role::Caller, &old),
            Err(DataError::Version(_))
        ));
    }

    #[test]
    fn a_pump_can_move_bodies_itself() {
        let bytes = after_hello(4, &[(Kind::Stdin, b"abcdef"), (Kind::Stdin, b"")]);
        let mut decoder = DataDecoder::new(Role::Service);
        let mut rest = &bytes[..12];
        assert!(decoder.push(&mut rest).unwrap().is_some());
        assert_eq!(decoder.wanted(), 8);
        assert_eq!(decoder.push(&mut &bytes[12..20]), Ok(None));
        assert_eq!(
            (decoder.body(), decoder.wanted()),
            (Some((Sink::Main, 6)), 0)
        );
        decoder.advance(4);
        assert_eq!(decoder.body(), Some((Sink::Main, 2)));
        decoder.advance(2);
        assert!(decoder.is_between_messages());
        assert_eq!(
            decoder.push(&mut &bytes[26..]),
            Ok(Some(DataEvent::Eof(Sink::Main)))
        );
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            bodies in prop::collection::vec((0usize..4, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            cuts in prop::collection::vec(1usize..20, 0..60),
            caller: bool,
        ) {
            let kinds = [Kind::Stdin, Kind::Stdout, Kind::Stderr, Kind::ExitCode];
            let messages: Vec<_> = bodies.iter().map(|(k, b)| (kinds[*k], &b[..])).collect();
            let bytes = after_hello(4, &messages);
            let role = if caller { Role::Caller } else { Role::Service };
            let whole = run(role, &bytes).unwrap();
            let (mut decoder, mut seen) = (DataDecoder::new(role), Seen::default());
            let mut rest = &bytes[..];
            for cut in cuts {
                feed(&mut decoder, &mut seen, take(&mut rest, cut)).unwrap();
            }
            feed(&mut decoder, &mut seen, rest).unwrap();
            prop_assert!(decoder.is_between_messages());
            prop_assert_eq!(seen, whole);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = run(Role::Caller, &bytes);
            let mut up = after_hello(3, &[]);
            up.extend(&bytes);
            let _ = run(Role::Service, &up);
        }
    }
}
