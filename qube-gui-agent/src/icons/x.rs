//! Icons of windows of X, heard as any other application of X would: `smithay` does not tell of them.
//! Waits for the server, and so belongs on a thread of its own.

use smithay::reexports::calloop::channel::SyncSender;
use smithay::reexports::x11rb::connection::Connection;
use smithay::reexports::x11rb::errors::ReplyError;
use smithay::reexports::x11rb::properties::WmHints;
use smithay::reexports::x11rb::protocol::Event;
use smithay::reexports::x11rb::protocol::xproto::{
    Atom, AtomEnum, ChangeWindowAttributesAux, ConnectionExt as _, EventMask, ImageFormat, Pixmap,
    Window,
};
use smithay::reexports::x11rb::rust_connection::RustConnection;

use bulkhead_wire::icons::Icon;

use super::pixels::{self, Picture};
use crate::x_client::{self, XError};

/// Numbers of a property that are read: several icons, as large as any is looked at.
const PROPERTY_MAX: u32 = 4 * pixels::SOURCE_MAX * pixels::SOURCE_MAX;

/// What is told of a window, by its number.
#[derive(Debug)]
pub(crate) enum XIcon {
    /// It has this icon, or none.
    Is(Window, Option<Box<Icon>>),
    /// It is no more.
    Gone(Window),
}

/// Tells of the icons of a display until nobody listens or the server has gone.
pub(crate) fn watch(display: u32, tell: &SyncSender<XIcon>) -> Result<(), XError> {
    let (connection, root) = x_client::connect(display)?;
    let property = connection.intern_atom(false, b"_NET_WM_ICON")?;
    let property = property.reply()?.atom;
    let events = ChangeWindowAttributesAux::new().event_mask(EventMask::SUBSTRUCTURE_NOTIFY);
    connection
        .change_window_attributes(root, &events)?
        .check()?;
    let watcher = Watcher {
        connection: &connection,
        property,
    };
    // Those that were there before we heard of new ones, in frames or without.
    for window in watcher.children(root)? {
        let inside = watcher.children(window)?;
        for window in inside.into_iter().chain([window]) {
            if tell.send(watcher.begin(window)?).is_err() {
                return Ok(());
            }
        }
    }
    loop {
        let news = match connection.wait_for_event()? {
            Event::CreateNotify(event) => watcher.begin(event.window)?,
            Event::PropertyNotify(event) if watcher.is_icon(event.atom) => {
                watcher.look(event.window)?
            }
            Event::DestroyNotify(event) => XIcon::Gone(event.window),
            _ => continue,
        };
        if tell.send(news).is_err() {
            return Ok(());
        }
    }
}

struct Watcher<'a> {
    connection: &'a RustConnection,
    property: Atom,
}

/// What a server says, and nothing where it is that the window is gone.
fn unless_gone<T>(said: Result<T, ReplyError>) -> Result<Option<T>, XError> {
    match said {
        Ok(said) => Ok(Some(said)),
        Err(ReplyError::X11Error(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Watcher<'_> {
    fn children(&self, window: Window) -> Result<Vec<Window>, XError> {
        let tree = unless_gone(self.connection.query_tree(window)?.reply())?;
        Ok(tree.map(|tree| tree.children).unwrap_or_default())
    }

    /// Has the server tell of a window, and looks at what it has by now.
    fn begin(&self, window: Window) -> Result<XIcon, XError> {
        let events = EventMask::PROPERTY_CHANGE | EventMask::STRUCTURE_NOTIFY;
        let attributes = ChangeWindowAttributesAux::new().event_mask(events);
        let asked = self
            .connection
            .change_window_attributes(window, &attributes)?;
        unless_gone(asked.check())?;
        self.look(window)
    }

    fn look(&self, window: Window) -> Result<XIcon, XError> {
        let kind = AtomEnum::CARDINAL;
        let asked =
            self.connection
                .get_property(false, window, self.property, kind, 0, PROPERTY_MAX)?;
        let reply = unless_gone(asked.reply())?;
        let numbers: Vec<u32> = reply
            .iter()
            .filter_map(|reply| reply.value32())
            .flatten()
            .collect();
        let icon = match pixels::of_property(&numbers) {
            Some(icon) => Some(icon),
            None => self.of_pixmaps(window)?,
        };
        Ok(XIcon::Is(window, icon.map(Box::new)))
    }

    fn is_icon(&self, property: Atom) -> bool {
        property == self.property || property == Atom::from(AtomEnum::WM_HINTS)
    }

    /// The icon of an application that is older than the property, as xterm is.
    fn of_pixmaps(&self, window: Window) -> Result<Option<Icon>, XError> {
        let hints = unless_gone(WmHints::get(self.connection, window)?.reply())?.flatten();
        let Some(hints) = hints else {
            return Ok(None);
        };
        let Some(picture) = self.picture(hints.icon_pixmap)? else {
            return Ok(None);
        };
        let mask = self.picture(hints.icon_mask)?;
        Ok(pixels::of_pixmaps(&picture, mask.as_ref()))
    }

    fn picture(&self, pixmap: Option<Pixmap>) -> Result<Option<Picture>, XError> {
        let Some(pixmap) = pixmap else {
            return Ok(None);
        };
        let geometry = unless_gone(self.connection.get_geometry(pixmap)?.reply())?;
        let Some(geometry) = geometry else {
            return Ok(None);
        };
        let (width, height) = (geometry.width, geometry.height);
        if pixels::best([(width.into(), height.into())]).is_none() {
            return Ok(None);
        }
        let (format, planes) = (ImageFormat::Z_PIXMAP, !0);
        let asked = self
            .connection
            .get_image(format, pixmap, 0, 0, width, height, planes)?;
        let image = unless_gone(asked.reply())?;
        Ok(image.map(|image| Picture {
            size: (width.into(), height.into()),
            depth: image.depth,
            bytes: image.data,
        }))
    }
}
