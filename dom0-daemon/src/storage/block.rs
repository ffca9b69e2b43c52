//! Storage in disk images, for Xen.
//!
//! ```text
//! volumes/<qube>/<volume>.img                     a volume: a disk as large as it may grow
//! volumes/<qube>/root.boot/                       kernel and initrd of a root that began
//! volumes/.retired/<tag>/<qube>:<volume>.img      volumes that are set aside
//! volumes/.revisions/                             what roots were at clean stops
//! templates/<digest>/disk/                        root, kernel and initrd of an image
//! ```
//!
//! Disks are sparse: a volume takes the room of what was written to it. A disk exists once it has
//! its final name. A qube formats a blank volume itself; dom0 never looks into one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Mib, Qube, TemplateSource};

use self::own_root::Roots;
use super::images::Images;
use super::revisions::Revisions;
use super::{
    Config, ImageDigest, ImageInfo, ImageRoot, ProgressFn, Reverted, RevisionId, RevisionInfo,
    Storage, StorageError, VolumeId, VolumeInfo, blocking,
};
use crate::hypervisor::ROOT_VOLUME;

mod own_root;
mod volume;

/// Storage in disk images.
#[derive(Debug)]
pub struct BlockStorage {
    roots: Arc<Roots>,
    images: Images,
}

impl BlockStorage {
    /// Makes the folders and removes what a crash left half-made.
    pub fn open(config: &Config) -> Result<Self, StorageError> {
        let folder = config.state_dir.join("volumes");
        let roots = Roots {
            revisions: Revisions::new(&folder),
            volumes: volume::Volumes::new(folder),
        };
        let storage = Self {
            roots: Arc::new(roots),
            images: Images::new(config),
        };
        storage.roots.volumes.prepare()?;
        storage.roots.revisions.prepare()?;
        storage.images.prepare()?;
        Ok(storage)
    }

    async fn on_volumes<T: Send + 'static>(
        &self,
        job: impl FnOnce(&volume::Volumes) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.on_roots(move |roots| job(&roots.volumes)).await
    }

    async fn on_roots<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Roots) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let roots = Arc::clone(&self.roots);
        blocking(move || job(&roots)).await
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
        let volumes = qube.volumes.iter();
        volumes
            .filter_map(|(name, volume)| super::without_revisions(qube, name, volume))
            .collect()
    }

    async fn warnings(&self) -> Result<Vec<String>, StorageError> {
        let mut warnings = super::warnings(self.roots.volumes.folder()).await?;
        warnings.extend(self.roots.revisions.warnings());
        Ok(warnings)
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
        let (of, tag) = (id.clone(), tag.to_owned());
        self.on_volumes(move |volumes| volumes.retire(&of, &tag))
            .await?;
        if id.volume == ROOT_VOLUME {
            // There will be no stop that could publish it.
            self.roots.revisions.note(&id.qube, Ok(()));
        }
        Ok(())
    }

    async fn restore_volume(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError> {
        let (id, tag) = (id.clone(), tag.to_owned());
        self.on_volumes(move |volumes| volumes.restore(&id, &tag))
            .await
    }

    async fn purge_volume(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError> {
        let (id, tag) = (id.clone(), tag.to_owned());
        self.on_roots(move |roots| {
            roots.volumes.purge(&id, &tag)?;
            // Its revisions go with a root.
            roots.prune(&BTreeMap::new())
        })
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
        template: Option<&VolumeId>,
    ) -> Result<ImageRoot, StorageError> {
        let image = self.images.disk(digest)?;
        let root = own_root::begun(&self.roots, id, image, template).await?;
        Ok(ImageRoot::Disk(root))
    }

    async fn template_root(
        &self,
        id: &VolumeId,
        holder: &QubeName,
    ) -> Result<Option<(RevisionId, ImageRoot)>, StorageError> {
        let (id, holder) = (id.clone(), holder.clone());
        let held = self.on_roots(move |roots| roots.hold_newest(&id, &holder));
        Ok(held.await?.map(|(id, disk)| (id, ImageRoot::Disk(disk))))
    }

    fn hold_revision(&self, id: RevisionId, holder: &QubeName) {
        self.roots.revisions.hold(id, holder);
    }

    fn release_revision(&self, holder: &QubeName) {
        self.roots.revisions.release(holder);
    }

    async fn publish_root(&self, id: &VolumeId) -> Result<Option<RevisionId>, StorageError> {
        let published = own_root::publish(&self.roots, id).await;
        let noted = published.as_ref().map(|_| ());
        self.roots.revisions.note(&id.qube, noted);
        published
    }

    fn leave_root(&self, id: &VolumeId, why: &str) {
        self.roots.revisions.note_trouble(&id.qube, why.to_owned());
    }

    async fn revert_root(&self, id: &VolumeId, to: Option<u64>) -> Result<Reverted, StorageError> {
        let root = self.roots.volumes.root(id)?;
        let list = root.map_or(Ok(Vec::new()), |root| self.roots.revisions.list(root))?;
        let to = super::earlier(id, &list, to)?;
        let now = own_root::revert(&self.roots, id, to).await?;
        self.roots.revisions.note(&id.qube, Ok(()));
        Ok(Reverted { to, now })
    }

    async fn revisions(&self) -> Result<BTreeMap<QubeName, Vec<RevisionInfo>>, StorageError> {
        self.on_roots(|roots| {
            let begun = roots.volumes.begun()?.into_iter();
            begun
                .map(|(id, root)| Ok((id.qube, roots.revisions.list(root)?)))
                .collect()
        })
        .await
    }

    async fn prune_revisions(&self, keep: &BTreeMap<QubeName, u32>) -> Result<(), StorageError> {
        let keep = keep.clone();
        self.on_roots(move |roots| roots.prune(&keep)).await
    }

    async fn images_below(&self) -> Result<BTreeSet<ImageDigest>, StorageError> {
        // A root that has begun is a disk of its own.
        Ok(BTreeSet::new())
    }

    async fn remove_image(&self, digest: &ImageDigest) -> Result<Mib, StorageError> {
        self.images.remove(digest).await
    }
}

#[cfg(test)]
mod tests;
