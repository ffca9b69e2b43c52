//! Where received files go, and where they are until they are complete.

use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, StatxFlags, flock, mkdirat, openat, statx, unlinkat,
};
use rustix::io::Errno;

use super::error::ReceiveError;
use super::tree::{clear, names_in, open_dir};

/// Folder below the home folder in which received files appear.
const INCOMING: &str = "QubesIncoming";
/// Folder below the user's state folder in which each source has its staging area.
pub(super) const AREAS: &str = "bulkhead/filecopy";
/// Where the staging area is if the state folder is on another mount than the incoming folder.
const NEARBY: &str = ".unfinished";
/// How the name of a staging folder starts.
const STAGING_PREFIX: &str = "t-";

/// The folders for one source qube.
#[derive(Debug)]
pub struct Place {
    /// `~/QubesIncoming/<source>`.
    incoming: OwnedFd,
    incoming_path: PathBuf,
    /// Staging folders and kept files of this source.
    area: OwnedFd,
    area_path: PathBuf,
}

impl Place {
    /// Opens the folders for `source`, making what is missing. `state` is the user's state folder
    /// (`~/.local/state`). Staging folders that a killed receiver left are removed.
    pub fn open(home: &Path, state: &Path, source: &str) -> Result<Self, ReceiveError> {
        let plain = !source.is_empty() && !source.starts_with('.') && !source.contains(['/', '\0']);
        if !plain {
            return Err(ReceiveError::Folder {
                path: source.into(),
                source: Errno::INVAL,
            });
        }
        let incoming_path = home.join(INCOMING).join(source);
        let incoming = make_folder(&incoming_path)?;
        let mut area_path = state.join(AREAS).join(source);
        let mut area = make_folder(&area_path);
        let near = match &area {
            Ok(area) => same_mount(area, &incoming),
            Err(_) => false,
        };
        if !near {
            area_path = home.join(INCOMING).join(NEARBY).join(source);
            area = make_folder(&area_path);
        }
        let place = Self {
            incoming,
            incoming_path,
            area: area?,
            area_path,
        };
        place.remove_stale();
        Ok(place)
    }

    pub(crate) fn incoming(&self) -> &OwnedFd {
        &self.incoming
    }

    /// The path of the incoming folder.
    pub fn incoming_path(&self) -> &Path {
        &self.incoming_path
    }

    pub(crate) fn area(&self) -> &OwnedFd {
        &self.area
    }

    pub(crate) fn error(&self, source: Errno) -> ReceiveError {
        ReceiveError::Folder {
            path: self.area_path.clone(),
            source,
        }
    }

    /// A new, locked staging folder.
    pub(crate) fn stage(&self) -> Result<Staging, ReceiveError> {
        for _ in 0..STAGING_TRIES {
            let name = random_name().map_err(|source| self.error(source))?;
            match mkdirat(&self.area, name.as_str(), Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(source) => return Err(self.error(source)),
            }
            let open = || {
                let folder = open_dir(self.area.as_fd(), name.as_bytes(), OFlags::RDONLY)?;
                flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
                let area = rustix::io::fcntl_dupfd_cloexec(&self.area, 0)?;
                Ok((folder, area))
            };
            // A receiver that starts now may take it for stale before it is locked.
            match open() {
                Ok((folder, area)) => return Ok(Staging { folder, area, name }),
                Err(Errno::NOENT | Errno::WOULDBLOCK) => {}
                Err(source) => return Err(self.error(source)),
            }
        }
        Err(self.error(Errno::BUSY))
    }

    fn remove_stale(&self) {
        for name in names_in(self.area.as_fd()).unwrap_or_default() {
            if !name.starts_with(STAGING_PREFIX.as_bytes()) {
                continue;
            }
            let Ok(folder) = open_dir(self.area.as_fd(), &name, OFlags::RDONLY) else {
                continue;
            };
            if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
                remove_staging(&self.area, &folder, &name);
            }
        }
    }

    /// Removes the staging area's folder if nothing is kept in it.
    pub(crate) fn tidy(&self) {
        // Each fails where something is in the folder, and then it has to stay.
        let _ = unlinkat(&self.area, super::kept::FOLDER, AtFlags::REMOVEDIR);
        let _ = rustix::fs::rmdir(&self.area_path);
        if self
            .area_path
            .parent()
            .is_some_and(|up| up.ends_with(NEARBY))
        {
            let _ = self.area_path.parent().map(rustix::fs::rmdir);
        }
    }
}

/// Tries to find a staging name that is free; names are 64 random bits, so more never helps.
const STAGING_TRIES: u32 = 8;

/// One transfer's folder; it is removed with everything in it when this is dropped.
#[derive(Debug)]
pub(crate) struct Staging {
    folder: OwnedFd,
    area: OwnedFd,
    name: String,
}

impl Staging {
    pub(crate) fn folder(&self) -> &OwnedFd {
        &self.folder
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        remove_staging(&self.area, &self.folder, self.name.as_bytes());
    }
}

/// Best effort: what cannot be removed now is stale to the next receiver.
fn remove_staging(area: &OwnedFd, folder: &OwnedFd, name: &[u8]) {
    use std::os::unix::ffi::OsStrExt as _;
    let _ = clear(folder.as_fd());
    let _ = unlinkat(area, std::ffi::OsStr::from_bytes(name), AtFlags::REMOVEDIR);
}

fn random_name() -> Result<String, Errno> {
    let mut bytes = [0_u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    let mut name = STAGING_PREFIX.to_owned();
    for byte in bytes {
        let _ = write!(name, "{byte:02x}");
    }
    Ok(name)
}

fn make_folder(path: &Path) -> Result<OwnedFd, ReceiveError> {
    let failed = |source| ReceiveError::Folder {
        path: path.to_owned(),
        source,
    };
    let mut missing = Vec::new();
    let mut current = Some(path);
    while let Some(folder) = current {
        match mkdirat(CWD, folder, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => break,
            Err(Errno::NOENT) => {
                missing.push(folder);
                current = folder.parent();
            }
            Err(source) => return Err(failed(source)),
        }
    }
    for folder in missing.into_iter().rev() {
        match mkdirat(CWD, folder, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(source) => return Err(failed(source)),
        }
    }
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(CWD, path, flags, Mode::empty()).map_err(failed)
}

/// Whether a rename between two folders can work. Two mounts of one file system cannot.
fn same_mount(one: &OwnedFd, other: &OwnedFd) -> bool {
    let mount = |fd: &OwnedFd| {
        let known = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
        (known.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(known.stx_mnt_id)
    };
    mount(one).is_some_and(|id| mount(other) == Some(id))
}
