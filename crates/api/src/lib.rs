//! What `bulkheadd` and its clients say to each other over D-Bus.
//!
//! One interface, [`INTERFACE`] at [`PATH`], served peer-to-peer on a Unix socket (no bus daemon
//! is needed) and, where there is one, under [`SERVICE`] on the system bus. Replies that a client
//! needs often have native D-Bus types; the rest are JSON texts of the types here, so that a field
//! can be added without breaking anyone.
//!
//! Invariant: this crate knows no other of ours, so a client needs nothing but it to talk.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod call;
pub mod change;
pub mod client;
pub mod clipboard;
pub mod display;
mod error;
pub mod event;
pub mod host;
pub mod notification;
pub mod policy;
pub mod proxy;
pub mod qube;

pub use error::{ApiError, ErrorKind};
pub use proxy::Manager1Proxy;

/// The D-Bus interface.
pub const INTERFACE: &str = "org.bulkhead.Manager1";

/// The object that serves it.
pub const PATH: &str = "/org/bulkhead/Manager1";

/// The well-known name on the system bus.
pub const SERVICE: &str = "org.bulkhead.Manager1";

/// Version of the interface. It grows when something is added; what exists keeps its meaning.
pub const API_VERSION: u32 = 2;

/// Writes a reply as the JSON text that travels.
pub fn to_json<T: serde::Serialize>(value: &T) -> Result<String, ApiError> {
    serde_json::to_string(value).map_err(|error| {
        ApiError::new(ErrorKind::Internal, "a reply could not be written as JSON").because(&error)
    })
}

/// Reads a JSON text that came over the bus.
pub fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    serde_json::from_str(text).map_err(|error| {
        ApiError::new(
            ErrorKind::Invalid,
            "a message is not what this version expects",
        )
        .because(&error)
        .hint("Use `bulkhead` and `bulkheadd` of the same release.")
    })
}
