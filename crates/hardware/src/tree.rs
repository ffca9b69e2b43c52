//! Reads what the kernel shows below `/sys` and `/proc`, with bounds.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes read of one file. The longest that is read here, `/proc/cpuinfo`, has some KiB for each
/// thread, and its first ones say it all.
pub const FILE_MAX: u64 = 64 * 1024;

/// Entries looked at in one folder: a large server has some hundred PCI functions.
pub const ENTRIES_MAX: usize = 4096;

/// A tree of files with `/sys`, `/proc` and `/usr` in it; the machine's own is at `/`.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The tree below `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A file's beginning, without the space around it; none where there is nothing to be read.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let bytes = self.bytes(path)?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        Some(text).filter(|text| !text.is_empty())
    }

    pub(crate) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(self.path(path)).ok()?;
        file.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// A file that has one number in hexadecimal, as `0x8086`.
    pub(crate) fn hex(&self, path: &str) -> Option<u32> {
        let text = self.text(path)?;
        u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
    }

    /// Names in a folder, in order.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .take(ENTRIES_MAX)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The last part of what a link leads to.
    pub(crate) fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Where a path really is, below the tree.
    pub(crate) fn real(&self, path: &str) -> Option<PathBuf> {
        let real = fs::canonicalize(self.path(path)).ok()?;
        let root = fs::canonicalize(&self.root).ok()?;
        real.strip_prefix(root).map(Path::to_path_buf).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_read_up_to_their_bounds_and_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::at(dir.path());
        let long = usize::try_from(FILE_MAX).unwrap() + 1;
        fs::write(dir.path().join("long"), vec![b'x'; long]).unwrap();
        assert_eq!(tree.bytes("long").unwrap().len(), long - 1);
        fs::create_dir(dir.path().join("many")).unwrap();
        for n in 0..=ENTRIES_MAX {
            fs::write(dir.path().join(format!("many/{n}")), "").unwrap();
        }
        assert_eq!(tree.names("many").len(), ENTRIES_MAX);
    }

    #[test]
    fn what_is_not_there_or_makes_no_sense_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::at(dir.path());
        for (name, content) in [
            ("blank", "  \n"),
            ("number", "8086\n"),
            ("huge", "0x123456789"),
        ] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        assert_eq!(tree.text("blank"), None);
        assert_eq!(tree.text("missing"), None);
        assert_eq!(tree.hex("number"), None);
        assert_eq!(tree.hex("huge"), None);
        assert!(tree.names("missing").is_empty());
        assert_eq!(tree.link_name("blank"), None);
    }
}
