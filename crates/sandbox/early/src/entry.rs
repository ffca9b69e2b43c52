//! The first instructions of the program.

use std::arch::{asm, naked_asm};
use std::ffi::c_long;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use crate::request::{MESSAGE_MAX, is_plain, write};
use crate::{AGENT, NAME};

const CLOSE: c_long = 3;
const POLL: c_long = 7;
const SOCKET: c_long = 41;
const CONNECT: c_long = 42;
const SENDTO: c_long = 44;

const AF_UNIX: u16 = 1;
const SOCK_STREAM_CLOEXEC: usize = 1 | 0o2_000_000;
const MSG_NOSIGNAL: usize = 0x4000;

/// Longest argument that is looked at.
const ARGUMENT_MAX: usize = 4096;
/// The last descriptor of the standard streams, which a program may be started without.
const STDERR: i32 = 2;

/// No connection.
const NONE: i32 = 0;

/// The descriptor of the connection. Not one of the standard streams, so that 0 is none.
static CONNECTED: AtomicI32 = AtomicI32::new(NONE);

const POLLIN: i16 = 1;
const FOREVER: usize = usize::MAX;

/// `pollfd`.
#[repr(C)]
struct Waiting {
    fd: i32,
    events: i16,
    happened: i16,
}

/// `sockaddr_un`.
#[repr(C)]
struct Address {
    family: u16,
    path: [u8; 108],
}

static ADDRESS: Address = Address {
    family: AF_UNIX,
    path: address_path(),
};

#[expect(clippy::indexing_slicing, reason = "a path too long does not compile")]
const fn address_path() -> [u8; 108] {
    let (mut path, from) = ([0; 108], AGENT.as_bytes());
    let mut at = 0;
    while at < from.len() {
        path[at] = from[at];
        at += 1;
    }
    path
}

pub(crate) fn connection() -> Option<OwnedFd> {
    match CONNECTED.swap(NONE, Ordering::Relaxed) {
        NONE => None,
        // SAFETY: `ask` has opened it and told nobody else, and it is taken out above.
        fd => Some(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Where the program starts: [`ask`], then the C library with everything as it was.
///
/// # Safety
/// For the kernel or the dynamic loader alone, which start a program here with the stack that its
/// C library is to see.
// SAFETY: no other symbol has this name. Of what the C library looks at, the stack pointer and
// rdx are put back as they were; the stack itself is only read.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn bulkhead_entry() -> ! {
    naked_asm!(
        "endbr64",
        "mov rdi, rsp",
        "push rdx",
        // The stack was aligned to 16 bytes, and has to be before a call.
        "sub rsp, 8",
        "call {ask}",
        "add rsp, 8",
        "pop rdx",
        "jmp _start",
        ask = sym ask,
    )
}

/// Asks for the call that the arguments name, if they do so in the plainest way.
///
/// # Safety
/// `stack` is that of a program at its start: the number of arguments, then their addresses.
unsafe extern "C" fn ask(stack: *const usize) {
    // SAFETY: as the caller says; three addresses are there if there are three arguments.
    let (name, target, service) = unsafe {
        if *stack < 3 {
            return;
        }
        (
            text(*stack.add(1)),
            text(*stack.add(2)),
            text(*stack.add(3)),
        )
    };
    let (Some(name), Some(target), Some(service)) = (name, target, service) else {
        return;
    };
    if is_named(name) && is_plain(target, service) {
        CONNECTED.store(send(target, service), Ordering::Relaxed);
    }
}

/// The text at an address.
///
/// # Safety
/// It is one of an argument: NUL-terminated, and there as long as the program.
unsafe fn text(address: usize) -> Option<&'static [u8]> {
    let start = std::ptr::with_exposed_provenance::<u8>(address);
    let mut len = 0;
    // SAFETY: nothing after the NUL is read.
    while unsafe { start.add(len).read() } != 0 {
        len += 1;
        if len > ARGUMENT_MAX {
            return None;
        }
    }
    // SAFETY: these bytes were just read, and nobody writes to them before `ask` returns.
    Some(unsafe { std::slice::from_raw_parts(start, len) })
}

/// Whether the last part of the path is ours.
fn is_named(path: &[u8]) -> bool {
    let mut name = path;
    while let Some(slash) = name.iter().position(|byte| *byte == b'/') {
        name = name.get(slash + 1..).unwrap_or_default();
    }
    name.len() == NAME.len() && name.iter().zip(NAME).all(|(a, b)| a == b)
}

/// Sends the request; the connection, or none.
fn send(target: &[u8], service: &[u8]) -> i32 {
    // On the stack as it is: to fill it with zeros first would be a call of `memset`.
    let mut message = [const { MaybeUninit::<u8>::uninit() }; MESSAGE_MAX];
    let mut len = 0;
    write(target, service, |byte| {
        if let Some(to) = message.get_mut(len) {
            to.write(byte);
            len += 1;
        }
    });
    // SAFETY: no memory is passed.
    let opened = unsafe { system(SOCKET, AF_UNIX.into(), SOCK_STREAM_CLOEXEC, 0, 0) };
    let Ok(fd) = i32::try_from(opened) else {
        return NONE;
    };
    if fd < 0 {
        return NONE;
    }
    let number = fd.unsigned_abs() as usize;
    let address = (&raw const ADDRESS).expose_provenance();
    // SAFETY: the address is read, and its length is its own.
    let connected = unsafe { system(CONNECT, number, address, size_of::<Address>(), 0) };
    if connected == 0 && fd > STDERR {
        let bytes = message.as_ptr().expose_provenance();
        // SAFETY: the first `len` bytes of the message were written above, and are read.
        let sent = unsafe { system(SENDTO, number, bytes, len, MSG_NOSIGNAL) };
        if usize::try_from(sent) == Ok(len) {
            wait(fd);
            return fd;
        }
    }
    // SAFETY: nobody else knows of the descriptor.
    unsafe { system(CLOSE, number, 0, 0, 0) };
    NONE
}

/// Waits for the answer or for the end. A kernel is apt to have the agent run where we run, thus
/// after us: who goes on here holds up the request, and has nothing to do that hurries. With the
/// answer here, the rest of the start has the time that the service takes.
fn wait(fd: i32) {
    let mut waiting = Waiting {
        fd,
        events: POLLIN,
        happened: 0,
    };
    let one = (&raw mut waiting).expose_provenance();
    // A wait that is cut short does no harm: the program waits again.
    // SAFETY: it is one entry, which the kernel writes to.
    unsafe { system(POLL, one, 1, FOREVER, 0) };
}

/// A system call with its last two arguments zero; negative where it failed.
///
/// # Safety
/// As of the call.
unsafe fn system(number: c_long, a: usize, b: usize, c: usize, d: usize) -> c_long {
    let result;
    // SAFETY: the kernel changes rax, rcx and r11 alone, and what the call is for.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") 0,
            in("r9") 0,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_client_asks() {
        for name in [
            "qrexec-client-vm",
            "/usr/bin/qrexec-client-vm",
            "./qrexec-client-vm",
        ] {
            assert!(is_named(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "/",
            "qrexec-client-vm/",
            "xqrexec-client-vm",
            "qube-agent",
        ] {
            assert!(!is_named(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_address_is_the_agents() {
        let end = ADDRESS.path.iter().position(|byte| *byte == 0).unwrap();
        assert_eq!(&ADDRESS.path[..end], AGENT.as_bytes());
    }
}
