//! Volumes as sparse files.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::Mib;
use uuid::Uuid;

use super::super::{StorageError, VolumeId, VolumeInfo, failed, folder, tree};
use crate::hypervisor::ROOT_VOLUME;
use crate::whole_file::{self, Lasting};

/// What a volume's file name ends in.
const END: &str = ".img";

/// What is in place of that for the kernel that goes with a root.
const BOOT: &str = "boot";

/// File beside that kernel with the identity of the root.
const ROOT_ID: &str = "root.id";

/// What a volume's name begins with while it is being made; no volume's own does.
const UNFINISHED: &str = ".new-";

const RETIRED: &str = ".retired";

#[derive(Debug)]
pub(super) struct Volumes {
    root: PathBuf,
}

impl Volumes {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// What all are below.
    pub(super) fn folder(&self) -> &Path {
        &self.root
    }

    pub(super) fn prepare(&self) -> Result<(), StorageError> {
        folder::make(&self.root.join(RETIRED))?;
        for folder in entries(&self.root)? {
            for file in entries(&folder)?.iter().filter(|path| is_unfinished(path)) {
                remove(file)?;
            }
        }
        Ok(())
    }

    pub(super) fn list(&self) -> Result<Vec<VolumeInfo>, StorageError> {
        let mut found = Vec::new();
        for folder in entries(&self.root)? {
            // What is no qube's name is not ours.
            let Some(qube) = name(&folder).and_then(|name| QubeName::new(name).ok()) else {
                continue;
            };
            for file in entries(&folder)? {
                let volume = name(&file).and_then(|name| name.strip_suffix(END));
                let Some(volume) = volume else { continue };
                let id = VolumeId {
                    qube: qube.clone(),
                    volume: volume.to_owned(),
                };
                if id.check().is_ok() && file.is_file() {
                    found.push(self.get(&id)?);
                }
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    pub(super) fn get(&self, id: &VolumeId) -> Result<VolumeInfo, StorageError> {
        id.check()?;
        let path = self.path(id);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => Ok(VolumeInfo {
                id: id.clone(),
                size: Mib(meta.len() >> 20),
                path,
                enforced: true,
            }),
            Ok(_) => Err(StorageError::NoSuchVolume(id.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StorageError::NoSuchVolume(id.clone()))
            }
            Err(error) => Err(failed(&path, "looking at volume", error)),
        }
    }

    pub(super) fn create(&self, id: &VolumeId, size: Mib) -> Result<VolumeInfo, StorageError> {
        match self.get(id) {
            Err(StorageError::NoSuchVolume(_)) => {}
            other => return other,
        }
        let path = self.path(id);
        let folder = path.parent().unwrap_or(&path);
        folder::make(folder)?;
        let new = Self::unfinished(&path)?;
        let made = blank(&new, size)
            .and_then(|()| fs::rename(&new, &path))
            .and_then(|()| whole_file::sync_folder(folder));
        if let Err(error) = made {
            // Nothing half made stays, as on a full disk. The first error is the one to tell.
            let _ = fs::remove_file(&new);
            let _ = folder::remove_if_empty(folder);
            return Err(failed(&path, "creating volume", error));
        }
        self.get(id)
    }

    pub(super) fn resize(&self, id: &VolumeId, size: Mib) -> Result<VolumeInfo, StorageError> {
        let info = self.get(id)?;
        if info.size != size {
            File::options()
                .write(true)
                .open(&info.path)
                .and_then(|file| file.set_len(bytes(size)?).and_then(|()| file.sync_all()))
                .map_err(|error| failed(&info.path, "resizing volume", error))?;
        }
        self.get(id)
    }

    pub(super) fn retire(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError> {
        id.check()?;
        let (from, to) = (self.path(id), self.retired_path(id, tag));
        if !from.exists() && !to.exists() {
            return Ok(());
        }
        self.rename(&from, &to, "setting aside volume")
    }

    pub(super) fn restore(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError> {
        id.check()?;
        let (from, to) = (self.retired_path(id, tag), self.path(id));
        if !from.exists() {
            return Ok(());
        }
        self.rename(&from, &to, "bringing back volume")
    }

    /// Where what is to become the file or folder `place` is made.
    pub(super) fn unfinished(place: &Path) -> Result<PathBuf, StorageError> {
        let file = name(place).unwrap_or_default();
        let new = place.with_file_name(format!("{UNFINISHED}{file}"));
        remove(&new)?;
        Ok(new)
    }

    /// Gives what was made its name.
    pub(super) fn finish(new: &Path, place: &Path) -> Result<(), StorageError> {
        fs::rename(new, place)
            .and_then(|()| whole_file::sync_folder(place.parent().unwrap_or(place)))
            .map_err(|error| failed(place, "making", error))
    }

    /// Folder of the kernel that goes with a root; there once the root has begun.
    pub(super) fn boot(&self, id: &VolumeId) -> PathBuf {
        self.path(id).with_extension(BOOT)
    }

    /// Gives the root whose kernel is in `boot` its identity.
    pub(super) fn name_root(boot: &Path, root: Uuid) -> Result<(), StorageError> {
        let path = boot.join(ROOT_ID);
        whole_file::replace(&path, root.to_string().as_bytes(), 0o600, Lasting::Always)
            .map_err(|error| failed(&path, "naming root", error.into()))
    }

    /// The identity of the root in a volume; none before its first start.
    pub(super) fn root(&self, id: &VolumeId) -> Result<Option<Uuid>, StorageError> {
        id.check()?;
        Self::root_in(&self.boot(id))
    }

    fn root_in(boot: &Path) -> Result<Option<Uuid>, StorageError> {
        if !boot.is_dir() {
            return Ok(None);
        }
        let path = boot.join(ROOT_ID);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let root = text.parse().map_err(io::Error::other);
                root.map(Some)
                    .map_err(|error| failed(&path, "understanding", error))
            }
            // It began before roots had one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let root = Uuid::new_v4();
                Self::name_root(boot, root)?;
                Ok(Some(root))
            }
            Err(error) => Err(failed(&path, "reading", error)),
        }
    }

    /// All roots that have begun.
    pub(super) fn begun(&self) -> Result<Vec<(VolumeId, Uuid)>, StorageError> {
        let mut found = Vec::new();
        for folder in entries(&self.root)? {
            if let Some(qube) = name(&folder).and_then(|name| QubeName::new(name).ok()) {
                let volume = ROOT_VOLUME.to_owned();
                let id = VolumeId { qube, volume };
                if self.path(&id).is_file() {
                    found.extend(self.root(&id)?.map(|root| (id, root)));
                }
            }
        }
        Ok(found)
    }

    /// The same, also of volumes that are set aside.
    pub(super) fn all_begun(&self) -> Result<Vec<(VolumeId, Uuid)>, StorageError> {
        let mut found = self.begun()?;
        for (id, tag) in self.retired()? {
            let boot = self.retired_path(&id, &tag).with_extension(BOOT);
            found.extend(Self::root_in(&boot)?.map(|root| (id, root)));
        }
        Ok(found)
    }

    fn rename(&self, from: &Path, to: &Path, doing: &str) -> Result<(), StorageError> {
        let folder = to.parent().unwrap_or(to);
        folder::make(folder)?;
        // The disk last: it tells whether this was done.
        tree::rename_once(&from.with_extension(BOOT), &to.with_extension(BOOT))
            .and_then(|()| tree::rename_once(from, to))
            .and_then(|()| whole_file::sync_folder(folder))
            .map_err(|error| failed(from, doing, error))?;
        folder::remove_if_empty(from.parent().unwrap_or(from))
    }

    pub(super) fn purge(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError> {
        id.check()?;
        let path = self.retired_path(id, tag);
        remove(&path.with_extension(BOOT))?;
        whole_file::remove(&path).map_err(|error| failed(&path, "destroying volume", error))?;
        folder::remove_if_empty(path.parent().unwrap_or(&path))
    }

    pub(super) fn retired(&self) -> Result<Vec<(VolumeId, String)>, StorageError> {
        let mut found = Vec::new();
        for folder in entries(&self.root.join(RETIRED))? {
            let Some(tag) = name(&folder) else { continue };
            for file in entries(&folder)? {
                let id = name(&file)
                    .and_then(|name| name.strip_suffix(END))
                    .and_then(|name| name.split_once(':'))
                    .and_then(|(qube, volume)| {
                        let (qube, volume) = (QubeName::new(qube).ok()?, volume.to_owned());
                        Some(VolumeId { qube, volume })
                    });
                found.extend(id.map(|id| (id, tag.to_owned())));
            }
        }
        found.sort();
        Ok(found)
    }

    fn path(&self, id: &VolumeId) -> PathBuf {
        self.root
            .join(id.qube.as_str())
            .join(format!("{}{END}", id.volume))
    }

    fn retired_path(&self, id: &VolumeId, tag: &str) -> PathBuf {
        self.root.join(RETIRED).join(tag).join(format!("{id}{END}"))
    }
}

fn bytes(size: Mib) -> io::Result<u64> {
    size.0
        .checked_mul(1 << 20)
        .ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}

/// Makes an empty disk at `path`, over what a crash left there.
fn blank(path: &Path, size: Mib) -> io::Result<()> {
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.set_len(bytes(size)?)?;
    file.sync_all()
}

/// Removes a file or a folder, or what is gone already.
fn remove(path: &Path) -> Result<(), StorageError> {
    let removed = if path.is_dir() {
        tree::remove(path)
    } else {
        whole_file::remove(path)
    };
    removed.map_err(|error| failed(path, "removing", error))
}

fn is_unfinished(path: &Path) -> bool {
    name(path).is_some_and(|name| name.starts_with(UNFINISHED))
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// What is in a folder; one that is not there, or is none, has nothing.
fn entries(path: &Path) -> Result<Vec<PathBuf>, StorageError> {
    use io::ErrorKind::{NotADirectory, NotFound};
    let listed = fs::read_dir(path).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
    });
    match listed {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(Vec::new()),
        listed => listed.map_err(|error| failed(path, "reading folder", error)),
    }
}
