//! Storage in plain folders, for the embedded hypervisor.
//!
//! ```text
//! volumes/<qube>/<volume>/        a volume: the tree that the qube sees
//! volumes/<qube>/.<volume>.json   its size; recorded, not enforced
//! volumes/.retired/<tag>/         volumes that are set aside
//! volumes/.revisions/             what roots were at clean stops
//! ```
//!
//! A thing exists once its folder has its final name, and it gets that name by one rename, so a
//! crash or a full disk leaves either nothing or the whole.

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

mod layer;
mod own_root;
mod volume;

/// Storage in plain folders.
#[derive(Debug)]
pub struct DirStorage {
    roots: Arc<Roots>,
    images: Images,
}

impl DirStorage {
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
        storage.roots.prepare()?;
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

    /// A root that lies over an image, with a revision between them.
    fn layered(
        &self,
        image: &ImageDigest,
        revision: Option<RevisionId>,
    ) -> Result<ImageRoot, StorageError> {
        let over = self.images.root(image)?;
        Ok(match revision {
            Some(revision) => ImageRoot::Layer {
                tree: self.roots.layer(revision),
                over: Box::new(over),
            },
            None => over,
        })
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
            // A folder has no size of its own.
            names.push(format!("volumes.{name}.size"));
            names.extend(super::without_revisions(qube, name, volume));
        }
        names
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

    async fn own_root(
        &self,
        id: &VolumeId,
        digest: &ImageDigest,
        template: Option<&VolumeId>,
    ) -> Result<ImageRoot, StorageError> {
        let (id, image, template) = (id.clone(), digest.clone(), template.cloned());
        let begun = move |roots: &Roots| {
            let began = roots.begun(&id, &image, template.as_ref())?;
            Ok((roots.revisions.newest(began.root)?, began.image))
        };
        let (newest, image) = self.on_roots(begun).await?;
        self.layered(&image, newest)
    }

    async fn template_root(
        &self,
        id: &VolumeId,
        holder: &QubeName,
    ) -> Result<Option<(RevisionId, ImageRoot)>, StorageError> {
        let (id, holder) = (id.clone(), holder.clone());
        let newest = move |roots: &Roots| {
            let Some(began) = roots.volumes.began(&id)? else {
                return Ok(None);
            };
            let newest = roots.revisions.hold_newest(began.root, &holder)?;
            Ok(newest.map(|newest| (newest, began.image)))
        };
        let Some((newest, image)) = self.on_roots(newest).await? else {
            return Ok(None);
        };
        Ok(Some((newest, self.layered(&image, Some(newest))?)))
    }

    fn hold_revision(&self, id: RevisionId, holder: &QubeName) {
        self.roots.revisions.hold(id, holder);
    }

    fn release_revision(&self, holder: &QubeName) {
        self.roots.revisions.release(holder);
    }

    async fn publish_root(&self, id: &VolumeId) -> Result<Option<RevisionId>, StorageError> {
        let id = id.clone();
        self.on_roots(move |roots| {
            let published = roots.publish(&id);
            let noted = published.as_ref().map(|_| ());
            roots.revisions.note(&id.qube, noted);
            published
        })
        .await
    }

    fn leave_root(&self, id: &VolumeId, why: &str) {
        self.roots.revisions.note_trouble(&id.qube, why.to_owned());
    }

    async fn revert_root(&self, id: &VolumeId, to: Option<u64>) -> Result<Reverted, StorageError> {
        let id = id.clone();
        self.on_roots(move |roots| {
            let began = roots.volumes.began(&id)?;
            let list = began.map_or(Ok(Vec::new()), |began| roots.revisions.list(began.root))?;
            let to = super::earlier(&id, &list, to)?;
            let now = roots.revert(&id, to)?;
            roots.revisions.note(&id.qube, Ok(()));
            Ok(Reverted { to, now })
        })
        .await
    }

    async fn revisions(&self) -> Result<BTreeMap<QubeName, Vec<RevisionInfo>>, StorageError> {
        self.on_roots(|roots| {
            let begun = roots.volumes.begun()?.into_iter();
            begun
                .map(|(id, began)| Ok((id.qube, roots.revisions.list(began.root)?)))
                .collect()
        })
        .await
    }

    async fn prune_revisions(&self, keep: &BTreeMap<QubeName, u32>) -> Result<(), StorageError> {
        let keep = keep.clone();
        self.on_roots(move |roots| roots.prune(&keep)).await
    }

    async fn images_below(&self) -> Result<BTreeSet<ImageDigest>, StorageError> {
        self.on_roots(|roots| {
            let begun = roots.volumes.all_begun()?.into_iter();
            Ok(begun.map(|(_, began)| began.image).collect())
        })
        .await
    }

    async fn remove_image(&self, digest: &ImageDigest) -> Result<Mib, StorageError> {
        self.images.remove(digest).await
    }
}

#[cfg(test)]
mod tests;
