//! The description of one machine: names, labels, qubes, volumes, generations.
//!
//! Everything here is pure: text and values in, values and diagnostics out. Reading files is
//! behind [`source::SourceReader`], so a whole description can be checked without a disk.

#![forbid(unsafe_code)]

pub mod diff;
pub mod name;
pub mod property;
pub mod qube;
