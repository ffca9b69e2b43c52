//! `bulkhead-gui` on a display of the test's own, with an agent that does as it is told.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics has failed"
)]

mod agent;
mod clipboard;
mod confined;
mod daemon;
mod drag;
mod hostile;
mod icons;
mod input;
mod machine;
mod managed;
mod monitors;
mod pictures;
mod screen;
mod session;
mod stacking;
mod tray;
mod windows;
