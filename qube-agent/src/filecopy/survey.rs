//! What is to be sent, seen before it is sent.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_wire::filecopy::{Names, check_name};
use bulkhead_wire::qrexec::announced::Announced;
use rustix::fs::{AtFlags, CWD, FileType, OFlags, statat};
use rustix::io::Errno;

use super::error::SendError;
use super::listing::Listings;
use super::send::name_of;
use super::sizes;
use super::tree::open_dir;

/// Most files whose sizes are looked up to announce them: a few milliseconds, before anybody is
/// asked. Of more, their number is announced and at least these bytes.
pub(super) const SIZES_MAX: u64 = 4096;
/// Files whose sizes are looked up whatever time it takes: of a few, all is announced.
pub(super) const SIZES_SURE: u64 = 64;
/// Longest time for the rest, where they are slow to look up: shorter than a person notices.
pub(super) const SIZES_TIME: Duration = Duration::from_millis(50);

/// How many sizes are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// All: somebody looks at how far the transfer is.
    All,
    /// As many as may be for the announcement.
    Announced,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Survey {
    seen: Seen,
    /// The folders that were seen.
    pub(crate) listings: Listings,
}

#[derive(Debug)]
struct Seen {
    sizes: Sizes,
    until: Instant,
    names: Names,
    files: u64,
    folders: u64,
    /// Of the files whose size was looked up.
    bytes: u64,
    /// There are files whose size was not looked up.
    more: bool,
}

impl Survey {
    /// Looks at every name, and at sizes.
    pub(crate) fn of(paths: &[PathBuf], sizes: Sizes) -> Result<Self, SendError> {
        Self::within(SIZES_TIME, paths, sizes)
    }

    fn within(time: Duration, paths: &[PathBuf], sizes: Sizes) -> Result<Self, SendError> {
        let seen = Seen {
            sizes,
            until: Instant::now() + time,
            names: Names::Listed,
            files: 0,
            folders: 0,
            bytes: 0,
            more: false,
        };
        let listings = Listings::default();
        let mut survey = Self { seen, listings };
        for path in paths {
            let (path, name) = name_of(path)?;
            survey.look(&path, &name)?;
        }
        Ok(survey)
    }

    /// Bytes of file content, of the files whose size was looked up.
    pub(crate) fn bytes(&self) -> u64 {
        self.seen.bytes
    }

    /// Which names the receiver has to accept.
    pub(crate) fn names(&self) -> Names {
        self.seen.names
    }

    /// What the person who is asked is told of it.
    pub(crate) fn announced(&self) -> Announced {
        Announced {
            files: self.seen.files,
            folders: self.seen.folders,
            bytes: self.seen.bytes,
            at_least: self.seen.more,
        }
    }

    fn look(&mut self, path: &Path, name: &[u8]) -> Result<(), SendError> {
        let found = path.symlink_metadata().map_err(|source| SendError::Read {
            path: path.to_owned(),
            source,
        })?;
        self.seen.note(name);
        if !found.is_dir() {
            self.seen.files += 1;
            self.seen.bytes += if found.is_file() { found.len() } else { 0 };
            return Ok(());
        }
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.pop() {
            self.look_into(&folder, &mut folders)
                .map_err(|source| SendError::Read {
                    path: folder,
                    source: source.into(),
                })?;
        }
        Ok(())
    }

    /// Looks at what is in `folder`; folders in it are to be looked into.
    fn look_into(&mut self, folder: &Path, folders: &mut Vec<PathBuf>) -> Result<(), Errno> {
        let open = open_dir(CWD, folder.as_os_str().as_bytes(), OFlags::RDONLY)?;
        let (seen, mut failed) = (&mut self.seen, None);
        seen.folders += 1;
        let until = (seen.sizes == Sizes::Announced).then_some(seen.until);
        let (read, found) = sizes::of(open.as_fd(), until, |wanted| {
            self.listings.read(open.as_fd(), |name, kind| {
                seen.note(name);
                match seen.item(open.as_fd(), name, kind, wanted) {
                    Ok(FileType::Directory) => folders.push(folder.join(OsStr::from_bytes(name))),
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                }
            })
        });
        read?;
        failed.map_or(Ok(()), Err)?;
        seen.found(found)
    }
}

impl Seen {
    fn note(&mut self, name: &[u8]) {
        if check_name(name, Names::Listed).is_err() {
            self.names = Names::All;
        }
    }

    /// Counts what is called `name` in `folder`; says what it is.
    fn item(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        kind: FileType,
        many: &mut sizes::Sizes<'_, '_>,
    ) -> Result<FileType, Errno> {
        if kind == FileType::Directory {
            return Ok(kind);
        }
        let wanted = match kind {
            FileType::RegularFile => self.wanted(),
            // Not every file system tells kinds with names.
            FileType::Unknown => Wanted::Now,
            _ => Wanted::Not,
        };
        if wanted != Wanted::Now {
            self.files += 1;
            match wanted {
                Wanted::Soon => many.add(name),
                _ => self.more |= kind == FileType::RegularFile,
            }
            return Ok(kind);
        }
        let stat = match statat(folder, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // One that has just gone is for the transfer to notice.
            Err(_) if kind == FileType::RegularFile && self.sizes == Sizes::Announced => {
                self.files += 1;
                self.more = true;
                return Ok(kind);
            }
            Err(error) => return Err(error),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory {
            self.files += 1;
        }
        if kind == FileType::RegularFile {
            self.bytes += u64::try_from(stat.st_size).unwrap_or(0);
        }
        Ok(kind)
    }

    /// When to look up one more size.
    fn wanted(&self) -> Wanted {
        if self.files < SIZES_SURE {
            Wanted::Now
        } else if self.sizes == Sizes::All || (!self.more && self.files < SIZES_MAX) {
            Wanted::Soon
        } else {
            Wanted::Not
        }
    }

    /// Counts what was found of the sizes of one folder.
    fn found(&mut self, found: sizes::Found) -> Result<(), Errno> {
        self.bytes += found.bytes;
        self.more |= found.left;
        match found.failed {
            None => {}
            // One that has just gone is for the transfer to notice.
            Some(_) if self.sizes == Sizes::Announced => self.more = true,
            Some(error) => return Err(error),
        }
        Ok(())
    }
}

/// When the size of a file is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Now,
    /// With others of its folder, if there is time.
    Soon,
    Not,
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn announced(paths: &[PathBuf], sizes: Sizes) -> Announced {
        Survey::of(paths, sizes).unwrap().announced()
    }

    fn within(time: Duration, folder: &Path) -> Announced {
        let survey = Survey::within(time, &[folder.to_owned()], Sizes::Announced);
        survey.unwrap().announced()
    }

    fn exactly(files: u64, folders: u64, bytes: u64) -> Announced {
        Announced {
            files,
            folders,
            bytes,
            at_least: false,
        }
    }

    #[test]
    fn files_folders_and_bytes_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("d/empty")).unwrap();
        fs::write(at("d/a"), [0; 1000]).unwrap();
        fs::write(at("d/empty/b"), [0; 24]).unwrap();
        fs::write(at("alone"), [0; 3]).unwrap();
        // A link is an item, and what it points to is not sent.
        std::os::unix::fs::symlink(at("alone"), at("d/link")).unwrap();
        for sizes in [Sizes::All, Sizes::Announced] {
            let of = |names: &[&str]| {
                let paths: Vec<_> = names.iter().map(|name| at(name)).collect();
                announced(&paths, sizes)
            };
            assert_eq!(of(&["alone"]), exactly(1, 0, 3));
            assert_eq!(of(&["d"]), exactly(3, 2, 1024));
            assert_eq!(of(&["d", "alone", "alone"]), exactly(5, 2, 1030));
            assert_eq!(of(&["d/link"]), exactly(1, 0, 0));
        }
        assert!(Survey::of(&[at("missing")], Sizes::Announced).is_err());
    }

    #[test]
    fn one_size_past_the_limit_is_not_looked_up_but_for_progress() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..SIZES_MAX {
            fs::write(dir.path().join(index.to_string()), [0; 2]).unwrap();
        }
        let seen = within(Duration::from_secs(3600), dir.path());
        assert_eq!(seen, exactly(SIZES_MAX, 1, 2 * SIZES_MAX));
        fs::write(dir.path().join("more"), [0; 2]).unwrap();
        let seen = within(Duration::from_secs(3600), dir.path());
        let at_least = Announced {
            at_least: true,
            ..exactly(SIZES_MAX + 1, 1, 2 * SIZES_MAX)
        };
        assert_eq!(seen, at_least);
        let all = announced(&[dir.path().to_owned()], Sizes::All);
        assert_eq!(all, exactly(SIZES_MAX + 1, 1, 2 * SIZES_MAX + 2));
    }

    #[test]
    fn when_its_time_is_up_only_the_first_sizes_are_looked_up() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..SIZES_SURE {
            fs::write(dir.path().join(index.to_string()), [0; 2]).unwrap();
        }
        let seen = within(Duration::ZERO, dir.path());
        assert_eq!(seen, exactly(SIZES_SURE, 1, 2 * SIZES_SURE));
        fs::write(dir.path().join("more"), [0; 2]).unwrap();
        let seen = within(Duration::ZERO, dir.path());
        let at_least = Announced {
            at_least: true,
            ..exactly(SIZES_SURE + 1, 1, 2 * SIZES_SURE)
        };
        assert_eq!(seen, at_least);
    }

    #[test]
    fn a_survey_sees_every_name() {
        let here = tempfile::tempdir().unwrap();
        let tree = here.path().join("tree");
        fs::create_dir_all(tree.join("sub/empty")).unwrap();
        fs::write(tree.join("one"), [0; 100]).unwrap();
        let paths = [tree.clone()];
        let survey = Survey::of(&paths, Sizes::All).unwrap();
        assert_eq!((survey.bytes(), survey.names()), (100, Names::Listed));
        fs::write(tree.join("sub/empty/a\nb"), "").unwrap();
        let survey = Survey::of(&paths, Sizes::Announced).unwrap();
        assert_eq!(survey.names(), Names::All);
    }

    #[test]
    fn a_survey_names_the_folder_that_is_not_there() {
        let here = tempfile::tempdir().unwrap();
        let missing = here.path().join("missing");
        let error = Survey::of(std::slice::from_ref(&missing), Sizes::All).unwrap_err();
        assert!(matches!(error, SendError::Read { path, .. } if path == missing));
    }
}
