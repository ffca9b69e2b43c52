//! Files in a table, for tests, snippets and what a tool is about to write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{MATCH, SourceError, SourceReader, bad_pattern, is_hidden, pattern_under, text};

/// A table of files. A path is found as it was inserted, after `.` and `..` are resolved.
#[derive(Debug, Clone, Default)]
pub struct MemoryReader {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl MemoryReader {
    /// Files by path.
    pub fn new<P: Into<PathBuf>, T: Into<Vec<u8>>>(
        files: impl IntoIterator<Item = (P, T)>,
    ) -> Self {
        let entry = |(path, text): (P, T)| (path.into(), text.into());
        Self {
            files: files.into_iter().map(entry).collect(),
        }
    }

    /// Adds a file or replaces it.
    pub fn insert(&mut self, path: impl Into<PathBuf>, text: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), text.into());
    }
}

impl SourceReader for MemoryReader {
    fn read(&self, path: &Path) -> Result<String, SourceError> {
        match self.files.get(path) {
            Some(bytes) => text(path, bytes.clone()),
            None => Err(SourceError::Missing(path.to_owned())),
        }
    }

    fn glob(&self, folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, SourceError> {
        let compiled = glob::Pattern::new(&pattern_under(folder, pattern));
        let compiled = compiled.map_err(|error| bad_pattern(pattern, &error))?;
        let matched = |path: &&PathBuf| compiled.matches_path_with(path, MATCH) && !is_hidden(path);
        Ok(self.files.keys().filter(matched).cloned().collect())
    }
}
