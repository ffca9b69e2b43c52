//! `qubes.WaitForSession`: ends when the user has a session, and at once where there will be none.

use std::ffi::OsString;
use std::io::{BufRead, Read};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bulkhead_qrexec::users::Users;
use rustix::process::geteuid;
use thiserror::Error;

use super::{Session, is_enabled, program};
use crate::qubesdb::Connection;

const NAME: &str = "qubes.WaitForSession";

/// How long a session may take. Callers go on then, and what needs a window fails by itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest name of a user.
const USER_MAX: u64 = 256;

#[derive(Debug, Error)]
enum WaitError {
    #[error("there was no session for {} s", PATIENCE.as_secs())]
    Never,
    #[error("the user whose session is meant cannot be found")]
    User,
}

pub(crate) fn main(_arguments: Vec<OsString>) -> ExitCode {
    match wait() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::report::log(NAME, &error);
            ExitCode::FAILURE
        }
    }
}

fn wait() -> Result<(), WaitError> {
    if program().is_none() {
        return Ok(());
    }
    let uid = user()?;
    let deadline = Instant::now() + PATIENCE;
    let mut is_due = false;
    loop {
        if Session::of(uid).is_some_and(|session| session.answers()) {
            return Ok(());
        }
        // Settings that are not there yet will be: they are among the first that a qube has.
        if !is_due && let Ok(mut settings) = Connection::open(None) {
            match is_enabled(&mut settings) {
                Ok(false) => return Ok(()),
                Ok(true) => is_due = true,
                Err(_) => {}
            }
        }
        if Instant::now() >= deadline {
            return Err(WaitError::Never);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whose session: root has none, and is told for whom it waits by a line of standard input.
fn user() -> Result<u32, WaitError> {
    let own = geteuid();
    if !own.is_root() {
        return Ok(own.as_raw());
    }
    let mut line = String::new();
    let mut input = std::io::stdin().lock().take(USER_MAX);
    input.read_line(&mut line).map_err(|_| WaitError::User)?;
    let users = Users::read().map_err(|_| WaitError::User)?;
    let user = users.by_name(line.trim()).ok_or(WaitError::User)?;
    Ok(user.uid)
}
