//! `bulkhead-desktop` as a person meets it: on a display of its own, driven by what a screen reader
//! sees and by a mouse and keyboard that the display server takes for real. Nothing is shared
//! between tests.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics has failed"
)]

mod atspi;
mod fake;
mod input;
mod notes;
mod notices;
mod notifications;
mod prompts;
mod qubes;
mod session;
