//! Monitors, by RandR.

use x11rb::connection::RequestConnection;
use x11rb::protocol::randr::{self, ConnectionExt as _, NotifyMask};
use x11rb::protocol::xproto::Window;
use x11rb::rust_connection::RustConnection;

use super::{Done, X11};
use crate::monitors::Seen;

/// The version that has monitors.
const MONITORS_SINCE: (u32, u32) = (1, 5);

/// Has the server tell when there may be other monitors; whether it knows of any.
pub(super) fn watch(connection: &RustConnection, root: Window) -> Done<bool> {
    let name = randr::X11_EXTENSION_NAME;
    if connection.extension_information(name)?.is_none() {
        return Ok(false);
    }
    let (major, minor) = MONITORS_SINCE;
    let version = connection.randr_query_version(major, minor)?.reply()?;
    let has = (version.major_version, version.minor_version) >= MONITORS_SINCE;
    if has {
        let changes = NotifyMask::SCREEN_CHANGE
            | NotifyMask::CRTC_CHANGE
            | NotifyMask::OUTPUT_CHANGE
            | NotifyMask::RESOURCE_CHANGE;
        connection.randr_select_input(root, changes)?.check()?;
    }
    Ok(has)
}

impl X11 {
    /// Those that are on; none where the server does not know.
    pub(super) fn monitors_seen(&self) -> Done<Vec<Seen>> {
        if !self.has_monitors {
            return Ok(Vec::new());
        }
        let asked = self.connection.randr_get_monitors(self.root, true)?;
        let monitors = asked.reply()?.monitors.into_iter();
        let seen = monitors.map(|monitor| Seen {
            size: (monitor.width.into(), monitor.height.into()),
            place: (monitor.x.into(), monitor.y.into()),
            millimetres: (monitor.width_in_millimeters, monitor.height_in_millimeters),
        });
        Ok(seen.collect())
    }
}
