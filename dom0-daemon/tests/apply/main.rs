//! Applies over a machine that lives in files: what a person asks for, and what a daemon that is
//! killed at any instant leaves behind.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod crash;
mod fake;
mod full;
mod operations;
mod world;
