//! How large a plain bitmap is: rows from the top, 4 bytes a pixel, nothing between rows.

use crate::gui::PIXEL_LEN;

/// A bitmap's sides: one pixel at least, `SIDE_MAX` on either side and `BYTES_MAX` bytes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitmapSize<const SIDE_MAX: u32, const BYTES_MAX: usize> {
    width: u32,
    height: u32,
}

impl<const SIDE_MAX: u32, const BYTES_MAX: usize> BitmapSize<SIDE_MAX, BYTES_MAX> {
    /// None for what no such bitmap has.
    #[must_use]
    pub fn new(width: u32, height: u32) -> Option<Self> {
        let sides = 1..=SIDE_MAX;
        let size = Self { width, height };
        // Both sides together fit any `usize` that we are built for.
        let fits = sides.contains(&width) && sides.contains(&height) && size.bytes() <= BYTES_MAX;
        fits.then_some(size)
    }

    /// In pixels.
    #[must_use]
    pub const fn width(self) -> u32 {
        self.width
    }

    /// In pixels.
    #[must_use]
    pub const fn height(self) -> u32 {
        self.height
    }

    /// Of all its pixels.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.width as usize * self.height as usize * PIXEL_LEN
    }
}
