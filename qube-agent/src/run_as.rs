//! `run-as UID GIDS HOME PROGRAM NAME [ARGUMENT...]`: becomes a user and runs a program.
//!
//! Started by the agent where it is root and the service's user is not; `NAME` is what the
//! program is told as its own. Groups go first, the user id last, and nothing can be taken back.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use bulkhead_wire::qrexec::EXIT_NOT_FOUND;
use rustix::process::{Gid, Uid};
use thiserror::Error;

const NAME: &str = "run-as";

#[derive(Debug, Error)]
enum RunAsError {
    #[error("expected UID GIDS HOME PROGRAM NAME [ARGUMENT...]")]
    Usage,
    #[error("cannot become the user")]
    Become(#[source] rustix::io::Errno),
    #[error("cannot run `{program}`")]
    Run {
        program: String,
        source: std::io::Error,
    },
}

pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let error = run(&arguments);
    match &error {
        RunAsError::Run { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            crate::report::log(NAME, &error);
            ExitCode::from(EXIT_NOT_FOUND)
        }
        _ => crate::report::fail(NAME, &error),
    }
}

fn run(arguments: &[OsString]) -> RunAsError {
    let [uid, gids, home, program, name, rest @ ..] = arguments else {
        return RunAsError::Usage;
    };
    let uid = uid.to_str().and_then(|text| text.parse().ok());
    let gids = gids
        .to_str()
        .map(|text| text.split(',').map(str::parse).collect());
    let (Some(uid), Some(Ok(gids))) = (uid, gids) else {
        return RunAsError::Usage;
    };
    let gids: Vec<u32> = gids;
    if let Err(e) = become_user(uid, &gids) {
        return RunAsError::Become(e);
    }
    // A home that is not there is no reason to refuse a service.
    if std::env::set_current_dir(home).is_err() {
        let _ = std::env::set_current_dir("/");
    }
    let source = Command::new(program).arg0(name).args(rest).exec();
    RunAsError::Run {
        program: Path::new(program).display().to_string(),
        source,
    }
}

fn become_user(uid: u32, gids: &[u32]) -> Result<(), rustix::io::Errno> {
    let groups: Vec<_> = gids.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let main = groups.first().copied().ok_or(rustix::io::Errno::INVAL)?;
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(main, main, main)?;
    let uid = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}
