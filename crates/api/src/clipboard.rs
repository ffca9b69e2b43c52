//! What a person carries from the clipboard of one qube to that of another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that can be pasted. It is text; nobody in dom0 reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The qube it was copied from.
    pub source: String,
    /// How much it is.
    pub bytes: u32,
    /// When, in seconds since the epoch.
    pub copied: u64,
    /// When it is wiped, likewise.
    pub expires: u64,
}

/// What has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipboardNews {
    /// The person copied from a qube.
    Copied(Carried),
    /// They wanted to, and nothing is carried now.
    NotCopied {
        /// The qube.
        source: String,
        /// Why.
        why: String,
    },
    /// It was put on the clipboard of a qube, and is carried no more.
    Pasted {
        /// From which qube.
        source: String,
        /// Into which.
        target: String,
        /// How much it was.
        bytes: u32,
    },
    /// Policy, or the person asked, refused to carry it there. It can be pasted elsewhere.
    Refused {
        /// From which qube.
        source: String,
        /// Into which.
        target: String,
    },
    /// It could not be handed to that qube, and is carried no more.
    NotPasted {
        /// Into which qube.
        target: String,
        /// Why.
        why: String,
    },
    /// The person wanted to paste, and nothing is carried.
    NothingToPaste {
        /// Into which qube.
        target: String,
    },
    /// Nobody pasted it in time.
    Expired {
        /// The qube it was copied from.
        source: String,
    },
    /// It was wiped by order.
    Cleared {
        /// The qube it was copied from.
        source: String,
    },
}

impl fmt::Display for ClipboardNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copied(carried) => {
                write!(
                    f,
                    "{} of text copied from {}",
                    size(carried.bytes),
                    carried.source
                )
            }
            Self::NotCopied { source, why } => write!(f, "nothing copied from {source}: {why}"),
            Self::Pasted {
                source,
                target,
                bytes,
            } => {
                let size = size(*bytes);
                write!(
                    f,
                    "{size} of text from {source} put on the clipboard of {target}"
                )
            }
            Self::Refused { source, target } => {
                write!(f, "text from {source} may not be pasted into {target}")
            }
            Self::NotPasted { target, why } => write!(f, "nothing pasted into {target}: {why}"),
            Self::NothingToPaste { target } => {
                write!(f, "nothing to paste into {target}: copy something first")
            }
            Self::Expired { source } => {
                write!(f, "text from {source} was wiped: nobody pasted it")
            }
            Self::Cleared { source } => write!(f, "text from {source} was wiped"),
        }
    }
}

/// As people read it.
fn size(bytes: u32) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        bytes => format!("{bytes} bytes"),
    }
}
