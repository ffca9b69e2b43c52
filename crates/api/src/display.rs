//! The display of a session, on which the windows of qubes are shown.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use crate::{ApiError, ErrorKind, Manager1Proxy};

/// Bytes of an Xauthority file that are read: one more than the daemon takes, so that it says so.
const AUTHORITY_READ: u64 = 64 * 1024 + 1;

/// Offers the display that this process would use to the daemon, for as long as the connection of
/// `proxy` lasts; returns its name.
///
/// # Errors
/// Where there is none, or the daemon does not take it.
pub async fn offer(proxy: &Manager1Proxy<'_>) -> Result<String, ApiError> {
    let name = std::env::var("DISPLAY").unwrap_or_default();
    if name.is_empty() {
        let why = "the windows of qubes are not shown: there is no X display";
        return Err(ApiError::new(ErrorKind::Host, why)
            .hint("In a Wayland session, start Xwayland and set DISPLAY."));
    }
    proxy.show_windows(&name, &authority()).await?;
    Ok(name)
}

/// What opens the display; nothing where it is open.
fn authority() -> Vec<u8> {
    let named = std::env::var_os("XAUTHORITY").filter(|path| !path.is_empty());
    let usual = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".Xauthority"));
    let Some(path) = named.map(PathBuf::from).or_else(usual) else {
        return Vec::new();
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(AUTHORITY_READ).read_to_end(&mut bytes));
    match read {
        Ok(_) => bytes,
        // A display that needs it says so itself.
        Err(_) => Vec::new(),
    }
}
