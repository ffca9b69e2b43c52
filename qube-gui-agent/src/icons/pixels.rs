//! Pixels as applications have them, as an icon that is sent.

use bulkhead_wire::icons::{Icon, IconSize};
use image::RgbaImage;
use image::imageops::{FilterType, resize};

/// Pixels of the sides of an icon that is sent, at most: dom0 shows no more.
pub(crate) const SENT_MAX: u32 = 128;

/// Pixels of the sides of a picture that is looked at, at most.
pub(crate) const SOURCE_MAX: u32 = 1024;

/// What bits are drawn in: to be seen on dark and on light.
const GREY: u32 = 0x7f_7f7f;

/// Of which of these sizes an icon is made: the largest that need not become smaller, or else the
/// smallest.
pub(crate) fn best(sizes: impl IntoIterator<Item = (u32, u32)>) -> Option<usize> {
    let usable = |(_, (width, height)): &(usize, (u32, u32))| {
        let sides = 1..=SOURCE_MAX;
        sides.contains(width) && sides.contains(height)
    };
    let sizes = sizes.into_iter().enumerate().filter(usable);
    let better = |(_, (width, height)): &(usize, (u32, u32))| {
        let side = (*width).max(*height);
        match side {
            ..=SENT_MAX => (0, SENT_MAX - side),
            _ => (1, side),
        }
    };
    sizes.min_by_key(better).map(|(at, _)| at)
}

/// An icon of a picture, which is made smaller where it has to be.
pub(crate) fn icon(picture: RgbaImage) -> Option<Icon> {
    let (width, height) = picture.dimensions();
    let most = width.max(height);
    let picture = match most {
        ..=SENT_MAX => picture,
        _ => {
            let side = |side: u32| (side * SENT_MAX / most).max(1);
            resize(&picture, side(width), side(height), FilterType::Triangle)
        }
    };
    let size = IconSize::new(picture.width(), picture.height())?;
    Icon::new(size, picture.into_raw())
}

/// The best icon of `_NET_WM_ICON`: width, height, and so many pixels of alpha, red, green and blue,
/// for each that there is. What is not whole is passed over.
pub(crate) fn of_property(numbers: &[u32]) -> Option<Icon> {
    let mut all = Vec::new();
    let mut rest = numbers;
    while let [width, height, pixels @ ..] = rest {
        let count = usize::try_from(u64::from(*width) * u64::from(*height)).ok();
        let Some((own, others)) = count.and_then(|count| pixels.split_at_checked(count)) else {
            break;
        };
        all.push(((*width, *height), own));
        rest = others;
    }
    let at = best(all.iter().map(|(size, _)| *size))?;
    let ((width, height), pixels) = all.get(at)?;
    let rgba = |pixel: &u32| {
        let [alpha, red, green, blue] = pixel.to_be_bytes();
        [red, green, blue, alpha]
    };
    let bytes = pixels.iter().flat_map(rgba).collect();
    icon(RgbaImage::from_raw(*width, *height, bytes)?)
}

/// An icon of pixels as Wayland has them: blue, green, red, and alpha, by which they are multiplied.
pub(crate) fn of_buffer(width: u32, height: u32, bytes: &[u8]) -> Option<Icon> {
    let (pixels, _) = bytes.as_chunks::<4>();
    let rgba = |[blue, green, red, alpha]: &[u8; 4]| {
        let part = |part: u8| {
            let part = u32::from(part) * 255 / u32::from(*alpha).max(1);
            u8::try_from(part).unwrap_or(u8::MAX)
        };
        [part(*red), part(*green), part(*blue), *alpha]
    };
    let bytes = pixels.iter().flat_map(rgba).collect();
    icon(RgbaImage::from_raw(width, height, bytes)?)
}

/// A picture in an X server of little-endian numbers.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) size: (u32, u32),
    /// Bits of a pixel that mean something.
    pub(crate) depth: u8,
    /// Rows from the top: 4 bytes for each pixel, or a bit where that is all.
    pub(crate) bytes: Vec<u8>,
}

impl Picture {
    /// The bits of a pixel.
    fn at(&self, x: u32, y: u32) -> Option<u32> {
        let (x, y, width) = (x as usize, y as usize, self.size.0 as usize);
        match self.depth {
            1 => {
                // Rows are filled up to 32 bits.
                let row = width.div_ceil(32) * 4;
                let byte = *self.bytes.get(y * row + x / 8)?;
                Some(u32::from(byte >> (x % 8) & 1))
            }
            24 | 32 => {
                let (pixels, _) = self.bytes.as_chunks::<4>();
                pixels
                    .get(y * width + x)
                    .map(|pixel| u32::from_le_bytes(*pixel))
            }
            _ => None,
        }
    }
}

/// An icon of pictures as applications had them before there was a property: one of colours, or of
/// bits that are drawn in grey, and bits that say which pixels there are.
pub(crate) fn of_pixmaps(picture: &Picture, mask: Option<&Picture>) -> Option<Icon> {
    let (width, height) = picture.size;
    let mask = mask.filter(|mask| mask.depth == 1 && mask.size == picture.size);
    let mut bytes = Vec::new();
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let pixel = picture.at(x, y)?;
        let (is_drawn, color) = match picture.depth {
            1 => (pixel == 1, GREY),
            _ => (true, pixel),
        };
        let is_there = mask.is_none_or(|mask| mask.at(x, y) == Some(1));
        let [_, red, green, blue] = color.to_be_bytes();
        let alpha = if is_drawn && is_there { 255 } else { 0 };
        bytes.extend([red, green, blue, alpha]);
    }
    icon(RgbaImage::from_raw(width, height, bytes)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_that_fits_is_chosen_or_else_the_smallest() {
        let side = |sides: &[u32]| {
            let at = best(sides.iter().map(|side| (*side, *side)));
            at.map(|at| sides[at])
        };
        assert_eq!(side(&[16, 128, 48, 129, 256]), Some(128));
        assert_eq!(side(&[512, 256, 1024]), Some(256));
        assert_eq!(side(&[0, SOURCE_MAX + 1]), None);
        assert_eq!(side(&[SOURCE_MAX, SOURCE_MAX + 1]), Some(SOURCE_MAX));
        assert_eq!(side(&[]), None);
        assert_eq!(best([(1, 2000), (3, 1)]), Some(1));
    }

    #[test]
    fn a_property_is_as_many_icons_as_it_has_whole() {
        let numbers = [1, 1, 0x8001_0203, 2, 1, 0xff0a_0b0c, 5, 3, 3, 1, 2];
        let icon = of_property(&numbers).unwrap();
        assert_eq!((icon.size().width(), icon.size().height()), (2, 1));
        assert_eq!(icon.pixels(), [10, 11, 12, 255, 0, 0, 5, 0]);
        let first = of_property(&numbers[..4]).unwrap();
        assert_eq!(first.pixels(), [1, 2, 3, 128]);
        for none in [&[][..], &[1], &[1, 1], &[u32::MAX, u32::MAX, 1], &[0, 0]] {
            assert_eq!(of_property(none), None, "{none:?}");
        }
    }

    #[test]
    fn what_is_too_large_keeps_its_shape_and_colour() {
        let pixel = [9, 8, 7, 255];
        for ((width, height), expected) in [
            ((128, 128), (128, 128)),
            ((256, 128), (128, 64)),
            ((129, 1), (128, 1)),
        ] {
            let picture = RgbaImage::from_pixel(width, height, image::Rgba(pixel));
            let icon = icon(picture).unwrap();
            assert_eq!((icon.size().width(), icon.size().height()), expected);
            assert!(icon.pixels().as_chunks::<4>().0.iter().all(|p| *p == pixel));
        }
    }

    #[test]
    fn pixels_of_wayland_are_divided_by_their_alpha() {
        let bytes = [0, 64, 128, 128, 3, 2, 1, 255, 0, 0, 0, 0, 255, 0, 0, 1];
        let icon = of_buffer(2, 2, &bytes).unwrap();
        let (pixels, _) = icon.pixels().as_chunks::<4>();
        let expected = [[255, 127, 0, 128], [1, 2, 3, 255], [0; 4], [0, 0, 255, 1]];
        assert_eq!(pixels, expected);
        assert_eq!(of_buffer(2, 2, &bytes[..12]), None);
    }

    #[test]
    fn old_pictures_are_of_colours_or_bits_and_what_is_masked_is_not_there() {
        let picture = |depth, bytes: &[u8]| Picture {
            size: (2, 2),
            depth,
            bytes: bytes.to_vec(),
        };
        let colors = [3, 2, 1, 0, 6, 5, 4, 0, 9, 8, 7, 0, 12, 11, 10, 0];
        let bits = picture(1, &[0b01, 0, 0, 0, 0b11, 0, 0, 0]);
        let shown = |picture: &Picture, mask| {
            let icon = of_pixmaps(picture, mask).unwrap();
            icon.pixels().as_chunks::<4>().0.to_vec()
        };
        let colored = [
            [1, 2, 3, 255],
            [4, 5, 6, 255],
            [7, 8, 9, 255],
            [10, 11, 12, 255],
        ];
        let mut expected = colored;
        assert_eq!(shown(&picture(24, &colors), None), expected);
        expected[1][3] = 0;
        assert_eq!(shown(&picture(24, &colors), Some(&bits)), expected);
        let (there, not) = ([127, 127, 127, 255], [127, 127, 127, 0]);
        assert_eq!(shown(&bits, None), [there, not, there, there]);
        // A mask of another size says nothing of it.
        let other = Picture {
            size: (1, 1),
            ..picture(1, &[0; 4])
        };
        assert_eq!(shown(&picture(24, &colors), Some(&other)), colored);
        assert_eq!(of_pixmaps(&picture(24, &colors[..15]), None), None);
        assert_eq!(of_pixmaps(&picture(16, &colors), None), None);
    }

    proptest! {
        #[test]
        fn any_property_is_an_answer(numbers in proptest::collection::vec(
            prop_oneof![0..4_u32, any::<u32>()], 0..40)) {
            if let Some(icon) = of_property(&numbers) {
                prop_assert!(icon.pixels().len() <= 4 * numbers.len());
            }
        }
    }
}
