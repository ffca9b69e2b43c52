//! What dom0 says.

use serde::{Deserialize, Serialize};

use super::NotifyError;
use super::fields::{Reader, Wrong, message, put_text};
use super::frame::Framed;

/// Why a notification is shown no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closed {
    /// Its time was over.
    Expired,
    /// The person closed it.
    Dismissed,
    /// The application did.
    ByOrder,
    /// Something else ended it.
    Otherwise,
}

impl Closed {
    /// As D-Bus numbers it.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Expired => 1,
            Self::Dismissed => 2,
            Self::ByOrder => 3,
            Self::Otherwise => 4,
        }
    }

    /// The one of that number.
    #[must_use]
    pub fn of(number: u32) -> Self {
        match number {
            1 => Self::Expired,
            2 => Self::Dismissed,
            3 => Self::ByOrder,
            _ => Self::Otherwise,
        }
    }
}

/// A message of dom0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is shown.
    Shown {
        /// Under this id.
        id: u32,
        /// Which.
        sequence: u64,
    },
    /// It is not.
    Failed {
        /// Which.
        sequence: u64,
        /// An error of D-Bus; none where nothing is known.
        name: Option<String>,
        /// Why, where that is known.
        message: Option<String>,
    },
    /// One is shown no more.
    Closed {
        /// Which.
        id: u32,
        /// Why.
        why: Closed,
    },
    /// The person clicked a button.
    Invoked {
        /// Of which.
        id: u32,
        /// Which.
        action: String,
    },
    /// All that was shown is gone.
    Restarted,
}

const SHOWN: u32 = 0;
const FAILED: u32 = 1;
const FAILED_SOMEHOW: u32 = 2;
const CLOSED: u32 = 3;
const INVOKED: u32 = 4;
const RESTARTED: u32 = 5;

impl Reply {
    pub(super) fn parse(framed: &Framed<'_>) -> Result<Self, NotifyError> {
        let mut reader = Reader::new(framed.bytes, framed.behind);
        let reply = match reader.u32()? {
            SHOWN => Self::Shown {
                id: reader.u32()?,
                sequence: reader.u64()?,
            },
            FAILED => {
                let name = Some(reader.text()?.to_owned());
                let message = reader.optional(|reader| Ok(reader.text()?.to_owned()))?;
                let sequence = reader.u64()?;
                Self::Failed {
                    sequence,
                    name,
                    message,
                }
            }
            FAILED_SOMEHOW => Self::Failed {
                sequence: reader.u64()?,
                name: None,
                message: None,
            },
            CLOSED => Self::Closed {
                id: reader.u32()?,
                why: Closed::of(reader.u32()?),
            },
            INVOKED => Self::Invoked {
                id: reader.u32()?,
                action: reader.text()?.to_owned(),
            },
            RESTARTED => Self::Restarted,
            _ => return Err(Wrong::Malformed("its kind is unknown").into()),
        };
        reader.end(0)?;
        Ok(reply)
    }

    /// Appends it to `output`.
    pub(super) fn encode(&self, output: &mut Vec<u8>) {
        message(output, |output| match self {
            Self::Shown { id, sequence } => {
                output.extend(SHOWN.to_le_bytes());
                output.extend(id.to_le_bytes());
                output.extend(sequence.to_le_bytes());
            }
            Self::Failed {
                sequence,
                name: Some(name),
                message,
            } => {
                output.extend(FAILED.to_le_bytes());
                put_text(output, name);
                output.push(message.is_some().into());
                if let Some(message) = message {
                    put_text(output, message);
                }
                output.extend(sequence.to_le_bytes());
            }
            Self::Failed { sequence, .. } => {
                output.extend(FAILED_SOMEHOW.to_le_bytes());
                output.extend(sequence.to_le_bytes());
            }
            Self::Closed { id, why } => {
                output.extend(CLOSED.to_le_bytes());
                output.extend(id.to_le_bytes());
                output.extend(why.number().to_le_bytes());
            }
            Self::Invoked { id, action } => {
                output.extend(INVOKED.to_le_bytes());
                output.extend(id.to_le_bytes());
                put_text(output, action);
            }
            Self::Restarted => output.extend(RESTARTED.to_le_bytes()),
        });
    }
}
