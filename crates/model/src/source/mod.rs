//! Where the text of a description comes from: a disk, or a table in memory.

mod disk;
mod memory;

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use crate::load::TOTAL_BYTES_MAX;

pub use disk::DiskReader;
pub use memory::MemoryReader;

/// Longest file of a description, in bytes: 10,000 qubes are about 3 MiB.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a file of a description could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such file.
    #[error("`{0}` does not exist")]
    Missing(PathBuf),
    /// It is a folder, a device or another thing that is not a file.
    #[error("`{0}` is not a file")]
    NotAFile(PathBuf),
    /// It is longer than [`FILE_BYTES_MAX`].
    #[error("`{0}` is longer than {FILE_BYTES_MAX} bytes")]
    TooLong(PathBuf),
    /// With it, the description would be longer than [`TOTAL_BYTES_MAX`].
    ///
    /// [`TOTAL_BYTES_MAX`]: crate::load::TOTAL_BYTES_MAX
    #[error("`{0}` would make the description longer than {TOTAL_BYTES_MAX} bytes")]
    TooMuch(PathBuf),
    /// It is not UTF-8; the offset is that of the first wrong byte.
    #[error("`{path}` is not UTF-8 text: byte {offset} is wrong")]
    NotText {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that is not UTF-8.
        offset: usize,
    },
    /// The pattern is not a glob.
    #[error("`{pattern}` is not a file pattern: {reason}")]
    BadPattern {
        /// The pattern as written.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The system refused.
    #[error("`{path}` cannot be read")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Reads the files of a description. Loading uses nothing else of the outside world.
pub trait SourceReader: Debug {
    /// The text of a file, at most [`FILE_BYTES_MAX`] bytes of UTF-8.
    fn read(&self, path: &Path) -> Result<String, SourceError>;

    /// The files that match `pattern`, relative to `folder` unless absolute, sorted by path.
    /// `*` and `?` match no `/`; `**` matches any folders. No pattern
    /// matches a file whose name starts with a dot.
    fn glob(&self, folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, SourceError>;
}

/// Whether `text` is a pattern and not the name of one file.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

const MATCH: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// `pattern` under `folder`, with the folder's own name taken literally.
fn pattern_under(folder: &Path, pattern: &str) -> String {
    if Path::new(pattern).is_absolute() || folder.as_os_str().is_empty() {
        return pattern.to_owned();
    }
    let folder = glob::Pattern::escape(&folder.to_string_lossy());
    format!("{folder}/{pattern}")
}

/// Whether a file is one that patterns pass over, as editors leave behind.
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name();
    name.is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn bad_pattern(pattern: &str, error: &glob::PatternError) -> SourceError {
    SourceError::BadPattern {
        pattern: pattern.to_owned(),
        reason: error.msg,
    }
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, SourceError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(SourceError::TooLong(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| SourceError::NotText {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })
}

#[cfg(test)]
mod tests;
