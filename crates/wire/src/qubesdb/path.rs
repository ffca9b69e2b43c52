//! Paths: the names of keys and the prefixes that select them.

use std::borrow::Borrow;
use std::fmt;

use thiserror::Error;

/// Longest path in bytes; its field of 64 holds a NUL besides.
pub const PATH_MAX: usize = 63;

/// A path of allowed bytes and length; possibly empty, and not always one that can be stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DbPath(Box<str>);

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    /// Longer than [`PATH_MAX`].
    #[error("a QubesDB path of {0} bytes is past the limit of {PATH_MAX}")]
    TooLong(usize),
    /// A byte outside `A-Za-z0-9_/.:@-`, or a leading `-`.
    #[error("a QubesDB path has a byte that is not allowed at position {0}")]
    Byte(usize),
}

impl DbPath {
    /// Checks `path` byte by byte.
    ///
    /// # Errors
    /// Where it is too long or has a byte that is not allowed.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let bytes = path.as_ref();
        if bytes.len() > PATH_MAX {
            return Err(PathError::TooLong(bytes.len()));
        }
        let allowed = |(at, byte): (usize, &u8)| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'/' | b'.' | b':' | b'@' => true,
            b'-' => at != 0,
            _ => false,
        };
        if let Some(at) = bytes.iter().enumerate().position(|b| !allowed(b)) {
            return Err(PathError::Byte(at));
        }
        Ok(Self(String::from_utf8_lossy(bytes).into()))
    }

    /// No bytes: "everything" in LIST and MULTIREAD, the end in their answers.
    #[must_use]
    pub fn empty() -> Self {
        Self("".into())
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names a subtree and not a key: ends in `/`.
    #[must_use]
    pub fn is_subtree(&self) -> bool {
        self.0.ends_with('/')
    }

    /// May name a stored key: starts with `/` and does not end with one.
    #[must_use]
    pub fn is_storable(&self) -> bool {
        self.0.starts_with('/') && !self.is_subtree()
    }

    /// Whether a watch on this path fires for a change of `changed`.
    #[must_use]
    pub fn watches(&self, changed: &Self) -> bool {
        self == changed || self.is_subtree() && changed.0.starts_with(&*self.0)
    }
}

impl Borrow<str> for DbPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DbPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> DbPath {
        DbPath::new(text).unwrap()
    }

    #[test]
    fn every_byte_is_allowed_or_refused_as_listed() {
        let listed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/.:@-";
        for byte in 0..=255_u8 {
            let allowed = listed.as_bytes().contains(&byte);
            assert_eq!(
                DbPath::new([b'/', byte]).is_ok(),
                allowed,
                "byte {byte:#04x}"
            );
        }
    }

    #[test]
    fn a_leading_dash_is_refused() {
        assert_eq!(DbPath::new("-a"), Err(PathError::Byte(0)));
        assert!(DbPath::new("a-").is_ok());
    }

    #[test]
    fn sixty_three_bytes_fit_and_sixty_four_do_not() {
        assert!(DbPath::new("a".repeat(PATH_MAX)).is_ok());
        let e = DbPath::new("a".repeat(PATH_MAX + 1)).unwrap_err();
        assert_eq!(
            e.to_string(),
            "a QubesDB path of 64 bytes is past the limit of 63"
        );
    }

    #[test]
    fn what_can_be_stored() {
        assert!(path("/a").is_storable());
        for not in ["", "/", "a", "/a/", "a/b"] {
            assert!(!path(not).is_storable(), "{not:?}");
        }
    }

    #[test]
    fn watches_fire_for_the_key_or_what_is_below() {
        assert!(path("/foo").watches(&path("/foo")));
        assert!(!path("/foo").watches(&path("/foo/bar")));
        assert!(path("/foo/").watches(&path("/foo/bar")));
        assert!(path("/foo/").watches(&path("/foo/")));
        assert!(!path("/foo/").watches(&path("/foo")));
        assert!(!path("/foo/bar").watches(&path("/foo/")));
    }
}
