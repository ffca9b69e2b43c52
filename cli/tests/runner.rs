//! The command as a process, in front of a stand-in for the daemon.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that panics has failed"
)]

mod common;
mod runner {
    mod calls;
    mod change;
    mod errors;
    mod help;
    mod local;
    mod policy;
    mod policy_people;
    mod qubes;
}
