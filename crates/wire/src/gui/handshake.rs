//! Versions, and what the daemon says of its screen.

use thiserror::Error;

use super::fields;

/// Bytes of a version.
pub const VERSION_LEN: usize = 4;

/// Bytes of [`Screen`].
pub const XCONF_LEN: usize = 16;

/// The only major version there is.
const MAJOR: u32 = 1;

/// What we add to the minor number where we know of pictures; Qubes is far from counting there.
const PICTURES: u16 = 0x100;

/// A version, which is 1 and this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    minor: u16,
    pictures: bool,
}

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
    pub const OLDEST: Self = Self::of(0);
    /// The clipboard has its length where other messages have theirs; dumps are grants.
    pub const DUMPS: Self = Self::of(2);
    /// The daemon says which version it chose.
    pub const CHOSEN: Self = Self::of(4);
    /// The daemon answers [`super::Kind::Destroy`].
    pub const DESTROY_ANSWERED: Self = Self::of(5);
    /// A wrong length ends the connection.
    pub const LENGTHS: Self = Self::of(6);
    /// The daemon answers dumps.
    pub const DUMPS_ANSWERED: Self = Self::of(7);
    /// Larger clipboards.
    pub const CLIPBOARDS: Self = Self::of(8);
    /// The newest of Qubes.
    pub const PLAIN: Self = Self::of(8);
    /// Ours: the newest of Qubes, and pictures ([`super::picture`]).
    pub const NEWEST: Self = Self {
        pictures: true,
        ..Self::PLAIN
    };

    const fn of(minor: u16) -> Self {
        let pictures = false;
        Self { minor, pictures }
    }

    /// A version of Qubes that we know.
    #[must_use]
    pub fn new(minor: u16) -> Option<Self> {
        (minor <= Self::PLAIN.minor).then_some(Self::of(minor))
    }

    /// Behind the `1.`.
    #[must_use]
    pub const fn minor(self) -> u16 {
        self.minor
    }

    /// Whether there are messages about pictures.
    #[must_use]
    pub const fn has_pictures(self) -> bool {
        self.pictures
    }

    /// On the wire.
    #[must_use]
    pub const fn encode(self) -> [u8; VERSION_LEN] {
        let added = if self.pictures { PICTURES } else { 0 };
        ((MAJOR << 16) | (self.minor | added) as u32).to_le_bytes()
    }

    /// What a daemon that speaks `own` makes of what an agent speaks.
    ///
    /// # Errors
    /// For another protocol.
    pub fn agreed(untrusted: [u8; VERSION_LEN], own: Self) -> Result<Self, VersionError> {
        let offered = minor(untrusted)?;
        Ok(Self {
            minor: offered.min(own.minor),
            pictures: own.pictures && offered >= PICTURES,
        })
    }

    /// What an agent that offered `own` makes of what the daemon chose.
    ///
    /// # Errors
    /// For a version from before daemons chose, and for one that was not offered.
    pub fn chosen(untrusted: [u8; VERSION_LEN], own: Self) -> Result<Self, VersionError> {
        match minor(untrusted)? {
            old if old < Self::CHOSEN.minor => Err(VersionError::TooOld(old)),
            chosen if chosen <= own.minor => Ok(Self::of(chosen)),
            ours if own.pictures && ours == own.minor | PICTURES => Ok(own),
            new => Err(VersionError::TooNew(new)),
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
            let version = Version::agreed(word(1, theirs), Version::PLAIN).unwrap();
            assert_eq!(version.minor(), agreed);
            assert_eq!(version.encode(), word(1, agreed.into()));
        }
        for major in [0, 2, 0xffff] {
            let refused = Version::agreed(word(major, 8), Version::NEWEST);
            assert_eq!(refused, Err(VersionError::Major(major)));
        }
    }

    #[test]
    fn pictures_are_there_where_both_ends_say_so() {
        assert_eq!(Version::NEWEST.encode(), word(1, 264));
        let agreed = |theirs, own| Version::agreed(word(1, theirs), own);
        for plain in [0, 7, 8, 9, 255] {
            let version = agreed(plain, Version::NEWEST).unwrap();
            assert!(!version.has_pictures(), "{plain}");
        }
        for theirs in [256, 264, 0xffff] {
            assert_eq!(agreed(theirs, Version::NEWEST), Ok(Version::NEWEST));
            assert_eq!(agreed(theirs, Version::PLAIN), Ok(Version::PLAIN));
        }
        let chosen = |minor, own| Version::chosen(word(1, minor), own);
        assert_eq!(chosen(264, Version::NEWEST), Ok(Version::NEWEST));
        assert_eq!(chosen(8, Version::NEWEST), Ok(Version::PLAIN));
        for new in [9, 256, 263, 265, 520] {
            assert_eq!(
                chosen(new, Version::NEWEST),
                Err(VersionError::TooNew(new as u16))
            );
        }
        let refused = Err(VersionError::TooNew(264));
        assert_eq!(chosen(264, Version::PLAIN), refused);
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
