//! QubesDB in a guest: the daemon that mirrors dom0's keys, and the commands that scripts use.
//!
//! - [`daemon`]: `qubesdb-daemon`, also part of init mode.
//! - [`options`]: the arguments of the commands, as their users know them.
//! - [`command`]: what the commands do, and their exit codes.
//! - [`connection`]: a connection to the daemon that waits for answers.

mod command;
mod connection;
pub(crate) mod daemon;
mod options;

pub(crate) use connection::{Connection, RequestError};

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Names the folder of the daemon's sockets instead of the usual one.
pub(crate) const DIR_VARIABLE: &str = "QUBESDB_SOCKET_DIR";

const DIR: &str = "/var/run/qubes";
const SOCKET: &str = "qubesdb.sock";
const SOCKET_READ_ONLY: &str = "qubesdb.ro.sock";

/// Folders in which the daemon's sockets may be, best first: the usual one may belong to a user
/// that a qube without root does not have.
fn socket_dirs() -> Vec<PathBuf> {
    if let Some(dir) = std::env::var_os(DIR_VARIABLE) {
        return vec![dir.into()];
    }
    let mut dirs = vec![PathBuf::from(DIR)];
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR") {
        dirs.push(PathBuf::from(dir).join("qubes"));
    }
    dirs
}

pub(crate) fn read(arguments: Vec<OsString>) -> ExitCode {
    command::main("qubesdb-read", arguments)
}

pub(crate) fn write(arguments: Vec<OsString>) -> ExitCode {
    command::main("qubesdb-write", arguments)
}

pub(crate) fn rm(arguments: Vec<OsString>) -> ExitCode {
    command::main("qubesdb-rm", arguments)
}

pub(crate) fn list(arguments: Vec<OsString>) -> ExitCode {
    command::main("qubesdb-list", arguments)
}

pub(crate) fn multiread(arguments: Vec<OsString>) -> ExitCode {
    command::main("qubesdb-multiread", arguments)
}

pub(crate) fn watch(arguments: Vec<OsString>) -> ExitCode {
    command::main("qubesdb-watch", arguments)
}

pub(crate) fn cmd(arguments: Vec<OsString>) -> ExitCode {
    command::main("qubesdb-cmd", arguments)
}

pub(crate) fn read_bool(arguments: Vec<OsString>) -> ExitCode {
    command::read_bool(&arguments)
}
