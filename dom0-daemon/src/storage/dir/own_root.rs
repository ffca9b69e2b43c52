//! Roots that qubes keep: each lies over the image that it began as, whatever that name means later.
//!
//! ```text
//! image <- newest revision <- upper/ of the volume
//! ```
//!
//! At a clean stop of a template qube `upper` is set aside by a rename and becomes, together with the
//! revision below it, the next one. The qube goes on over that with an empty `upper`.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bulkhead_model::name::QubeName;
use uuid::Uuid;

use super::super::revisions::{RevisionId, Revisions};
use super::super::{ImageDigest, StorageError, VolumeId, failed};
use super::layer;
use super::volume::{Began, Volumes};
use crate::whole_file;

/// The tree of a revision in its folder.
const LAYER: &str = "layer";

/// What a qube writes to, in the volume of its root.
const UPPER: &str = "upper";

/// Volumes and the revisions of those among them that are roots.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) volumes: Volumes,
    pub(super) revisions: Revisions,
}

impl Roots {
    /// Finishes what a daemon that was killed has left.
    pub(super) fn prepare(&self) -> Result<(), StorageError> {
        self.volumes.prepare()?;
        self.revisions.prepare()?;
        for (id, began) in self.volumes.begun()? {
            let upper = self.volumes.get(&id)?.path.join(UPPER);
            if let Err(error) = self.settle(began.root, &upper) {
                tracing::error!(volume = %id, %error, "the last stop made no revision");
                self.revisions.note(&id.qube, Err(&error));
            }
        }
        Ok(())
    }

    /// Tree of a revision.
    pub(super) fn layer(&self, id: RevisionId) -> PathBuf {
        self.revisions.place(id).join(LAYER)
    }

    /// The root in the volume `id`: what it lies over. One that has not begun begins as that of the
    /// template qube whose root is in `template`, or as `image`.
    pub(super) fn begun(
        &self,
        id: &VolumeId,
        image: &ImageDigest,
        template: Option<&VolumeId>,
    ) -> Result<Began, StorageError> {
        let upper = self.volumes.get(id)?.path.join(UPPER);
        if let Some(began) = self.volumes.began(id)? {
            self.settle(began.root, &upper)?;
            return Ok(began);
        }
        let mut began = Began {
            root: Uuid::new_v4(),
            image: image.clone(),
        };
        let from = match template {
            // One that was written to has begun, before this was recorded.
            Some(template) if !upper.exists() => self.volumes.began(template)?,
            _ => None,
        };
        if let Some(from) = from {
            began.image = from.image;
            if let Some(newest) = self.revisions.hold_newest(from.root, &id.qube)? {
                let first = self.revisions.next(began.root)?;
                // Nobody knows the new root yet, so that it would be taken for one that is gone.
                self.revisions.hold(first, &id.qube);
                self.lay(first, &self.layer(newest), None)?;
            }
        }
        self.volumes.begin(id, began.clone())?;
        self.revisions.release(&id.qube);
        Ok(began)
    }

    /// Makes the root in the volume `id` its next revision; none if it never began. Its qube does
    /// not run.
    pub(super) fn publish(&self, id: &VolumeId) -> Result<Option<RevisionId>, StorageError> {
        let Some(began) = self.volumes.began(id)? else {
            return Ok(None);
        };
        let upper = self.volumes.get(id)?.path.join(UPPER);
        self.settle(began.root, &upper)?;
        if upper.exists() {
            let next = self.revisions.next(began.root)?;
            self.set_aside(&upper, &self.revisions.sealing(next))?;
            self.settle(began.root, &upper)?;
        }
        self.revisions.newest(began.root)
    }

    /// Makes the root in the volume `id` what it was at `to`, as a new revision. What was written
    /// since its last clean stop goes. Its qube does not run.
    pub(super) fn revert(&self, id: &VolumeId, to: RevisionId) -> Result<RevisionId, StorageError> {
        let upper = self.volumes.get(id)?.path.join(UPPER);
        self.settle(to.root, &upper)?;
        // First: it was written over another revision and means nothing over this one.
        self.revisions.discard(to.root, &upper);
        let next = self.revisions.next(to.root)?;
        self.lay(next, &self.layer(to), None)?;
        Ok(next)
    }

    /// See [`Revisions::prune`].
    pub(super) fn prune(&self, keep: &BTreeMap<QubeName, u32>) -> Result<(), StorageError> {
        let begun = self.volumes.all_begun()?.into_iter();
        let keep = begun.map(|(id, began)| (began.root, keep.get(&id.qube).copied()));
        self.revisions.prune(&keep.collect())
    }

    /// Makes a revision of what was set aside for that, or puts it back where that fails.
    fn settle(&self, root: Uuid, upper: &Path) -> Result<(), StorageError> {
        let Some(next) = self.revisions.waiting(root)? else {
            return Ok(());
        };
        let aside = self.revisions.sealing(next);
        let below = self
            .revisions
            .newest(root)?
            .filter(|newest| *newest != next);
        let below = below.map(|newest| self.layer(newest));
        match self.lay(next, &aside, below.as_deref()) {
            Ok(()) => self.revisions.discard(root, &aside),
            Err(error) => {
                self.set_aside(&aside, upper)?;
                return Err(error);
            }
        }
        Ok(())
    }

    fn lay(&self, id: RevisionId, upper: &Path, below: Option<&Path>) -> Result<(), StorageError> {
        self.revisions.make(id, |new| {
            layer::merge(upper, below, &new.join(LAYER))
                .map_err(|error| failed(upper, "making a revision of", error))
        })
    }

    fn set_aside(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        let folders = [from, to].map(|path| path.parent().unwrap_or(path));
        let [_, into] = folders;
        super::super::folder::make(into)?;
        // A folder that its owner may not write to cannot be moved by an ordinary user.
        let opened = fs::symlink_metadata(from).and_then(|meta| {
            let mode = (meta.mode() & 0o7777) | 0o700;
            fs::set_permissions(from, Permissions::from_mode(mode))
        });
        opened
            .and_then(|()| fs::rename(from, to))
            .and_then(|()| folders.into_iter().try_for_each(whole_file::sync_folder))
            .map_err(|error| failed(from, "setting aside", error))
    }
}
