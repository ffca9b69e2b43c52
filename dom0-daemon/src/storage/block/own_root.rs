//! Roots that qubes keep: each begins as the disk of an image, and is its own from then on. At a
//! clean stop of a template qube a copy of its disk becomes the next revision, which shares its
//! content with the disk where the file system can do that. dom0 looks into neither.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::Mib;
use uuid::Uuid;

use super::super::images::disk::{self, Journal};
use super::super::revisions::{RevisionId, Revisions};
use super::super::{DiskRoot, StorageError, VolumeId, VolumeInfo, blocking, failed};
use super::volume::Volumes;

/// Volumes and the revisions of those among them that are roots.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) volumes: Volumes,
    pub(super) revisions: Revisions,
}

impl Roots {
    /// The disk of a revision.
    pub(super) fn disk(&self, id: RevisionId) -> Option<DiskRoot> {
        disk::find(&self.revisions.place(id))
    }

    /// The newest revision of the root in a volume, held for `holder`.
    pub(super) fn hold_newest(
        &self,
        id: &VolumeId,
        holder: &QubeName,
    ) -> Result<Option<(RevisionId, DiskRoot)>, StorageError> {
        let Some(root) = self.volumes.root(id)? else {
            return Ok(None);
        };
        let newest = self.revisions.hold_newest(root, holder)?;
        Ok(newest.and_then(|newest| Some((newest, self.disk(newest)?))))
    }

    /// See [`Revisions::prune`].
    pub(super) fn prune(&self, keep: &BTreeMap<QubeName, u32>) -> Result<(), StorageError> {
        let begun = self.volumes.all_begun()?.into_iter();
        let keep = begun.map(|(id, root)| (root, keep.get(&id.qube).copied()));
        self.revisions.prune(&keep.collect())
    }
}

/// The root in the volume `id`. One that has not begun begins as that of the template qube whose
/// root is in `template`, or as `image`. It keeps the kernel of that image, whose drivers it has.
pub(super) async fn begun(
    roots: &Arc<Roots>,
    id: &VolumeId,
    image: DiskRoot,
    template: Option<&VolumeId>,
) -> Result<DiskRoot, StorageError> {
    let info = roots.volumes.get(id)?;
    let Some(disk) = &image.disk else {
        // A kernel alone knows what to do with a blank disk.
        return Ok(image);
    };
    let boot = roots.volumes.boot(id);
    if !boot.exists() {
        let newest = match template {
            Some(template) => roots.hold_newest(template, &id.qube)?,
            None => None,
        };
        let (from, journal) = match &newest {
            Some((_, from)) => (from, Journal::Has),
            None => (&image, Journal::Add),
        };
        begin(&info, from.disk.as_ref().unwrap_or(disk), journal).await?;
        let new = Volumes::unfinished(&boot)?;
        disk::take_boot(from, &new).await?;
        Volumes::name_root(&new, Uuid::new_v4())?;
        Volumes::finish(&new, &boot)?;
        roots.revisions.release(&id.qube);
    }
    let files = disk::find(&boot);
    Ok(DiskRoot {
        disk: Some(info.path),
        kernel: files.as_ref().and_then(|files| files.kernel.clone()),
        initrd: files.and_then(|files| files.initrd),
    })
}

/// Makes the root in the volume `id` its next revision; none if it never began. Its qube does not
/// run.
pub(super) async fn publish(
    roots: &Arc<Roots>,
    id: &VolumeId,
) -> Result<Option<RevisionId>, StorageError> {
    let Some(root) = roots.volumes.root(id)? else {
        return Ok(None);
    };
    let disk = roots.volumes.get(id)?.path;
    let boot = disk::find(&roots.volumes.boot(id));
    let next = roots.revisions.next(root)?;
    let from = DiskRoot {
        disk: Some(disk),
        kernel: boot.as_ref().and_then(|boot| boot.kernel.clone()),
        initrd: boot.and_then(|boot| boot.initrd),
    };
    make(roots, next, &from).await?;
    Ok(Some(next))
}

/// Makes the root in the volume `id` what it was at `to`, as a new revision. Its qube does not run.
pub(super) async fn revert(
    roots: &Arc<Roots>,
    id: &VolumeId,
    to: RevisionId,
) -> Result<RevisionId, StorageError> {
    let info = roots.volumes.get(id)?;
    let number = to.number;
    let gone = || StorageError::NoSuchRevision {
        qube: id.qube.clone(),
        number,
    };
    let from = roots.disk(to).ok_or_else(gone)?;
    let disk = from.disk.as_ref().ok_or_else(gone)?;
    // The disk first: of a revert that stops here, the next clean stop makes the revision.
    begin(&info, disk, Journal::Has).await?;
    let next = roots.revisions.next(to.root)?;
    make(roots, next, &from).await?;
    Ok(next)
}

/// Makes the revision `id` a copy of `from`.
async fn make(roots: &Arc<Roots>, id: RevisionId, from: &DiskRoot) -> Result<(), StorageError> {
    let new = roots.revisions.unfinished(id)?;
    let copied = disk::copy_all(from, &new).await;
    let (roots, place) = (Arc::clone(roots), new.clone());
    blocking(move || {
        let made = copied.and_then(|()| roots.revisions.finish(id, &place));
        if made.is_err() {
            // Nothing half made stays, as on a full disk. The first error is the one to tell.
            roots.revisions.discard(id.root, &place);
        }
        made
    })
    .await
}

/// Makes the volume a copy of the disk.
async fn begin(info: &VolumeInfo, disk: &Path, journal: Journal) -> Result<(), StorageError> {
    let length = fs::metadata(disk).map_err(|error| failed(disk, "looking at", error))?;
    let needed = Mib(length.len().div_ceil(1 << 20));
    if needed > info.size {
        return Err(StorageError::TooSmall {
            id: info.id.clone(),
            size: info.size,
            needed,
        });
    }
    let new = Volumes::unfinished(&info.path)?;
    let made = match disk::begin_root(disk, &new, journal).await {
        Ok(()) => settle(&new, info).await,
        failed => failed,
    };
    if made.is_err() {
        // Nothing half made stays, as on a full disk. The first error is the one to tell.
        let _ = fs::remove_file(&new);
    }
    made
}

/// Gives the copy at `new` the size and the name of the volume; the qube itself lets its file
/// system grow.
async fn settle(new: &Path, info: &VolumeInfo) -> Result<(), StorageError> {
    let (new, path, size) = (new.to_owned(), info.path.clone(), info.size);
    blocking(move || {
        File::options()
            .write(true)
            .open(&new)
            .and_then(|file| {
                file.set_permissions(Permissions::from_mode(0o600))?;
                file.set_len(size.0 << 20)?;
                file.sync_all()
            })
            .map_err(|error| failed(&new, "making a root in", error))?;
        Volumes::finish(&new, &path)
    })
    .await
}
