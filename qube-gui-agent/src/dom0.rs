//! Calls to dom0.

use std::path::PathBuf;

/// Makes calls, as `qrexec-client-vm` does.
const CLIENT: &str = "qrexec-client-vm";
/// Names another program instead of it.
const CLIENT_VARIABLE: &str = "QREXEC_CLIENT_VM";

/// The exit code of a call that policy refuses.
pub(crate) const REFUSED: i32 = 126;

/// The program that makes calls.
pub(crate) fn client() -> PathBuf {
    let client = std::env::var_os(CLIENT_VARIABLE);
    client.map_or_else(|| CLIENT.into(), PathBuf::from)
}
