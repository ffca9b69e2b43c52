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

/// Scales that densities become: quarters, from 1 to 4.
const QUARTERS: std::ops::RangeInclusive<u32> = 4..=16;

/// Dots per inch of a screen that is not scaled.
const DENSITY: u64 = 96;
/// The same of the densest there are; what claims more has said its size wrong.
const DENSITY_MAX: u64 = 800;

/// Tenths of millimetres in an inch.
const INCH: u64 = 254;

/// What monitors say of their size, in millimetres, that mean the shape of it.
const SHAPES: [(u32, u32); 4] = [(16, 9), (16, 10), (160, 90), (160, 100)];

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

    /// Of a monitor of so many pixels and millimetres: its dots per inch by those of a screen that is
    /// not scaled, rounded down to quarters. One whose size is not known, or cannot be, is not scaled.
    pub(crate) fn of_density(pixels: (u32, u32), millimetres: Option<(u32, u32)>) -> Self {
        let Some((width, height)) = millimetres.filter(|said| !SHAPES.contains(said)) else {
            return Self::ONE;
        };
        let square = |a: u64, b: u64| a * a + b * b;
        // Diagonals, as a monitor that is turned may say how large it was before. Its millimetres may
        // have been rounded up.
        let dots = square(pixels.0.into(), pixels.1.into()) * INCH * INCH;
        let tenths = |millimetres: u32| (u64::from(millimetres) * 10).saturating_sub(5);
        let tenths = square(tenths(width), tenths(height));
        let has = |quarters: u32, density: u64| {
            let needed = density * u64::from(quarters);
            dots * 16 >= needed * needed * tenths
        };
        if has(4, DENSITY_MAX) {
            return Self::ONE;
        }
        let quarters = QUARTERS.rev().find(|quarters| has(*quarters, DENSITY));
        quarters.map_or(Self::ONE, |quarters| Self(quarters * PARTS / 4))
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

    #[test]
    fn densities_are_rounded_down_to_quarters() {
        let scale = |pixels, millimetres| Scale::of_density(pixels, millimetres).pixels();
        for (pixels, millimetres, expected) in [
            ((1920, 1080), Some((508, 285)), 1.0),
            ((1280, 1024), Some((338, 271)), 1.0),
            ((1366, 768), Some((1600, 900)), 1.0),
            // Rounded up.
            ((3840, 2160), Some((508, 286)), 2.0),
            ((2560, 1440), Some((597, 336)), 1.0),
            ((3840, 2160), Some((597, 336)), 1.5),
            ((2560, 1600), Some((286, 179)), 2.25),
            // Turned, with the size of before.
            ((1080, 1920), Some((163, 91)), 3.0),
            ((1080, 1920), Some((91, 163)), 3.0),
            // No size, shapes, and more than there can be.
            ((3840, 2160), None, 1.0),
            ((1920, 1080), Some((160, 90)), 1.0),
            ((1920, 1080), Some((16, 9)), 1.0),
            ((3840, 2160), Some((100, 56)), 1.0),
            ((1920, 1080), Some((95, 54)), 4.0),
        ] {
            assert_eq!(
                scale(pixels, millimetres),
                expected,
                "{pixels:?} {millimetres:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_a_monitor_says_the_scale_is_one(
            pixels in (1..=32_767_u32, 1..=32_767_u32),
            millimetres in (1..=32_767_u32, 1..=32_767_u32),
        ) {
            let scale = Scale::of_density(pixels, Some(millimetres));
            prop_assert!((PARTS_MIN..=PARTS_MAX).contains(&scale.0));
            prop_assert_eq!(scale.0 % (PARTS / 4), 0);
        }

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
