//! Starts one qube of the embedded hypervisor: namespaces, overlay root, limits, system call
//! filter; then bubblewrap, which does the rest and runs the agent.
//!
//! ```text
//! daemon --spawn--> launcher: join cgroups, rlimits
//!                     | as root: private mount namespace, stage binds, drop to the qube's uid
//!                     | unshare user + mount, map the one uid to 1000
//!                     | overlays over the template, private folders
//!                     `-exec-> bwrap: pid, net, ipc, uts, cgroup namespaces, no capabilities,
//!                                     no further user namespaces, seccomp --exec-> guard
//!                       guard: Landlock for the folder of sockets --exec-> agent (pid 1)
//! ```
//!
//! [`launch`] must run in a process of its own with one thread: it gives up ids and namespaces
//! for good and ends in `exec`.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod argv;
mod filter;
mod ids;
mod limits;
mod stage;

pub use filter::{FilterError, syscall_filters};

use crate::guard::SOCKETS;

/// The user id, and group id, that everything in a qube runs as, seen from inside.
pub const QUBE_UID: u32 = 1000;

/// Where the guard is in a qube: in `/run`, which is made anew by each start. Its name says which
/// part of the agent's program it is.
pub const GUARD: &str = "/run/guard";

/// A qube's root before anything is written to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootSource {
    /// `/usr` and `/etc` of this machine and nothing else of it.
    Host,
    /// A root tree.
    Tree(PathBuf),
}

/// Limits for one process each, used where no cgroup can be had. In bytes and tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLimits {
    /// Address space that one process may write to (`RLIMIT_DATA`).
    pub data: u64,
    /// Tasks in the qube (`RLIMIT_NPROC`; counted for each user namespace).
    pub tasks: u64,
}

/// Everything the launcher needs. Paths are the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The bubblewrap program.
    pub bwrap: PathBuf,
    /// Host name in the qube.
    pub hostname: String,
    /// Name of the user in the qube.
    pub user: String,
    /// Host user and group id to become; none means staying the caller.
    pub host_id: Option<u32>,
    /// What the root is made of.
    pub root: RootSource,
    /// Read-only trees laid over the root, topmost first: the guest programs.
    pub layers: Vec<PathBuf>,
    /// Folder for this start's writes; exists, is empty.
    pub scratch: PathBuf,
    /// Bytes that this start may write, in memory that goes with its mount namespace; none means
    /// as much as `scratch` has room for, and kept there.
    pub scratch_size: Option<u64>,
    /// Folder that becomes `/rw`, its `home` becomes `/home`; none means one in `scratch`.
    pub private: Option<PathBuf>,
    /// More volumes by name; each becomes `/mnt/NAME`.
    pub volumes: Vec<(String, PathBuf)>,
    /// Folder that becomes [`SOCKETS`].
    pub vchan: PathBuf,
    /// The static program that, called [`GUARD`], closes that folder to all but sockets and becomes
    /// `command`.
    pub guard: PathBuf,
    /// Environment of the agent, whole.
    pub environment: Vec<(String, String)>,
    /// What the guard becomes: pid 1 in the qube.
    pub command: Vec<String>,
    /// `cgroup.procs` or `tasks` files to enter.
    pub cgroups: Vec<PathBuf>,
    /// Limits for one process each.
    pub process_limits: Option<ProcessLimits>,
    /// File, made anew, in which bubblewrap leaves the first pid and at last the exit code.
    pub status: PathBuf,
}

/// Why a qube could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The kernel refused.
    #[error("{doing}")]
    System {
        /// What was being done and to what.
        doing: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A name or path that cannot be used.
    #[error("{what} `{value}` cannot be used")]
    Unusable {
        /// What it is.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// The system call filter could not be built.
    #[error("the system call filter cannot be built")]
    Filter(#[source] FilterError),
}

impl LaunchError {
    fn system<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| Self::System {
            doing,
            source: source.into(),
        }
    }
}

/// Becomes the qube. Standard error is its console, and `info` is where bubblewrap tells the pid
/// of the qube's first process at once.
///
/// # Errors
/// What the kernel refused, before anything of the qube ran.
pub fn launch(spec: &LaunchSpec, info: std::os::fd::OwnedFd) -> Result<Infallible, LaunchError> {
    argv::check(spec)?;
    limits::join(spec)?;
    let status = limits::open_status(&spec.status)?;
    // Away from the daemon's session: a signal to its terminal is not for qubes.
    nix::unistd::setsid().map_err(LaunchError::system("starting a session"))?;
    let staged = if let Some(id) = spec.host_id {
        ids::unshare_mounts()?;
        let staged = stage::bind_sources(spec, stage::Lower::Bind)?;
        ids::become_user(id)?;
        ids::enter_user_namespace(id, id)?;
        staged
    } else {
        let (uid, gid) = (
            nix::unistd::getuid().as_raw(),
            nix::unistd::getgid().as_raw(),
        );
        ids::enter_user_namespace(uid, gid)?;
        stage::bind_sources(spec, stage::Lower::Descriptor)?
    };
    let roots = stage::mount_overlays(spec, &staged)?;
    let filters = filter::inherited(&syscall_filters().map_err(LaunchError::Filter)?)?;
    limits::keep_open(&info)?;
    let told = argv::Told { info, status };
    let arguments = argv::bubblewrap(spec, &roots, &staged, &filters, &told);
    limits::exec(&spec.bwrap, &arguments)
}
