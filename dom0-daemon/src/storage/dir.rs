//! Storage in plain folders, for the embedded hypervisor.
//!
//! ```text
//! volumes/<qube>/<volume>/        a volume: the tree that the qube sees
//! volumes/<qube>/.<volume>.json   its size; recorded, not enforced
//! volumes/.retired/<tag>/         volumes that are set aside
//! templates/<digest>/root/        an image, never written to again
//! templates/<digest>/image.json   what it was made from
//! templates/.new-*                images being made; removed when the daemon starts
//! ```
//!
//! A thing exists once its folder has its final name, and it gets that name by one rename, so a
//! crash or a full disk leaves either nothing or the whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bulkhead_model::qube::{Mib, Qube, TemplateSource};

use super::{
    ImageDigest, ImageInfo, ImageRoot, ProgressFn, Storage, StorageError, VolumeId, VolumeInfo,
};

mod debian;
mod image;
mod program;
mod tree;
mod volume;

/// Where things are, and which programs build images.
#[derive(Debug, Clone)]
pub struct DirStorageConfig {
    /// The daemon's state folder.
    pub state_dir: PathBuf,
    /// Folder for what can be fetched again.
    pub cache_dir: PathBuf,
    /// The program that builds Debian trees.
    pub mmdebstrap: PathBuf,
}

impl DirStorageConfig {
    /// State in `state_dir`, everything else as usual on this machine: the cache is what the
    /// service manager gave us, else the user's, or `/var/cache/bulkhead` for root.
    pub fn new(state_dir: PathBuf) -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let ours = |base: PathBuf| base.join("bulkhead");
        let user = || {
            let home = || Some(PathBuf::from(set("HOME")?).join(".cache"));
            set("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
        };
        let given = set("CACHE_DIRECTORY")
            // It may be a list; the first is the one that is meant for everything.
            .and_then(|list| std::env::split_paths(&list).next());
        let cache_dir = match given {
            Some(given) => given,
            None if rustix::process::geteuid().is_root() => ours("/var/cache".into()),
            None => ours(user().unwrap_or_else(|| "/var/cache".into())),
        };
        Self {
            state_dir,
            cache_dir,
            mmdebstrap: "mmdebstrap".into(),
        }
    }
}

/// Storage in plain folders.
#[derive(Debug)]
pub struct DirStorage {
    volumes: Arc<volume::Volumes>,
    images: image::Images,
}

impl DirStorage {
    /// Makes the folders and removes what a crash left half-made.
    pub fn open(config: &DirStorageConfig) -> Result<Self, StorageError> {
        let storage = Self {
            volumes: Arc::new(volume::Volumes::new(config.state_dir.join("volumes"))),
            images: image::Images::new(config),
        };
        storage.volumes.prepare()?;
        storage.images.prepare()?;
        Ok(storage)
    }

    async fn on_volumes<T: Send + 'static>(
        &self,
        job: impl FnOnce(&volume::Volumes) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let volumes = Arc::clone(&self.volumes);
        blocking(move || job(&volumes)).await
    }
}

#[async_trait]
impl Storage for DirStorage {
    fn without_effect(&self, qube: &Qube) -> Vec<String> {
        let mut names = Vec::new();
        for (name, volume) in &qube.volumes {
            // A folder has no size of its own, and no earlier states.
            names.push(format!("volumes.{name}.size"));
            if volume.revisions_to_keep > 0 {
                names.push(format!("volumes.{name}.revisions_to_keep"));
            }
        }
        names
    }

    async fn volumes(&self) -> Result<Vec<VolumeInfo>, StorageError> {
        self.on_volumes(volume::Volumes::list).await
    }

    async fn volume(&self, id: &VolumeId) -> Result<VolumeInfo, StorageError> {
        let id = id.clone();
        self.on_volumes(move |volumes| volumes.get(&id)).await
    }

    async fn create_volume(&self, id: &VolumeId, size: Mib) -> Result<VolumeInfo, StorageError> {
        let id = id.clone();
        self.on_volumes(move |volumes| volumes.create(&id, size))
            .await
    }

    async fn resize_volume(&self, id: &VolumeId, size: Mib) -> Result<VolumeInfo, StorageError> {
        let id = id.clone();
        self.on_volumes(move |volumes| volumes.resize(&id, size))
            .await
    }

    async fn retire_volume(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError> {
        let (id, tag) = (id.clone(), tag.to_owned());
        self.on_volumes(move |volumes| volumes.retire(&id, &tag))
            .await
    }

    async fn restore_volume(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError> {
        let (id, tag) = (id.clone(), tag.to_owned());
        self.on_volumes(move |volumes| volumes.restore(&id, &tag))
            .await
    }

    async fn purge_volume(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError> {
        let (id, tag) = (id.clone(), tag.to_owned());
        self.on_volumes(move |volumes| volumes.purge(&id, &tag))
            .await
    }

    async fn retired_volumes(&self) -> Result<Vec<(VolumeId, String)>, StorageError> {
        self.on_volumes(volume::Volumes::retired).await
    }

    async fn ensure_image(
        &self,
        source: &TemplateSource,
        locked: Option<&ImageDigest>,
        progress: ProgressFn<'_>,
    ) -> Result<ImageInfo, StorageError> {
        self.images.ensure(source, locked, progress).await
    }

    async fn renew_image(
        &self,
        source: &TemplateSource,
        progress: ProgressFn<'_>,
    ) -> Result<ImageInfo, StorageError> {
        self.images.renew(source, progress).await
    }

    async fn images(&self) -> Result<Vec<ImageInfo>, StorageError> {
        self.images.list()
    }

    async fn image_root(&self, digest: &ImageDigest) -> Result<ImageRoot, StorageError> {
        self.images.root(digest)
    }

    async fn remove_image(&self, digest: &ImageDigest) -> Result<Mib, StorageError> {
        self.images.remove(digest).await
    }
}

/// Runs file work where no async worker waits for it.
async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(job).await {
        Ok(result) => result,
        Err(error) => Err(StorageError::Io {
            doing: "cannot finish work on storage".to_owned(),
            source: std::io::Error::other(error),
        }),
    }
}

/// An error of the machine, told apart by whether the disk is full. `doing` is a gerund with its
/// object.
fn failed(path: &Path, doing: &str, source: std::io::Error) -> StorageError {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    if matches!(source.kind(), StorageFull | QuotaExceeded) {
        StorageError::Full {
            path: path.to_owned(),
            doing: doing.to_owned(),
        }
    } else {
        StorageError::Io {
            doing: format!("failed {doing} `{}`", path.display()),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
