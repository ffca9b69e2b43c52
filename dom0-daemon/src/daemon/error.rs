//! Why the daemon cannot start, and what to do about it.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use super::places::RUNTIME_DIR_MAX;
use crate::bus::BusError;
use crate::db::DatabaseError;
use crate::hypervisor::HypervisorError;
use crate::instance::InstanceError;
use crate::machine::MachineError;
use crate::ops::OperationsError;
use crate::storage::StorageError;

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum DaemonError {
    #[error("cannot {doing}")]
    Start {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("there is no default for {option} here")]
    NoDefault { option: &'static str },
    #[error("runtime folder `{}` has {length} bytes, at most {RUNTIME_DIR_MAX} are possible", .folder.display())]
    RuntimeDirTooLong { folder: PathBuf, length: usize },
    #[error("there is no program `{name}` in {looked_in}")]
    NoProgram { name: String, looked_in: String },
    #[error("the log filter `{0}` cannot be read")]
    LogFilter(String, #[source] tracing_subscriber::filter::ParseError),
    #[error("cannot log to `{}`", .path.display())]
    LogFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Operations(#[from] OperationsError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl DaemonError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoDefault { option } => {
                Some(format!("pass {option}, or set HOME and the XDG variables"))
            }
            Self::RuntimeDirTooLong { .. } => {
                Some("sockets below it need short names; pass a shorter --runtime-dir".to_owned())
            }
            Self::NoProgram { .. } => {
                Some("build or install it, or say where it is with BULKHEAD_LIBEXEC".to_owned())
            }
            Self::Instance(InstanceError::Taken { .. }) => Some(
                "`bulkhead` talks to the one that runs; a second needs other folders".to_owned(),
            ),
            Self::Hypervisor(HypervisorError::Unsupported { remedy, .. }) => Some(remedy.clone()),
            Self::Operations(error) => error.hint(),
            _ => None,
        }
    }

    /// As people read it.
    pub(super) fn report(&self) -> String {
        let mut out = format!("error: {self}\n");
        let mut cause = self.source();
        while let Some(error) = cause {
            out.push_str(&format!("caused by: {error}\n"));
            cause = error.source();
        }
        if let Some(hint) = self.hint() {
            out.push_str(&format!("hint: {hint}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_what_why_and_what_to_do() {
        let taken = DaemonError::from(InstanceError::Taken {
            pid: Some(42),
            folder: "/run/bulkhead".into(),
        });
        insta::assert_snapshot!(taken.report(), @r"
        error: another bulkheadd (process 42) uses `/run/bulkhead`
        hint: `bulkhead` talks to the one that runs; a second needs other folders
        ");
        let start = DaemonError::Start {
            doing: "watch for signals",
            source: io::Error::other("no more of them"),
        };
        insta::assert_snapshot!(start.report(), @r"
        error: cannot watch for signals
        caused by: no more of them
        ");
    }
}
