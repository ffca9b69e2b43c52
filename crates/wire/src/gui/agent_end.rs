//! The agent's end: reads what a daemon says, which is trusted as dom0 is.
//!
//! ```text
//! version --chosen--> screen --> messages
//!    \--not offered--> failed
//! ```

use super::daemon_message::{self, DaemonMessage};
use super::frame::{Framer, Peer};
use super::{AgentMessage, GuiError, Screen, VERSION_LEN, Version, WindowId, XCONF_LEN};
use crate::qrexec::fill;

/// What a daemon did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonEvent {
    /// It chose this version, and has this screen.
    Ready(Version, Screen),
    /// It said something.
    Message(WindowId, DaemonMessage),
}

/// Bytes of what a daemon says first.
const FIRST_LEN: usize = VERSION_LEN + XCONF_LEN;

#[derive(Debug)]
enum State {
    First { have: usize, bytes: [u8; FIRST_LEN] },
    Messages { framer: Framer, version: Version },
    Failed,
}

/// One connection. Holds at most one message.
#[derive(Debug)]
pub struct AgentEnd {
    offered: Version,
    state: State,
}

impl AgentEnd {
    /// A connection on which nothing has been read; what the agent says first is appended to
    /// `output`.
    #[must_use]
    pub fn new(offered: Version, output: &mut Vec<u8>) -> Self {
        output.extend_from_slice(&offered.encode());
        Self {
            offered,
            state: State::First {
                have: 0,
                bytes: [0; FIRST_LEN],
            },
        }
    }

    /// The version, once it is chosen.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        match self.state {
            State::Messages { version, .. } => Some(version),
            State::First { .. } | State::Failed => None,
        }
    }

    /// Takes bytes off the front of `input`, at most up to the end of the next message, and says
    /// what it was. Call again until it returns `None`.
    ///
    /// # Errors
    /// [`GuiError`]; the connection cannot go on then.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<DaemonEvent>, GuiError> {
        let received = self.try_receive(input);
        if received.is_err() {
            self.state = State::Failed;
        }
        received
    }

    fn try_receive(&mut self, input: &mut &[u8]) -> Result<Option<DaemonEvent>, GuiError> {
        match &mut self.state {
            State::Failed => Err(GuiError::Failed),
            State::First { have, bytes } => {
                let whole = fill(bytes, have, input);
                let (mut chosen, mut screen) = ([0; VERSION_LEN], [0; XCONF_LEN]);
                let said = chosen.iter_mut().chain(&mut screen);
                said.zip(bytes).for_each(|(to, from)| *to = *from);
                // Nothing more may come from a daemon that is too old.
                if *have >= VERSION_LEN {
                    Version::chosen(chosen, self.offered)?;
                }
                if !whole {
                    return Ok(None);
                }
                let version = Version::chosen(chosen, self.offered)?;
                let framer = Framer::new(Peer::Daemon, version);
                self.state = State::Messages { framer, version };
                Ok(Some(DaemonEvent::Ready(version, Screen::decode(screen))))
            }
            State::Messages { framer, .. } => {
                let framed = framer.next(input)?;
                Ok(framed.map(|framed| {
                    DaemonEvent::Message(framed.window, daemon_message::parse(framed))
                }))
            }
        }
    }

    /// Appends a message to `output`, once the version is chosen; says whether it is.
    pub fn send(&self, window: WindowId, message: &AgentMessage, output: &mut Vec<u8>) -> bool {
        let version = self.version();
        if let Some(version) = version {
            message.encode(version, window, output);
        }
        version.is_some()
    }
}
