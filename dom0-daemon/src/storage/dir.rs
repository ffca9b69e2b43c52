//! Storage in plain folders, for the embedded hypervisor.
//!
//! ```text
//! volumes/<qube>/<volume>/        a volume: the tree that the qube sees
//! volumes/<qube>/.<volume>.json   its size; recorded, not enforced
//! volumes/.retired/<tag>/         volumes that are set aside
//! ```
//!
//! A thing exists once its folder has its final name, and it gets that name by one rename, so a
//! crash or a full disk leaves either nothing or the whole.

use std::sync::Arc;

use async_trait::async_trait;
use bulkhead_model::qube::{Mib, Qube, TemplateSource};

use super::images::Images;
use super::{
    Config, ImageDigest, ImageInfo, ImageRoot, ProgressFn, Storage, StorageError, VolumeId,
    VolumeInfo, blocking,
};

mod volume;

/// Storage in plain folders.
#[derive(Debug)]
pub struct DirStorage {
    volumes: Arc<volume::Volumes>,
    images: Images,
}

impl DirStorage {
    /// Makes the folders and removes what a crash left half-made.
    pub fn open(config: &Config) -> Result<Self, StorageError> {
        let storage = Self {
            volumes: Arc::new(volume::Volumes::new(config.state_dir.join("volumes"))),
            images: Images::new(config),
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

/// A qube here has a root tree; a disk would have to be mounted, by a kernel that trusts it.
fn check(source: &TemplateSource) -> Result<(), StorageError> {
    if matches!(source, TemplateSource::Image(_)) {
        return Err(StorageError::NotUsable {
            given: "Image(…)",
            why: "only qubes on Xen have disks; use `Folder(…)` or `Debian(…)`",
        });
    }
    Ok(())
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

    async fn warnings(&self) -> Result<Vec<String>, StorageError> {
        super::warnings(self.volumes.folder()).await
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
        check(source)?;
        self.images.ensure(source, locked, progress).await
    }

    async fn renew_image(
        &self,
        source: &TemplateSource,
        progress: ProgressFn<'_>,
    ) -> Result<ImageInfo, StorageError> {
        check(source)?;
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

#[cfg(test)]
mod tests;
