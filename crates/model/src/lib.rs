//! The description of one machine: names, labels, qubes, volumes, generations.
//!
//! Everything here is pure: text and values in, values and diagnostics out. Reading files is
//! behind [`source::SourceReader`], so a whole description can be checked without a disk.
//!
//! The way of a description, each stage in a folder of its own: text, [`source`] -> tree,
//! `syntax` -> written form, `decode` and `written` -> all files, [`load`] -> resolved form,
//! `resolve` -> judged as a whole, [`check`] and `assertion` -> [`qube::Description`], or
//! [`diagnostic::Diagnostics`].

#![forbid(unsafe_code)]

mod assertion;
pub mod check;
mod decode;
pub mod device;
pub mod diagnostic;
pub mod diff;
pub mod format;
pub mod load;
pub mod managed;
pub mod name;
pub mod property;
pub mod qube;
pub mod resolve;
pub mod schema;
pub mod source;
pub mod starter;
mod syntax;
mod written;

pub use syntax::DEPTH_MAX;
