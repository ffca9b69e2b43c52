//! Confinement of a process that reads guest bytes.
//!
//! Such a process gets everything it needs as descriptors and then gives up, for good:
//!
//! - the file system: an empty root in a mount namespace of its own, and a Landlock domain that
//!   allows nothing;
//! - networks: a network namespace without one, no call that makes or connects a socket;
//! - other processes: own user id, no call that takes another process's id, not dumpable;
//! - new programs and threads, executable memory, core files, any capability.
//!
//! seccomp must hold or [`confine`] fails. The rest is defence in depth and depends on the machine,
//! so each layer that is missing is named in the [`Report`]. A pid namespace would take a second
//! process for each one confined; without `/proc` and with the calls gone, it would hide nothing
//! that can still be seen.

mod filter;
mod identity;

use std::fmt;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError,
    RulesetStatus, Scope,
};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use rustix::process::DumpableBehavior;
use thiserror::Error;

/// How to confine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// The user id to take where the process is root. An ordinary user keeps its own.
    pub uid: u32,
    /// Most descriptors.
    pub files_max: u64,
    /// Most bytes of heap: a last resort, far above what the bounded queues can hold.
    pub memory_max: u64,
    /// Requests that `ioctl` may make, whatever the descriptor is.
    pub requests: &'static [u32],
    /// Whether a peer may send it files of memory to map.
    pub memory_files: MemoryFiles,
}

/// Whether a process looks at files of memory that it is sent: what seals they have, and what file
/// system they are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryFiles {
    /// It does not.
    None,
    /// It does.
    Checked,
    /// It does, reads them, and makes some of its own to be sealed and sent.
    Made {
        /// Bytes that each of those may have. No other file is written further either, a log for
        /// one.
        bytes_max: u64,
    },
}

/// Whether a layer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// It does.
    Holds,
    /// It does not, and why.
    Missing(String),
}

impl Layer {
    fn of<E: fmt::Display>(done: Result<(), E>) -> Self {
        match done {
            Ok(()) => Self::Holds,
            Err(e) => Self::Missing(e.to_string()),
        }
    }
}

/// What confines the process, besides seccomp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Own mount, network, IPC, UTS and control group namespaces.
    pub namespaces: Layer,
    /// Root folder is an empty read-only one.
    pub empty_root: Layer,
    /// A user id that nothing else has. Missing for an ordinary user.
    pub own_uid: Layer,
    /// A Landlock domain that allows nothing.
    pub landlock: Layer,
}

/// One line for a log: `seccomp, namespaces; without landlock (why)`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers = [
            ("namespaces", &self.namespaces),
            ("empty root", &self.empty_root),
            ("own uid", &self.own_uid),
            ("landlock", &self.landlock),
        ];
        f.write_str("seccomp")?;
        for (name, layer) in layers {
            if *layer == Layer::Holds {
                write!(f, ", {name}")?;
            }
        }
        for (name, layer) in layers {
            if let Layer::Missing(why) = layer {
                write!(f, "; without {name} ({why})")?;
            }
        }
        Ok(())
    }
}

/// Why a process could not be confined. It may be half confined and must exit.
#[derive(Debug, Error)]
pub enum ConfineError {
    /// Filters bind one thread.
    #[error("a process with {0} threads cannot be confined")]
    Threads(usize),
    /// The number of threads is unknown.
    #[error("cannot count the threads of this process")]
    CountThreads(#[source] io::Error),
    /// A limit could not be set.
    #[error("cannot limit {0}")]
    Limit(&'static str, #[source] nix::Error),
    /// Something that must be given up was kept.
    #[error("cannot give up {0}")]
    GiveUp(&'static str, #[source] io::Error),
    /// No seccomp.
    #[error("cannot install the seccomp filter")]
    Seccomp(#[source] filter::FilterError),
}

/// Confines the calling process. Call it once, single-threaded, with every descriptor that will
/// ever be needed open, and before the first guest byte is read.
///
/// # Errors
/// Where a layer that every machine has cannot be put up. The caller must exit then.
pub fn confine(how: &Confinement) -> Result<Report, ConfineError> {
    let threads = std::fs::read_dir("/proc/self/task")
        .map_err(ConfineError::CountThreads)?
        .count();
    if threads != 1 {
        return Err(ConfineError::Threads(threads));
    }
    limit("core files", Resource::RLIMIT_CORE, 0)?;
    limit("open files", Resource::RLIMIT_NOFILE, how.files_max)?;
    limit("locked memory", Resource::RLIMIT_MEMLOCK, 0)?;
    limit("memory", Resource::RLIMIT_DATA, how.memory_max)?;
    if let MemoryFiles::Made { bytes_max } = how.memory_files {
        limit("files", Resource::RLIMIT_FSIZE, bytes_max)?;
        // SAFETY: what is set is no handler of ours, and there is one thread.
        unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }
            .map_err(|e| ConfineError::Limit("files", e))?;
    }

    let namespaces = Layer::of(identity::namespaces());
    let empty_root = match &namespaces {
        Layer::Holds => Layer::of(identity::empty_root()),
        Layer::Missing(_) => Layer::Missing("needs namespaces".into()),
    };
    let own_uid = identity::own_uid(how.uid).map_or_else(
        |e| Layer::Missing(e.to_string()),
        |taken| {
            if taken {
                Layer::Holds
            } else {
                Layer::Missing("not started as root".into())
            }
        },
    );
    identity::no_capabilities().map_err(|e| ConfineError::GiveUp("capabilities", e))?;
    // After the change of user, which resets both.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| ConfineError::GiveUp("dumps", e.into()))?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|e| ConfineError::GiveUp("new privileges", e.into()))?;
    let landlock = landlock();
    filter::install(how.requests, how.memory_files).map_err(ConfineError::Seccomp)?;
    Ok(Report {
        namespaces,
        empty_root,
        own_uid,
        landlock,
    })
}

fn limit(what: &'static str, resource: Resource, most: u64) -> Result<(), ConfineError> {
    setrlimit(resource, most, most).map_err(|e| ConfineError::Limit(what, e))
}

fn landlock() -> Layer {
    let restrict = || -> Result<_, RulesetError> {
        let abi = ABI::V6;
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?
            .restrict_self()
    };
    match restrict() {
        Ok(status) => match status.ruleset {
            RulesetStatus::FullyEnforced => Layer::Holds,
            RulesetStatus::PartiallyEnforced => {
                Layer::Missing("the kernel enforces it only in part".into())
            }
            RulesetStatus::NotEnforced => Layer::Missing("not in this kernel".into()),
        },
        Err(e) => Layer::Missing(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_what_is_missing_and_why() {
        let report = Report {
            namespaces: Layer::Holds,
            empty_root: Layer::Holds,
            own_uid: Layer::Missing("not started as root".into()),
            landlock: Layer::Missing("not in this kernel".into()),
        };
        assert_eq!(
            report.to_string(),
            "seccomp, namespaces, empty root; without own uid (not started as root); \
             without landlock (not in this kernel)"
        );
    }

    #[test]
    fn a_process_with_threads_is_refused_before_anything_is_given_up() {
        let how = Confinement {
            uid: 0x7000_0001,
            files_max: 64,
            memory_max: 1 << 26,
            requests: &[],
            memory_files: MemoryFiles::None,
        };
        // The test harness runs this beside its main thread.
        let e = confine(&how).unwrap_err();
        assert!(matches!(e, ConfineError::Threads(2..)), "{e}");
        std::fs::read_dir("/").unwrap();
    }
}
