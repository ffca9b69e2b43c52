//! Places and sizes, always within the limits of the protocol (`wire/gui.md`, section 3).

/// Widest window, in pixels.
pub const WIDTH_MAX: u32 = 16_384;

/// Highest window, in pixels.
pub const HEIGHT_MAX: u32 = 6_144;

/// A place: at most [`WIDTH_MAX`] to the left or right of the origin, [`HEIGHT_MAX`] above or below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Place {
    x: i32,
    y: i32,
}

impl Place {
    /// The nearest place within the limits.
    #[must_use]
    pub fn near(x: i32, y: i32) -> Self {
        let (right, low) = (WIDTH_MAX.cast_signed(), HEIGHT_MAX.cast_signed());
        Self {
            x: x.clamp(-right, right),
            y: y.clamp(-low, low),
        }
    }

    /// From the left, in pixels.
    #[must_use]
    pub const fn x(self) -> i32 {
        self.x
    }

    /// From the top, in pixels.
    #[must_use]
    pub const fn y(self) -> i32 {
        self.y
    }
}

/// A size: at most [`WIDTH_MAX`] by [`HEIGHT_MAX`]. Either may be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Size {
    width: u32,
    height: u32,
}

impl Size {
    /// The nearest size within the limits.
    #[must_use]
    pub fn near(width: u32, height: u32) -> Self {
        Self {
            width: width.min(WIDTH_MAX),
            height: height.min(HEIGHT_MAX),
        }
    }

    /// A size within the limits, and nothing for others.
    #[must_use]
    pub fn new(width: u32, height: u32) -> Option<Self> {
        let size = Self { width, height };
        (size == Self::near(width, height)).then_some(size)
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

    /// Whether there is nothing of it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// Bytes of an image of this size.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.width as usize * self.height as usize * super::PIXEL_LEN
    }
}

/// A part of an image, counted from its upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Part {
    /// From the left, in pixels.
    pub x: u32,
    /// From the top, in pixels.
    pub y: u32,
    /// Its own size.
    pub size: Size,
}

impl Part {
    /// What of this is within an image of the size `whole`; none where that is nothing.
    #[must_use]
    pub fn within(self, whole: Size) -> Option<Self> {
        let width = self.size.width.min(whole.width.saturating_sub(self.x));
        let height = self.size.height.min(whole.height.saturating_sub(self.y));
        let size = Size { width, height };
        (!size.is_empty()).then_some(Self { size, ..self })
    }

    /// All of an image.
    #[must_use]
    pub fn all(whole: Size) -> Self {
        Self {
            x: 0,
            y: 0,
            size: whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_sizes_end_at_their_limits() {
        let far = Place::near(i32::MAX, i32::MIN);
        assert_eq!((far.x(), far.y()), (16_384, -6_144));
        assert_eq!(
            Place::near(-16_384, 6_144),
            Place {
                x: -16_384,
                y: 6_144
            }
        );
        assert_eq!(
            Place::near(-16_385, 6_145),
            Place {
                x: -16_384,
                y: 6_144
            }
        );
        let most = Size::new(WIDTH_MAX, HEIGHT_MAX).unwrap();
        assert_eq!(Size::near(u32::MAX, u32::MAX), most);
        assert_eq!(Size::new(WIDTH_MAX + 1, 1), None);
        assert_eq!(Size::new(1, HEIGHT_MAX + 1), None);
        assert_eq!(
            most.bytes(),
            super::super::PAGES_MAX * super::super::PAGE_LEN
        );
    }

    #[test]
    fn a_part_is_cut_to_its_image() {
        let whole = Size::near(100, 50);
        let part = |x, y, width, height| Part {
            x,
            y,
            size: Size::near(width, height),
        };
        assert_eq!(
            part(90, 40, 20, 20).within(whole),
            Some(part(90, 40, 10, 10))
        );
        assert_eq!(part(100, 0, 1, 1).within(whole), None);
        assert_eq!(part(0, 0, 0, 5).within(whole), None);
        assert_eq!(part(u32::MAX, 0, 5, 5).within(whole), None);
        assert_eq!(Part::all(whole).within(whole), Some(Part::all(whole)));
    }
}
