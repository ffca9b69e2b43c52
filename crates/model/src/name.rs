//! Names that cannot be mixed up or malformed once they exist.

use std::borrow::Borrow;
use std::fmt;
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QubeName(String);

impl QubeName {
    /// Checks `text` and makes it a name.
    pub fn new(text: impl Into<String>) -> Result<Self, QubeNameError> {
        let text = text.into();
        let Some(first) = text.chars().next() else {
            return Err(QubeNameError::Empty);
        };
        if text.chars().count() > QUBE_NAME_MAX {
            return Err(QubeNameError::TooLong(text));
        }
        if !first.is_ascii_alphabetic() {
            return Err(QubeNameError::BadStart(text));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if let Some(found) = text.chars().find(|c| !allowed(*c)) {
            return Err(QubeNameError::BadCharacter { name: text, found });
        }
        if RESERVED_QUBE_NAMES.contains(&text.as_str()) {
            return Err(QubeNameError::Reserved(text));
        }
        if text.ends_with("-dm") {
            return Err(QubeNameError::DeviceModelSuffix(text));
        }
        Ok(Self(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QubeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
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
        name.0
    }
}

impl Borrow<str> for QubeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for QubeName {
    fn as_ref(&self) -> &str {
        &self.0
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
