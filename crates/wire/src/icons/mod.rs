//! Icons of a qube's windows, on their way to dom0: the stream of the service
//! `qubes.WindowIconUpdater`, as Qubes has it.
//!
//! The qube calls, dom0 serves, and nothing goes back. There is one icon behind the other, for as long as
//! the call lasts:
//!
//! ```text
//! WINDOW\n            its number in the GUI protocol
//! WIDTH HEIGHT\n      in pixels
//! pixels              WIDTH * HEIGHT of 4 bytes each: red, green, blue, alpha; rows from the top
//! ```
//!
//! Numbers are decimal. The pixels are not premultiplied. [`Reader`] reads what a qube says, which is
//! hostile; [`encode`] is the other end.

use thiserror::Error;

use crate::bitmap::BitmapSize;
use crate::gui::{PIXEL_LEN, WindowId};

mod reader;
#[cfg(test)]
mod tests;

pub use reader::Reader;

/// The service.
pub const SERVICE: &str = "qubes.WindowIconUpdater";

/// Pixels of an icon on either side, at most: agents of Qubes send none that is larger.
pub const ICON_SIDE_MAX: u32 = 1024;

/// Bytes of a line before its end, at most: the largest number of a window.
pub const LINE_MAX: usize = 10;

/// Bytes of an icon's pixels at most.
pub const ICON_MAX: usize = (ICON_SIDE_MAX * ICON_SIDE_MAX) as usize * PIXEL_LEN;

/// How large an icon is.
pub type IconSize = BitmapSize<ICON_SIDE_MAX, ICON_MAX>;

/// An icon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icon {
    size: IconSize,
    pixels: Vec<u8>,
}

impl Icon {
    /// None where there are not as many bytes as its pixels have.
    #[must_use]
    pub fn new(size: IconSize, pixels: Vec<u8>) -> Option<Self> {
        (pixels.len() == size.bytes()).then_some(Self { size, pixels })
    }

    /// How large it is.
    #[must_use]
    pub const fn size(&self) -> IconSize {
        self.size
    }

    /// Red, green, blue and alpha of each pixel, row by row.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// Why a stream cannot go on. Never quotes the qube.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IconError {
    /// Past [`LINE_MAX`].
    #[error("a line of more than {LINE_MAX} bytes")]
    LongLine,
    /// Not decimal, or more than a window's number can be.
    #[error("a line that is no number of a window")]
    Window,
    /// Not two decimal numbers with a space between them.
    #[error("a line that is no size of an icon")]
    Size,
    /// Past [`ICON_SIDE_MAX`], or empty.
    #[error("an icon of {0} by {1} pixels")]
    Sides(u32, u32),
    /// It failed before.
    #[error("the stream has failed")]
    Failed,
}

/// Appends an icon to what goes to dom0.
pub fn encode(window: WindowId, icon: &Icon, output: &mut Vec<u8>) {
    let (width, height) = (icon.size.width(), icon.size.height());
    let lines = format!("{}\n{width} {height}\n", window.0);
    output.reserve(lines.len() + icon.pixels.len());
    output.extend_from_slice(lines.as_bytes());
    output.extend_from_slice(&icon.pixels);
}
