//! The daemon's end: reads what an agent says, which is hostile.
//!
//! ```text
//! version --agreed--> messages --error--> failed
//!    \--another protocol-------------------^
//! ```

use super::agent_message::{self, AgentMessage, Ignored, Parsed, Violation};
use super::frame::{Framer, Length, Peer};
use super::{DaemonMessage, GuiError, Kind, Screen, VERSION_LEN, Version, WindowId};
use crate::qrexec::fill;

/// What an agent did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// Both ends speak this version.
    Ready(Version),
    /// It said something.
    Message(WindowId, AgentMessage),
    /// It asked for what cannot be; nothing came of it. The reference asks the person whether the
    /// qube may go on.
    Violation(WindowId, Kind, Violation),
    /// It said what is passed over.
    Ignored(WindowId, Ignored),
}

#[derive(Debug)]
enum State {
    Version { have: usize, bytes: [u8; 4] },
    Messages { framer: Framer, version: Version },
    Failed,
}

/// One connection. Holds at most one message.
#[derive(Debug)]
pub struct DaemonEnd {
    own: Version,
    screen: Screen,
    state: State,
    wrong_lengths: u64,
}

impl DaemonEnd {
    /// A connection on which nothing has been read, of a daemon that speaks `own`.
    #[must_use]
    pub fn new(own: Version, screen: Screen) -> Self {
        Self {
            own,
            screen,
            state: State::Version {
                have: 0,
                bytes: [0; VERSION_LEN],
            },
            wrong_lengths: 0,
        }
    }

    /// The version, once it is agreed.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        match self.state {
            State::Messages { version, .. } => Some(version),
            State::Version { .. } | State::Failed => None,
        }
    }

    /// Messages of agents before 1.6 whose headers had another length than they have.
    #[must_use]
    pub fn wrong_lengths(&self) -> u64 {
        self.wrong_lengths
    }

    /// Whether the connection may end here without cutting a message.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        match &self.state {
            State::Version { have, .. } => *have == 0,
            State::Messages { framer, .. } => framer.is_between_messages(),
            State::Failed => false,
        }
    }

    /// Takes bytes off the front of `input`, at most up to the end of the next message, and says
    /// what it was. An answer to the version is appended to `output`. Call again until it returns
    /// `None`.
    ///
    /// # Errors
    /// [`GuiError`]; the connection cannot go on then.
    pub fn receive(
        &mut self,
        input: &mut &[u8],
        output: &mut Vec<u8>,
    ) -> Result<Option<AgentEvent>, GuiError> {
        let received = self.try_receive(input, output);
        if received.is_err() {
            self.state = State::Failed;
        }
        received
    }

    fn try_receive(
        &mut self,
        input: &mut &[u8],
        output: &mut Vec<u8>,
    ) -> Result<Option<AgentEvent>, GuiError> {
        match &mut self.state {
            State::Failed => Err(GuiError::Failed),
            State::Version { have, bytes } => {
                if !fill(bytes, have, input) {
                    return Ok(None);
                }
                let version = Version::agreed(*bytes, self.own)?;
                if version >= Version::CHOSEN {
                    output.extend_from_slice(&version.encode());
                    output.extend_from_slice(&self.screen.encode());
                }
                let framer = Framer::new(Peer::Agent, version);
                self.state = State::Messages { framer, version };
                Ok(Some(AgentEvent::Ready(version)))
            }
            State::Messages { framer, .. } => {
                let Some(framed) = framer.next(input)? else {
                    return Ok(None);
                };
                self.wrong_lengths += u64::from(framed.length == Length::Wrong);
                let (kind, window) = (framed.kind, framed.window);
                let parsed = agent_message::parse(framed);
                let parsed = parsed.map_err(|why| GuiError::Malformed { kind, why })?;
                Ok(Some(match parsed {
                    Parsed::Message(message) => AgentEvent::Message(window, message),
                    Parsed::Violation(violation) => AgentEvent::Violation(window, kind, violation),
                    Parsed::Ignored(ignored) => AgentEvent::Ignored(window, ignored),
                }))
            }
        }
    }

    /// Appends a message to `output`, if the agent knows it; says whether it does.
    pub fn send(&self, window: WindowId, message: &DaemonMessage, output: &mut Vec<u8>) -> bool {
        let version = self
            .version()
            .filter(|&version| message.is_known_to(version));
        if let Some(version) = version {
            message.encode(version, window, output);
        }
        version.is_some()
    }
}
