//! The real program between a scripted daemon and scripted guests, most of them hostile.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed helper fails its test"
)]

mod bench;
mod call;
mod hostile;
mod serving;
