//! Icons of windows, which say on task bars whose a window is: a square of the label's colour, or what
//! the qube wants, in that colour.

use std::sync::Arc;

use bulkhead_wire::icons;

/// Pixels of each side of a label's square, as task bars and switchers have them.
pub const SIDES: [u32; 3] = [16, 32, 48];

/// Pixels of the sides of a qube's icon, at most: no task bar or switcher shows more.
pub const SHOWN_MAX: u32 = 128;

/// The least alpha of a pixel that is seen before whatever is behind it.
const SEEN: u8 = 128;

/// Of how many pixels one is seen, at least, of an icon that is shown.
const SEEN_PART: usize = 4;

/// The least difference between the parts of a colour that has a hue. Labels with less are told by
/// people as grey.
const GREY: u32 = 32;

/// Of a colour that lets nothing through.
const OPAQUE: u32 = 0xff00_0000;

/// A square of a colour with a darker edge, for each of [`SIDES`]: width, height, and pixels of
/// alpha, red, green and blue, as `_NET_WM_ICON` has them.
#[must_use]
pub fn of_label(color: u32) -> Vec<u32> {
    let mut all = Vec::new();
    for side in SIDES {
        all.extend([side, side]);
        let edge = side / 16;
        let at = |n: u32| (0..side).map(move |m| (m, n));
        all.extend((0..side).flat_map(at).map(|(x, y)| {
            let from_edge = x.min(y).min(side - 1 - x).min(side - 1 - y);
            match from_edge {
                outside if outside < edge => 0,
                line if line < 2 * edge => OPAQUE | darker(color),
                _ => OPAQUE | color,
            }
        }));
    }
    all
}

/// Half as light.
fn darker(color: u32) -> u32 {
    (color >> 1) & 0x7f_7f7f
}

/// An icon as a qube wants it, no larger than is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icon {
    size: (u32, u32),
    /// Red, green, blue, alpha.
    pixels: Arc<[[u8; 4]]>,
}

impl Icon {
    /// What is shown of an icon: each pixel is the mean of a square of those that there are.
    #[must_use]
    pub fn of(icon: &icons::Icon) -> Self {
        let (width, height) = (icon.size().width(), icon.size().height());
        let (pixels, _) = icon.pixels().as_chunks::<4>();
        let step = width.max(height).div_ceil(SHOWN_MAX);
        let size = (width.div_ceil(step), height.div_ceil(step));
        let square = |x: u32, y: u32| {
            let rows = (y * step..(y + 1) * step).take_while(move |row| *row < height);
            rows.flat_map(move |row| {
                let from = row * width + x * step;
                let length = step.min(width - x * step);
                let range = from as usize..(from + length) as usize;
                pixels.get(range).unwrap_or_default()
            })
        };
        let places = (0..size.1).flat_map(|y| (0..size.0).map(move |x| (x, y)));
        Self {
            size,
            pixels: places.map(|(x, y)| mean(square(x, y))).collect(),
        }
    }

    /// As `_NET_WM_ICON` has it, in the hue of a label whatever colours the qube has chosen. One of which
    /// too little can be seen to tell the hue is the label's square instead.
    #[must_use]
    pub fn picture(&self, label: u32) -> Vec<u32> {
        let seen = self.pixels.iter().filter(|[.., alpha]| *alpha >= SEEN);
        if seen.count() < self.pixels.len().div_ceil(SEEN_PART) {
            return of_label(label);
        }
        self.tinted(label)
    }

    fn tinted(&self, label: u32) -> Vec<u32> {
        let tint = tint(label);
        let pixel = |[red, green, blue, alpha]: &[u8; 4]| {
            let [red, green, blue] = tinted([*red, *green, *blue], tint);
            u32::from_be_bytes([*alpha, red, green, blue])
        };
        let pixels = self.pixels.iter().map(pixel);
        [self.size.0, self.size.1]
            .into_iter()
            .chain(pixels)
            .collect()
    }
}

/// The mean of pixels, of which those count less that let more through.
fn mean<'a>(pixels: impl Iterator<Item = &'a [u8; 4]>) -> [u8; 4] {
    let (mut sums, mut alphas, mut count) = ([0_u32; 3], 0, 0);
    for [red, green, blue, alpha] in pixels {
        let alpha = u32::from(*alpha);
        let parts = [red, green, blue].map(|part| u32::from(*part));
        sums.iter_mut()
            .zip(parts)
            .for_each(|(sum, part)| *sum += part * alpha);
        alphas += alpha;
        count += 1;
    }
    let [red, green, blue] = sums.map(|sum| byte(sum / alphas.max(1)));
    [red, green, blue, byte(alphas / count.max(1))]
}

fn byte(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// The most intense colour of a label's hue; grey for one that has none.
fn tint(label: u32) -> [u32; 3] {
    let [_, parts @ ..] = label.to_be_bytes().map(u32::from);
    let (least, most) = ends(parts);
    let chroma = most - least;
    match chroma {
        ..GREY => [127; 3],
        _ => parts.map(|part| (part - least) * 255 / chroma),
    }
}

fn ends([red, green, blue]: [u32; 3]) -> (u32, u32) {
    (red.min(green).min(blue), red.max(green).max(blue))
}

/// A colour in the hue of `tint`, as Qubes makes it: dull ones become a quarter as intense as can be,
/// intense ones stay so, and what was light stays light.
fn tinted(color: [u8; 3], tint: [u32; 3]) -> [u8; 3] {
    let (least, most) = ends(color.map(u32::from));
    let was = most - least;
    let is = (255 + 3 * was) / 4;
    // As much white as is left beside it.
    let white = least * (255 - is) / (255 - was).max(1);
    tint.map(|part| byte(white + part * is / 255))
}

#[cfg(test)]
mod tests {
    use bulkhead_wire::icons::{ICON_SIDE_MAX, IconSize};
    use proptest::prelude::*;

    use super::*;

    /// Of pixels that are all alike.
    fn plain(width: u32, height: u32, pixel: [u8; 4]) -> Icon {
        icon(width, height, |_, _| pixel)
    }

    fn icon(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 4]) -> Icon {
        let size = IconSize::new(width, height).expect("a size");
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let pixels = places.flat_map(|(x, y)| pixel(x, y)).collect();
        Icon::of(&icons::Icon::new(size, pixels).expect("an icon"))
    }

    #[test]
    fn what_is_shown_is_no_larger_than_may_be_and_of_the_same_shape() {
        let red = [255, 0, 0, 255];
        for (is, shown) in [
            ((1, 1), (1, 1)),
            ((SHOWN_MAX, SHOWN_MAX), (SHOWN_MAX, SHOWN_MAX)),
            ((SHOWN_MAX + 1, SHOWN_MAX), (65, 64)),
            ((1, ICON_SIDE_MAX), (1, SHOWN_MAX)),
            ((ICON_SIDE_MAX, 77), (SHOWN_MAX, 10)),
            ((ICON_SIDE_MAX, ICON_SIDE_MAX), (SHOWN_MAX, SHOWN_MAX)),
        ] {
            let icon = plain(is.0, is.1, red);
            assert_eq!(icon.size, shown, "{is:?}");
            assert_eq!(icon.pixels.len(), (shown.0 * shown.1) as usize);
            assert!(icon.pixels.iter().all(|pixel| *pixel == red), "{is:?}");
        }
    }

    #[test]
    fn a_pixel_is_the_mean_of_those_that_can_be_seen() {
        let shown = icon(2 * SHOWN_MAX, 2, |x, y| match (x, y) {
            (0, 0) => [100, 0, 0, 255],
            (1, 0) => [200, 0, 0, 255],
            // What lets all through has no colour.
            (0 | 1, 1) => [0, 255, 255, 0],
            _ => [1, 2, 3, 4],
        });
        assert_eq!(shown.size, (SHOWN_MAX, 1));
        assert_eq!(shown.pixels[..2], [[150, 0, 0, 127], [1, 2, 3, 4]]);
    }

    #[test]
    fn an_icon_is_in_the_colour_of_its_label_and_as_light_as_it_was() {
        let of = |pixel: [u8; 4], label: u32| plain(1, 1, pixel).tinted(label)[2];
        let (white, black, red) = ([255, 255, 255, 255], [0, 0, 0, 255], [255, 0, 0, 9]);
        assert_eq!(plain(3, 2, red).tinted(0x3465a4)[..2], [3, 2]);
        for (label, of_white, of_black, of_red) in [
            (0xcc_0000, 0xffff_c0c0, 0xff3f_0000, 0x09ff_0000),
            (0x00_ff00, 0xffc0_ffc0, 0xff00_3f00, 0x0900_ff00),
            // Grey, as labels of Qubes are.
            (0x55_5753, 0xffdf_dfdf, 0xff1f_1f1f, 0x097f_7f7f),
            (0x00_0000, 0xffdf_dfdf, 0xff1f_1f1f, 0x097f_7f7f),
        ] {
            let are = [white, black, red].map(|pixel| of(pixel, label));
            assert_eq!(are, [of_white, of_black, of_red], "{label:x}: {are:x?}");
        }
    }

    #[test]
    fn an_icon_of_which_too_little_is_seen_is_the_labels_square() {
        let of = |seen: u32, alpha: u8| {
            icon(4, 4, |x, y| {
                [255, 0, 0, if 4 * y + x < seen { alpha } else { 0 }]
            })
        };
        let label = 0xcc_0000;
        assert_eq!(of(4, SEEN).picture(label), of(4, SEEN).tinted(label));
        for hidden in [of(3, 255), of(4, SEEN - 1), of(16, SEEN - 1), of(0, 0)] {
            assert_eq!(hidden.picture(label), of_label(label));
        }
    }

    proptest! {
        #[test]
        fn no_pixel_has_another_hue(pixel: [u8; 4], label in 0..=0xff_ffff_u32) {
            let [alpha, parts @ ..] = plain(1, 1, pixel).tinted(label)[2].to_be_bytes();
            prop_assert_eq!(alpha, pixel[3]);
            let (least, most) = ends(parts.map(u32::from));
            let tint = tint(label);
            if tint == [127; 3] {
                prop_assert_eq!(least, most);
                return Ok(());
            }
            // Never so dull that it could not be told.
            prop_assert!(most - least >= 62, "{:?}", parts);
            for (part, of_hue) in parts.into_iter().zip(tint) {
                let expected = least + of_hue * (most - least) / 255;
                prop_assert!(expected.abs_diff(part.into()) <= 1, "{:?} of {:?}", parts, tint);
            }
        }
    }

    #[test]
    fn every_picture_is_whole_and_of_the_colour() {
        let all = of_label(0xcc_8001);
        let mut rest = &all[..];
        for side in SIDES {
            assert_eq!(rest[..2], [side, side]);
            let (picture, more) = rest[2..].split_at((side * side) as usize);
            let at = |x: u32, y: u32| picture[(y * side + x) as usize];
            let edge = side / 16;
            for (n, color) in [
                (0, 0),
                (edge, 0xff66_4000),
                (2 * edge, 0xffcc_8001),
                (side / 2, 0xffcc_8001),
            ] {
                let far = side - 1 - n;
                for (x, y) in [(n, n), (far, far), (n, far), (n, side / 2), (side / 2, far)] {
                    assert_eq!(at(x, y), color, "{side}: {x} {y}");
                }
            }
            rest = more;
        }
        assert!(rest.is_empty());
    }
}
