//! Limits, and the last steps before bubblewrap.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::resource::{Resource, setrlimit};
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;

use super::{LaunchError, LaunchSpec};

/// Core dumps of guests would land in the host's core pattern, outside of every limit.
const CORE_BYTES: u64 = 0;

/// Enters the cgroups and sets limits for each process.
pub(super) fn join(spec: &LaunchSpec) -> Result<(), LaunchError> {
    for file in &spec.cgroups {
        // 0 is the writer itself, as of the kernel's cgroup interface.
        fs::write(file, "0").map_err(LaunchError::system(format!(
            "entering cgroup `{}`",
            file.display()
        )))?;
    }
    let set = |resource, name: &str, value: u64| {
        setrlimit(resource, value, value)
            .map_err(LaunchError::system(format!("setting the {name} limit")))
    };
    set(Resource::RLIMIT_CORE, "core size", CORE_BYTES)?;
    if let Some(limits) = &spec.process_limits {
        set(Resource::RLIMIT_DATA, "data size", limits.data)?;
        set(Resource::RLIMIT_NPROC, "task", limits.tasks)?;
    }
    Ok(())
}

/// Opens the file for bubblewrap's status, to survive `exec`.
pub(super) fn open_status(path: &Path) -> Result<OwnedFd, LaunchError> {
    let doing = || format!("making `{}`", path.display());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::APPEND;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(LaunchError::system(doing()))
}

/// Lets a descriptor survive `exec`.
pub(super) fn keep_open(fd: impl AsFd) -> Result<(), LaunchError> {
    rustix::io::fcntl_setfd(fd, FdFlags::empty())
        .map_err(LaunchError::system("keeping a descriptor"))
}

/// Replaces this process.
pub(super) fn exec(program: &Path, arguments: &[String]) -> Result<Infallible, LaunchError> {
    let unusable = |_| LaunchError::Unusable {
        what: "argument with a NUL in",
        value: program.display().to_string(),
    };
    let path = CString::new(program.as_os_str().as_bytes()).map_err(unusable)?;
    let mut argv = vec![path.clone()];
    for argument in arguments {
        argv.push(CString::new(argument.as_bytes()).map_err(unusable)?);
    }
    // Bubblewrap gets no environment either: it needs none and passes it on.
    let nothing: [CString; 0] = [];
    nix::unistd::execve(&path, &argv, &nothing).map_err(LaunchError::system(format!(
        "running `{}`",
        program.display()
    )))
}
