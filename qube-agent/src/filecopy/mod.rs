//! Files from one qube to another: `qvm-copy` and `qvm-move` at one end, the services
//! `qubes.Filecopy` and `bulkhead.Filecopy` at the other.
//!
//! A transfer is received into a private staging folder and moved into
//! `~/QubesIncoming/<source>` when it is complete and its end was read, so that a transfer that
//! breaks leaves nothing there. Of large files that a broken transfer leaves, the start is kept in
//! the staging area, out of sight, and `bulkhead.Filecopy` goes on from it: see `kept`.

use std::ffi::OsString;
use std::process::ExitCode;

mod cli;
mod error;
mod fill;
mod flush;
mod kept;
mod listing;
mod place;
mod progress;
mod receive;
mod send;
mod sizes;
mod survey;
mod tree;
mod unpack;

pub use cli::{CopyApplet, run as run_copy};
pub use error::{ReceiveError, SendError};
pub use kept::{AGE_MAX, BYTES_MAX, FILES_MAX, Kept, LARGE};
pub use place::Place;
pub use receive::{ReceiveOptions, receive};
pub use send::{OnProgress, Sent, pack, pack_resumable};
pub use unpack::{run as run_unpacker, staging_areas};

/// Bytes moved at a time: small enough to stay in a core's second-level cache between being read,
/// summed and written.
pub(crate) const CHUNK: usize = 256 * 1024;

/// `qvm-copy`.
pub fn qvm_copy(arguments: Vec<OsString>) -> ExitCode {
    run_copy(CopyApplet::COPY, arguments)
}

/// `qvm-move`.
pub fn qvm_move(arguments: Vec<OsString>) -> ExitCode {
    run_copy(CopyApplet::MOVE, arguments)
}

/// `qvm-copy-to-vm`.
pub fn qvm_copy_to_vm(arguments: Vec<OsString>) -> ExitCode {
    run_copy(CopyApplet::COPY_TO, arguments)
}

/// `qvm-move-to-vm`.
pub fn qvm_move_to_vm(arguments: Vec<OsString>) -> ExitCode {
    run_copy(CopyApplet::MOVE_TO, arguments)
}

/// The service `qubes.Filecopy`, and `qfile-unpacker`.
pub fn filecopy_service(arguments: Vec<OsString>) -> ExitCode {
    run_unpacker(arguments)
}

/// The service `bulkhead.Filecopy`.
pub fn resuming_service(mut arguments: Vec<OsString>) -> ExitCode {
    arguments.push("--resumable".into());
    run_unpacker(arguments)
}
