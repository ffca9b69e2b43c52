//! The facade that an apply's steps call: qubes by name, as the description knows them.
//!
//! The runtime implements it over a hypervisor; tests implement it over files. Every method may be
//! repeated: after a crash a step whose outcome is unknown is done again, so starting what runs,
//! stopping what does not and setting what is set already succeed and change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Description, Memory, Qube};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::hypervisor::{DomId, DomainState, Reach};
use crate::storage::{ImageDigest, RevisionId};

/// What is declared now: the machine answers every question about a qube from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The generation, once it is one; none while an apply is under way to a new one.
    pub generation: Option<u64>,
    /// Everything about the qubes, and the call policy.
    pub description: Arc<Description>,
    /// The image of each template.
    pub images: Arc<BTreeMap<QubeName, ImageDigest>>,
}

/// Why a qube is started or stopped; for logs and for the restart rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A person asked.
    Person,
    /// An apply's step, also autostart.
    Apply,
    /// A call to it was allowed.
    Call,
    /// Its restart rule.
    RestartRule,
    /// Another qube needs it (a netvm of a qube that starts).
    Needed,
    /// The daemon ends and takes it along.
    Exit,
    /// It did what no qube may.
    Misuse,
}

/// A property that some backends can change while a qube runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveProperty {
    /// [`LiveChange::Memory`]
    Memory,
    /// [`LiveChange::Vcpus`]
    Vcpus,
    /// [`LiveChange::CpuWeight`]
    CpuWeight,
    /// [`LiveChange::NetVm`]
    NetVm,
    /// [`LiveChange::Services`]
    Services,
    /// [`LiveChange::Features`]
    Features,
    /// [`LiveChange::Devices`]
    Devices,
}

impl LiveProperty {
    /// Its name in the description.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Vcpus => "vcpus",
            Self::CpuWeight => "cpu_weight",
            Self::NetVm => "netvm",
            Self::Services => "services",
            Self::Features => "features",
            Self::Devices => "devices",
        }
    }
}

/// A change made to a running qube. Carries the whole new value, so that it can be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveChange {
    /// New memory bounds.
    Memory(Memory),
    /// New number of processors.
    Vcpus(u32),
    /// New share of processor time.
    CpuWeight(u32),
    /// Attach to another network, or to none.
    NetVm(Option<QubeName>),
    /// All services, as in the description.
    Services(BTreeMap<String, bool>),
    /// All features, as in the description.
    Features(BTreeMap<String, String>),
    /// All devices, as in the description; only block devices of dom0 may differ from what it has.
    Devices(Vec<String>),
}

impl LiveChange {
    /// Which property it changes.
    pub fn property(&self) -> LiveProperty {
        match self {
            Self::Memory(_) => LiveProperty::Memory,
            Self::Vcpus(_) => LiveProperty::Vcpus,
            Self::CpuWeight(_) => LiveProperty::CpuWeight,
            Self::NetVm(_) => LiveProperty::NetVm,
            Self::Services(_) => LiveProperty::Services,
            Self::Features(_) => LiveProperty::Features,
            Self::Devices(_) => LiveProperty::Devices,
        }
    }
}

/// A qube that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningQube {
    /// What it was started from, with every [`LiveChange`] since. Kept across daemon restarts.
    pub spec: Qube,
    /// The image its root is.
    pub image: Option<ImageDigest>,
    /// What of its template qube's root it runs on; none where there is no such qube, or was no
    /// revision yet.
    #[serde(default)]
    pub revision: Option<RevisionId>,
    /// Its domain.
    pub domid: DomId,
    /// Its domain's identity.
    pub uuid: Uuid,
    /// Running or paused.
    pub state: DomainState,
    /// How far it can be changed while it runs.
    #[serde(default)]
    pub reach: Reach,
    /// An unnamed disposable: in no description, gone when it stops.
    pub disposable: bool,
}

/// Why a qube does not run although it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// A person stopped or killed it through us.
    ByPerson,
    /// It shut itself down in order.
    ByItself,
    /// It crashed or was killed from outside.
    Died,
}

/// The part of the observed state that the machine knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineState {
    /// Everything that runs, disposables too.
    pub running: BTreeMap<QubeName, RunningQube>,
    /// Qubes that ran since the machine came up and do not now. One that never ran is not here.
    pub stopped: BTreeMap<QubeName, Stopped>,
    /// What can be changed while a qube runs on this backend.
    pub live: BTreeSet<LiveProperty>,
    /// The newest revision of each root that qubes start from.
    #[serde(default)]
    pub revisions: BTreeMap<QubeName, RevisionId>,
}

/// Why the machine could not do something to a qube.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Neither declared nor running.
    #[error("there is no qube `{0}`")]
    NoSuchQube(QubeName),
    /// It must run for that.
    #[error("qube `{0}` does not run")]
    NotRunning(QubeName),
    /// It must not run for that.
    #[error("qube `{0}` runs")]
    Runs(QubeName),
    /// Nothing starts from its root.
    #[error("qube `{0}` is not of kind `Template`, so its root has no revisions")]
    NoTemplateQube(QubeName),
    /// Others that run have their network from it.
    #[error("qube `{name}` provides network to {}, which run", list(.by))]
    InUse {
        /// Its name.
        name: QubeName,
        /// Those others, by name.
        by: Vec<QubeName>,
    },
    /// It cannot be started as it is declared.
    #[error("qube `{name}` cannot be started: {why}")]
    NotStartable {
        /// Its name.
        name: QubeName,
        /// One clause.
        why: String,
    },
    /// The qube that is its network cannot serve it.
    #[error("qube `{name}` gets no network: `{netvm}` {why}")]
    NoNetwork {
        /// Its name.
        name: QubeName,
        /// The other's.
        netvm: QubeName,
        /// One clause about that.
        why: String,
    },
    /// The policy does not parse; the old one stays in force.
    #[error("the call policy was refused: {0}")]
    Policy(String),
    /// From the hypervisor.
    #[error("qube `{name}`: the hypervisor refused")]
    Hypervisor {
        /// Its name.
        name: QubeName,
        /// Why.
        #[source]
        source: crate::hypervisor::HypervisorError,
    },
    /// From storage.
    #[error("qube `{name}`: storage refused")]
    Storage {
        /// Its name.
        name: QubeName,
        /// Why.
        #[source]
        source: crate::storage::StorageError,
    },
    /// The machine itself.
    #[error("{doing}")]
    Io {
        /// What was being done and to what.
        doing: String,
        /// What the machine said.
        #[source]
        source: std::io::Error,
    },
}

fn list(names: &[QubeName]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// What an apply does to qubes. An apply never calls two methods for one qube at the same time;
/// people may, beside it.
#[async_trait]
pub trait Machine: Send + Sync + Debug {
    /// What runs. Under 20 ms for 100 qubes.
    async fn observe(&self) -> Result<MachineState, MachineError>;
    /// Makes `declared` what every question is answered from: policy, labels, tags, restart rules,
    /// what a later start uses. In memory only: called again whenever the daemon starts. Changes
    /// nothing about a domain that runs. On an error the old one stays.
    async fn declare(&self, declared: Declared) -> Result<(), MachineError>;
    /// Starts `qube` exactly as given (not as declared), on `image`; its volumes exist. Running
    /// already: does nothing. Returns when its domain runs; the agent may still be coming up.
    async fn start(
        &self,
        qube: &Qube,
        image: Option<&ImageDigest>,
        reason: Reason,
    ) -> Result<(), MachineError>;
    /// Asks it to stop and kills it after `timeout`. Not running: does nothing.
    async fn stop(
        &self,
        name: &QubeName,
        timeout: Duration,
        reason: Reason,
    ) -> Result<(), MachineError>;
    /// Changes a running qube; not running: does nothing. Only for properties in
    /// [`MachineState::live`].
    async fn live_update(&self, name: &QubeName, change: &LiveChange) -> Result<(), MachineError>;
    /// What stands in the way of the next start of declared qubes; a sentence each.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}
