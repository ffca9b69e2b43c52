//! The parts of the agent that stand on their own: file copy.
//!
//! The program itself is `main.rs`, which has one name for each part.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod filecopy;
