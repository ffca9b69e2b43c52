//! Small files that are whole: after a crash, a power cut or on a full disk, a file has its old
//! content or its new one, and what stopped half way is replaced by the next write.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How long a file has to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// Whatever happens: it is on the disk when the write returns.
    Always,
    /// Until the machine starts anew: what it says is void then, so nobody waits for a disk.
    ThisBoot,
}

/// A file was not written; what it held before it still holds.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`", .path.display())]
pub(crate) struct WriteFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl From<WriteFileError> for io::Error {
    /// Of the same kind, so that a full disk is still known as one.
    fn from(error: WriteFileError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// Where the new content is until it is whole. Hidden: whoever lists the folder passes it over.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// Gives `path` this content. A file that is there keeps its mode, and its owner where we may give
/// files away; a new one gets `mode`, whatever the umask says.
///
/// # Errors
/// What the machine said; the old content is in force then.
pub(crate) fn replace(
    path: &Path,
    content: &[u8],
    mode: u32,
    lasting: Lasting,
) -> Result<(), WriteFileError> {
    /// Two at a time on one path would share what is beside it.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let new = beside(path);
    let done = remove(&new).and_then(|()| {
        write(&new, path, content, mode, lasting).inspect_err(|_| {
            // The first error is the one to tell.
            let _ = fs::remove_file(&new);
        })
    });
    done.map_err(|source| WriteFileError {
        path: path.to_owned(),
        source,
    })
}

/// Removes a file; that it is gone already is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn write(new: &Path, path: &Path, content: &[u8], mode: u32, lasting: Lasting) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // Nobody else reads it before it has its mode.
    options.create_new(true).write(true).mode(mode & 0o600);
    let mut file = options.open(new)?;
    file.write_all(content)?;
    let mode = match fs::metadata(path) {
        Ok(old) => {
            // An ordinary user's daemon cannot give files away, and has no need to.
            let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
            old.mode() & 0o7777
        }
        Err(_) => mode,
    };
    file.set_permissions(Permissions::from_mode(mode))?;
    if lasting == Lasting::Always {
        file.sync_all()?;
    }
    fs::rename(new, path)?;
    match (lasting, path.parent()) {
        (Lasting::Always, Some(folder)) => sync_folder(folder),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use bulkhead_testing::{fill, on_a_small_disk, small_disk};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_crash_left_is_replaced_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uuids.json");
        for lasting in [Lasting::Always, Lasting::ThisBoot] {
            fs::write(beside(&path), "half of what was once").unwrap();
            replace(&path, b"whole", 0o600, lasting).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
            assert_eq!(names(dir.path()), ["uuids.json"]);
        }
    }

    #[test]
    fn what_lies_in_the_way_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("file"), dir.path().join("other"));
        fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, beside(&path)).unwrap();
        replace(&path, b"new", 0o600, Lasting::Always).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_new_file_has_the_mode_that_was_asked_for_and_an_old_one_keeps_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        // More than any umask leaves.
        replace(&path, b"1", 0o666, Lasting::Always).unwrap();
        assert_eq!(mode(&path), 0o666);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"2", 0o600, Lasting::ThisBoot).unwrap();
        assert_eq!(mode(&path), 0o640);
    }

    #[test]
    fn an_error_names_the_file_and_keeps_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone/file");
        let error = replace(&path, b"1", 0o600, Lasting::Always).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot write `{}`", path.display())
        );
        assert!(error.source().unwrap().to_string().contains("No such file"));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn writers_of_one_file_come_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::thread::scope(|scope| {
            for writer in 0..4_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..50 {
                        replace(path, &[writer; 5000], 0o600, Lasting::ThisBoot).unwrap();
                        let read = fs::read(path).unwrap();
                        assert_eq!(read.len(), 5000);
                        assert!(read.iter().all(|byte| Some(byte) == read.first()));
                    }
                });
            }
        });
    }

    /// Runs in the namespace, on the small disk.
    #[test]
    fn child() {
        let Some(small) = small_disk() else {
            return;
        };
        let path = small.join("file");
        replace(&path, b"old", 0o600, Lasting::Always).unwrap();
        let filler = fill(&small);
        for lasting in [Lasting::Always, Lasting::ThisBoot] {
            let error = replace(&path, &[7; 100_000], 0o600, lasting).unwrap_err();
            assert!(error.to_string().contains("/file`"), "{error}");
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::StorageFull);
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            assert_eq!(names(&small), ["file", "filler"]);
        }
        fs::remove_file(filler).unwrap();
        replace(&path, b"new", 0o600, Lasting::Always).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        println!("refused twice");
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        on_a_small_disk("whole_file::tests::child");
    }
}
