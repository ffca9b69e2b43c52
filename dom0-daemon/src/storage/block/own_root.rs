//! Roots that qubes keep: each begins as the disk of an image, and is its own from then on.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bulkhead_model::qube::Mib;

use super::super::images::disk;
use super::super::{DiskRoot, StorageError, VolumeId, VolumeInfo, blocking, failed};
use super::volume::Volumes;

/// The root in the volume `id`, which begins as `image` if it has not begun. It keeps the kernel of
/// that image, whose drivers it has.
pub(super) async fn begun(
    volumes: Arc<Volumes>,
    id: &VolumeId,
    image: DiskRoot,
) -> Result<DiskRoot, StorageError> {
    let info = volumes.get(id)?;
    let Some(disk) = &image.disk else {
        // A kernel alone knows what to do with a blank disk.
        return Ok(image);
    };
    let boot = volumes.boot(id);
    if !boot.exists() {
        begin(&info, disk).await?;
        let new = Volumes::unfinished(&boot)?;
        disk::take_boot(&image, &new).await?;
        Volumes::finish(&new, &boot)?;
    }
    let files = disk::find(&boot);
    Ok(DiskRoot {
        disk: Some(info.path),
        kernel: files.as_ref().and_then(|files| files.kernel.clone()),
        initrd: files.and_then(|files| files.initrd),
    })
}

/// Makes the volume a copy of the disk.
async fn begin(info: &VolumeInfo, disk: &Path) -> Result<(), StorageError> {
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
    let made = match disk::begin_root(disk, &new).await {
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
