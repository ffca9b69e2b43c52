//! Versions, and what the daemon says of its screen.

use thiserror::Error;

use super::fields;

/// Bytes of a version.
pub const VERSION_LEN: usize = 4;

/// Bytes of [`Screen`].
pub const XCONF_LEN: usize = 16;

/// The only major version there is.
const MAJOR: u32 = 1;

/// A version, which is 1 and this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u16);

/// No common version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VersionError {
    /// Another protocol.
    #[error("the GUI peer speaks version {0}, and not {MAJOR}")]
    Major(u32),
    /// Before both ends said what they speak.
    #[error("the GUI daemon speaks 1.{0}, and not 1.4 at least")]
    TooOld(u16),
    /// More than was offered.
    #[error("the GUI daemon chose 1.{0}, which was not offered")]
    TooNew(u16),
}

impl Version {
    /// The first.
    pub const OLDEST: Self = Self(0);
    /// The clipboard has its length where other messages have theirs; dumps are grants.
    pub const DUMPS: Self = Self(2);
    /// The daemon says which version it chose.
    pub const CHOSEN: Self = Self(4);
    /// The daemon answers [`super::Kind::Destroy`].
    pub const DESTROY_ANSWERED: Self = Self(5);
    /// A wrong length ends the connection.
    pub const LENGTHS: Self = Self(6);
    /// The daemon answers dumps.
    pub const DUMPS_ANSWERED: Self = Self(7);
    /// Larger clipboards.
    pub const CLIPBOARDS: Self = Self(8);
    /// Ours.
    pub const NEWEST: Self = Self(8);

    /// A version up to our own.
    #[must_use]
    pub fn new(minor: u16) -> Option<Self> {
        (minor <= Self::NEWEST.0).then_some(Self(minor))
    }

    /// Behind the `1.`.
    #[must_use]
    pub const fn minor(self) -> u16 {
        self.0
    }

    /// On the wire.
    #[must_use]
    pub const fn encode(self) -> [u8; VERSION_LEN] {
        ((MAJOR << 16) | self.0 as u32).to_le_bytes()
    }

    /// What a daemon makes of what an agent speaks.
    ///
    /// # Errors
    /// For another protocol.
    pub fn agreed(untrusted: [u8; VERSION_LEN]) -> Result<Self, VersionError> {
        Ok(Self(minor(untrusted)?.min(Self::NEWEST.0)))
    }

    /// What an agent that offered `own` makes of what the daemon chose.
    ///
    /// # Errors
    /// For a version from before daemons chose, and for one that was not offered.
    pub fn chosen(untrusted: [u8; VERSION_LEN], own: Self) -> Result<Self, VersionError> {
        match minor(untrusted)? {
            old if old < Self::CHOSEN.0 => Err(VersionError::TooOld(old)),
            new if new > own.0 => Err(VersionError::TooNew(new)),
            chosen => Ok(Self(chosen)),
        }
    }

    /// The most bytes of a clipboard on the wire.
    pub(super) fn clipboard_max(self) -> usize {
        if self >= Self::CLIPBOARDS {
            super::CLIPBOARD_MAX + 1
        } else {
            super::CLIPBOARD_MAX_OLD
        }
    }
}

fn minor(untrusted: [u8; VERSION_LEN]) -> Result<u16, VersionError> {
    let [low, high, major @ ..] = untrusted;
    match u32::from(u16::from_le_bytes(major)) {
        MAJOR => Ok(u16::from_le_bytes([low, high])),
        other => Err(VersionError::Major(other)),
    }
}

/// What the daemon says of its screen. Agents of today do not look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Bits of a pixel.
    pub depth: u32,
}

impl Screen {
    /// On the wire: with the width up to a multiple of 8, and the memory of an image.
    #[must_use]
    pub fn encode(self) -> [u8; XCONF_LEN] {
        let width = self.width.saturating_add(7) & !7;
        let pixels = u64::from(width) * u64::from(self.height);
        let kib = pixels / (1024 / super::PIXEL_LEN as u64) + 1;
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let mut out = [0; XCONF_LEN];
        let fields = [width, self.height, self.depth, kib];
        for (to, field) in out.as_chunks_mut().0.iter_mut().zip(fields) {
            *to = field.to_le_bytes();
        }
        out
    }

    /// As the daemon said.
    #[must_use]
    pub fn decode(said: [u8; XCONF_LEN]) -> Self {
        let [width, height, depth, _kib] = fields::read(&said);
        Self {
            width,
            height,
            depth,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(major: u32, minor: u32) -> [u8; 4] {
        (major << 16 | minor).to_le_bytes()
    }

    #[test]
    fn the_lesser_minor_counts() {
        for (theirs, agreed) in [(0, 0), (3, 3), (8, 8), (9, 8), (0xffff, 8)] {
            let version = Version::agreed(word(1, theirs)).unwrap();
            assert_eq!(version.minor(), agreed);
            assert_eq!(version.encode(), word(1, agreed.into()));
        }
        for major in [0, 2, 0xffff] {
            let refused = Version::agreed(word(major, 8));
            assert_eq!(refused, Err(VersionError::Major(major)));
        }
    }

    #[test]
    fn an_agent_takes_what_it_offered_and_nothing_from_before_the_choice() {
        let own = Version::new(7).unwrap();
        let chosen = |minor| Version::chosen(word(1, minor), own);
        assert_eq!(chosen(7), Ok(own));
        assert_eq!(chosen(4), Ok(Version::CHOSEN));
        assert_eq!(chosen(3), Err(VersionError::TooOld(3)));
        assert_eq!(chosen(8), Err(VersionError::TooNew(8)));
        assert_eq!(Version::new(9), None);
    }

    #[test]
    fn a_screen_is_as_wide_as_a_multiple_of_8() {
        let screen = Screen {
            width: 1366,
            height: 768,
            depth: 24,
        };
        let said = screen.encode();
        assert_eq!(fields::read::<4>(&said), [1368, 768, 24, 4105]);
        assert_eq!(Screen::decode(said).width, 1368);
        let huge = Screen {
            width: u32::MAX,
            height: u32::MAX,
            depth: 24,
        };
        assert_eq!(fields::read::<4>(&huge.encode())[3], u32::MAX);
    }
}
