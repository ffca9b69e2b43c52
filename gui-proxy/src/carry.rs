//! Carries what a person copies and pastes between an agent and the daemon, and takes what else the
//! daemon hands over.

use std::os::fd::OwnedFd;
use std::time::Duration;

use bulkhead_wire::causes::chain;
use bulkhead_wire::gui::picture::PictureSize;
use bulkhead_wire::gui::{CLIPBOARD_MAX, Version};
use bulkhead_wire::monitors::Layout;
use bulkhead_wire::proxy::{FromProxy, NotCopied, NotPasted, Payload, ToProxy};

use crate::clipboard::{Allowed, Answer, Clipboard, PartAnswer};
use crate::line::{Heard, Line, LineError};
use crate::log::Log;
use crate::sealed::{self, Growing, Sealed};
use crate::typed::Wish;

/// What the daemon wants, or that it has gone.
#[derive(Debug)]
pub(crate) enum FromDaemon {
    Nothing,
    /// The agent is to have this on its clipboard, by the paste of this number.
    Paste(u64, Pasted),
    /// A call brings icons: what the qube sends, and where the end is reported.
    Icons([OwnedFd; 2]),
    /// The person waits for a window of the qube.
    Awaited,
    Gone,
}

/// What a person pastes.
#[derive(Debug)]
pub(crate) enum Pasted {
    Text(Vec<u8>),
    /// A picture, and the file of its bytes.
    Picture(PictureSize, Sealed<OwnedFd>),
}

/// A clipboard, and the line to a daemon if there is one.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) line: Option<Line>,
    clipboard: Clipboard,
    /// What has come of a picture that is asked for.
    picture: Option<Growing>,
}

impl Carrier {
    /// For a qube that may have so many bytes of text carried, and so many of a picture.
    pub(crate) fn new(line: Option<Line>, clipboard_max: usize, picture_max: usize) -> Self {
        Self {
            line,
            clipboard: Clipboard::new(clipboard_max, picture_max),
            picture: None,
        }
    }

    pub(crate) fn connected(&mut self, version: Version) -> Result<(), LineError> {
        let pictures = version.has_pictures();
        let version = (1, version.minor().into());
        self.say(&FromProxy::AgentConnected { version, pictures }, None)
    }

    /// The qube is to hear of these monitors, and of none before.
    pub(crate) fn monitors(&mut self, layout: Layout) -> Result<(), LineError> {
        let is_older = |said: &FromProxy| matches!(said, FromProxy::Monitors(_));
        match &mut self.line {
            Some(line) => line.say_newest(&FromProxy::Monitors(layout), is_older),
            None => Ok(()),
        }
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
        let answer = self.clipboard.answered(text);
        self.take(answer, log)
    }

    fn take(&mut self, answer: Answer, log: &mut Log) -> Result<(), LineError> {
        match answer {
            Answer::Unasked => {
                log.of_agent("a clipboard that nobody asked for");
                Ok(())
            }
            Answer::Arrives => {
                self.picture = Some(Growing::new().map_err(LineError::File)?);
                Ok(())
            }
            Answer::Copied { time, bytes } => {
                let file = sealed::make(&bytes).map_err(LineError::File)?;
                self.copied(time, Payload::Text, bytes.len(), file)
            }
            Answer::NotCopied { time, why } => self.not_copied(time, why),
        }
    }

    fn copied(
        &mut self,
        time: u32,
        what: Payload,
        length: usize,
        file: OwnedFd,
    ) -> Result<(), LineError> {
        // It is at most as long as may be carried.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.say(&FromProxy::Copied { length, what, time }, Some(file))
    }

    fn not_copied(&mut self, time: u32, why: NotCopied) -> Result<(), LineError> {
        self.picture = None;
        self.say(&FromProxy::NotCopied { time, why }, None)
    }

    /// The agent says that there is a picture on its clipboard.
    pub(crate) fn announced(
        &mut self,
        size: Option<PictureSize>,
        now: Duration,
        log: &mut Log,
    ) -> Result<(), LineError> {
        let answer = self.clipboard.picture(size, now);
        self.take(answer, log)
    }

    /// Some of a picture's bytes have come. Those that nobody waits for are passed over: an agent
    /// sends them on where it is told of no end.
    pub(crate) fn part(&mut self, bytes: &[u8], log: &mut Log) -> Result<(), LineError> {
        let answer = self.clipboard.part(bytes);
        if let (PartAnswer::More | PartAnswer::Whole { .. }, Some(file)) =
            (answer, &mut self.picture)
        {
            file.append(bytes).map_err(LineError::File)?;
        }
        match answer {
            PartAnswer::Unasked | PartAnswer::More => Ok(()),
            PartAnswer::Whole { time, size } => {
                let Some(file) = self.picture.take() else {
                    return Ok(());
                };
                let file = file.seal().map_err(LineError::File)?;
                self.copied(time, size.into(), size.bytes(), file)
            }
            PartAnswer::TooMuch { time } => {
                log.of_agent("a picture that is not as large as it was announced");
                self.not_copied(time, NotCopied::Malformed)
            }
        }
    }

    /// Tells the daemon what became of a paste.
    pub(crate) fn gave(
        &mut self,
        number: u64,
        given: Result<(), NotPasted>,
    ) -> Result<(), LineError> {
        let answer = match given {
            Ok(()) => FromProxy::Pasted { number },
            Err(why) => FromProxy::NotPasted { number, why },
        };
        self.say(&answer, None)
    }

    /// Tells the daemon what is overdue, and hears what it wants.
    pub(crate) fn turn(&mut self, now: Duration, log: &Log) -> Result<FromDaemon, LineError> {
        if let Some(time) = self.clipboard.overdue(now) {
            self.not_copied(time, NotCopied::NoAnswer)?;
        }
        let Some(line) = &mut self.line else {
            return Ok(FromDaemon::Nothing);
        };
        line.flush()?;
        Ok(match line.hear()? {
            Heard::Nothing => FromDaemon::Nothing,
            Heard::Gone => FromDaemon::Gone,
            Heard::Said(
                ToProxy::Paste {
                    number,
                    length,
                    what,
                },
                files,
            ) => match pasted(length, what, files) {
                Ok(pasted) => FromDaemon::Paste(number, pasted),
                Err(why) => {
                    log.say(&format!("nothing is pasted: {why}"));
                    self.gave(number, Err(NotPasted::Malformed))?;
                    FromDaemon::Nothing
                }
            },
            Heard::Said(ToProxy::Awaited, _) => FromDaemon::Awaited,
            Heard::Said(ToProxy::Icons, files) => match <[OwnedFd; 2]>::try_from(files) {
                Ok(both) => FromDaemon::Icons(both),
                Err(files) => {
                    let count = files.len();
                    log.say(&format!("no icons come: the call has {count} streams"));
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
fn pasted(length: u32, what: Payload, files: Vec<OwnedFd>) -> Result<Pasted, String> {
    let [file] = <[OwnedFd; 1]>::try_from(files)
        .map_err(|files| format!("it came with {} files", files.len()))?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    match what {
        Payload::Text if length > CLIPBOARD_MAX => {
            Err(format!("{length} bytes are more than {CLIPBOARD_MAX}"))
        }
        Payload::Text => {
            let text = sealed::read(file, length).map_err(|e| chain(&e))?;
            Ok(Pasted::Text(text))
        }
        Payload::Picture { width, height } => {
            let size = PictureSize::new(width, height).filter(|size| size.bytes() == length);
            let size = size
                .ok_or_else(|| format!("{length} bytes are no picture of {width} by {height}"))?;
            let file = sealed::check(file, length).map_err(|e| chain(&e))?;
            Ok(Pasted::Picture(size, file))
        }
    }
}
