//! Scenarios on real Xen, and the machines that they run on.
//!
//! ```text
//!   tools ──> image ──> qemu ──> machine ──> scenario
//!  (QEMU of   (disk of  (boot    (dom0 of     (spawn, wait,
//!   Debian)    dom0)     once,    one test)    run, assert)
//!                        resume)
//! ```
//!
//! A machine is booted once for each image and saved with its memory; every test resumes it on a
//! disk of its own. Scenarios with the same beginning share a machine that was saved after it
//! ([`prepared`]). What is expensive is kept in the user's cache folder under a hash of what it
//! was made from ([`bulkhead_templates::cache`]).

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod attempt;
pub mod bare;
pub mod hand;
pub mod image;
pub mod line;
pub mod machine;
pub mod prepared;
pub mod protocol;
mod qemu;
mod qmp;
pub mod reset;
pub mod scenario;
pub mod scratch;
pub mod spawned;
pub mod stock;
