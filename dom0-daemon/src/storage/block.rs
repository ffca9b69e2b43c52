//! Storage in disk images, for Xen.
//!
//! ```text
//! volumes/<qube>/<volume>.img                     a volume: a disk as large as it may grow
//! volumes/<qube>/root.boot/                       kernel and initrd of a root that began
//! volumes/.retired/<tag>/<qube>:<volume>.img      volumes that are set aside
//! templates/<digest>/disk/                        root, kernel and initrd of an image
//! ```
//!
//! Disks are sparse: a volume takes the room of what was written to it. A disk exists once it has
//! its final name. A qube formats a blank volume itself; dom0 never looks into one.

use std::sync::Arc;

use async_trait::async_trait;
use bulkhead_model::qube::{Mib, Qube, TemplateSource};

use super::images::Images;
use super::{
    Config, ImageDigest, ImageInfo, ImageRoot, ProgressFn, Storage, StorageError, VolumeId,
    VolumeInfo, blocking,
};

mod own_root;
mod volume;

/// Storage in disk images.
#[derive(Debug)]
pub struct BlockStorage {
    volumes: Arc<volume::Volumes>,
    images: Images,
}

impl BlockStorage {
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

    /// The image with its disk.
    async fn with_disk(
        &self,
        image: ImageInfo,
        progress: ProgressFn<'_>,
    ) -> Result<ImageInfo, StorageError> {
        self.images.ensure_disk(&image.digest, progress).await?;
        Ok(image)
    }
}

/// This machine's own root runs already, and cannot run again inside itself.
fn check(source: &TemplateSource) -> Result<(), StorageError> {
    if *source == TemplateSource::Host {
        return Err(StorageError::NotUsable {
            given: "Host",
            why: "a qube on Xen boots a disk of its own; use `Debian(…)` or `Image(…)`",
        });
    }
    Ok(())
}

#[async_trait]
impl Storage for BlockStorage {
    fn without_effect(&self, qube: &Qube) -> Vec<String> {
        let kept = qube
            .volumes
            .iter()
            .filter(|(_, volume)| volume.revisions_to_keep > 0);
        kept.map(|(name, _)| format!("volumes.{name}.revisions_to_keep"))
            .collect()
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
        let image = self.images.ensure(source, locked, progress).await?;
        self.with_disk(image, progress).await
    }

    async fn renew_image(
        &self,
        source: &TemplateSource,
        progress: ProgressFn<'_>,
    ) -> Result<ImageInfo, StorageError> {
        check(source)?;
        let image = self.images.renew(source, progress).await?;
        self.with_disk(image, progress).await
    }

    async fn images(&self) -> Result<Vec<ImageInfo>, StorageError> {
        let mut images = self.images.list()?;
        images.retain(|image| image.source != TemplateSource::Host);
        Ok(images)
    }

    async fn image_root(&self, digest: &ImageDigest) -> Result<ImageRoot, StorageError> {
        self.images.disk(digest).map(ImageRoot::Disk)
    }

    async fn own_root(
        &self,
        id: &VolumeId,
        digest: &ImageDigest,
    ) -> Result<ImageRoot, StorageError> {
        let image = self.images.disk(digest)?;
        let root = own_root::begun(Arc::clone(&self.volumes), id, image).await?;
        Ok(ImageRoot::Disk(root))
    }

    async fn remove_image(&self, digest: &ImageDigest) -> Result<Mib, StorageError> {
        self.images.remove(digest).await
    }
}

#[cfg(test)]
mod tests;
