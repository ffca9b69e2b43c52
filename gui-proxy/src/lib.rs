//! One per qube: shows its windows on the display of dom0, each in a frame that dom0 draws.
//!
//! ```text
//!  agent --GUI protocol--> +---------------------------+ --X11--> display
//!        --shared pages--> | Proxy: Windows, X11, copy | --MIT-SHM-->
//!                          +---------------------------+
//! ```
//!
//! [`windows::Windows`] is all that is decided, without any I/O; [`display::Display`] what is
//! needed of a display, and [`x11`] one; [`proxy::Proxy`] carries between them in one thread,
//! after the process has given up everything but what it has open.
//!
//! What a qube does wrong is refused, or ends its own proxy; what it does too much of waits in its
//! channel.

#![forbid(unsafe_code)]

mod carry;
pub mod clipboard;
mod damage;
pub mod display;
pub mod frame;
pub mod icon;
pub mod icons;
pub mod keys;
pub mod keystroke;
mod latest;
pub mod line;
pub mod log;
pub mod monitors;
mod outbox;
mod pasting;
pub mod proxy;
pub mod sealed;
pub mod start;
pub mod typed;
pub mod windows;
pub mod x11;

pub use outbox::{OUTBOX_HIGH, OUTBOX_MAX};
