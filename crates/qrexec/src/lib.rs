//! One qrexec data connection: pumps bytes between local descriptors and a vchan.
//!
//! - [`pump`]: the loop that serves one call, on either side.
//! - [`lookup`]: finds a service and its configuration in the standard folders.
//! - [`children`]: which processes are ours to wait for.
//! - [`launch`]: starts a service or a local program with its streams.
//! - [`users`]: who a service may run as.
//! - [`serve`]: the whole of a call on the service's side.
//! - [`attend`]: starts a service for a pump in another process.
//!
//! The agent, `qrexec-client-vm`, dom0's `qrexec-client`, its services and `bulkhead run` are built
//! of these.

#![forbid(unsafe_code)]

pub mod attend;
pub mod children;
pub mod launch;
pub mod lookup;
pub mod pump;
pub mod serve;
pub mod users;
