//! The monitors of the display, as a qube is told of them.
//!
//! A qube hears of densities only in steps, as from Qubes: what a monitor says of its size tells one
//! machine from others.

use bulkhead_wire::monitors::{Layout, MONITORS_MAX, Monitor};

/// Dots per inch that a qube may hear of, of monitors that have more. Source: `get_monitor_layout` in
/// `qubesadmin/tools/qvm_start_daemon.py`.
const STEPS: [u64; 3] = [300, 200, 150];

/// All that is less dense.
const USUAL: u64 = 96;

/// A monitor as the display has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// The upper left corner in pixels.
    pub place: (i32, i32),
    /// Width and height in millimetres; 0 where they are not known.
    pub millimetres: (u32, u32),
}

/// What a qube is told; nothing where there is no monitor. More than may be told of are left out, and
/// those whose numbers no monitor has.
#[must_use]
pub fn layout(seen: &[Seen]) -> Option<Layout> {
    let told = seen.iter().filter_map(|seen| {
        let sizes = [steps(seen), None];
        let told = |size| Monitor::new(seen.size, seen.place, size).ok();
        sizes.into_iter().find_map(told)
    });
    Layout::new(told.take(MONITORS_MAX).collect()).ok()
}

/// Millimetres that have nearly the density of a monitor.
fn steps(seen: &Seen) -> Option<(u32, u32)> {
    let (width, height) = (u64::from(seen.size.0), u64::from(seen.size.1));
    let inch = |length: u64, by: u64| (length * 254).checked_div(by * 10);
    let density = inch(width, seen.millimetres.0.into())?;
    let step = STEPS.into_iter().find(|step| density > *step);
    let density = step.unwrap_or(USUAL);
    let side = |length| u32::try_from(inch(length, density)?).ok();
    Some((side(width)?, side(height)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(width: u32, height: u32, millimetres: (u32, u32)) -> Seen {
        Seen {
            size: (width, height),
            place: (0, 0),
            millimetres,
        }
    }

    fn told(all: &[Seen]) -> String {
        layout(all)
            .map(|layout| layout.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn a_qube_hears_of_densities_in_steps() {
        for (width, height, millimetres, expected) in [
            (1920, 1080, (527, 296), "1920 1080 0 0 508 285\n"),
            (1920, 1080, (325, 183), "1920 1080 0 0 508 285\n"),
            (1920, 1080, (322, 181), "1920 1080 0 0 325 182\n"),
            (3840, 2160, (344, 194), "3840 2160 0 0 487 274\n"),
            (3840, 2160, (310, 174), "3840 2160 0 0 325 182\n"),
            (3840, 2160, (1, 1), "3840 2160 0 0 325 182\n"),
            (1920, 1080, (0, 0), "1920 1080 0 0\n"),
            // What has no whole millimetre.
            (1, 1, (1, 1), "1 1 0 0\n"),
        ] {
            assert_eq!(told(&[seen(width, height, millimetres)]), expected);
        }
    }

    #[test]
    fn what_no_monitor_has_is_left_out() {
        assert_eq!(told(&[]), "");
        assert_eq!(told(&[seen(0, 1080, (0, 0))]), "");
        let one = seen(640, 480, (0, 0));
        let right = Seen {
            place: (640, -7),
            ..one
        };
        let all = told(&[one, seen(1 << 20, 1, (0, 0)), right]);
        assert_eq!(all, "640 480 0 0\n640 480 640 -7\n");
        let many = told(&[one; MONITORS_MAX + 1]);
        assert_eq!(many.lines().count(), MONITORS_MAX);
    }
}
