//! The monitors on which windows are shown, as dom0 tells a qube by the service
//! `qubes.SetMonitorLayout`: a line `WIDTH HEIGHT X Y[ WIDTH_MM HEIGHT_MM]` for each.
//!
//! Pixels are those of dom0's screen, in which windows have their places too. Qubes reserves what
//! may stand behind the millimetres.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Monitors at once: more than dom0's graphics have.
pub const MONITORS_MAX: usize = 16;

/// Bytes of a layout: of so many monitors, with all numbers as long as can be and room for more.
pub const LAYOUT_MAX: usize = 64 * MONITORS_MAX;

/// The file in the runtime folder of a user where the service leaves the layout for the compositor.
pub const FILE: &str = "qube-monitors";

/// Pixels of a side and distances from the origin, as X has them; millimetres of a side.
pub const NUMBER_MAX: u32 = 32_767;

/// A rectangle of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Monitor {
    fields: Fields,
}

/// What a monitor is on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Fields {
    size: (u32, u32),
    place: (i32, i32),
    millimetres: Option<(u32, u32)>,
}

/// Why a layout is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// No monitor.
    #[error("a layout has no monitor")]
    Empty,
    /// More than [`MONITORS_MAX`].
    #[error("a layout has more than {MONITORS_MAX} monitors")]
    TooMany,
    /// More than [`LAYOUT_MAX`] bytes.
    #[error("a layout has more than {LAYOUT_MAX} bytes")]
    TooLong,
    /// No four or six numbers, or such that no monitor has.
    #[error("line {0} of a layout is no monitor")]
    Line(usize),
}

/// Numbers that no monitor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no monitor has such a size or place")]
pub struct MonitorError;

impl Monitor {
    /// One of `size` pixels at `place`, and of so many `millimetres` if that is known: each width
    /// and height, or x and y.
    ///
    /// # Errors
    /// Where a side is empty, or a number beyond [`NUMBER_MAX`].
    pub fn new(
        size: (u32, u32),
        place: (i32, i32),
        millimetres: Option<(u32, u32)>,
    ) -> Result<Self, MonitorError> {
        let is_side = |side: u32| (1..=NUMBER_MAX).contains(&side);
        let are_sides = |(width, height)| is_side(width) && is_side(height);
        let is_near = |at: i32| at.unsigned_abs() <= NUMBER_MAX;
        let good = are_sides(size)
            && is_near(place.0)
            && is_near(place.1)
            && millimetres.is_none_or(are_sides);
        let fields = Fields {
            size,
            place,
            millimetres,
        };
        good.then_some(Self { fields }).ok_or(MonitorError)
    }

    /// Width and height in pixels; neither is 0.
    #[must_use]
    pub const fn size(self) -> (u32, u32) {
        self.fields.size
    }

    /// The upper left corner in pixels.
    #[must_use]
    pub const fn place(self) -> (i32, i32) {
        self.fields.place
    }

    /// Width and height in millimetres, if they are known; neither is 0.
    #[must_use]
    pub const fn millimetres(self) -> Option<(u32, u32)> {
        self.fields.millimetres
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let mut side = || words.next()?.parse::<u32>().ok();
        let size = (side()?, side()?);
        let mut at = || words.next()?.parse::<i32>().ok();
        let place = (at()?, at()?);
        let millimetres = match (words.next(), words.next()) {
            (None, _) => None,
            (Some(width), Some(height)) => {
                let both = (width.parse().ok()?, height.parse().ok()?);
                // So xrandr tells of projectors.
                (both != (0, 0)).then_some(both)
            }
            (Some(_), None) => return None,
        };
        Self::new(size, place, millimetres).ok()
    }
}

impl TryFrom<Fields> for Monitor {
    type Error = MonitorError;

    fn try_from(fields: Fields) -> Result<Self, MonitorError> {
        Self::new(fields.size, fields.place, fields.millimetres)
    }
}

impl From<Monitor> for Fields {
    fn from(monitor: Monitor) -> Self {
        monitor.fields
    }
}

impl fmt::Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((width, height), (x, y)) = (self.size(), self.place());
        write!(f, "{width} {height} {x} {y}")?;
        match self.millimetres() {
            Some((width, height)) => write!(f, " {width} {height}"),
            None => Ok(()),
        }
    }
}

/// All monitors, from 1 to [`MONITORS_MAX`]. Shown as the service takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Monitor>", into = "Vec<Monitor>")]
pub struct Layout(Vec<Monitor>);

impl Layout {
    /// The layout of these.
    ///
    /// # Errors
    /// [`LayoutError::Empty`] or [`LayoutError::TooMany`].
    pub fn new(monitors: Vec<Monitor>) -> Result<Self, LayoutError> {
        match monitors.len() {
            0 => Err(LayoutError::Empty),
            1..=MONITORS_MAX => Ok(Self(monitors)),
            _ => Err(LayoutError::TooMany),
        }
    }

    /// Reads all that the service was sent.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn parse(untrusted_text: &[u8]) -> Result<Self, LayoutError> {
        if untrusted_text.len() > LAYOUT_MAX {
            return Err(LayoutError::TooLong);
        }
        let mut monitors = Vec::new();
        for (line, number) in untrusted_text.split(|byte| *byte == b'\n').zip(1..) {
            if line.trim_ascii().is_empty() {
                continue;
            }
            if monitors.len() == MONITORS_MAX {
                return Err(LayoutError::TooMany);
            }
            let monitor = str::from_utf8(line).ok().and_then(Monitor::parse);
            monitors.push(monitor.ok_or(LayoutError::Line(number))?);
        }
        Self::new(monitors)
    }

    /// The monitors in their order.
    #[must_use]
    pub fn monitors(&self) -> &[Monitor] {
        &self.0
    }
}

impl TryFrom<Vec<Monitor>> for Layout {
    type Error = LayoutError;

    fn try_from(monitors: Vec<Monitor>) -> Result<Self, LayoutError> {
        Self::new(monitors)
    }
}

impl From<Layout> for Vec<Monitor> {
    fn from(layout: Layout) -> Self {
        layout.0
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|monitor| writeln!(f, "{monitor}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::relay::{decode, encode};

    fn monitor() -> impl Strategy<Value = Monitor> {
        let (most, far) = (NUMBER_MAX, NUMBER_MAX.cast_signed());
        let side = 1..=most;
        let size = (side.clone(), side);
        let place = (-far..=far, -far..=far);
        let millimetres = proptest::option::of(size.clone());
        (size, place, millimetres)
            .prop_map(|(size, place, millimetres)| Monitor::new(size, place, millimetres).unwrap())
    }

    proptest! {
        #[test]
        fn what_is_told_is_heard(monitors in proptest::collection::vec(monitor(), 1..=MONITORS_MAX)) {
            let layout = Layout::new(monitors).unwrap();
            let text = layout.to_string();
            prop_assert!(text.len() <= LAYOUT_MAX);
            prop_assert_eq!(Layout::parse(text.as_bytes()), Ok(layout.clone()));
            let packet = encode(&layout).unwrap();
            prop_assert_eq!(decode::<Layout>(&packet).unwrap(), layout);
        }

        #[test]
        fn whatever_is_said_has_bounds(text in proptest::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok(layout) = Layout::parse(&text) {
                prop_assert!((1..=MONITORS_MAX).contains(&layout.monitors().len()));
            }
        }
    }

    #[test]
    fn a_layout_of_qubes_is_read() {
        let text =
            b"1920 1080 0 0 508 285\n2560 1440 1920 -40\n800 600 0 1080 0 0\n1 1 0 0 2 2 7 x\n";
        let layout = Layout::parse(text).unwrap();
        let shown: Vec<String> = layout.monitors().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "1920 1080 0 0 508 285",
                "2560 1440 1920 -40",
                "800 600 0 1080",
                "1 1 0 0 2 2"
            ]
        );
    }

    #[test]
    fn what_is_no_monitor_is_refused() {
        for bad in [
            "1920",
            "1920 1080 0",
            "0 1080 0 0",
            "-1 1080 0 0",
            "1920 1080 0 0 508",
            "a b c d",
            "1920 1080 0 0 508 0",
            "1.5 1 0 0",
            "1920x1080+0+0",
            "1920 1080 0 0 x y",
            "\u{e9}",
        ] {
            let text = format!("1 1 0 0\n{bad}\n");
            let error = Layout::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error, LayoutError::Line(2), "{bad}");
        }
        for empty in ["", "\n", " \n\n"] {
            assert_eq!(Layout::parse(empty.as_bytes()), Err(LayoutError::Empty));
        }
        assert_eq!(Layout::parse(b"\xff 1 0 0"), Err(LayoutError::Line(1)));
    }

    #[test]
    fn one_more_than_there_may_be_is_refused() {
        let most = "1 1 0 0\n".repeat(MONITORS_MAX);
        assert!(Layout::parse(most.as_bytes()).is_ok());
        let more = most.clone() + "1 1 0 0\n";
        assert_eq!(Layout::parse(more.as_bytes()), Err(LayoutError::TooMany));
        let one = Monitor::new((1, 1), (0, 0), None).unwrap();
        assert_eq!(
            Layout::new(vec![one; MONITORS_MAX + 1]),
            Err(LayoutError::TooMany)
        );
        let packet = encode(&vec![one; MONITORS_MAX + 1]).unwrap();
        assert!(decode::<Layout>(&packet).is_err());

        let filled = format!("{most}{}", " ".repeat(LAYOUT_MAX - most.len()));
        assert!(Layout::parse(filled.as_bytes()).is_ok());
        let longer = filled + " ";
        assert_eq!(Layout::parse(longer.as_bytes()), Err(LayoutError::TooLong));

        let far = NUMBER_MAX.cast_signed();
        assert!(Monitor::new((NUMBER_MAX, 1), (far, -far), Some((1, NUMBER_MAX))).is_ok());
        for (size, place, millimetres) in [
            ((NUMBER_MAX + 1, 1), (0, 0), None),
            ((1, 1), (far + 1, 0), None),
            ((1, 1), (0, -far - 1), None),
            ((1, 1), (0, 0), Some((1, NUMBER_MAX + 1))),
            ((1, 1), (0, 0), Some((0, 1))),
        ] {
            assert_eq!(Monitor::new(size, place, millimetres), Err(MonitorError));
        }
    }
}
