//! Icons of windows. They come by another way than the windows themselves, and so may be there before.

use bulkhead_wire::gui::WindowId;

use super::Windows;
use crate::icon::Icon;

/// Icons that wait for their windows. The oldest goes for one more.
pub const EARLY_MAX: usize = 16;

impl Windows {
    /// A window has this icon from now on. False where there is no such window; then the icon waits
    /// for it.
    pub fn set_icon(&mut self, id: WindowId, icon: Icon) -> bool {
        if let Some(window) = self.windows.get_mut(&id) {
            window.icon = Some(icon);
            self.list(id);
            return true;
        }
        self.take_early(id);
        if self.early.len() >= EARLY_MAX {
            self.early.pop_front();
        }
        self.early.push_back((id, icon));
        false
    }

    /// The icon that waits for a window.
    pub(super) fn take_early(&mut self, id: WindowId) -> Option<Icon> {
        let at = self.early.iter().position(|(window, _)| *window == id)?;
        self.early.remove(at).map(|(_, icon)| icon)
    }
}
