//! How services run in dom0: as the caller of this program, with its diagnostics.

use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use bulkhead_qrexec::launch::{Diagnostics, Program};
use bulkhead_qrexec::lookup::Folders;
use bulkhead_qrexec::pump::Switch;
use bulkhead_qrexec::serve::{Host, Run, ServeError, start_session};
use bulkhead_wire::qrexec::command::ServiceCall;

#[derive(Debug)]
pub(super) struct Dom0 {
    folders: Folders,
}

impl Dom0 {
    pub(super) fn new() -> Self {
        Self {
            folders: Folders::from_env(),
        }
    }
}

impl Host for Dom0 {
    fn folders(&self) -> &Folders {
        &self.folders
    }

    fn diagnostics(&self) -> Diagnostics {
        Diagnostics::Inherit
    }

    /// dom0 does not change users: a call runs as whoever connects it.
    fn command(&self, _user: Option<&str>, what: Run<'_>) -> Result<Program, ServeError> {
        Ok(match what {
            Run::Program(path, argument) => {
                let mut command = Program::new(path);
                command.args(argument);
                command
            }
            Run::Shell(line) => {
                let mut command = Program::new("/bin/sh");
                command.arg("-c").arg(OsStr::from_bytes(line));
                command
            }
        })
    }

    fn wait_for_session(&self, call: &ServiceCall, user: Option<&str>) {
        start_session(self, call, None, user);
    }

    fn running(&self, _pid: u32, _switch: &Switch) {}

    fn ended(&self, _pid: u32) {}

    fn log(&self, error: &dyn Error) {
        super::log(error);
    }
}
