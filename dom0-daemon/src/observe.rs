//! What is: the current generation, what runs, what is stored. Gathered once, then only read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::Description;

use crate::lock::Lock;
use crate::machine::{Machine, MachineError, MachineState};
use crate::storage::{ImageDigest, Storage, StorageError, VolumeInfo};

/// The generation in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Its number.
    pub number: u64,
    /// What it declares.
    pub description: Arc<Description>,
    /// The images of its templates.
    pub lock: Lock,
}

/// Everything that a plan is made against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The generation in force; none on a new machine.
    pub current: Option<Current>,
    /// What runs.
    pub machine: MachineState,
    /// Volumes by qube and name, also of qubes that nobody declares.
    pub volumes: BTreeMap<QubeName, BTreeMap<String, VolumeInfo>>,
    /// Images in the store.
    pub images: BTreeSet<ImageDigest>,
}

/// Why the state could not be observed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The machine does not tell.
    #[error("cannot see what runs")]
    Machine(#[source] MachineError),
    /// Storage does not tell.
    #[error("cannot see what is stored")]
    Storage(#[source] StorageError),
}

impl Observed {
    /// Asks machine and storage at once.
    pub async fn gather(
        current: Option<Current>,
        machine: &dyn Machine,
        storage: &dyn Storage,
    ) -> Result<Self, ObserveError> {
        let (machine, volumes, images) =
            tokio::join!(machine.observe(), storage.volumes(), storage.images());
        let mut by_qube: BTreeMap<QubeName, BTreeMap<String, VolumeInfo>> = BTreeMap::new();
        for volume in volumes.map_err(ObserveError::Storage)? {
            by_qube
                .entry(volume.id.qube.clone())
                .or_default()
                .insert(volume.id.volume.clone(), volume);
        }
        let images = images.map_err(ObserveError::Storage)?;
        Ok(Self {
            current,
            machine: machine.map_err(ObserveError::Machine)?,
            volumes: by_qube,
            images: images.into_iter().map(|image| image.digest).collect(),
        })
    }

    /// One volume.
    pub fn volume(&self, qube: &QubeName, volume: &str) -> Option<&VolumeInfo> {
        self.volumes.get(qube)?.get(volume)
    }

    /// What is declared now.
    pub fn declared(&self) -> Option<&Description> {
        self.current.as_ref().map(|current| &*current.description)
    }
}
