//! Volumes as folders.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::Mib;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::{ImageDigest, StorageError, VolumeId, VolumeInfo, failed, folder, tree};
use crate::hypervisor::ROOT_VOLUME;
use crate::whole_file::{self, Lasting};

const RETIRED: &str = ".retired";

#[derive(Debug)]
pub(super) struct Volumes {
    root: PathBuf,
}

/// What is known of a volume beside its tree.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    size: Mib,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    began: Option<Began>,
}

/// What a root that a qube keeps began as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Began {
    /// Names it, for its revisions.
    pub(super) root: Uuid,
    /// What it lies over, whatever its template is by now.
    pub(super) image: ImageDigest,
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
        folder::make(&self.root.join(RETIRED))
    }

    pub(super) fn list(&self) -> Result<Vec<VolumeInfo>, StorageError> {
        let mut found = Vec::new();
        for (qube, path) in named_dirs(&self.root)? {
            // What is no qube's name is not ours.
            let Ok(qube) = QubeName::new(qube) else {
                continue;
            };
            for (volume, path) in named_dirs(&path)? {
                let id = VolumeId {
                    qube: qube.clone(),
                    volume,
                };
                if id.check().is_ok() {
                    found.push(self.info(id, path)?);
                }
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    pub(super) fn get(&self, id: &VolumeId) -> Result<VolumeInfo, StorageError> {
        id.check()?;
        let path = self.path(id);
        if !path.is_dir() {
            return Err(StorageError::NoSuchVolume(id.clone()));
        }
        self.info(id.clone(), path)
    }

    pub(super) fn create(&self, id: &VolumeId, size: Mib) -> Result<VolumeInfo, StorageError> {
        match self.get(id) {
            Err(StorageError::NoSuchVolume(_)) => {}
            other => return other,
        }
        let path = self.path(id);
        self.make(id, size, &path).inspect_err(|_| {
            // Nothing half made stays, as on a full disk. The first error is the one to tell.
            let _ = fs::remove_dir(&path);
            let _ = fs::remove_file(self.record_path(id));
            let _ = folder::remove_if_empty(path.parent().unwrap_or(&path));
        })?;
        self.info(id.clone(), path)
    }

    fn make(&self, id: &VolumeId, size: Mib, path: &Path) -> Result<(), StorageError> {
        let folder = path.parent().unwrap_or(path);
        folder::make(folder)?;
        self.record(id, &Record { size, began: None })?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(path)
            .and_then(|()| whole_file::sync_folder(folder))
            .map_err(|error| failed(path, "creating volume", error))
    }

    pub(super) fn resize(&self, id: &VolumeId, size: Mib) -> Result<VolumeInfo, StorageError> {
        let mut info = self.get(id)?;
        if info.size != size {
            let record = read(&self.record_path(id))?;
            self.record(id, &Record { size, ..record })?;
            info.size = size;
        }
        Ok(info)
    }

    /// What the root in a volume began as; none before its first start.
    pub(super) fn began(&self, id: &VolumeId) -> Result<Option<Began>, StorageError> {
        id.check()?;
        Ok(read(&self.record_path(id))?.began)
    }

    /// Records what the root in a volume begins as.
    pub(super) fn begin(&self, id: &VolumeId, began: Began) -> Result<(), StorageError> {
        let size = self.get(id)?.size;
        let began = Some(began);
        self.record(id, &Record { size, began })
    }

    /// What all roots began as that have.
    pub(super) fn begun(&self) -> Result<Vec<(VolumeId, Began)>, StorageError> {
        let mut found = Vec::new();
        for (qube, path) in named_dirs(&self.root)? {
            if let Ok(qube) = QubeName::new(qube)
                && path.join(ROOT_VOLUME).is_dir()
            {
                let volume = ROOT_VOLUME.to_owned();
                let id = VolumeId { qube, volume };
                found.extend(self.began(&id)?.map(|began| (id, began)));
            }
        }
        Ok(found)
    }

    /// The same, also of volumes that are set aside.
    pub(super) fn all_begun(&self) -> Result<Vec<(VolumeId, Began)>, StorageError> {
        let mut found = self.begun()?;
        for (id, tag) in self.retired()? {
            let (_, record) = self.retired_paths(&id, &tag);
            found.extend(read(&record)?.began.map(|began| (id, began)));
        }
        Ok(found)
    }

    pub(super) fn retire(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError> {
        id.check()?;
        let (tree, record) = self.retired_paths(id, tag);
        let (from_tree, from_record) = (self.path(id), self.record_path(id));
        if !from_tree.is_dir() && !tree.is_dir() {
            return Ok(());
        }
        folder::make(tree.parent().unwrap_or(&tree))?;
        // The tree goes first: the volume is gone with it, whatever becomes of the record.
        tree::rename_once(&from_tree, &tree)
            .and_then(|()| tree::rename_once(&from_record, &record))
            .and_then(|()| whole_file::sync_folder(tree.parent().unwrap_or(&tree)))
            .map_err(|error| failed(&from_tree, "setting aside volume", error))?;
        folder::remove_if_empty(from_tree.parent().unwrap_or(&from_tree))
    }

    pub(super) fn restore(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError> {
        id.check()?;
        let (tree, record) = self.retired_paths(id, tag);
        if !tree.is_dir() {
            return Ok(());
        }
        let (to_tree, to_record) = (self.path(id), self.record_path(id));
        folder::make(to_tree.parent().unwrap_or(&to_tree))?;
        // The tree comes last: the volume is there with it, and its record is there before.
        tree::rename_once(&record, &to_record)
            .and_then(|()| tree::rename_once(&tree, &to_tree))
            .and_then(|()| whole_file::sync_folder(to_tree.parent().unwrap_or(&to_tree)))
            .map_err(|error| failed(&to_tree, "bringing back volume", error))?;
        folder::remove_if_empty(tree.parent().unwrap_or(&tree))
    }

    pub(super) fn purge(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError> {
        id.check()?;
        let (tree, record) = self.retired_paths(id, tag);
        let gone = |error: io::Error| {
            if error.kind() == io::ErrorKind::NotFound {
                Ok(())
            } else {
                Err(error)
            }
        };
        tree::remove(&tree)
            .and_then(|()| fs::remove_file(&record).or_else(gone))
            .map_err(|error| failed(&tree, "destroying volume", error))?;
        folder::remove_if_empty(tree.parent().unwrap_or(&tree))
    }

    pub(super) fn retired(&self) -> Result<Vec<(VolumeId, String)>, StorageError> {
        let mut found = Vec::new();
        for (tag, path) in named_dirs(&self.root.join(RETIRED))? {
            for (name, _) in named_dirs(&path)? {
                let Some((qube, volume)) = name.split_once(':') else {
                    continue;
                };
                if let Ok(qube) = QubeName::new(qube) {
                    let id = VolumeId {
                        qube,
                        volume: volume.to_owned(),
                    };
                    found.push((id, tag.clone()));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn info(&self, id: VolumeId, path: PathBuf) -> Result<VolumeInfo, StorageError> {
        let parsed = read(&self.record_path(&id))?;
        Ok(VolumeInfo {
            id,
            size: parsed.size,
            path,
            enforced: false,
        })
    }

    fn record(&self, id: &VolumeId, record: &Record) -> Result<(), StorageError> {
        let path = self.record_path(id);
        let text = serde_json::to_vec(record)
            .map_err(|error| failed(&path, "describing", io::Error::other(error)))?;
        whole_file::replace(&path, &text, 0o600, Lasting::Always)
            .map_err(|error| failed(&path, "describing a volume in", error.into()))
    }

    fn path(&self, id: &VolumeId) -> PathBuf {
        self.root.join(id.qube.as_str()).join(&id.volume)
    }

    fn record_path(&self, id: &VolumeId) -> PathBuf {
        self.root
            .join(id.qube.as_str())
            .join(format!(".{}.json", id.volume))
    }

    fn retired_paths(&self, id: &VolumeId, tag: &str) -> (PathBuf, PathBuf) {
        let folder = self.root.join(RETIRED).join(tag);
        (
            folder.join(id.to_string()),
            folder.join(format!(".{id}.json")),
        )
    }
}

/// Reads the record of a volume.
fn read(path: &Path) -> Result<Record, StorageError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        // A folder that somebody put here by hand is a volume of unknown size.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(error) => return Err(failed(path, "reading", error)),
    };
    serde_json::from_slice(&text)
        .map_err(|error| failed(path, "understanding", io::Error::other(error)))
}

/// Folders in `path` that are not hidden; a folder that is not there has none.
fn named_dirs(path: &Path) -> Result<Vec<(String, PathBuf)>, StorageError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(path, "reading folder", error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(path, "reading folder", error))?;
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let (true, Ok(name)) = (is_dir, entry.file_name().into_string())
            && !name.starts_with('.')
        {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}
