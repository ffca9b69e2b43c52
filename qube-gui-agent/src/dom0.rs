//! Calls to dom0.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bulkhead_wire::backoff::Backoff;
use tokio::process::{Child, ChildStdin, Command};

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

/// Calls a service, with its argument, at whom policy makes of `target`. What comes back is where the
/// third says. The call is over when the program that makes it has ended, or is let go.
pub(crate) fn call(
    client: &Path,
    (target, service): (&str, &str),
    back: Stdio,
) -> io::Result<(Child, ChildStdin)> {
    let mut child = Command::new(client)
        .args(["--", target, service])
        .stdin(Stdio::piped())
        .stdout(back)
        .kill_on_drop(true)
        .spawn()?;
    let no_pipe = || io::Error::other("a pipe is missing");
    let input = child.stdin.take().ok_or_else(no_pipe)?;
    Ok((child, input))
}
