//! Shapes of the pointer, as pictures of X's cursor font.

use bulkhead_wire::gui::Cursor;
use smithay::input::pointer::{CursorIcon, CursorImageStatus};
use smithay::wayland::tablet_manager::TabletSeatHandler;

use super::Agent;

/// Shapes, and the picture of X's cursor font that comes nearest. What is not here is the usual pointer.
const FONT: &[(CursorIcon, u8)] = &[
    (CursorIcon::NotAllowed, 0),
    (CursorIcon::NoDrop, 0),
    (CursorIcon::SwResize, 12),
    (CursorIcon::SeResize, 14),
    (CursorIcon::SResize, 16),
    (CursorIcon::Crosshair, 34),
    (CursorIcon::Move, 52),
    (CursorIcon::AllScroll, 52),
    (CursorIcon::Grabbing, 52),
    (CursorIcon::Grab, 58),
    (CursorIcon::Pointer, 60),
    (CursorIcon::WResize, 70),
    (CursorIcon::Cell, 90),
    (CursorIcon::Help, 92),
    (CursorIcon::EResize, 96),
    (CursorIcon::EwResize, 108),
    (CursorIcon::ColResize, 108),
    (CursorIcon::NsResize, 116),
    (CursorIcon::RowResize, 116),
    (CursorIcon::NwResize, 134),
    (CursorIcon::NwseResize, 134),
    (CursorIcon::NeResize, 136),
    (CursorIcon::NeswResize, 136),
    (CursorIcon::NResize, 138),
    (CursorIcon::Wait, 150),
    (CursorIcon::Progress, 150),
    (CursorIcon::Text, 152),
    (CursorIcon::VerticalText, 152),
];

fn font(icon: CursorIcon) -> Option<u8> {
    let mut pictures = FONT.iter();
    pictures
        .find(|(shape, _)| *shape == icon)
        .map(|(_, picture)| *picture)
}

/// The protocol carries shapes and no pictures: who draws its own gets the usual pointer.
fn cursor(image: &CursorImageStatus) -> Cursor {
    match image {
        CursorImageStatus::Hidden => Cursor::None,
        CursorImageStatus::Named(icon) => font(*icon).map_or(Cursor::Default, Cursor::Font),
        CursorImageStatus::Surface(_) => Cursor::Default,
    }
}

impl Agent {
    /// An application wants this pointer over the window that it is over.
    pub(super) fn point_with(&mut self, image: &CursorImageStatus) {
        // While a button is held, the display shows that of the window where it went down.
        if let Some(id) = self.pressed.or(self.pointed) {
            self.windows.set_cursor(id, cursor(image));
        }
    }
}

impl TabletSeatHandler for Agent {}

smithay::delegate_cursor_shape!(Agent);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_pictures_that_the_font_has() {
        let named = |icon| cursor(&CursorImageStatus::Named(icon));
        assert_eq!(named(CursorIcon::Default), Cursor::Default);
        assert_eq!(named(CursorIcon::ZoomIn), Cursor::Default);
        assert_eq!(named(CursorIcon::Text), Cursor::Font(152));
        assert_eq!(cursor(&CursorImageStatus::Hidden), Cursor::None);
        for (_, picture) in FONT {
            assert!(picture.is_multiple_of(2) && *picture < 0x9a);
        }
    }
}
