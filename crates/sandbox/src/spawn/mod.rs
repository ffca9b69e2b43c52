//! Starts programs, with no more system calls than it takes.
//!
//! Somebody waits for each service that an agent starts, and a C library's `posix_spawn` makes 130
//! calls for the signals alone. A [`Program`] is started with the environment of this process and
//! what was changed of it; no signal of it has a handler, and `SIGPIPE` is not ignored. It inherits
//! the mask of signals, but for `SIGCHLD`, which an init process holds back from its threads
//! ([`hold_child_signal`]).

mod child;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use child::Prepared;
pub use child::{hold_child_signal, let_child_signal};

/// Where programs without a slash in their name are looked for if nobody says where.
const PATH: &str = "/bin:/usr/bin";

/// A program to start.
#[derive(Debug, Clone)]
pub struct Program {
    path: OsString,
    name: Option<OsString>,
    arguments: Vec<OsString>,
    cleared: bool,
    /// What differs from our own environment; none: not to be there.
    changes: BTreeMap<OsString, Option<OsString>>,
    folder: Option<PathBuf>,
    group: Group,
}

/// The process group of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// It leads one of its own.
    Own,
    /// It is in ours.
    Ours,
}

/// One of a program's standard streams.
#[derive(Debug)]
pub enum Stream {
    /// As ours.
    Inherit,
    /// This, which is closed here.
    Is(OwnedFd),
}

impl Program {
    /// The program at a path, or the first of that name in `$PATH`.
    #[must_use]
    pub fn new(path: impl Into<OsString>) -> Self {
        Self {
            path: path.into(),
            name: None,
            arguments: Vec::new(),
            cleared: false,
            changes: BTreeMap::new(),
            folder: None,
            group: Group::Own,
        }
    }

    /// What it is told as its own name, instead of the path.
    pub fn arg0(&mut self, name: impl Into<OsString>) -> &mut Self {
        self.name = Some(name.into());
        self
    }

    /// One more argument.
    pub fn arg(&mut self, argument: impl Into<OsString>) -> &mut Self {
        self.arguments.push(argument.into());
        self
    }

    /// More arguments.
    pub fn args<A: Into<OsString>>(&mut self, arguments: impl IntoIterator<Item = A>) -> &mut Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    pub fn env(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> &mut Self {
        self.changes.insert(name.into(), Some(value.into()));
        self
    }

    /// Sets variables.
    pub fn envs<N: Into<OsString>, V: Into<OsString>>(
        &mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> &mut Self {
        for (name, value) in variables {
            self.env(name, value);
        }
        self
    }

    /// Takes a variable away.
    pub fn env_remove(&mut self, name: impl Into<OsString>) -> &mut Self {
        self.changes.insert(name.into(), None);
        self
    }

    /// Takes all variables away, those included that were set.
    pub fn env_clear(&mut self) -> &mut Self {
        self.cleared = true;
        self.changes.clear();
        self
    }

    /// Starts it in this folder.
    pub fn current_dir(&mut self, folder: impl Into<PathBuf>) -> &mut Self {
        self.folder = Some(folder.into());
        self
    }

    /// Leaves it in our process group; by itself it leads one of its own.
    pub fn in_our_group(&mut self) -> &mut Self {
        self.group = Group::Ours;
        self
    }

    /// What was set (or, without a value, taken away) of its environment.
    pub fn get_envs(&self) -> impl Iterator<Item = (&OsStr, Option<&OsStr>)> {
        let changes = self.changes.iter();
        changes.map(|(name, value)| (name.as_os_str(), value.as_deref()))
    }

    /// Starts it. Returns once it runs.
    ///
    /// # Errors
    /// What the system said, of whichever step; `InvalidInput` for a NUL byte in the name, an
    /// argument or a variable.
    pub fn start(&self, streams: [Stream; 3]) -> io::Result<Process> {
        let folder = self.folder.as_deref().map(Path::as_os_str);
        let name = self.name.as_ref().unwrap_or(&self.path);
        let arguments = std::iter::once(name).chain(&self.arguments);
        Prepared {
            paths: texts(self.paths())?,
            arguments: texts(arguments.cloned())?,
            environment: texts(self.environment())?,
            folder: folder.map(|folder| text(folder.to_owned())).transpose()?,
            streams: above_standard(streams)?,
            group: self.group,
        }
        .start()
    }

    /// Becomes it instead of starting it, with the streams and the process group that are ours.
    /// Returns only what went wrong.
    pub fn exec(&self) -> io::Error {
        let mut command = Command::new(&self.path);
        command.arg0(self.name.as_ref().unwrap_or(&self.path));
        command.args(&self.arguments);
        if self.cleared {
            command.env_clear();
        }
        for (name, value) in &self.changes {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.exec()
    }

    /// Where to look for it.
    fn paths(&self) -> Vec<OsString> {
        if self.path.as_bytes().contains(&b'/') {
            return vec![self.path.clone()];
        }
        let folders = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
        let at = |folder: PathBuf| folder.join(&self.path).into_os_string();
        std::env::split_paths(&folders).map(at).collect()
    }

    fn environment(&self) -> impl Iterator<Item = OsString> {
        let ours = (!self.cleared).then(std::env::vars_os);
        let ours = ours.into_iter().flatten();
        let kept = ours.filter(|(name, _)| !self.changes.contains_key(name));
        let set = self.changes.iter();
        let set = set.filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        kept.chain(set).map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            name
        })
    }
}

fn text(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
}

fn texts(all: impl IntoIterator<Item = OsString>) -> io::Result<Vec<CString>> {
    all.into_iter().map(text).collect()
}

/// The streams, none of which is in the way of another's place.
fn above_standard(streams: [Stream; 3]) -> io::Result<[Option<OwnedFd>; 3]> {
    let above = |stream| match stream {
        Stream::Inherit => Ok(None),
        Stream::Is(fd) if fd.as_raw_fd() <= libc::STDERR_FILENO => {
            let above = rustix::io::fcntl_dupfd_cloexec(&fd, libc::STDERR_FILENO + 1)?;
            Ok::<_, io::Error>(Some(above))
        }
        Stream::Is(fd) => Ok(Some(fd)),
    };
    let [input, output, errors] = streams;
    Ok([above(input)?, above(output)?, above(errors)?])
}

/// A child that was started. Whoever drops it before it was waited for leaves a zombie.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    ended: Option<i32>,
}

impl Process {
    /// Its number, which stays its own until it was waited for.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The same as a number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for its end: its exit code; 128 + n where signal n ended it.
    ///
    /// # Errors
    /// Where somebody else has waited for it.
    pub fn wait(&mut self) -> io::Result<i32> {
        if let Some(code) = self.ended {
            return Ok(code);
        }
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(status) => {
                    let status = status.ok_or(io::ErrorKind::NotFound)?;
                    let signal = status.terminating_signal().map(|signal| 128 + signal);
                    let code = status.exit_status().or(signal);
                    let code = code.ok_or(io::ErrorKind::InvalidData)?;
                    self.ended = Some(code);
                    return Ok(code);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl AsFd for Process {
    /// Readable once it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
mod tests;
