//! The monitors on which dom0 shows windows, and which of them a window belongs to.
//!
//! Pure, and all in pixels of dom0's screen.

use bulkhead_wire::monitors::Layout;
use smithay::utils::{Logical, Rectangle};

use crate::scale::Scale;

/// A part of the screen with a density of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Monitor {
    pub(crate) area: Rectangle<i32, Logical>,
    /// Width and height in millimetres, if they are known.
    pub(crate) millimetres: Option<(u32, u32)>,
    pub(crate) scale: Scale,
}

/// All monitors; there is at least one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Monitors {
    first: Monitor,
    others: Vec<Monitor>,
}

/// Whose size a change of scale leaves as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sized {
    /// The application's, in its units: the window becomes larger or smaller.
    ByApplication,
    /// The daemon's, in pixels: the application has more or less room.
    ByDaemon,
}

impl Monitors {
    /// A screen of which nothing else is known.
    pub(crate) fn one(width: u32, height: u32, declared: Option<Scale>) -> Self {
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let first = Monitor {
            area: Rectangle::from_size((number(width), number(height)).into()),
            millimetres: None,
            scale: declared.unwrap_or(Scale::ONE),
        };
        let others = Vec::new();
        Self { first, others }
    }

    /// Those that dom0 has told of; none if there are none. A declared scale is that of all.
    pub(crate) fn of(layout: &Layout, declared: Option<Scale>) -> Option<Self> {
        let mut all = layout.monitors().iter().map(|monitor| {
            let (width, height) = monitor.size();
            let size = (width.cast_signed(), height.cast_signed());
            let density = || Scale::of_density(monitor.size(), monitor.millimetres());
            Monitor {
                area: Rectangle::new(monitor.place().into(), size.into()),
                millimetres: monitor.millimetres(),
                scale: declared.unwrap_or_else(density),
            }
        });
        let first = all.next()?;
        let others = all.collect();
        Some(Self { first, others })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Monitor> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub(crate) fn first(&self) -> &Monitor {
        &self.first
    }

    /// The rectangle that all of them are in.
    pub(crate) fn bounds(&self) -> Rectangle<i32, Logical> {
        let areas = self.all().map(|monitor| monitor.area);
        areas.fold(self.first.area, Rectangle::merge)
    }

    /// The one that holds the most of a window, and of equals the first; none that is on no monitor.
    pub(crate) fn holder(&self, window: Rectangle<i32, Logical>) -> Option<&Monitor> {
        let held = |monitor: &Monitor| {
            let part = monitor.area.intersection(window);
            part.map_or(0, |part| i64::from(part.size.w) * i64::from(part.size.h))
        };
        // Of equals it takes the last.
        let all = self.others.iter().rev().chain([&self.first]);
        all.max_by_key(|monitor| held(monitor))
            .filter(|monitor| held(monitor) > 0)
    }

    /// The scale of a window that has been shown at `now`. Its size may change with it, and then the
    /// monitor that has the most of it: it is left as it is where it would have to be changed back.
    pub(crate) fn scale(&self, window: Rectangle<i32, Logical>, now: Scale, sized: Sized) -> Scale {
        let scale_at = |window| self.holder(window).map_or(now, |monitor| monitor.scale);
        let next = scale_at(window);
        if scale_at(rescaled(window, (now, next), sized)) == next {
            next
        } else {
            now
        }
    }
}

/// What becomes of a window when its scale changes.
pub(crate) fn rescaled(
    window: Rectangle<i32, Logical>,
    (from, to): (Scale, Scale),
    sized: Sized,
) -> Rectangle<i32, Logical> {
    match sized {
        Sized::ByApplication => Rectangle::new(window.loc, to.size(from.units(window.size))),
        Sized::ByDaemon => window,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smithay::utils::Size;

    use super::*;

    fn rectangle(x: i32, y: i32, w: i32, h: i32) -> Rectangle<i32, Logical> {
        Rectangle::new((x, y).into(), (w, h).into())
    }

    fn monitors(text: &str) -> Monitors {
        Monitors::of(&Layout::parse(text.as_bytes()).unwrap(), None).unwrap()
    }

    /// One of 96 dots per inch, and right of it one of 192.
    const TWO: &str = "1920 1080 0 0 508 285\n3840 2160 1920 0 508 285\n";

    fn two() -> Scale {
        Scale::parse("2").unwrap()
    }

    #[test]
    fn a_window_has_the_scale_of_what_holds_most_of_it() {
        let monitors = monitors(TWO);
        let scale = |x| monitors.scale(rectangle(x, 0, 100, 100), Scale::ONE, Sized::ByDaemon);
        assert_eq!(scale(0), Scale::ONE);
        // Of equals the first.
        assert_eq!(scale(1870), Scale::ONE);
        assert_eq!(scale(1871), two());
        assert_eq!(scale(5000), two());
        // On no monitor: as before.
        for now in [Scale::ONE, two()] {
            let away = rectangle(-500, 0, 100, 100);
            assert_eq!(monitors.scale(away, now, Sized::ByDaemon), now);
        }
        assert_eq!(monitors.bounds(), rectangle(0, 0, 5760, 2160));
    }

    #[test]
    fn a_declared_scale_is_that_of_all() {
        let layout = Layout::parse(TWO.as_bytes()).unwrap();
        let declared = Scale::parse("1.5").unwrap();
        let monitors = Monitors::of(&layout, Some(declared)).unwrap();
        assert!(monitors.all().all(|monitor| monitor.scale == declared));
        let alone = Monitors::one(1920, 1080, Some(declared));
        assert_eq!(alone.first().scale, declared);
        assert_eq!(Monitors::one(1920, 1080, None).first().scale, Scale::ONE);
    }

    #[test]
    fn a_window_that_would_shrink_back_to_where_it_came_from_waits() {
        // The denser one is left.
        let monitors = monitors("3840 2160 0 0 508 285\n1920 1080 3840 0 508 285\n");
        let scale = |x| monitors.scale(rectangle(x, 0, 800, 600), two(), Sized::ByApplication);
        // More than half of it is on the right, but less of what it would be there.
        assert_eq!(scale(3500), two());
        assert_eq!(scale(3641), Scale::ONE);
        let shrunk = rescaled(
            rectangle(3641, 0, 800, 600),
            (two(), Scale::ONE),
            Sized::ByApplication,
        );
        assert_eq!(shrunk, rectangle(3641, 0, 400, 300));
    }

    fn layout() -> impl Strategy<Value = String> {
        let monitor = (1..4000, 1..4000, -4000..4000, -4000..4000, 50..900);
        proptest::collection::vec(monitor, 1..5).prop_map(|all| {
            let line = |(w, h, x, y, mm)| format!("{w} {h} {x} {y} {mm} {mm}\n");
            all.into_iter().map(line).collect()
        })
    }

    proptest! {
        #[test]
        fn a_scale_that_is_chosen_is_kept(
            text in layout(),
            (x, y, w, h) in (-5000..5000, -5000..5000, 1..5000, 1..5000),
            quarters in 4_u32..=16,
            by_daemon: bool,
        ) {
            let monitors = monitors(&text);
            let now = Scale::parse(&format!("{}", f64::from(quarters) / 4.0)).unwrap();
            let sized = if by_daemon { Sized::ByDaemon } else { Sized::ByApplication };
            let units: Size<i32, Logical> = (w, h).into();
            let window = Rectangle::new((x, y).into(), now.size(units));
            let next = monitors.scale(window, now, sized);
            let moved = rescaled(window, (now, next), sized);
            prop_assert_eq!(monitors.scale(moved, next, sized), next);
            // And it is that of a monitor, or the one before.
            prop_assert!(next == now || monitors.all().any(|monitor| monitor.scale == next));
        }

        #[test]
        fn the_holder_holds_most(
            text in layout(),
            (x, y, w, h) in (-5000..5000, -5000..5000, 1..5000, 1..5000),
        ) {
            let monitors = monitors(&text);
            let window = rectangle(x, y, w, h);
            let held = |monitor: &Monitor| {
                let part = monitor.area.intersection(window);
                part.map_or(0, |part| part.size.w * part.size.h)
            };
            let most = monitors.all().map(held).max();
            prop_assert_eq!(monitors.holder(window).map_or(0, held), most.unwrap_or(0));
        }
    }
}
