//! Where policy files come from. Reading them is the only thing the engine asks of the outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bulkhead_model::source::{SourceError, SourceReader};

use crate::read::TEXT_BYTES_MAX;

/// Why a file or folder could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It does not exist, or is a folder where a file is meant or the other way round.
    #[error("it does not exist or is of another kind")]
    NotThere,
    /// The system refused.
    #[error("the system refuses it")]
    Io(#[from] io::Error),
}

/// Reads policy files. Symbolic links are followed.
pub trait PolicyFolders: Debug {
    /// The bytes of a regular file.
    fn read(&self, path: &Path) -> Result<Arc<[u8]>, FolderError>;

    /// The names of the regular files that lie directly in a folder, in any order.
    fn files(&self, folder: &Path) -> Result<Vec<String>, FolderError>;
}

/// The folders from which one policy is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Folders of policy files; a file of an earlier one hides files of its name in later ones.
    pub folders: Vec<PathBuf>,
    /// Folder of the files that `!compat-4.0` reads.
    pub legacy: PathBuf,
    /// Paths are shown without this in front.
    pub shown_from: PathBuf,
}

impl Layout {
    /// Where the Qubes tools keep policy.
    pub fn qubes() -> Self {
        Self {
            folders: vec!["/run/qubes/policy.d".into(), "/etc/qubes/policy.d".into()],
            legacy: "/etc/qubes-rpc/policy".into(),
            shown_from: PathBuf::new(),
        }
    }

    /// `run`, `etc` and `compat` of a folder.
    pub fn under(root: &Path) -> Self {
        Self {
            folders: vec![root.join("run"), root.join("etc")],
            legacy: root.join("compat"),
            shown_from: root.to_owned(),
        }
    }
}

/// `path` without `.` and `..`, which cannot lead above `/`.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if normal.file_name().is_some() => {
                normal.pop();
            }
            Component::ParentDir if normal.has_root() => {}
            Component::CurDir => {}
            _ => normal.push(part),
        }
    }
    normal
}

/// Folders of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFolders;

fn told(error: io::Error) -> FolderError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FolderError::NotThere,
        _ => FolderError::Io(error),
    }
}

impl PolicyFolders for DiskFolders {
    fn read(&self, path: &Path) -> Result<Arc<[u8]>, FolderError> {
        // Asked before opening: opening a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(told)?.is_file() {
            return Err(FolderError::NotThere);
        }
        let limit = u64::try_from(TEXT_BYTES_MAX).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
            .map_err(told)?;
        Ok(bytes.into())
    }

    fn files(&self, folder: &Path) -> Result<Vec<String>, FolderError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(told)? {
            let entry = entry?;
            match std::fs::metadata(entry.path()).map_err(told) {
                Ok(about) if about.is_file() => {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
                Ok(_) | Err(FolderError::NotThere) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(names)
    }
}

/// Files in a table. Every folder above a file exists, and those that were added.
#[derive(Debug, Clone, Default)]
pub struct MemoryFolders {
    files: BTreeMap<PathBuf, Arc<[u8]>>,
    folders: BTreeSet<PathBuf>,
}

/// Longest name of a file on the systems that policy comes from.
const NAME_BYTES_MAX: usize = 255;

impl MemoryFolders {
    /// Adds a folder. False if it, or a folder above it, is a file.
    pub fn add_folder(&mut self, path: impl AsRef<Path>) -> bool {
        let path = normal(path.as_ref());
        for folder in path.ancestors() {
            if self.files.contains_key(folder) {
                return false;
            }
            self.folders.insert(folder.to_owned());
        }
        true
    }

    /// Adds a file or replaces it. False if a file is where a folder is needed, or the other way
    /// round.
    pub fn add(&mut self, path: impl AsRef<Path>, text: impl Into<Arc<[u8]>>) -> bool {
        let path = normal(path.as_ref());
        if self.folders.contains(&path) || !path.parent().is_some_and(|up| self.add_folder(up)) {
            return false;
        }
        self.files.insert(path, text.into());
        true
    }

    /// Removes a file. False if there is none.
    pub fn remove(&mut self, path: impl AsRef<Path>) -> bool {
        self.files.remove(&normal(path.as_ref())).is_some()
    }
}

fn check_names(path: &Path) -> Result<(), FolderError> {
    if path
        .components()
        .any(|part| part.as_os_str().len() > NAME_BYTES_MAX)
    {
        return Err(io::Error::from(io::ErrorKind::InvalidFilename).into());
    }
    Ok(())
}

impl PolicyFolders for MemoryFolders {
    fn read(&self, path: &Path) -> Result<Arc<[u8]>, FolderError> {
        let path = normal(path);
        check_names(&path)?;
        self.files.get(&path).cloned().ok_or(FolderError::NotThere)
    }

    fn files(&self, folder: &Path) -> Result<Vec<String>, FolderError> {
        let folder = normal(folder);
        check_names(&folder)?;
        if !self.folders.contains(&folder) {
            return Err(FolderError::NotThere);
        }
        let within = self.files.range(folder.clone()..);
        let within = within.take_while(|(path, _)| path.starts_with(&folder));
        Ok(within
            .filter(|(path, _)| path.parent() == Some(&folder))
            .filter_map(|(path, _)| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }
}

const NOTHING: &str = "nothing can be included here";

/// For text that includes nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoFolders;

impl PolicyFolders for NoFolders {
    fn read(&self, _: &Path) -> Result<Arc<[u8]>, FolderError> {
        Err(FolderError::Io(io::Error::other(NOTHING)))
    }

    fn files(&self, _: &Path) -> Result<Vec<String>, FolderError> {
        Err(FolderError::Io(io::Error::other(NOTHING)))
    }
}

/// The files beside a description.
#[derive(Debug)]
pub(crate) struct Beside<'a>(pub(crate) &'a dyn SourceReader);

impl Beside<'_> {
    fn told(error: SourceError) -> FolderError {
        match error {
            SourceError::Missing(_) | SourceError::NotAFile(_) => FolderError::NotThere,
            SourceError::Io { source, .. } => FolderError::Io(source),
            other => FolderError::Io(io::Error::other(other)),
        }
    }
}

impl PolicyFolders for Beside<'_> {
    fn read(&self, path: &Path) -> Result<Arc<[u8]>, FolderError> {
        let text = self.0.read(path).map_err(Self::told)?;
        Ok(text.into_bytes().into())
    }

    fn files(&self, folder: &Path) -> Result<Vec<String>, FolderError> {
        let found = self.0.glob(folder, "*").map_err(Self::told)?;
        if found.is_empty() && !matches!(self.0.read(folder), Err(SourceError::NotAFile(_))) {
            return Err(FolderError::NotThere);
        }
        let name = |path: &PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
        Ok(found.iter().filter_map(name).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_detours() {
        for (given, expected) in [
            ("/a/./b/../c", "/a/c"),
            ("/../a", "/a"),
            ("/a/b/../../..", "/"),
            ("a/../b", "b"),
        ] {
            assert_eq!(normal(Path::new(given)), Path::new(expected));
        }
    }

    #[test]
    fn disk_and_memory_tell_the_same() {
        let root = tempfile::tempdir().unwrap();
        let mut memory = MemoryFolders::default();
        for name in ["a.policy", ".hidden", "sub/b.policy"] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, name).unwrap();
            assert!(memory.add(&path, name.as_bytes()));
        }
        assert!(!memory.add(root.path().join("a.policy/x"), *b""));
        assert!(!memory.add(root.path().join("sub"), *b""));
        for folder in ["", "sub", "none", "a.policy"] {
            let list = |folders: &dyn PolicyFolders| {
                let mut names = folders.files(&root.path().join(folder)).ok()?;
                names.sort();
                Some(names)
            };
            assert_eq!(list(&DiskFolders), list(&memory), "{folder}");
        }
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for file in [
            "a.policy",
            "sub",
            "none",
            "a.policy/x",
            "sub/b.policy",
            &long,
        ] {
            let read = |folders: &dyn PolicyFolders| match folders.read(&root.path().join(file)) {
                Ok(bytes) => format!("{bytes:?}"),
                Err(FolderError::NotThere) => "not there".to_owned(),
                Err(FolderError::Io(_)) => "refused".to_owned(),
            };
            assert_eq!(read(&DiskFolders), read(&memory), "{file}");
        }
    }
}
