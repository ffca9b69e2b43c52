//! Carries what a person copies and pastes between an agent and the daemon.

use std::os::fd::OwnedFd;
use std::time::Duration;

use bulkhead_wire::causes::chain;
use bulkhead_wire::gui::{CLIPBOARD_MAX, Version};
use bulkhead_wire::proxy::{FromProxy, NotCopied, ToProxy};

use crate::clipboard::{Allowed, Answer, Clipboard};
use crate::line::{Heard, Line, LineError};
use crate::log::Log;
use crate::sealed;
use crate::typed::Wish;

/// What the daemon wants, or that it has gone.
#[derive(Debug)]
pub(crate) enum FromDaemon {
    Nothing,
    /// The agent is to have this on its clipboard.
    Paste(Vec<u8>),
    Gone,
}

/// A clipboard, and the line to a daemon if there is one.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) line: Option<Line>,
    clipboard: Clipboard,
}

impl Carrier {
    /// For a qube that may have so many bytes carried.
    pub(crate) fn new(line: Option<Line>, clipboard_max: usize) -> Self {
        Self {
            line,
            clipboard: Clipboard::new(clipboard_max),
        }
    }

    pub(crate) fn connected(&mut self, version: Version) -> Result<(), LineError> {
        let version = (1, version.minor().into());
        self.say(&FromProxy::AgentConnected { version }, None)
    }

    fn say(&mut self, message: &FromProxy, file: Option<OwnedFd>) -> Result<(), LineError> {
        match &mut self.line {
            Some(line) => line.say(message, file),
            None => Ok(()),
        }
    }

    /// The person wants something; says whether the agent is to be asked for its clipboard.
    pub(crate) fn wish(
        &mut self,
        wish: Wish,
        time: u32,
        now: Duration,
        log: &Log,
    ) -> Result<bool, LineError> {
        match self.clipboard.keystroke(now) {
            Allowed::Yes => {}
            Allowed::TooMany => {
                log.say("too many keystrokes to copy or paste; those that follow do not count");
                return Ok(false);
            }
            Allowed::Still => return Ok(false),
        }
        if self.line.is_none() {
            let what = match wish {
                Wish::Copy => "copied",
                Wish::Paste => "pasted",
            };
            log.say(&format!("nothing is {what}: there is no daemon"));
            return Ok(false);
        }
        match wish {
            Wish::Copy => {
                self.say(&FromProxy::CopyAsked { time }, None)?;
                Ok(self.clipboard.copy(time, now))
            }
            Wish::Paste => {
                self.say(&FromProxy::PasteAsked { time }, None)?;
                Ok(false)
            }
        }
    }

    /// The agent says what is on its clipboard.
    pub(crate) fn answered(
        &mut self,
        text: Option<Vec<u8>>,
        log: &mut Log,
    ) -> Result<(), LineError> {
        match self.clipboard.answered(text) {
            Answer::Unasked => {
                log.of_agent("a clipboard that nobody asked for");
                Ok(())
            }
            Answer::Copied { time, bytes } => {
                let file = sealed::make(&bytes).map_err(LineError::File)?;
                // It is at most as long as may be carried.
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                self.say(&FromProxy::Copied { length, time }, Some(file))
            }
            Answer::NotCopied { time, why } => self.say(&FromProxy::NotCopied { time, why }, None),
        }
    }

    /// Tells the daemon what is overdue, and hears what it wants.
    pub(crate) fn turn(&mut self, now: Duration, log: &Log) -> Result<FromDaemon, LineError> {
        if let Some(time) = self.clipboard.overdue(now) {
            let why = NotCopied::NoAnswer;
            self.say(&FromProxy::NotCopied { time, why }, None)?;
        }
        let Some(line) = &mut self.line else {
            return Ok(FromDaemon::Nothing);
        };
        line.flush()?;
        Ok(match line.hear()? {
            Heard::Nothing => FromDaemon::Nothing,
            Heard::Gone => FromDaemon::Gone,
            Heard::Said(ToProxy::Paste { length }, files) => match pasted(length, &files) {
                Ok(bytes) => FromDaemon::Paste(bytes),
                Err(why) => {
                    log.say(&format!("nothing is pasted: {why}"));
                    FromDaemon::Nothing
                }
            },
        })
    }

    /// How long until something is overdue.
    pub(crate) fn patience(&self, now: Duration) -> Option<Duration> {
        self.clipboard.patience(now)
    }
}

/// What is in the file that came, which another proxy has made.
fn pasted(length: u32, files: &[OwnedFd]) -> Result<Vec<u8>, String> {
    let [file] = files else {
        return Err(format!("it came with {} files", files.len()));
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > CLIPBOARD_MAX {
        return Err(format!("{length} bytes are more than {CLIPBOARD_MAX}"));
    }
    sealed::read(file, length).map_err(|e| chain(&e))
}
