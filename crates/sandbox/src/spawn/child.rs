//! From this process to the new one.
//!
//! Until it runs its program the child shares our memory, as after `vfork`, and the thread that
//! starts it sleeps. So it only makes system calls, on what was prepared for it, on a stack of its
//! own, and no handler of ours may run in it.

use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{null, null_mut};

use rustix::process::Pid;

use super::{Group, Process};

/// The child's stack. What it calls takes some hundred bytes, in a debug build a few thousand.
const STACK: usize = 32 * 1024;
/// Of which the end is aligned to this.
const ALIGNMENT: usize = 16;
/// Words of the kernel's `sigaction` and more; the first is the handler, on every processor that
/// we know of.
const ACTION_WORDS: usize = 8;
/// Bytes of the kernel's set of signals.
const SET_BYTES: usize = 8;
/// The last signal that may have a handler: the standard ones, and the two that the C library keeps
/// to itself. No program of ours handles a real-time signal, and to ask for each takes a call.
const LAST_HANDLED: c_int = 33;
/// What the child ends with when it cannot run its program; the parent knows then why.
const FAILED: c_int = 127;

/// All that the child needs.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Tried in turn.
    pub(super) paths: Vec<CString>,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) folder: Option<CString>,
    /// None of them a standard stream.
    pub(super) streams: [Option<OwnedFd>; 3],
    pub(super) group: Group,
}

/// What the child sees.
struct Orders {
    paths: *const *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    /// Null: ours.
    folder: *const c_char,
    streams: [c_int; 3],
    group: Group,
    mask: u64,
    /// The error number of the step that failed.
    failed: c_int,
}

fn list(texts: &[CString]) -> Vec<*const c_char> {
    let all = texts.iter().map(|text| text.as_ptr());
    all.chain([null()]).collect()
}

impl Prepared {
    pub(super) fn start(self) -> io::Result<Process> {
        let (paths, arguments) = (list(&self.paths), list(&self.arguments));
        let environment = list(&self.environment);
        let stream = |at: &Option<OwnedFd>| at.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let [input, output, errors] = &self.streams;
        let mut orders = Orders {
            paths: paths.as_ptr(),
            arguments: arguments.as_ptr(),
            environment: environment.as_ptr(),
            folder: self
                .folder
                .as_ref()
                .map_or(null(), |folder| folder.as_ptr()),
            streams: [stream(input), stream(output), stream(errors)],
            group: self.group,
            mask: 0,
            failed: 0,
        };
        let mut stack: Vec<MaybeUninit<u8>> = Vec::with_capacity(STACK);
        let ours = change_mask(libc::SIG_SETMASK, u64::MAX)?;
        orders.mask = ours & !bit(libc::SIGCHLD);
        let started = clone(&mut stack, &mut orders);
        change_mask(libc::SIG_SETMASK, ours)?;
        let mut process = started?;
        if orders.failed != 0 {
            process.wait()?;
            return Err(io::Error::from_raw_os_error(orders.failed));
        }
        Ok(process)
    }
}

/// Starts the child and returns when it runs its program, or has ended without.
fn clone(stack: &mut Vec<MaybeUninit<u8>>, orders: &mut Orders) -> io::Result<Process> {
    let end = stack.as_mut_ptr().wrapping_add(stack.capacity());
    let end = end.wrapping_sub(end.addr() % ALIGNMENT).cast::<c_void>();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let (mut pidfd, orders): (c_int, *mut Orders) = (-1, orders);
    // SAFETY: the child has the stack to itself, which is valid up to `end`; with `CLONE_VFORK`
    // this call returns when the child has no use for our memory any more, so all that `orders`
    // points to outlives it. No signal can come to it (`Prepared::start` blocks them all).
    let pid = unsafe { libc::clone(run, end, flags, orders.cast(), &raw mut pidfd) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it, for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Process {
        pid,
        pidfd,
        ended: None,
    })
}

/// The child.
extern "C" fn run(orders: *mut c_void) -> c_int {
    let orders = orders.cast::<Orders>();
    // SAFETY: `clone` passes it, and the parent sleeps.
    let failed = unsafe { prepare(&*orders).and_then(|()| execute(&*orders)) };
    if let Err(number) = failed {
        // SAFETY: as above.
        unsafe { (*orders).failed = number };
    }
    // SAFETY: ends the child alone, at once.
    unsafe { libc::syscall(libc::SYS_exit_group, FAILED) };
    FAILED
}

/// The error number of a call that failed. It stands where the thread that sleeps has its own.
fn check(result: c_long) -> Result<(), c_int> {
    if result >= 0 {
        return Ok(());
    }
    // SAFETY: the address is always that of a number.
    Err(unsafe { *libc::__errno_location() })
}

/// Everything between clone and exec.
///
/// # Safety
/// In the child alone.
unsafe fn prepare(orders: &Orders) -> Result<(), c_int> {
    // SAFETY: in the child, whose table of handlers is its own.
    unsafe { reset_handlers()? };
    if matches!(orders.group, Group::Own) {
        // SAFETY: no memory is passed.
        check(unsafe { libc::syscall(libc::SYS_setpgid, 0, 0) })?;
    }
    for (to, from) in (0..).zip(orders.streams) {
        if from >= 0 {
            // SAFETY: no memory is passed; the child's table of descriptors is its own.
            check(unsafe { libc::syscall(libc::SYS_dup3, from, to, 0) })?;
        }
    }
    if !orders.folder.is_null() {
        // SAFETY: it is a text of `Prepared`, which lives until the parent goes on.
        check(unsafe { libc::syscall(libc::SYS_chdir, orders.folder) })?;
    }
    let (mask, none) = (&raw const orders.mask, null_mut::<u64>());
    // SAFETY: the kernel reads as many bytes as the mask has.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            mask,
            none,
            SET_BYTES,
        )
    })
}

/// Lets no handler of ours run in the child, where it would change our memory. What is ignored
/// stays so but for `SIGPIPE`, which Rust programs ignore and others do not expect to be.
///
/// # Safety
/// In the child alone.
unsafe fn reset_handlers() -> Result<(), c_int> {
    let default = [0_usize; ACTION_WORDS];
    for signal in 1..=LAST_HANDLED {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        let mut found = default;
        let none = null::<usize>();
        let to = found.as_mut_ptr();
        // SAFETY: `found` has room for a kernel's `sigaction`.
        check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, none, to, SET_BYTES) })?;
        let handler = found.first().copied().unwrap_or(libc::SIG_DFL);
        let ignored = handler == libc::SIG_IGN && signal != libc::SIGPIPE;
        if handler == libc::SIG_DFL || ignored {
            continue;
        }
        let (from, none) = (default.as_ptr(), null_mut::<usize>());
        // SAFETY: all zeros is the default action; nothing is written.
        check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, from, none, SET_BYTES) })?;
    }
    Ok(())
}

/// Runs the program; why not, otherwise.
///
/// # Safety
/// In the child alone, with orders whose lists end with null.
unsafe fn execute(orders: &Orders) -> Result<(), c_int> {
    let mut problem = libc::ENOENT;
    let mut at = orders.paths;
    // SAFETY: nothing after the null is read, and the texts and lists live as long as the parent
    // sleeps.
    while let path = unsafe { *at }
        && !path.is_null()
    {
        let (arguments, environment) = (orders.arguments, orders.environment);
        // SAFETY: as above.
        let outcome = unsafe { libc::syscall(libc::SYS_execve, path, arguments, environment) };
        match check(outcome) {
            // One that may not be run says more than one that is not there.
            Err(libc::EACCES) => problem = libc::EACCES,
            Err(libc::ENOENT | libc::ENOTDIR) => {}
            Err(other) => return Err(other),
            Ok(()) => {}
        }
        at = at.wrapping_add(1);
    }
    Err(problem)
}

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Changes the calling thread's mask of signals, those included that the C library keeps to
/// itself; what it was.
fn change_mask(how: c_int, set: u64) -> io::Result<u64> {
    let mut old = 0_u64;
    let (new, old_at) = (&raw const set, &raw mut old);
    // SAFETY: both are of the size that is told.
    let outcome = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, new, old_at, SET_BYTES) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(old)
}

/// Keeps `SIGCHLD` from the calling thread and those that it starts from now on, so that the end
/// of a child wakes none that has other work.
///
/// # Errors
/// What the system said.
pub fn hold_child_signal() -> io::Result<()> {
    change_mask(libc::SIG_BLOCK, bit(libc::SIGCHLD)).map(|_| ())
}

/// Lets it come to the calling thread again.
///
/// # Errors
/// What the system said.
pub fn let_child_signal() -> io::Result<()> {
    change_mask(libc::SIG_UNBLOCK, bit(libc::SIGCHLD)).map(|_| ())
}
