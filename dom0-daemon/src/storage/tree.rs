//! Whole trees: their digest, their removal, and files that are there or not, never half.

use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

/// What a tree holds.
pub(super) struct Summary {
    /// Over names, kinds, modes, owners and contents; not over times.
    pub(super) digest: String,
    /// Bytes of all files.
    pub(super) bytes: u64,
}

/// Reads the whole tree at `root`.
pub(super) fn summarise(root: &Path) -> io::Result<Summary> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    walk(root, root, &mut hash, &mut bytes)?;
    Ok(Summary {
        digest: crate::storage::hex(&hash.finalize()),
        bytes,
    })
}

fn walk(root: &Path, at: &Path, hash: &mut Sha256, bytes: &mut u64) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(at)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let meta = fs::symlink_metadata(&path)?;
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .as_os_str()
            .as_bytes();
        // Every field has its length before it, so that no two trees hash the same text.
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        for field in [meta.mode(), meta.uid(), meta.gid()] {
            hash.update(field.to_le_bytes());
        }
        let kind = meta.file_type();
        if kind.is_dir() {
            walk(root, &path, hash, bytes)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path)?;
            hash.update((target.as_os_str().len() as u64).to_le_bytes());
            hash.update(target.as_os_str().as_bytes());
        } else if kind.is_file() {
            *bytes += meta.len();
            hash.update(meta.len().to_le_bytes());
            content(&path, hash)?;
        } else if kind.is_block_device() || kind.is_char_device() {
            hash.update(meta.rdev().to_le_bytes());
        }
    }
    Ok(())
}

fn content(path: &Path, hash: &mut Sha256) -> io::Result<()> {
    /// Large enough that the hash and not the system call is what takes time.
    const CHUNK: usize = 256 * 1024;
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            n => hash.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

/// Removes a tree, also where a qube has taken its owner's permissions away. No link is followed.
/// What is gone already is no error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn open_up(path: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Ok(());
    }
    if meta.permissions().mode() & 0o700 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    for entry in fs::read_dir(path)? {
        open_up(&entry?.path())?;
    }
    Ok(())
}

/// A rename that succeeds when it was done before.
pub(super) fn rename_once(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
