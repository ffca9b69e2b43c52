//! Icons of the tray. Where they are and how large is for the tray to say: a qube is told, and what
//! it wants itself is passed over.

use bulkhead_wire::gui::WindowId;
use bulkhead_wire::gui::geometry::Size;

use super::{Denied, Windows};

/// Icons that a qube may have in the tray, which is everybody's.
pub const ICONS_MAX: usize = 16;

/// Pixels of an icon's sides until the tray has said another size.
pub const ICON_SIDE: u32 = 24;

impl Windows {
    /// A window that is not shown becomes an icon, and nothing else any more.
    pub(super) fn dock(&mut self, id: WindowId) {
        let icons = self.windows.values();
        let icons = icons.filter(|w| w.docked && w.shown.is_some()).count();
        let Some(window) = self.windows.get_mut(&id) else {
            return;
        };
        window.docked = true;
        window.override_redirect = false;
        window.owner = None;
        if icons >= ICONS_MAX {
            self.denied.push(Denied::TooManyIcons(id));
            return;
        }
        let size = Size::near(ICON_SIDE, ICON_SIDE);
        let has_changed = std::mem::replace(&mut window.size, size) != size;
        if has_changed {
            self.tell_place(id);
        }
        self.show(id);
    }
}
