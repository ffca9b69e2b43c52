//! libxl and xenstore of one release of Xen: generated bindings, and a safe layer above them.
//!
//! The bindings are made at build time from the headers of [`BOUND`], with an assertion for the
//! size, the alignment and each field of every structure. Nothing is linked: the libraries are
//! loaded when [`Libxl::load`] is called, so programs build, start and say what is missing where
//! there is no Xen. libxl promises no binary interface from one release to the next and puts the
//! release into its file name; [`Context::open`] also compares what runs.
//!
//! Numbers and names are those of [`bulkhead_wire::xl`], and errors are libxl's own codes.

#![warn(missing_docs)]

pub use context::{Context, Ended, Found};
pub use create::Prepared;
pub use death::{Death, DeathWatch};
pub use library::{BOUND, Libxl};
pub use log::{Level, Log};
pub use xenstore::Xenstore;

mod context;
mod create;
mod death;
mod device;
mod library;
mod log;
mod memory;
mod xenstore;

/// What bindgen made of `libxl.h`.
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod raw {
    include!(concat!(env!("OUT_DIR"), "/libxl.rs"));
}

/// What bindgen made of `xenstore.h`.
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod raw_xenstore {
    include!(concat!(env!("OUT_DIR"), "/xenstore.rs"));
}
