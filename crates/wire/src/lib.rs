//! Guest protocols as state machines over bytes.
//!
//! Nothing here does I/O: bytes go in, events come out, and every buffer has a bound. What a guest
//! sent is untrusted until a decoder has returned it as a plain type.

#![forbid(unsafe_code)]

pub mod backoff;
pub mod bitmap;
pub mod bucket;
pub mod causes;
pub mod end;
pub mod filecopy;
pub mod gui;
pub mod icons;
pub mod monitors;
pub mod notify;
pub mod proxy;
pub mod qrexec;
pub mod qubesdb;
pub mod relay;
pub mod service;
pub mod xl;
