//! Names that cannot be mixed up or malformed once they exist.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU8;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest qube name, as in the Qubes Admin API: it must fit a 32-byte field with its NUL.
pub const QUBE_NAME_MAX: usize = 31;

/// Names that mean something else to the tools and so can never be a qube's.
pub const RESERVED_QUBE_NAMES: [&str; 4] = ["none", "default", "Domain-0", "dom0"];

/// Why a text is not a qube name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QubeNameError {
    /// The text is empty.
    #[error("a qube name may not be empty")]
    Empty,
    /// The text is longer than [`QUBE_NAME_MAX`].
    #[error("qube name `{0}` has {len} characters, at most {QUBE_NAME_MAX} are allowed", len = .0.chars().count())]
    TooLong(String),
    /// The text does not start with an ASCII letter.
    #[error("qube name `{0}` does not start with a letter")]
    BadStart(String),
    /// A character outside letters, digits, `_`, `.` and `-`.
    #[error("qube name `{name}` contains `{found}`; letters, digits, `_`, `.` and `-` are allowed")]
    BadCharacter {
        /// The text that was refused.
        name: String,
        /// The first character that is not allowed.
        found: char,
    },
    /// One of [`RESERVED_QUBE_NAMES`].
    #[error("qube name `{0}` is reserved")]
    Reserved(String),
    /// Ends in `-dm`, which names a qube's device-model domain.
    #[error("qube name `{0}` ends in `-dm`, which is reserved for device-model domains")]
    DeviceModelSuffix(String),
}

/// The name of a qube. Rules: Qubes Admin API, checks made for every call.
///
/// It is short, so it is kept in place: a large description has several names for each qube, and
/// a search for one reads no other memory than the map's own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QubeName {
    /// ASCII, zeros behind it: in this order names are sorted as texts are.
    bytes: [u8; QUBE_NAME_MAX],
    len: NonZeroU8,
}

impl QubeName {
    /// Checks `text` and makes it a name.
    pub fn new(text: impl AsRef<str>) -> Result<Self, QubeNameError> {
        let text = text.as_ref();
        let owned = || text.to_owned();
        let Some(first) = text.chars().next() else {
            return Err(QubeNameError::Empty);
        };
        if text.chars().count() > QUBE_NAME_MAX {
            return Err(QubeNameError::TooLong(owned()));
        }
        if !first.is_ascii_alphabetic() {
            return Err(QubeNameError::BadStart(owned()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if let Some(found) = text.chars().find(|c| !allowed(*c)) {
            return Err(QubeNameError::BadCharacter {
                name: owned(),
                found,
            });
        }
        if RESERVED_QUBE_NAMES.contains(&text) {
            return Err(QubeNameError::Reserved(owned()));
        }
        if text.ends_with("-dm") {
            return Err(QubeNameError::DeviceModelSuffix(owned()));
        }
        let mut bytes = [0; QUBE_NAME_MAX];
        bytes
            .iter_mut()
            .zip(text.bytes())
            .for_each(|(to, from)| *to = from);
        let len = u8::try_from(text.len()).ok().and_then(NonZeroU8::new);
        len.map(|len| Self { bytes, len })
            .ok_or(QubeNameError::Empty)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..usize::from(self.len.get()));
        // Only ASCII is ever put in.
        text.and_then(|text| std::str::from_utf8(text).ok())
            .unwrap_or_default()
    }
}

impl Hash for QubeName {
    /// As the text, which maps of names are searched by.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for QubeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QubeName").field(&self.as_str()).finish()
    }
}

impl fmt::Display for QubeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for QubeName {
    type Err = QubeNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for QubeName {
    type Error = QubeNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<QubeName> for String {
    fn from(name: QubeName) -> Self {
        name.as_str().to_owned()
    }
}

impl Borrow<str> for QubeName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for QubeName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_longest_name_and_refuses_one_more() {
        assert!(QubeName::new("a".repeat(QUBE_NAME_MAX)).is_ok());
        let one_more = "a".repeat(QUBE_NAME_MAX + 1);
        assert_eq!(
            QubeName::new(one_more.clone()),
            Err(QubeNameError::TooLong(one_more))
        );
    }

    #[test]
    fn names_are_sorted_and_hashed_as_their_texts() {
        let longest = "a".repeat(QUBE_NAME_MAX);
        let mut texts = ["b", "a", "a-b", "a.b", "B", "a0", "ab", longest.as_str()];
        let mut names = texts.map(|text| QubeName::new(text).unwrap());
        texts.sort_unstable();
        names.sort_unstable();
        assert_eq!(names.each_ref().map(QubeName::as_str), texts);
        let set = std::collections::HashSet::from(names);
        assert!(texts.iter().all(|text| set.contains(*text)));
        assert_eq!(size_of::<Option<QubeName>>(), QUBE_NAME_MAX + 1);
    }

    #[test]
    fn refuses_what_the_admin_api_refuses() {
        for bad in [
            "", "1work", "-x", "a b", "a+b", "none", "default", "Domain-0", "dom0", "work-dm", "é",
        ] {
            assert!(QubeName::new(bad).is_err(), "`{bad}` must be refused");
        }
        for good in ["work", "sys-net", "disp1234", "A_b.c-d", "dm", "work-dmz"] {
            assert!(QubeName::new(good).is_ok(), "`{good}` must be accepted");
        }
    }
}
