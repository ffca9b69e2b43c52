//! Template images from recipes, and what images are made with: tools as Debian ships them, and a
//! cache of what is expensive to make.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod cache;
pub mod progress;
pub mod tools;
