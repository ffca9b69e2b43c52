//! Finding who takes what is dragged over a window of X.

use smithay::reexports::x11rb::NONE;
use smithay::reexports::x11rb::connection::Connection;
use smithay::reexports::x11rb::errors::{ConnectionError, ReplyError};
use smithay::reexports::x11rb::protocol::xproto::{AtomEnum, ConnectionExt as _, Window};
use smithay::reexports::x11rb::rust_connection::RustConnection;

use super::message::{VERSION, VERSION_MIN};
use super::server::Atoms;
use super::source::{Aim, Point};
use crate::x_client::XError;

/// Windows within windows that are looked at.
const DEPTH_MAX: usize = 16;

/// What a server says, and nothing where it is that the window is gone.
pub(super) fn unless_gone<T>(said: Result<T, ReplyError>) -> Result<Option<T>, ConnectionError> {
    match said {
        Ok(said) => Ok(Some(said)),
        Err(ReplyError::X11Error(_)) => Ok(None),
        Err(ReplyError::ConnectionError(error)) => Err(error),
    }
}

/// Looks for targets on one display.
pub(super) struct Finder<'a> {
    pub(super) connection: &'a RustConnection,
    pub(super) atoms: &'a Atoms,
    pub(super) root: Window,
}

impl Finder<'_> {
    /// The target in a window at a point of the screen: the outermost that knows the protocol.
    pub(super) fn find(&self, window: Window, (x, y): Point) -> Result<Option<Aim>, XError> {
        let mut window = window;
        for _ in 0..DEPTH_MAX {
            if let Some(aim) = self.aware(window)? {
                return Ok(Some(aim));
            }
            let [x, y] = [x, y].map(|at| i16::try_from(at).unwrap_or(i16::MAX));
            let asked = self
                .connection
                .translate_coordinates(self.root, window, x, y)?;
            match unless_gone(asked.reply())? {
                Some(inside) if inside.child != NONE => window = inside.child,
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    fn aware(&self, window: Window) -> Result<Option<Aim>, XError> {
        let proxy_of = |window| self.first(window, self.atoms.XdndProxy);
        let listener = match proxy_of(window)? {
            // One that is left over from a client that is gone does not name itself.
            Some(proxy) if proxy_of(proxy)? == Some(proxy) => proxy,
            _ => window,
        };
        let version = self.first(listener, self.atoms.XdndAware)?;
        let version = version.filter(|version| *version >= VERSION_MIN);
        Ok(version.map(|version| Aim {
            window,
            listener,
            version: version.min(VERSION),
        }))
    }

    /// The first number of a property.
    fn first(&self, window: Window, property: u32) -> Result<Option<u32>, XError> {
        let asked = self
            .connection
            .get_property(false, window, property, AtomEnum::ANY, 0, 1)?;
        let reply = unless_gone(asked.reply())?;
        Ok(reply.and_then(|reply| reply.value32()?.next()))
    }
}

/// All numbers of a property, of which there are `max` at most.
pub(super) fn numbers(
    connection: &impl Connection,
    window: Window,
    property: u32,
    max: u32,
) -> Result<Vec<u32>, XError> {
    let asked = connection.get_property(false, window, property, AtomEnum::ATOM, 0, max)?;
    let reply = unless_gone(asked.reply())?;
    let numbers = reply.iter().filter_map(|reply| reply.value32()).flatten();
    Ok(numbers.collect())
}
