//! Files of this machine.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{
    FILE_BYTES_MAX, MATCH, SourceError, SourceReader, bad_pattern, is_hidden, pattern_under, text,
};

/// Reads files of this machine; relative paths count from the working folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskReader;

impl SourceReader for DiskReader {
    fn read(&self, path: &Path) -> Result<String, SourceError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => SourceError::Missing(path.to_owned()),
            _ => SourceError::Io {
                path: path.to_owned(),
                source,
            },
        };
        // Asked before opening: opening a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(SourceError::NotAFile(path.to_owned()));
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
        let file = File::open(path).map_err(failed)?;
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        text(path, bytes)
    }

    fn glob(&self, folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, SourceError> {
        let found = glob::glob_with(&pattern_under(folder, pattern), MATCH);
        let mut paths = Vec::new();
        for path in found.map_err(|error| bad_pattern(pattern, &error))? {
            let path = path.map_err(|error| SourceError::Io {
                path: error.path().to_owned(),
                source: error.into(),
            })?;
            if path.is_file() && !is_hidden(&path) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}
