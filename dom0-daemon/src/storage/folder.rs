//! Folders of storage: made when needed, removed when empty.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::{StorageError, failed};

/// Makes a folder that only we may look into, and those above it.
pub(super) fn make(path: &Path) -> Result<(), StorageError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed(path, "creating folder", error))
}

/// Removes a folder unless something is in it.
pub(super) fn remove_if_empty(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir(path) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
            ) =>
        {
            Err(failed(path, "removing folder", error))
        }
        _ => Ok(()),
    }
}
