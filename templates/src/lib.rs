//! Template images from recipes, and what images are made with: tools as Debian ships them, and a
//! cache of what is expensive to make.
//!
//! ```text
//!  recipe ──> lock ──> packages ──> tree ──> image
//!  (names)   (names,   (verified)  (Debian,  (root.ext4, kernel, initrd;
//!             digests)              kept)     packages of ours inside)
//! ```
//!
//! The same recipe, lock and packages make the same bytes, on any machine.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod cache;
mod cpio;
mod debs;
mod emulator;
pub mod image;
mod kernel;
mod lock;
pub mod progress;
pub mod recipe;
pub mod tools;
mod tree;
