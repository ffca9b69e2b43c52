//! Roots that qubes keep, and start from: what a template qube's root was at its last clean stop is
//! what the qubes based on it start from.

use std::collections::BTreeMap;

use bulkhead_api::qube::QubeState;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Description, Qube, QubeKind};
use bulkhead_wire::causes::chain;

use super::lifecycle::Command;
use super::{Inner, Run, Runtime};
use crate::hypervisor::ROOT_VOLUME;
use crate::lock::template_qube_of;
use crate::machine::MachineError;
use crate::storage::{ImageDigest, ImageRoot, Reverted, RevisionId, StorageError, VolumeId};

/// Names the volume of a qube's own root.
fn root_of(qube: &QubeName) -> VolumeId {
    VolumeId {
        qube: qube.clone(),
        volume: ROOT_VOLUME.to_owned(),
    }
}

/// Whether others start from a qube's root.
fn is_published(qube: &Qube) -> bool {
    qube.kind == QubeKind::Template && qube.volumes.contains_key(ROOT_VOLUME)
}

/// How many earlier revisions each root has that others start from.
fn kept(description: &Description) -> BTreeMap<QubeName, u32> {
    let qubes = description.qubes.values();
    let roots = qubes.filter_map(|qube| {
        let volume = qube.volumes.get(ROOT_VOLUME)?;
        let published = qube.kind == QubeKind::Template;
        Some((
            qube.name.clone(),
            if published {
                volume.revisions_to_keep
            } else {
                0
            },
        ))
    });
    roots.collect()
}

impl Inner {
    /// The template qube, by what is declared now.
    fn template_qube(&self, qube: &Qube) -> Option<QubeName> {
        let state = self.state();
        template_qube_of(state.description()?, qube).cloned()
    }

    /// The root of a qube that keeps its own.
    pub(super) async fn own_root(
        &self,
        qube: &Qube,
        image: &ImageDigest,
    ) -> Result<ImageRoot, StorageError> {
        let template = self.template_qube(qube).as_ref().map(root_of);
        let id = root_of(&qube.name);
        self.storage.own_root(&id, image, template.as_ref()).await
    }

    /// The root of a qube that keeps none, and which revision that is.
    pub(super) async fn root_for(
        &self,
        qube: &Qube,
        image: &ImageDigest,
    ) -> Result<(ImageRoot, Option<RevisionId>), StorageError> {
        if let Some(template) = self.template_qube(qube) {
            let id = root_of(&template);
            if let Some((revision, root)) = self.storage.template_root(&id, &qube.name).await? {
                return Ok((root, Some(revision)));
            }
        }
        Ok((self.storage.image_root(image).await?, None))
    }

    /// A qube does not run, or did not come up: what it would have run on is free.
    pub(super) fn let_go(&self, name: &QubeName) {
        self.storage.release_revision(name);
    }

    /// The same, and removes what nobody needs any more.
    pub(super) fn root_unused(&self, run: &Run) {
        self.let_go(&run.name);
        if let (Some(_), Some(inner)) = (run.revision, self.own()) {
            tokio::spawn(async move { inner.tidy_revisions().await });
        }
    }

    fn is_template_qube(&self, run: &Run) -> bool {
        let state = self.state();
        let spec = state.qubes.get(&run.name).and_then(|e| e.spec.as_ref());
        spec.is_some_and(is_published)
    }

    /// Leaves others the root that a template qube had before it ended, which it did not in order.
    pub(super) fn leave_root(&self, run: &Run) {
        if self.is_template_qube(run) {
            tracing::warn!(qube = %run.name, "it did not stop in order, so its root is not published");
            self.storage
                .leave_root(&root_of(&run.name), "it did not stop in order");
        }
    }

    /// Makes what a template qube has written the root that others start from. What fails is
    /// logged and told as a warning: the qube has stopped, and its next stop tries again.
    pub(super) async fn publish_root(&self, run: &Run) {
        if !self.is_template_qube(run) {
            return;
        }
        // That may take a while, and its domain is gone.
        self.set_state(&run.name, QubeState::Stopping);
        match self.storage.publish_root(&root_of(&run.name)).await {
            Ok(Some(revision)) => {
                tracing::info!(qube = %run.name, revision = revision.number, "root published");
            }
            Ok(None) => {}
            Err(error) => {
                let error = chain(&error);
                tracing::error!(qube = %run.name, error, "its root is not published");
            }
        }
        self.tidy_revisions().await;
    }

    /// Takes the root of a qube that does not run back; called from its own task only.
    pub(super) async fn revert_root(
        &self,
        name: &QubeName,
        to: Option<u64>,
    ) -> Result<Reverted, MachineError> {
        let reverted = self.storage.revert_root(&root_of(name), to).await;
        self.tidy_revisions().await;
        reverted.map_err(|source| MachineError::Storage {
            name: name.clone(),
            source,
        })
    }

    /// Removes revisions beyond those to keep, and looks at which there are.
    pub(super) async fn tidy_revisions(&self) {
        let keep = self.state().description().map(|d| kept(d));
        if let Some(keep) = keep
            && let Err(error) = self.storage.prune_revisions(&keep).await
        {
            tracing::warn!(error = chain(&error), "revisions of roots stay behind");
        }
        match self.storage.revisions().await {
            Ok(revisions) => self.state().revisions = revisions,
            Err(error) => {
                tracing::error!(error = chain(&error), "cannot see the revisions of roots");
            }
        }
    }
}

impl Runtime {
    /// Takes the root of a template qube back to a revision, or to the one before the newest.
    ///
    /// # Errors
    /// Where it is none, runs, or has no such revision.
    pub async fn revert_root(
        &self,
        name: &QubeName,
        to: Option<u64>,
    ) -> Result<bulkhead_api::qube::Reverted, MachineError> {
        let declared = self.inner.state().declared_qube(name).map(is_published);
        match declared {
            None => return Err(MachineError::NoSuchQube(name.clone())),
            Some(false) => return Err(MachineError::NoTemplateQube(name.clone())),
            Some(true) => {}
        }
        let ask = self.inner.ask(name, |reply| Command::Revert { to, reply });
        let reverted = ask.await?;
        Ok(bulkhead_api::qube::Reverted {
            qube: name.to_string(),
            to: reverted.to.number,
            revision: reverted.now.number,
        })
    }
}
