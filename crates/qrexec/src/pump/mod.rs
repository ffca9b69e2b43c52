//! The loop that serves one call.
//!
//! ```text
//!             +---------- outbound: header + body, one buffer ---------+
//!   input --->|                                                        |---> channel
//!   output <--|  inbound: one buffer; nothing is read while a part of  |<---
//!             +---------- it waits for a slow local reader ------------+
//! ```
//!
//! Both sides run the same loop. It ends when the call is over or the peer is gone, holds two
//! buffers of fixed size, and never blocks but in `poll`.

mod ends;
mod inbound;
mod outbound;
mod reports;
mod run;
mod switch;

pub use ends::{Errors, Input, LocalChild, Output, Streams};
pub use reports::{Heard, Reports};
pub use run::{Ending, Options, PumpError, exit_code, run};
pub use switch::Switch;
