//! Domain ids and ports.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A domain id: below 0x7FF0, above which Xen keeps its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(u16);

/// A vchan port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(u32);

/// Not a domain id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no domain id (0 to 32751)")]
pub struct IdError(String);

impl DomId {
    /// The administrative domain.
    pub const DOM0: Self = Self(0);
    /// Ids end before this.
    pub const LIMIT: u32 = 0x7FF0;

    /// Checks a number.
    ///
    /// # Errors
    /// [`IdError`] from [`Self::LIMIT`] on.
    pub fn new(id: u32) -> Result<Self, IdError> {
        match u16::try_from(id) {
            Ok(small) if id < Self::LIMIT => Ok(Self(small)),
            _ => Err(IdError(id.to_string())),
        }
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0.into()
    }
}

impl Port {
    /// Any number names a port; protocols narrow it.
    #[must_use]
    pub const fn new(port: u32) -> Self {
        Self(port)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl FromStr for DomId {
    type Err = IdError;

    /// Decimal, without sign or leading zeros.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let canonical = text == "0" || !text.starts_with('0');
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let parsed = text.parse().ok().filter(|_| canonical && digits);
        Self::new(parsed.ok_or_else(|| IdError(text.into()))?).map_err(|_| IdError(text.into()))
    }
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_end_before_the_reserved_ones() {
        assert_eq!(DomId::new(0x7FEF).map(DomId::number), Ok(0x7FEF));
        assert!(DomId::new(0x7FF0).is_err());
        assert!(DomId::new(u32::MAX).is_err());
    }

    #[test]
    fn ids_parse_strictly() {
        assert_eq!("17".parse(), DomId::new(17));
        assert_eq!("0".parse(), Ok(DomId::DOM0));
        for text in [
            "",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "32752",
            "99999999999",
            "x",
        ] {
            assert_eq!(text.parse::<DomId>(), Err(IdError(text.into())), "{text}");
        }
    }
}
