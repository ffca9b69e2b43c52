//! A folder that another qube fills: every step goes through descriptors, none follows a link.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use bulkhead_wire::filecopy::Stamp;
use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, RenameFlags, Timespec, Timestamps, chmodat, fchmod, futimens,
    mkdirat, openat, renameat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;

/// Permission bits that are taken over; set-uid, set-gid and sticky never are.
const TAKEN: u32 = 0o777;

fn leaf_of(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => match name.split_at(slash) {
            (parent, [_, leaf @ ..]) => (parent, leaf),
            (parent, []) => (parent, &[]),
        },
        None => (&[], name),
    }
}

/// Opens a directory by one component, never through a link.
pub(crate) fn open_dir(
    parent: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, OsStr::from_bytes(name), flags, Mode::empty())
}

pub(crate) fn mode(permissions: u32) -> Mode {
    Mode::from_raw_mode(permissions & TAKEN)
}

pub(crate) fn times(atime: Stamp, mtime: Stamp) -> Timestamps {
    let spec = |stamp: Stamp| Timespec {
        tv_sec: stamp.seconds.into(),
        tv_nsec: stamp.nanos.into(),
    };
    Timestamps {
        last_access: spec(atime),
        last_modification: spec(mtime),
    }
}

/// A tree under a root, with the parent of the last item at hand.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    /// Path of a directory below the root, and the directory.
    cached: Option<(Vec<u8>, OwnedFd)>,
}

impl Tree {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root, cached: None }
    }

    /// The directory that `name` lies in, and the last component of `name`.
    fn parent<'n>(&mut self, name: &'n [u8]) -> Result<(BorrowedFd<'_>, &'n OsStr), Errno> {
        let (parent, leaf) = leaf_of(name);
        let leaf = OsStr::from_bytes(leaf);
        if parent.is_empty() {
            return Ok((self.root.as_fd(), leaf));
        }
        let at_hand = self.cached.as_ref().is_some_and(|(path, _)| path == parent);
        if !at_hand {
            let opened = self.descend(parent)?;
            self.cached = Some((parent.to_vec(), opened));
        }
        match &self.cached {
            Some((_, directory)) => Ok((directory.as_fd(), leaf)),
            None => Ok((self.root.as_fd(), leaf)),
        }
    }

    /// Opens `path` one component at a time, from the directory at hand where that is on the way.
    fn descend(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut rest = path;
        let mut start = self.root.as_fd();
        if let Some((above, directory)) = &self.cached
            && let Some([b'/', below @ ..]) = path.strip_prefix(above.as_slice())
        {
            rest = below;
            start = directory.as_fd();
        }
        let mut current: Option<OwnedFd> = None;
        for component in rest.split(|byte| *byte == b'/') {
            let from = current.as_ref().map_or(start, |fd| fd.as_fd());
            current = Some(open_dir(from, component, OFlags::PATH)?);
        }
        current.ok_or(Errno::NOENT)
    }

    /// Creates a directory, closed to others until it is complete. False: it was there.
    pub(crate) fn create_dir(&mut self, name: &[u8]) -> Result<bool, Errno> {
        let (parent, leaf) = self.parent(name)?;
        match mkdirat(parent, leaf, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a complete directory its permissions and times.
    pub(crate) fn finish_dir(
        &mut self,
        name: &[u8],
        permissions: u32,
        times: &Timestamps,
    ) -> Result<(), Errno> {
        let (parent, leaf) = self.parent(name)?;
        let directory = match open_dir(parent, leaf.as_bytes(), OFlags::RDONLY) {
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(Errno::EXIST),
            other => other?,
        };
        futimens(&directory, times)?;
        fchmod(&directory, mode(permissions))
    }

    /// Creates a new file for writing. The process's umask applies.
    pub(crate) fn create_file(&mut self, name: &[u8], permissions: Mode) -> Result<OwnedFd, Errno> {
        let (parent, leaf) = self.parent(name)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(parent, leaf, flags, permissions)
    }

    pub(crate) fn create_link(&mut self, name: &[u8], target: &[u8]) -> Result<(), Errno> {
        let (parent, leaf) = self.parent(name)?;
        symlinkat(OsStr::from_bytes(target), parent, leaf)
    }

    /// Moves `from` in another directory over the file `name`, and leaves permissions and times of
    /// the directory around it as they are.
    pub(crate) fn replace_file(
        &mut self,
        from_dir: BorrowedFd<'_>,
        from: &OsStr,
        name: &[u8],
    ) -> Result<(), Errno> {
        let (parent, leaf) = self.parent(name)?;
        let before = rustix::fs::fstat(parent)?;
        // By name through the descriptor: a path-only one can be neither changed nor reopened.
        if before.st_mode & 0o700 != 0o700 {
            chmodat(parent, ".", Mode::RWXU, AtFlags::empty())?;
        }
        renameat(from_dir, from, parent, leaf)?;
        let directory = open_dir(parent, b".", OFlags::RDONLY)?;
        futimens(&directory, &times_of(&before))?;
        fchmod(&directory, Mode::from_raw_mode(before.st_mode & 0o7777))
    }
}

#[expect(
    clippy::cast_possible_wrap,
    reason = "the kernel's nanoseconds are below a billion"
)]
fn times_of(stat: &rustix::fs::Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as i64,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as i64,
        },
    }
}

/// Names in a directory, without `.` and `..`.
pub(crate) fn names_in(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Moves `name` from one directory into another where nothing has this name, keeping its
/// permissions even where they would forbid to move it.
pub(crate) fn move_into(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &[u8],
) -> Result<(), Errno> {
    let leaf = OsStr::from_bytes(name);
    match renameat_with(from, leaf, to, leaf, RenameFlags::NOREPLACE) {
        Err(Errno::ACCESS) => {}
        other => return other,
    }
    // A directory without write permission cannot change its parent.
    let before = rustix::fs::statat(from, leaf, AtFlags::SYMLINK_NOFOLLOW)?;
    chmodat(from, leaf, Mode::RWXU, AtFlags::empty())?;
    let directory = open_dir(from, name, OFlags::RDONLY)?;
    let moved = renameat_with(from, leaf, to, leaf, RenameFlags::NOREPLACE);
    fchmod(&directory, Mode::from_raw_mode(before.st_mode & 0o7777))?;
    moved
}

/// Removes everything in `root`, however deep and whatever its permissions, with two descriptors:
/// what lies deeper than one level is first moved up.
pub(crate) fn clear(root: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut moved: u64 = 0;
    loop {
        let names = names_in(root)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if !remove_leaf(root, &name)? {
                continue;
            }
            let directory = open_dir(root, &name, OFlags::RDONLY)?;
            for child in names_in(directory.as_fd())? {
                if remove_leaf(directory.as_fd(), &child)? {
                    move_up(directory.as_fd(), root, &child, &mut moved)?;
                }
            }
            unlinkat(root, OsStr::from_bytes(&name), AtFlags::REMOVEDIR)?;
        }
    }
}

/// Removes what is no directory. True: it is one, and is open to its owner now.
fn remove_leaf(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    let leaf = OsStr::from_bytes(name);
    match unlinkat(parent, leaf, AtFlags::empty()) {
        Ok(()) => Ok(false),
        Err(Errno::ISDIR) => {
            chmodat(parent, leaf, Mode::RWXU, AtFlags::empty())?;
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

fn move_up(
    from: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    name: &[u8],
    moved: &mut u64,
) -> Result<(), Errno> {
    loop {
        *moved += 1;
        let fresh = format!("removed-{moved}");
        match renameat_with(
            from,
            OsStr::from_bytes(name),
            root,
            fresh.as_str(),
            RenameFlags::NOREPLACE,
        ) {
            Err(Errno::EXIST) => {}
            other => return other,
        }
    }
}
