//! Pictures on the clipboard, which the protocol of Qubes has not: there it holds text.
//!
//! Who knows of them says so with its version, and no other end ever sees a message about them. An
//! agent offers `1.264`: 8, and [`Version::PICTURES`](super::Version) above it. A daemon of Qubes
//! takes the lesser minor number, as always, which is its own; ours chooses `1.264` as well, and
//! both know. To an agent that offers 8 or less it chooses that. Both messages go either way:
//!
//! ```text
//! Picture      0x4200  width, height                          what is on the clipboard; 0, 0: too large
//! PicturePart  0x4201  1 to PICTURE_PART_MAX bytes            the next of its bytes
//! ```
//!
//! A picture is a plain bitmap: rows from the top, 4 bytes a pixel (red, green, blue, alpha; not
//! premultiplied), and nothing between rows. It is made in the qube that it comes from and
//! understood in the one that it goes to. Whoever is between them counts its bytes and looks at
//! none. An agent answers a [`ClipboardRequest`](super::Kind::ClipboardRequest) with it where there
//! is no text. Between parts there may be other messages: windows do not wait for a picture.

use thiserror::Error;

use crate::bitmap::BitmapSize;

/// Pixels of a picture on either side, at most.
pub const PICTURE_SIDE_MAX: u32 = 16_384;

/// Bytes of a picture at most: one of 4096 by 4096.
pub const PICTURE_MAX: usize = 64 * 1024 * 1024;

/// Bytes of one part at most: what the person does meanwhile waits for no more.
pub const PICTURE_PART_MAX: usize = 32 * 1024;

/// How large a picture is.
pub type PictureSize = BitmapSize<PICTURE_SIDE_MAX, PICTURE_MAX>;

/// More bytes than the picture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a part of {part} bytes of a picture of which {missing} are missing")]
pub struct TooMuch {
    /// Bytes that came.
    pub part: usize,
    /// Bytes that could come.
    pub missing: usize,
}

/// Counts what has come of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arriving {
    size: PictureSize,
    missing: usize,
}

impl Arriving {
    /// A picture of which nothing has come.
    #[must_use]
    pub fn new(size: PictureSize) -> Self {
        let missing = size.bytes();
        Self { size, missing }
    }

    /// Of the whole picture.
    #[must_use]
    pub fn size(&self) -> PictureSize {
        self.size
    }

    /// Takes note of a part; says whether the picture is whole.
    ///
    /// # Errors
    /// [`TooMuch`]; it was not taken.
    pub fn part(&mut self, bytes: &[u8]) -> Result<bool, TooMuch> {
        let (part, missing) = (bytes.len(), self.missing);
        let rest = missing.checked_sub(part).ok_or(TooMuch { part, missing })?;
        self.missing = rest;
        Ok(rest == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_have_pixels_and_not_too_many() {
        let bytes = |width, height| PictureSize::new(width, height).map(PictureSize::bytes);
        assert_eq!(bytes(1, 1), Some(4));
        assert_eq!(bytes(4096, 4096), Some(PICTURE_MAX));
        assert_eq!(bytes(PICTURE_SIDE_MAX, 1024), Some(PICTURE_MAX));
        assert_eq!(bytes(PICTURE_SIDE_MAX + 1, 1), None);
        assert_eq!(bytes(1, PICTURE_SIDE_MAX + 1), None);
        assert_eq!(bytes(4097, 4096), None);
        assert_eq!(bytes(4096, 4097), None);
        for (width, height) in [(0, 1), (1, 0), (u32::MAX, u32::MAX), (1 << 31, 2)] {
            assert_eq!(bytes(width, height), None);
        }
    }

    #[test]
    fn parts_are_counted_up_to_the_last_byte() {
        let size = PictureSize::new(3, 2).expect("a size");
        let mut arriving = Arriving::new(size);
        assert_eq!(arriving.part(&[0; 20]), Ok(false));
        let (part, missing) = (5, 4);
        assert_eq!(arriving.part(&[0; 5]), Err(TooMuch { part, missing }));
        assert_eq!(arriving.part(&[0; 4]), Ok(true));
        let (part, missing) = (1, 0);
        assert_eq!(arriving.part(&[0; 1]), Err(TooMuch { part, missing }));
    }
}
