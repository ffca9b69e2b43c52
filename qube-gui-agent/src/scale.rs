//! How many pixels of the screen a unit of Wayland applications is.
//!
//! Windows of the protocol are counted in pixels, and so is everything in here. Applications of
//! Wayland count in units of their own, of which they make as many pixels as they can; those of X
//! know only pixels.

use smithay::utils::{Logical, Point, Rectangle, Size};
use thiserror::Error;

/// Parts of one: what the protocol of Wayland counts in.
const PARTS: u32 = 120;
const PARTS_MIN: u32 = PARTS;
const PARTS_MAX: u32 = 4 * PARTS;

/// Pixels in a unit, in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale(u32);

/// No scale from 1 to 4.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no number from 1 to 4")]
pub(crate) struct ScaleError(String);

impl Scale {
    pub(crate) const ONE: Self = Self(PARTS);

    /// Of a number such as `1.5`, to the nearest part.
    pub(crate) fn parse(text: &str) -> Result<Self, ScaleError> {
        let bad = || ScaleError(text.into());
        let is_digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let number: f64 = text.parse().ok().filter(|_| is_digits).ok_or_else(bad)?;
        let parts = (number * f64::from(PARTS)).round();
        let mut all = PARTS_MIN..=PARTS_MAX;
        let parts = all.find(|known| f64::from(*known) == parts);
        parts.map(Self).ok_or_else(bad)
    }

    /// Pixels in a unit.
    pub(crate) fn pixels(self) -> f64 {
        f64::from(self.0) / f64::from(PARTS)
    }

    /// For those who know whole numbers only: never fewer pixels than there are.
    pub(crate) fn whole(self) -> i32 {
        self.0.div_ceil(PARTS).cast_signed()
    }

    /// Units become pixels.
    pub(crate) fn point(self, units: Point<i32, Logical>) -> Point<i32, Logical> {
        units.to_f64().upscale(self.pixels()).to_i32_round()
    }

    /// The same of a size.
    pub(crate) fn size(self, units: Size<i32, Logical>) -> Size<i32, Logical> {
        units.to_f64().upscale(self.pixels()).to_i32_round()
    }

    /// The same of a rectangle, of which no side moves by how large it is.
    pub(crate) fn rectangle(self, units: Rectangle<i32, Logical>) -> Rectangle<i32, Logical> {
        let (from, to) = (self.point(units.loc), self.point(units.loc + units.size));
        Rectangle::from_extremities(from, to)
    }

    /// Pixels become units, of which there is at least one. What [`Self::size`] has made of a size
    /// becomes that size.
    pub(crate) fn units(self, pixels: Size<i32, Logical>) -> Size<i32, Logical> {
        let units: Size<i32, Logical> = pixels.to_f64().downscale(self.pixels()).to_i32_round();
        (units.w.max(1), units.h.max(1)).into()
    }

    /// The same of a rectangle that is not to be left.
    pub(crate) fn inside(self, pixels: Rectangle<i32, Logical>) -> Rectangle<i32, Logical> {
        let all = pixels.to_f64().downscale(self.pixels());
        let from: Point<i32, Logical> = all.loc.to_i32_ceil();
        let to: Point<i32, Logical> = (all.loc + all.size).to_i32_floor();
        Rectangle::from_extremities(from, to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scales_are_numbers_from_one_to_four() {
        for (text, parts) in [
            ("1", 120),
            ("1.25", 150),
            ("1.5", 180),
            ("2.0", 240),
            ("4", 480),
        ] {
            assert_eq!(Scale::parse(text), Ok(Scale(parts)));
        }
        for bad in [
            "", "0", "0.99", "4.01", "-2", "x", "nan", "inf", "1e0", "1,5",
        ] {
            assert_eq!(Scale::parse(bad), Err(ScaleError(bad.into())), "{bad}");
        }
        let whole = ["1", "1.1", "2", "2.5"].map(|text| Scale::parse(text).unwrap().whole());
        assert_eq!(whole, [1, 2, 2, 3]);
    }

    proptest! {
        #[test]
        fn what_an_application_makes_of_a_size_is_the_size(
            parts in PARTS_MIN..=PARTS_MAX, w in 1..20_000, h in 1..20_000,
        ) {
            let scale = Scale(parts);
            let size = Size::from((w, h));
            prop_assert_eq!(scale.units(scale.size(size)), size);
            prop_assert_eq!(Scale::ONE.size(size), size);
            prop_assert_eq!(Scale::ONE.units(size), size);
        }

        #[test]
        fn what_fits_in_units_fits_in_pixels(
            parts in PARTS_MIN..=PARTS_MAX,
            x in -5000..5000, y in -5000..5000, w in 100..5000, h in 100..5000,
        ) {
            let scale = Scale(parts);
            let pixels: Rectangle<i32, Logical> = Rectangle::new((x, y).into(), (w, h).into());
            prop_assert!(pixels.contains_rect(scale.rectangle(scale.inside(pixels))));
        }
    }
}
