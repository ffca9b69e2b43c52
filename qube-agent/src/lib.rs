//! The parts of the agent that stand on their own: file copy, and opening files elsewhere.
//!
//! The program itself is `main.rs`, which has one name for each part.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod call;
pub mod filecopy;
pub mod open;
