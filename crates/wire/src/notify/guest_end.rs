//! The qube's end.

use super::frame::Framer;
use super::{NotifyError, REPLY_MAX, Reply, Request, Version};
use crate::qrexec::fill;

/// What dom0 did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dom0Event {
    /// Both ends speak this version.
    Ready(Version),
    /// It said something.
    Reply(Reply),
}

#[derive(Debug)]
enum State {
    Offer { have: usize, bytes: [u8; 4] },
    Messages { framer: Framer, version: Version },
    Failed,
}

/// One stream. Holds at most [`REPLY_MAX`] bytes of it.
#[derive(Debug)]
pub struct GuestEnd(State);

impl Default for GuestEnd {
    fn default() -> Self {
        Self::new()
    }
}

impl GuestEnd {
    /// A stream on which nothing has been read.
    #[must_use]
    pub fn new() -> Self {
        Self(State::Offer {
            have: 0,
            bytes: [0; 4],
        })
    }

    /// Takes bytes off the front of `input`, at most up to the end of the next message, and says
    /// what it was. The answer to the version is appended to `output`. Call again until it returns
    /// `None`.
    ///
    /// # Errors
    /// [`NotifyError`]; the stream cannot go on then.
    pub fn receive(
        &mut self,
        input: &mut &[u8],
        output: &mut Vec<u8>,
    ) -> Result<Option<Dom0Event>, NotifyError> {
        let received = self.try_receive(input, output);
        if received.is_err() {
            self.0 = State::Failed;
        }
        received
    }

    fn try_receive(
        &mut self,
        input: &mut &[u8],
        output: &mut Vec<u8>,
    ) -> Result<Option<Dom0Event>, NotifyError> {
        match &mut self.0 {
            State::Failed => Err(NotifyError::Failed),
            State::Offer { have, bytes } => {
                if !fill(bytes, have, input) {
                    return Ok(None);
                }
                let offered = Version::of(*bytes);
                let version = match offered.major {
                    1 if offered == Version::WITH_CLOSE => Version::WITH_CLOSE,
                    1 => Version::PLAIN,
                    _ => return Err(NotifyError::Version(offered)),
                };
                output.extend(version.encode());
                let framer = Framer::new(REPLY_MAX, REPLY_MAX);
                self.0 = State::Messages { framer, version };
                Ok(Some(Dom0Event::Ready(version)))
            }
            State::Messages { framer, .. } => {
                let Some(framed) = framer.next(input)? else {
                    return Ok(None);
                };
                Reply::parse(&framed).map(|reply| Some(Dom0Event::Reply(reply)))
            }
        }
    }

    /// Appends a message to `output`, if dom0 knows it; says whether it does.
    pub fn send(&self, request: &Request, output: &mut Vec<u8>) -> bool {
        let State::Messages { version, .. } = &self.0 else {
            return false;
        };
        let known = match request {
            Request::Show { .. } => true,
            Request::Close { .. } => *version >= Version::WITH_CLOSE,
        };
        if known {
            request.encode(output);
        }
        known
    }
}
