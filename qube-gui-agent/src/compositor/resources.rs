//! Resources of X: settings that its applications read from the root window. They know only pixels,
//! so this is where they learn how large text and pointers are to be.

use smithay::reexports::x11rb::connection::Connection;
use smithay::reexports::x11rb::errors::{ConnectError, ConnectionError, ReplyError};
use smithay::reexports::x11rb::protocol::xproto::{AtomEnum, PropMode};
use smithay::reexports::x11rb::wrapper::ConnectionExt as _;
use thiserror::Error;

use crate::scale::Scale;

/// Points of a letter are so many to an inch; as many dots are an unscaled screen's.
const DOTS_PER_INCH: f64 = 96.0;

/// Pixels of an unscaled pointer.
const POINTER: f64 = 24.0;

#[derive(Debug, Error)]
pub(super) enum ResourceError {
    #[error("cannot reach it")]
    Connect(#[from] ConnectError),
    #[error("it has no screen")]
    Screen,
    #[error("cannot speak to it")]
    Speak(#[from] ConnectionError),
    #[error("it refused")]
    Reply(#[from] ReplyError),
}

/// Tells the applications of a display how many pixels they are to take. One that is not scaled
/// keeps what they think themselves.
pub(super) fn tell(display: u32, scale: Scale) -> Result<(), ResourceError> {
    if scale == Scale::ONE {
        return Ok(());
    }
    let (connection, screen) = smithay::reexports::x11rb::connect(Some(&format!(":{display}")))?;
    let screens = &connection.setup().roots;
    let root = screens.get(screen).ok_or(ResourceError::Screen)?.root;
    let (name, kind) = (AtomEnum::RESOURCE_MANAGER, AtomEnum::STRING);
    let text = resources(scale);
    connection
        .change_property8(PropMode::REPLACE, root, name, kind, text.as_bytes())?
        .check()?;
    Ok(())
}

fn resources(scale: Scale) -> String {
    let scaled = |unscaled: f64| (unscaled * scale.pixels()).round();
    format!(
        "Xcursor.size:\t{}\nXft.dpi:\t{}\n",
        scaled(POINTER),
        scaled(DOTS_PER_INCH)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_pointers_are_as_large_as_elsewhere() {
        let scale = Scale::parse("1.5").unwrap();
        assert_eq!(resources(scale), "Xcursor.size:\t36\nXft.dpi:\t144\n");
    }
}
