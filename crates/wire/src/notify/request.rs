//! What a qube says.

use super::fields::{Reader, Wrong, message, put_length, put_text};
use super::frame::Framed;
use super::{Action, Notification, Unfit, Urgency, Version};

/// The kind of message that shows something.
const SHOW: u32 = 0;
/// The one that closes something, in [`Version::WITH_CLOSE`].
const CLOSE: u32 = 0x8000;

/// A message of a qube.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Something is to be shown.
    Show {
        /// Names it in the answer.
        sequence: u64,
        /// What.
        notification: Notification,
    },
    /// What is shown under that id is to be so no more.
    Close {
        /// Which.
        id: u32,
    },
}

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Request(Request),
    Unfit { sequence: u64, why: Unfit },
}

pub(super) fn parse(framed: &Framed<'_>, version: Version) -> Result<Parsed, Wrong> {
    let mut reader = Reader::new(framed.bytes, framed.behind);
    let sequence = reader.u64()?;
    let notification = match reader.u32()? {
        SHOW => show(&mut reader).and_then(|said| said.fit().map_err(Wrong::Unfit)),
        CLOSE if version >= Version::WITH_CLOSE => {
            let id = reader.u32()?;
            reader.end(0)?;
            return Ok(Parsed::Request(Request::Close { id }));
        }
        _ => return Err(Wrong::Malformed("its kind is unknown")),
    };
    match notification {
        Ok(notification) => Ok(Parsed::Request(Request::Show {
            sequence,
            notification,
        })),
        Err(Wrong::Unfit(why)) => Ok(Parsed::Unfit { sequence, why }),
        Err(wrong) => Err(wrong),
    }
}

fn show(reader: &mut Reader<'_>) -> Result<Notification, Wrong> {
    let silent = reader.flag()?;
    let transient = reader.flag()?;
    let resident = reader.flag()?;
    let urgency = reader.optional(|reader| match reader.u32()? {
        0 => Ok(Urgency::Low),
        1 => Ok(Urgency::Normal),
        2 => Ok(Urgency::Critical),
        _ => Err(Wrong::Malformed("its urgency is unknown")),
    })?;
    let replaces = reader.u32()?;
    let summary = reader.text()?.to_owned();
    let body = reader.text()?.to_owned();
    let count = reader.length()?;
    let mut actions = Vec::new();
    for _ in 0..count / 2 {
        let (key, label) = (reader.text()?.to_owned(), reader.text()?.to_owned());
        actions.push(Action { key, label });
    }
    if count % 2 == 1 {
        reader.text()?;
    }
    // Its category would choose an icon or a sound.
    reader.optional(Reader::text)?;
    let timeout = reader.i32()?;
    image(reader)?;
    if count % 2 == 1 {
        return Err(Wrong::Unfit(Unfit::OddActions));
    }
    Ok(Notification {
        replaces,
        summary,
        body,
        actions,
        urgency,
        timeout,
        resident,
        transient,
        silent,
    })
}

/// Passes over an image: its width, height, bytes in a row, whether it has alpha, bits of a sample
/// and channels, and then its bytes to the end of the message.
fn image(reader: &mut Reader<'_>) -> Result<(), Wrong> {
    if !reader.flag()? {
        return reader.end(0);
    }
    for _ in 0..3 {
        reader.i32()?;
    }
    reader.flag()?;
    for _ in 0..2 {
        reader.i32()?;
    }
    let bytes = reader.length()?;
    reader.end(bytes)
}

impl Request {
    /// Appends it to `output`.
    pub(super) fn encode(&self, output: &mut Vec<u8>) {
        message(output, |output| match self {
            Self::Show {
                sequence,
                notification,
            } => {
                output.extend(sequence.to_le_bytes());
                output.extend(SHOW.to_le_bytes());
                put(notification, output);
            }
            Self::Close { id } => {
                output.extend(0_u64.to_le_bytes());
                output.extend(CLOSE.to_le_bytes());
                output.extend(id.to_le_bytes());
            }
        });
    }
}

fn put(said: &Notification, output: &mut Vec<u8>) {
    output.extend([said.silent, said.transient, said.resident].map(u8::from));
    output.push(said.urgency.is_some().into());
    if let Some(urgency) = said.urgency {
        let number: u32 = match urgency {
            Urgency::Low => 0,
            Urgency::Normal => 1,
            Urgency::Critical => 2,
        };
        output.extend(number.to_le_bytes());
    }
    output.extend(said.replaces.to_le_bytes());
    put_text(output, &said.summary);
    put_text(output, &said.body);
    put_length(output, 2 * said.actions.len());
    for action in &said.actions {
        put_text(output, &action.key);
        put_text(output, &action.label);
    }
    // No category.
    output.push(0);
    output.extend(said.timeout.to_le_bytes());
    // No image.
    output.push(0);
}
