//! Frames: what dom0 draws around the pixels of a qube.
//!
//! ```text
//!  ┌──────────────────┐ ─┐
//!  │ name       _ □ × │  STRIP
//!  ├─┬──────────────┬─┤ ─┘
//!  │ │   content    │ │      the content is where the qube has its window
//!  │ └──────────────┘ │
//!  └──────────────────┘ ─ BORDER
//! ```
//!
//! A frame is never narrower than the name of its qube, however small the content is.

use bulkhead_wire::gui::geometry::{Place, Size};

/// Pixels of the frame at the left, the right and below.
pub const BORDER: u32 = 4;

/// Pixels of the frame above, where the name is.
pub const STRIP: u32 = 18;

/// Pixels between the name and the ends of the strip.
pub const NAME_GAP: u32 = 4;

/// Pixels around the content of an icon of the tray.
pub const ICON_BORDER: u32 = 2;

/// A rectangle of the screen, in pixels from its upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Area {
    /// The left edge.
    pub x: i32,
    /// The upper edge.
    pub y: i32,
    /// From left to right.
    pub width: u32,
    /// From top to bottom.
    pub height: u32,
}

impl Area {
    fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        let inside = |at: i32, len: u32, in_at: i32, in_len: u32| {
            let (at, in_at) = (i64::from(at), i64::from(in_at));
            in_at >= at && in_at + i64::from(in_len) <= at + i64::from(len)
        };
        inside(self.x, self.width, other.x, other.width)
            && inside(self.y, self.height, other.y, other.height)
    }
}

/// Pixels from a corner within which an edge is taken hold of for two directions.
const CORNER: i32 = 18;

/// What of a frame a person takes hold of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grip {
    /// The strip, by which a window is moved. The others change its size.
    Strip,
    /// The upper edge.
    Top,
    /// Where two edges meet.
    TopRight,
    /// An edge.
    Right,
    /// Where two edges meet.
    BottomRight,
    /// An edge.
    Bottom,
    /// Where two edges meet.
    BottomLeft,
    /// An edge.
    Left,
    /// Where two edges meet.
    TopLeft,
}

impl Grip {
    /// At a place of a frame, counted from the upper left corner of that.
    #[must_use]
    pub fn at(frame: Area, (x, y): (i32, i32)) -> Self {
        let border = BORDER.cast_signed();
        let from_right = frame.width.cast_signed() - 1 - x;
        let from_bottom = frame.height.cast_signed() - 1 - y;
        let is_edge = x.min(y).min(from_right).min(from_bottom) < border;
        if !is_edge {
            return Self::Strip;
        }
        let near = |from: i32| from < CORNER;
        match (near(x), near(from_right), near(y), near(from_bottom)) {
            (true, _, true, _) => Self::TopLeft,
            (_, true, true, _) => Self::TopRight,
            (true, _, _, true) => Self::BottomLeft,
            (_, true, _, true) => Self::BottomRight,
            (true, ..) if x < border => Self::Left,
            (_, true, ..) if from_right < border => Self::Right,
            (.., true) if from_bottom < border => Self::Bottom,
            _ => Self::Top,
        }
    }
}

/// Pixels from the left of one button to that of the next.
const BUTTON: u32 = 16;

/// What a person clicks at the right end of a strip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Button {
    /// Puts the window out of the way.
    Minimise,
    /// Has it fill the screen but for what the person keeps there, and takes that back.
    Maximise,
    /// Asks the qube to close it.
    Close,
}

impl Button {
    /// All of them, from left to right.
    pub const ALL: [Self; 3] = [Self::Minimise, Self::Maximise, Self::Close];
}

/// The frames of one qube.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    width_min: u32,
}

/// Windows of a qube that place themselves and together have more than this part of the screen, in
/// percent, might play the whole desktop: what would be past it is placed like others.
pub const SELF_PLACED_PERCENT_MAX: u64 = 90;

impl Frame {
    /// Frames with room for a name of this width in pixels.
    #[must_use]
    pub fn for_name(width: u32) -> Self {
        Self {
            width_min: width + 2 * NAME_GAP,
        }
    }

    /// Frame and content of a window whose content is there.
    #[must_use]
    pub fn outer(self, place: Place, size: Size) -> Area {
        let width = size.width().max(1) + 2 * BORDER;
        Area {
            x: place.x() - BORDER.cast_signed(),
            y: place.y() - STRIP.cast_signed(),
            width: width.max(self.width_min),
            height: size.height().max(1) + STRIP + BORDER,
        }
    }

    /// Where the buttons of a frame are, counted from its upper left corner; none where its strip
    /// has no room for them beside the name.
    #[must_use]
    pub fn buttons(self, frame: Area) -> Option<[(Button, Area); 3]> {
        let count = u32::try_from(Button::ALL.len()).unwrap_or(u32::MAX);
        let all = count * BUTTON + BORDER;
        let first = frame.width.checked_sub(all)?;
        if first < self.width_min {
            return None;
        }
        let mut left = first.cast_signed();
        Some(Button::ALL.map(|button| {
            let area = Area {
                x: left,
                y: BORDER.cast_signed(),
                width: BUTTON,
                height: STRIP - BORDER,
            };
            left += BUTTON.cast_signed();
            (button, area)
        }))
    }

    /// The button at a place of a frame, counted from its upper left corner.
    #[must_use]
    pub fn button_at(self, frame: Area, (x, y): (i32, i32)) -> Option<Button> {
        let at = Area {
            x,
            y,
            width: 1,
            height: 1,
        };
        let mut all = self.buttons(frame)?.into_iter();
        all.find_map(|(button, area)| area.contains(at).then_some(button))
    }

    /// Border and content of an icon of the tray.
    #[must_use]
    pub fn outer_of_icon(place: Place, size: Size) -> Area {
        Area {
            x: place.x() - ICON_BORDER.cast_signed(),
            y: place.y() - ICON_BORDER.cast_signed(),
            width: size.width().max(1) + 2 * ICON_BORDER,
            height: size.height().max(1) + 2 * ICON_BORDER,
        }
    }

    /// Where the content of an icon is.
    #[must_use]
    pub fn content_of_icon(outer: Area) -> (Place, Size) {
        let inner = |len: u32| len.saturating_sub(2 * ICON_BORDER).max(1);
        let at = |at: i32| at.saturating_add(ICON_BORDER.cast_signed());
        let place = Place::near(at(outer.x), at(outer.y));
        (place, Size::near(inner(outer.width), inner(outer.height)))
    }

    /// Where the content of a window is that had the content `before` and now is as large as
    /// `outer`.
    #[must_use]
    pub fn content(self, before: Size, outer: Area) -> (Place, Size) {
        let place = Place::near(
            outer.x.saturating_add(BORDER.cast_signed()),
            outer.y.saturating_add(STRIP.cast_signed()),
        );
        let was = self.outer(place, before);
        let inner = |is: u32, was: u32, before: u32, frame: u32| {
            if is == was {
                before
            } else {
                is.saturating_sub(frame).max(1)
            }
        };
        let width = inner(outer.width, was.width, before.width(), 2 * BORDER);
        let height = inner(outer.height, was.height, before.height(), STRIP + BORDER);
        (place, Size::near(width, height))
    }

    /// The place nearest to `place` at which all of a window is in `work`, or its upper left corner
    /// where that is too small.
    #[must_use]
    pub fn on_screen(self, place: Place, size: Size, work: Area) -> Place {
        let outer = self.outer(place, size);
        let within = |at: i32, len: u32, in_at: i32, in_len: u32| {
            let room = i64::from(in_len) - i64::from(len);
            let (low, high) = (i64::from(in_at), i64::from(in_at) + room.max(0));
            i32::try_from(i64::from(at).clamp(low, high)).unwrap_or(in_at)
        };
        Place::near(
            within(outer.x, outer.width, work.x, work.width) + BORDER.cast_signed(),
            within(outer.y, outer.height, work.y, work.height) + STRIP.cast_signed(),
        )
    }

    /// Whether windows of these sizes may all place themselves.
    #[must_use]
    pub fn may_place_themselves(self, sizes: impl IntoIterator<Item = Size>, work: Area) -> bool {
        let sizes = sizes.into_iter();
        let pixels = sizes.map(|size| self.outer(Place::default(), size).pixels());
        pixels.sum::<u64>() * 100 <= work.pixels() * SELF_PLACED_PERCENT_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WORK: Area = Area {
        x: 0,
        y: 30,
        width: 1000,
        height: 500,
    };

    #[test]
    fn a_frame_is_as_wide_as_the_name_needs() {
        let frame = Frame::for_name(60);
        for (content, width) in [(0, 68), (1, 68), (60, 68), (61, 69), (500, 508)] {
            let outer = frame.outer(Place::near(100, 100), Size::near(content, 1));
            assert_eq!((outer.x, outer.y), (96, 82));
            assert_eq!((outer.width, outer.height), (width, 23), "{content}");
        }
    }

    #[test]
    fn more_than_nine_tenths_of_the_screen_is_placed_by_others() {
        let frame = Frame::for_name(0);
        // 450_000 pixels with the frame, and one row more.
        let most = Size::near(1000 - 2 * BORDER, 450 - STRIP - BORDER);
        let more = Size::near(most.width(), most.height() + 1);
        assert!(frame.may_place_themselves([most], WORK));
        assert!(!frame.may_place_themselves([more], WORK));
        // Two with a row less together, for each has a frame.
        let half = |rows| Size::near(most.width(), rows - STRIP - BORDER);
        assert!(frame.may_place_themselves([half(225), half(225)], WORK));
        assert!(!frame.may_place_themselves([half(225), half(226)], WORK));
    }

    #[test]
    fn a_window_is_moved_by_its_strip_and_sized_by_its_edges() {
        let frame = Area {
            width: 200,
            height: 100,
            ..WORK
        };
        for (at, grip) in [
            ((100, 10), Grip::Strip),
            ((4, 4), Grip::Strip),
            ((195, 17), Grip::Strip),
            ((100, 3), Grip::Top),
            ((18, 0), Grip::Top),
            ((17, 0), Grip::TopLeft),
            ((0, 17), Grip::TopLeft),
            ((0, 0), Grip::TopLeft),
            ((182, 0), Grip::TopRight),
            ((199, 17), Grip::TopRight),
            ((3, 18), Grip::Left),
            ((0, 81), Grip::Left),
            ((0, 82), Grip::BottomLeft),
            ((17, 99), Grip::BottomLeft),
            ((18, 96), Grip::Bottom),
            ((181, 99), Grip::Bottom),
            ((182, 99), Grip::BottomRight),
            ((196, 82), Grip::BottomRight),
            ((196, 81), Grip::Right),
        ] {
            assert_eq!(Grip::at(frame, at), grip, "{at:?}");
        }
    }

    #[test]
    fn buttons_are_right_of_the_name_where_there_is_room() {
        let frame = Frame::for_name(60);
        let wide = |width| Area { width, ..WORK };
        assert_eq!(frame.buttons(wide(68 + 3 * 16 + 4 - 1)), None);
        let least = wide(68 + 3 * 16 + 4);
        let lefts = frame.buttons(least).unwrap().map(|(_, area)| area.x);
        assert_eq!(lefts, [68, 84, 100]);
        for (at, button) in [
            ((67, 10), None),
            ((68, 10), Some(Button::Minimise)),
            ((84, 4), Some(Button::Maximise)),
            ((100, 17), Some(Button::Close)),
            ((115, 10), Some(Button::Close)),
            // Edges are taken hold of.
            ((116, 10), None),
            ((110, 3), None),
            // The content.
            ((110, 18), None),
        ] {
            assert_eq!(frame.button_at(least, at), button, "{at:?}");
        }
    }

    proptest! {
        #[test]
        fn windows_are_on_the_screen_where_they_fit(
            x in any::<i32>(), y in any::<i32>(), width in 0_u32..2000, height in 0_u32..2000,
            name in 0_u32..300,
        ) {
            let frame = Frame::for_name(name);
            let size = Size::near(width, height);
            let place = frame.on_screen(Place::near(x, y), size, WORK);
            let outer = frame.outer(place, size);
            prop_assert!(outer.x >= WORK.x && outer.y >= WORK.y);
            let fits = outer.width <= WORK.width && outer.height <= WORK.height;
            prop_assert_eq!(WORK.contains(outer), fits);
            prop_assert_eq!(frame.on_screen(place, size, WORK), place);
        }

        #[test]
        fn content_comes_back_from_its_frame(
            x in -9000_i32..9000, y in -6000_i32..6000, width in 0_u32..17000,
            height in 0_u32..7000, name in 0_u32..300,
        ) {
            let frame = Frame::for_name(name);
            let (place, size) = (Place::near(x, y), Size::near(width, height));
            let outer = frame.outer(place, size);
            prop_assert!(outer.width >= frame.width_min);
            prop_assert_eq!(frame.content(size, outer), (place, size));
            let icon = Frame::outer_of_icon(place, size);
            let least = Size::near(width.max(1), height.max(1));
            prop_assert_eq!(Frame::content_of_icon(icon), (place, least));
            let wider = Area { width: outer.width + 100, ..outer };
            let (_, content) = frame.content(size, wider);
            prop_assert!(content.width() >= 92 && content.height() == size.height());
            let none = Area { width: 1, height: 1, ..outer };
            prop_assert!(!frame.content(size, none).1.is_empty());
        }
    }
}
