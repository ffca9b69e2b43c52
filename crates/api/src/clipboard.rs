//! What a person carries from the clipboard of one qube to that of another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What can be pasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// Text.
    Text,
    /// A picture, as a plain bitmap.
    Picture {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
}

impl What {
    /// It and its size, as people read it.
    #[must_use]
    pub fn of(self, bytes: u32) -> String {
        let bytes = match bytes {
            1 => "1 byte".to_owned(),
            bytes => format!("{bytes} bytes"),
        };
        match self {
            Self::Text => format!("{bytes} of text"),
            Self::Picture { .. } => format!("{self} ({bytes})"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => write!(f, "text"),
            Self::Picture { width, height } => write!(f, "picture of {width} by {height}"),
        }
    }
}

/// What can be pasted, and how much it is, as dom0 has counted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// What it is.
    #[serde(flatten)]
    pub what: What,
    /// How much it is.
    pub bytes: u32,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what.of(self.bytes))
    }
}

/// Something that can be pasted. Nobody in dom0 looks into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The qube it was copied from.
    pub source: String,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
    /// How much it is.
    pub bytes: u32,
    /// When, in seconds since the epoch.
    pub copied: u64,
    /// When it is wiped, likewise.
    pub expires: u64,
}

impl Carried {
    /// What it is, and how much.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            what: self.what,
            bytes: self.bytes,
        }
    }
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
        /// What it was.
        #[serde(flatten)]
        what: What,
        /// How much it was.
        bytes: u32,
    },
    /// Policy, or the person asked, refused to carry it there. It can be pasted elsewhere.
    Refused {
        /// From which qube.
        source: String,
        /// Into which.
        target: String,
        /// What it is.
        #[serde(flatten)]
        what: What,
    },
    /// It could not be put on the clipboard of that qube. It is carried on, unless what shows the
    /// qube's windows left in the middle of it.
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
        /// What it was.
        #[serde(flatten)]
        what: What,
    },
    /// It was wiped by order.
    Cleared {
        /// The qube it was copied from.
        source: String,
        /// What it was.
        #[serde(flatten)]
        what: What,
    },
}

impl fmt::Display for ClipboardNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copied(carried) => {
                let what = carried.what.of(carried.bytes);
                write!(f, "{what} copied from {}", carried.source)
            }
            Self::NotCopied { source, why } => write!(f, "nothing copied from {source}: {why}"),
            Self::Pasted {
                source,
                target,
                what,
                bytes,
            } => {
                let what = what.of(*bytes);
                write!(f, "{what} from {source} put on the clipboard of {target}")
            }
            Self::Refused {
                source,
                target,
                what,
            } => write!(f, "{what} from {source} may not be pasted into {target}"),
            Self::NotPasted { target, why } => write!(f, "nothing pasted into {target}: {why}"),
            Self::NothingToPaste { target } => {
                write!(f, "nothing to paste into {target}: copy something first")
            }
            Self::Expired { source, what } => {
                write!(f, "{what} from {source} was wiped: nobody pasted it")
            }
            Self::Cleared { source, what } => write!(f, "{what} from {source} was wiped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_said_in_words_and_json() {
        let (width, height) = (640, 480);
        let picture = What::Picture { width, height };
        let source = || "work".to_owned();
        let told = [
            ClipboardNews::Copied(Carried {
                source: source(),
                what: picture,
                bytes: 1_228_800,
                copied: 1,
                expires: 61,
            }),
            ClipboardNews::Pasted {
                source: source(),
                target: "vault".to_owned(),
                what: What::Text,
                bytes: 1,
            },
            ClipboardNews::Expired {
                source: source(),
                what: picture,
            },
        ];
        let words: Vec<_> = told.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "picture of 640 by 480 (1228800 bytes) copied from work",
                "1 byte of text from work put on the clipboard of vault",
                "picture of 640 by 480 from work was wiped: nobody pasted it",
            ]
        );
        for news in told {
            let json = crate::to_json(&news).expect("json");
            assert_eq!(
                crate::from_json::<ClipboardNews>(&json).expect("news"),
                news
            );
        }
    }
}
