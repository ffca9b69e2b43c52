//! Connections to the X server of the qube, as any application of X has one.

use smithay::reexports::x11rb::connection::Connection;
use smithay::reexports::x11rb::errors::{
    ConnectError, ConnectionError, ReplyError, ReplyOrIdError,
};
use smithay::reexports::x11rb::protocol::xproto::Window;
use smithay::reexports::x11rb::rust_connection::RustConnection;
use thiserror::Error;

/// Why a connection cannot be used, or no more.
#[derive(Debug, Error)]
pub(crate) enum XError {
    #[error("the X server cannot be reached")]
    Connect(#[from] ConnectError),
    #[error("the X server has left")]
    Connection(#[from] ConnectionError),
    #[error("the X server refused")]
    Refused(#[from] ReplyError),
    #[error("the X server has no number left")]
    Number(#[from] ReplyOrIdError),
    #[error("cannot wait for the X server")]
    Wait(#[source] rustix::io::Errno),
    #[error("the display has no screen")]
    NoScreen,
}

/// A connection to a display, and its root window.
pub(crate) fn connect(display: u32) -> Result<(RustConnection, Window), XError> {
    let (connection, screen) = RustConnection::connect(Some(&format!(":{display}")))?;
    let root = connection.setup().roots.get(screen);
    let root = root.ok_or(XError::NoScreen)?.root;
    Ok((connection, root))
}
