//! Transfers between the two real ends, and what hostile or broken senders achieve: nothing.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod arrive;
mod hostile;
mod resume;
mod support;
