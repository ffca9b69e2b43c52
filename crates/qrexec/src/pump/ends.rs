//! The local ends of a call.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_sandbox::spawn::Process;
use bulkhead_wire::qrexec::EXIT_DISCONNECTED;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use rustix::process::{Signal, kill_process_group};

/// What a descriptor is, as far as moving bytes cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Non-blocking while we have it.
    Pipe,
    /// Non-blocking per call.
    Socket,
    /// Terminals, files, devices: used only when poll says so.
    Other,
}

/// A descriptor whose mode is put back when the last user drops it.
#[derive(Debug)]
struct Shared {
    fd: OwnedFd,
    sort: Sort,
    restore: Option<OFlags>,
}

impl Shared {
    fn new(fd: OwnedFd) -> io::Result<Arc<Self>> {
        let sort = match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Socket => Sort::Socket,
            FileType::Fifo => Sort::Pipe,
            _ => Sort::Other,
        };
        let mut restore = None;
        if sort == Sort::Pipe {
            let flags = fcntl_getfl(&fd)?;
            if !flags.contains(OFlags::NONBLOCK) {
                fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
                restore = Some(flags);
            }
        }
        Ok(Arc::new(Self { fd, sort, restore }))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(flags) = self.restore {
            // The description may be shared with programs that expect to block.
            let _ = fcntl_setfl(&self.fd, flags);
        }
    }
}

/// Where local bytes come from.
#[derive(Debug)]
pub struct Input(Arc<Shared>);

/// Where bytes of the peer go.
#[derive(Debug)]
pub struct Output(Arc<Shared>);

impl Input {
    /// Takes a descriptor to read from.
    ///
    /// # Errors
    /// What asking for its kind or making it non-blocking said.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(Shared::new(fd)?))
    }

    /// A socket that is read from and written to.
    ///
    /// # Errors
    /// What asking for the descriptor's kind said.
    pub fn both(fd: OwnedFd) -> io::Result<(Self, Output)> {
        let shared = Shared::new(fd)?;
        Ok((Self(Arc::clone(&shared)), Output(shared)))
    }

    /// `Ok(None)` when nothing is there yet, `Ok(Some(0))` at the end.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let fd = &self.0.fd;
        if self.0.sort == Sort::Other && !readable(fd) {
            return Ok(None);
        }
        loop {
            let got = match self.0.sort {
                Sort::Socket => {
                    rustix::net::recv(fd, &mut *buffer, rustix::net::RecvFlags::DONTWAIT)
                        .map(|(_, n)| n)
                }
                Sort::Pipe | Sort::Other => rustix::io::read(fd, &mut *buffer),
            };
            return match got {
                Ok(n) => Ok(Some(n)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(None),
                // A terminal or socket whose other side is gone has ended.
                Err(Errno::IO | Errno::CONNRESET) => Ok(Some(0)),
                Err(e) => Err(e.into()),
            };
        }
    }

    /// Reads no more; tells a socket's other side.
    pub(super) fn close(self) {
        if self.0.sort == Sort::Socket {
            let _ = rustix::net::shutdown(&self.0.fd, Shutdown::Read);
        }
    }
}

impl Output {
    /// Takes a descriptor to write to.
    ///
    /// # Errors
    /// What asking for its kind or making it non-blocking said.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(Shared::new(fd)?))
    }

    /// What may come back on it, if it is a socket.
    pub(super) fn other_direction(&self) -> Option<Input> {
        (self.0.sort == Sort::Socket).then(|| Input(Arc::clone(&self.0)))
    }

    /// `Ok(None)` when nothing fits.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let fd = &self.0.fd;
        if self.0.sort == Sort::Other && !writable(fd) {
            return Ok(None);
        }
        loop {
            let done = match self.0.sort {
                Sort::Socket => {
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    rustix::net::send(fd, bytes, flags)
                }
                Sort::Pipe => rustix::io::write(fd, bytes),
                // A terminal takes a line or so without blocking.
                Sort::Other => {
                    rustix::io::write(fd, bytes.get(..bytes.len().min(4096)).unwrap_or(bytes))
                }
            };
            return match done {
                Ok(n) => Ok(Some(n)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(None),
                Err(e) => Err(e.into()),
            };
        }
    }

    /// Tells the reader that this was all.
    pub(super) fn close(self) {
        if self.0.sort == Sort::Socket {
            // Not connected (any more): then there is nobody to tell.
            let _ = rustix::net::shutdown(&self.0.fd, Shutdown::Write);
        }
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

fn readable(fd: impl AsFd) -> bool {
    ready(fd, PollFlags::IN)
}

fn writable(fd: impl AsFd) -> bool {
    ready(fd, PollFlags::OUT)
}

fn ready(fd: impl AsFd, flags: PollFlags) -> bool {
    let now = Timespec::default();
    poll(&mut [PollFd::new(&fd, flags)], Some(&now)).is_ok_and(|n| n > 0)
}

/// The local streams of a call.
#[derive(Debug, Default)]
pub struct Streams {
    /// The service's standard output, or the caller's standard input.
    pub input: Option<Input>,
    /// The service's standard input, or the caller's standard output.
    pub output: Option<Output>,
    /// Diagnostics.
    pub errors: Errors,
}

/// Where diagnostics come from or go to.
#[derive(Debug, Default)]
pub enum Errors {
    /// A service without them, or a caller that drops them.
    #[default]
    None,
    /// A service's standard error.
    From(Input),
    /// A caller's standard error.
    To(Output),
}

/// A process whose end is part of the call.
#[derive(Debug)]
pub struct LocalChild(Process);

impl LocalChild {
    /// Watches `child`, which nobody has waited for.
    #[must_use]
    pub fn new(child: Process) -> Self {
        Self(child)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Its exit code once it has ended.
    pub(super) fn ended(&mut self) -> Option<i32> {
        readable(&self.0).then(|| self.wait())
    }

    /// Tells the process and its group, whose leader it must be, that the caller has hung up,
    /// unless it ends by itself within `grace`.
    pub(super) fn hang_up(&self, grace: Duration) {
        let grace = Timespec::try_from(grace).unwrap_or_default();
        let mut ended = [PollFd::new(&self.0, PollFlags::IN)];
        // A wait that is cut short is a short grace.
        if poll(&mut ended, Some(&grace)).is_ok_and(|n| n > 0) {
            return;
        }
        // Nobody has waited for it, so the number is still its own.
        let group = self.0.pid();
        for signal in [Signal::HUP, Signal::CONT] {
            let _ = kill_process_group(group, signal);
        }
    }

    /// Kills it and the rest of its process group, which it leads.
    pub fn kill_group(&self) {
        // Not waited for, so its id is still its own. What has ended needs no killing, and what
        // has become another user is not ours to kill.
        let _ = kill_process_group(self.0.pid(), Signal::KILL);
    }

    /// Waits for its end; 128 + n where signal n ended it.
    pub fn wait(&mut self) -> i32 {
        let code = self.0.wait();
        crate::children::forget(self.0.id());
        // Only a process that somebody else reaped has none.
        code.unwrap_or(EXIT_DISCONNECTED.into())
    }
}

impl AsFd for LocalChild {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
