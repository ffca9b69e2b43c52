//! Calls to dom0.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_wire::backoff::Backoff;

/// Makes calls, as `qrexec-client-vm` does.
const CLIENT: &str = "qrexec-client-vm";
/// Names another program instead of it.
const CLIENT_VARIABLE: &str = "QREXEC_CLIENT_VM";

/// The exit code of a call that policy refuses.
pub(crate) const REFUSED: i32 = 126;

/// Before a call that is kept is made again, for the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The same at last; each pause is twice the one before.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// A call that lasted so long did not fail at its start.
const LASTED: Duration = Duration::from_secs(60);

/// Pauses before a call that is kept is made again.
pub(crate) fn backoff() -> Backoff {
    Backoff::new(FIRST_PAUSE, LAST_PAUSE, LASTED)
}

/// The program that makes calls.
pub(crate) fn client() -> PathBuf {
    let client = std::env::var_os(CLIENT_VARIABLE);
    client.map_or_else(|| CLIENT.into(), PathBuf::from)
}
