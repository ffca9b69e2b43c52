//! Dom0's end: reads what a qube says, which is hostile.
//!
//! ```text
//! answer --one that was offered--> messages --error--> failed
//!    \--another version------------------------------^
//! ```

use super::frame::Framer;
use super::request::{Parsed, parse};
use super::{FIELDS_MAX, MESSAGE_MAX, NotifyError, Reply, Request, Unfit, Version};
use crate::qrexec::fill;

/// What a qube did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEvent {
    /// Both ends speak this version.
    Ready(Version),
    /// It said something, which is within every limit and fit to be shown.
    Request(Request),
    /// It wants something shown that cannot be; it waits for an answer.
    Unfit {
        /// Names it in the answer.
        sequence: u64,
        /// Why.
        why: Unfit,
    },
}

#[derive(Debug)]
enum State {
    Answer { have: usize, bytes: [u8; 4] },
    Messages { framer: Framer, version: Version },
    Failed,
}

/// One stream. Holds at most [`FIELDS_MAX`] bytes of it.
#[derive(Debug)]
pub struct Dom0End {
    offered: Version,
    state: State,
}

impl Dom0End {
    /// A stream on which nothing has been read; the version offered is appended to `output`.
    #[must_use]
    pub fn new(offered: Version, output: &mut Vec<u8>) -> Self {
        output.extend(offered.encode());
        let state = State::Answer {
            have: 0,
            bytes: [0; 4],
        };
        Self { offered, state }
    }

    /// Whether the stream may end here without cutting a message.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        match &self.state {
            State::Answer { have, .. } => *have == 0,
            State::Messages { framer, .. } => framer.is_between_messages(),
            State::Failed => false,
        }
    }

    /// Takes bytes off the front of `input`, at most up to the end of the next message, and says
    /// what it was. Call again until it returns `None`.
    ///
    /// # Errors
    /// [`NotifyError`]; the stream cannot go on then.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<GuestEvent>, NotifyError> {
        let received = self.try_receive(input);
        if received.is_err() {
            self.state = State::Failed;
        }
        received
    }

    fn try_receive(&mut self, input: &mut &[u8]) -> Result<Option<GuestEvent>, NotifyError> {
        match &mut self.state {
            State::Failed => Err(NotifyError::Failed),
            State::Answer { have, bytes } => {
                if !fill(bytes, have, input) {
                    return Ok(None);
                }
                let version = Version::of(*bytes);
                if version != Version::PLAIN && version != self.offered {
                    return Err(NotifyError::Version(version));
                }
                let framer = Framer::new(MESSAGE_MAX, FIELDS_MAX);
                self.state = State::Messages { framer, version };
                Ok(Some(GuestEvent::Ready(version)))
            }
            State::Messages { framer, version } => {
                let Some(framed) = framer.next(input)? else {
                    return Ok(None);
                };
                Ok(Some(match parse(&framed, *version)? {
                    Parsed::Request(request) => GuestEvent::Request(request),
                    Parsed::Unfit { sequence, why } => GuestEvent::Unfit { sequence, why },
                }))
            }
        }
    }

    /// Appends a message to `output`.
    pub fn send(&self, reply: &Reply, output: &mut Vec<u8>) {
        reply.encode(output);
    }
}
