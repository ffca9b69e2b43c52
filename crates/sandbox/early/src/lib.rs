//! What a program does before its C library has started: ask for a call.
//!
//! A C library asks the processor what it can do, 43 times in glibc 2.36, and in a virtual
//! machine each answer is a trip to the hypervisor. Together with relocation and the language's
//! own start that is more than half of a short program's life. `qrexec-client-vm` need not be
//! through with it before its request is on the way: `entry` is where the kernel (or the
//! dynamic loader) starts a program that is linked with `-e bulkhead_entry`. It connects to the
//! agent, sends the request, and goes on to the C library's own start; the program takes the
//! connection over with [`connection`].
//!
//! Nothing is decided here. Whatever is not the plainest of requests, and whatever fails, is left
//! to the program, which begins anew and tells people what is wrong.
//!
//! Nothing is relocated yet, and no function of a C library may be called. So: no tables of
//! pointers, no loops that a compiler may take for `memcpy` (`no_builtins`), no panics, no calls
//! through such tables: whatever another file of this crate has is inlined, and the whole is
//! optimised as one unit also in a debug build (`Cargo.toml` of the workspace).

#![no_builtins]
#![warn(missing_docs)]

pub mod request;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod entry;

use std::os::fd::OwnedFd;

/// The name of the program that asks early. Under any other, nothing is done.
pub const NAME: &[u8] = b"qrexec-client-vm";

/// Where the agent listens for local programs.
pub const AGENT: &str = "/var/run/qubes/qrexec-agent";

/// The connection on which the request for the first two arguments was sent, if it was. It can be
/// taken once.
#[must_use]
pub fn connection() -> Option<OwnedFd> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return entry::connection();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    return None;
}
