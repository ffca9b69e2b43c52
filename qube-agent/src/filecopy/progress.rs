//! What the person sees while files travel.

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_wire::filecopy::{Names, check_name};
use rustix::fs::{AtFlags, CWD, FileType, OFlags, statat};
use rustix::io::Errno;

use super::error::SendError;
use super::listing::Listings;
use super::send::name_of;
use super::tree::open_dir;

/// Least time between two updates: faster than this nobody reads.
const STEP: Duration = Duration::from_millis(100);
const KIB: u64 = 1024;

/// What is to be sent, seen before it is sent.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Bytes of file content.
    pub(crate) bytes: u64,
    /// Which names the receiver has to accept.
    pub(crate) names: Names,
    /// The folders that were seen.
    pub(crate) listings: Listings,
}

impl Survey {
    /// Looks at every name, and at every size if `sizes`.
    pub(crate) fn of(paths: &[PathBuf], sizes: bool) -> Result<Self, SendError> {
        let mut survey = Self {
            bytes: 0,
            names: Names::Listed,
            listings: Listings::default(),
        };
        for path in paths {
            let (path, name) = name_of(path)?;
            survey.look(&path, &name, sizes)?;
        }
        Ok(survey)
    }

    fn look(&mut self, path: &Path, name: &[u8], sizes: bool) -> Result<(), SendError> {
        let found = path.symlink_metadata().map_err(|source| SendError::Read {
            path: path.to_owned(),
            source,
        })?;
        self.note(name);
        if !found.is_dir() {
            self.bytes += if found.is_file() { found.len() } else { 0 };
            return Ok(());
        }
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.pop() {
            self.look_into(&folder, sizes, &mut folders)
                .map_err(|source| SendError::Read {
                    path: folder,
                    source: source.into(),
                })?;
        }
        Ok(())
    }

    /// Looks at what is in `folder`; folders in it are to be looked into.
    fn look_into(
        &mut self,
        folder: &Path,
        sizes: bool,
        folders: &mut Vec<PathBuf>,
    ) -> Result<(), Errno> {
        let open = open_dir(CWD, folder.as_os_str().as_bytes(), OFlags::RDONLY)?;
        let (mut all, mut bytes, mut failed) = (false, 0, None);
        self.listings.read(open.as_fd(), |name, kind| {
            all |= needs_all(name);
            let leaf = OsStr::from_bytes(name);
            let mut is_dir = kind == FileType::Directory;
            // Not every file system tells kinds with names.
            if kind == FileType::Unknown || (sizes && kind == FileType::RegularFile) {
                match statat(&open, leaf, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => {
                        let kind = FileType::from_raw_mode(stat.st_mode);
                        is_dir = kind == FileType::Directory;
                        if kind == FileType::RegularFile {
                            bytes += u64::try_from(stat.st_size).unwrap_or(0);
                        }
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if is_dir {
                folders.push(folder.join(leaf));
            }
        })?;
        self.bytes += bytes;
        if all {
            self.names = Names::All;
        }
        failed.map_or(Ok(()), Err)
    }

    fn note(&mut self, name: &[u8]) {
        if needs_all(name) {
            self.names = Names::All;
        }
    }
}

fn needs_all(name: &[u8]) -> bool {
    check_name(name, Names::Listed).is_err()
}

/// A line on standard error that grows, if that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    total: u64,
    shown: bool,
    last: Option<Instant>,
}

impl Progress {
    /// Silent if not wanted or if nobody is looking.
    pub(crate) fn new(wanted: bool) -> Self {
        Self {
            total: 0,
            shown: wanted && std::io::stderr().is_terminal(),
            last: None,
        }
    }

    pub(crate) fn is_shown(&self) -> bool {
        self.shown
    }

    pub(crate) fn set_total(&mut self, bytes: u64) {
        self.total = bytes;
    }

    pub(crate) fn update(&mut self, bytes: u64) {
        if self.shown && self.last.is_none_or(|last| last.elapsed() >= STEP) {
            self.last = Some(Instant::now());
            self.print(bytes, "\r");
        }
    }

    pub(crate) fn finish(&mut self, bytes: u64) {
        if self.shown {
            self.print(bytes, "\n");
        }
    }

    fn print(&self, bytes: u64, end: &str) {
        let line = format!("\rsent {}/{} KiB{end}", bytes / KIB, self.total / KIB);
        // A terminal that went away is no reason to stop the transfer.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_survey_sees_every_file_and_every_name() {
        let here = tempfile::tempdir().unwrap();
        let tree = here.path().join("tree");
        fs::create_dir_all(tree.join("sub/empty")).unwrap();
        fs::write(tree.join("one"), [0; 100]).unwrap();
        fs::write(tree.join("sub/two"), [0; 20]).unwrap();
        std::os::unix::fs::symlink("one", tree.join("link")).unwrap();
        let file = here.path().join("three");
        fs::write(&file, [0; 3]).unwrap();
        let paths = [tree.clone(), file];

        let survey = Survey::of(&paths, true).unwrap();
        assert_eq!((survey.bytes, survey.names), (123, Names::Listed));
        fs::write(tree.join("sub/empty/a\nb"), "").unwrap();
        let survey = Survey::of(&paths, false).unwrap();
        assert_eq!(survey.names, Names::All);
    }

    #[test]
    fn a_survey_names_the_folder_that_is_not_there() {
        let here = tempfile::tempdir().unwrap();
        let missing = here.path().join("missing");
        let error = Survey::of(std::slice::from_ref(&missing), false).unwrap_err();
        assert!(matches!(error, SendError::Read { path, .. } if path == missing));
    }
}
