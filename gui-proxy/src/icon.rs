//! Pictures of a qube's label, which say on task bars whose a window is.

/// Pixels of each side, as task bars and switchers have them.
pub const SIDES: [u32; 3] = [16, 32, 48];

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

#[cfg(test)]
mod tests {
    use super::*;

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
