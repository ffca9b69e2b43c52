//! What a hypervisor must do for us. One module per implementation.

use std::fmt;
use std::fmt::Debug;
use std::path::PathBuf;

use async_trait::async_trait;
pub use bulkhead_api::host::{HostMachine, HostReport};
use bulkhead_model::device::PciAddress;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Memory, Mib, Qube, VirtMode, default_cpu_weight};
use bulkhead_wire::end::Carrier;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::storage::ImageRoot;

mod console;
pub mod embedded;
pub mod xen;

pub use console::CONSOLE_LOG_MAX;

/// A domain's number. dom0 is 0; a number is never given out twice in the life of a state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DomId(pub u32);

impl DomId {
    /// The domain that the daemon runs in.
    pub const DOM0: Self = Self(0);
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Volume that becomes `/rw` and `/home` of a qube.
pub(crate) const PRIVATE_VOLUME: &str = "private";

/// Volume of a qube that keeps its root.
pub(crate) const ROOT_VOLUME: &str = "root";

/// A volume as a domain gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainVolume {
    /// Name in the description (`private`).
    pub name: String,
    /// Where it is: a folder (embedded) or a block device (Xen).
    pub path: PathBuf,
    /// Its size.
    pub size: Mib,
}

/// How a domain is virtualised, and what it boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Virtualisation mode.
    pub mode: VirtMode,
    /// Name of a kernel that is installed in dom0; none means the image's own.
    pub kernel: Option<String>,
    /// Added to the kernel's command line.
    pub options: String,
}

impl Default for Boot {
    fn default() -> Self {
        Self {
            mode: VirtMode::Pvh,
            kernel: None,
            options: String::new(),
        }
    }
}

/// Everything a hypervisor needs to create one domain. Complete: nothing is looked up elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainSpec {
    /// Its number, fresh.
    pub domid: DomId,
    /// Its identity across restarts of the daemon.
    pub uuid: Uuid,
    /// Its qube's name; also its host name.
    pub name: QubeName,
    /// Its root, read-only; the domain writes to `overlay`.
    pub root: ImageRoot,
    /// Folder for this start's copy-on-write layer, empty; removed when the domain is gone.
    pub overlay: PathBuf,
    /// Persistent volumes. A disposable has none and gets an ephemeral private one.
    pub volumes: Vec<DomainVolume>,
    /// Memory at start and at most.
    pub memory: Memory,
    /// Virtual processors.
    pub vcpus: u32,
    /// As many as these can become while it runs; none: no more.
    #[serde(default)]
    pub vcpus_maximum: Option<u32>,
    /// Share of processor time in proportion to other domains; 256 is usual.
    #[serde(default = "default_cpu_weight")]
    pub cpu_weight: u32,
    /// How it is virtualised and what it boots, where that can be chosen.
    #[serde(default)]
    pub boot: Boot,
    /// User that the agent and commands run as.
    pub default_user: String,
    /// The only folder of sockets it sees.
    pub vchan_dir: PathBuf,
    /// The domain that provides its network; none means no network at all.
    pub netvm: Option<DomId>,
    /// Whether it provides network to others.
    pub provides_network: bool,
    /// Block devices of dom0, each in its place; a place may be free.
    #[serde(default)]
    pub blocks: Vec<Option<PathBuf>>,
    /// PCI devices of dom0 that it has alone.
    #[serde(default)]
    pub pci: Vec<PciAddress>,
    /// File that its console is appended to.
    pub console_log: PathBuf,
}

/// How a domain is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DomainState {
    /// Runs.
    Running,
    /// Frozen by us.
    Paused,
}

/// A domain that exists now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainInfo {
    /// What it was created from; survives a restart of the daemon.
    pub spec: DomainSpec,
    /// How it is doing.
    pub state: DomainState,
    /// Memory in use now, where the hypervisor can tell.
    pub memory_used: Option<Mib>,
    /// Its first process as seen from dom0, on the embedded hypervisor.
    pub pid: Option<u32>,
}

/// How far a running domain can be changed, as it was made; none where nothing limits that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The most memory.
    pub memory: Option<Mib>,
    /// The most processors.
    pub vcpus: Option<u32>,
}

/// How a domain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It shut itself down in order, asked or not: what it wrote is whole.
    Shutdown,
    /// We destroyed it.
    Destroyed,
    /// It crashed, was killed from outside, or ran out of memory, perhaps while it was to shut down.
    Crashed,
}

/// What a hypervisor tells without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainEvent {
    /// The domain is gone.
    Died {
        /// Which.
        domid: DomId,
        /// How.
        how: Ending,
    },
}

/// Who has the memory of the machine, most first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|(who, mib)| format!("{who} has {} MiB", mib.0)).collect::<Vec<_>>().join(", "))]
pub struct HeldMemory(pub Vec<(String, Mib)>);

/// Why a hypervisor could not do something.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// The machine lacks something. `remedy` is a whole sentence that says what to do.
    #[error("the {hypervisor} hypervisor cannot run here: {missing}")]
    Unsupported {
        /// Implementation.
        hypervisor: &'static str,
        /// What is missing.
        missing: String,
        /// What to do.
        remedy: String,
    },
    /// No such domain.
    #[error("domain {0} does not exist")]
    NoSuchDomain(DomId),
    /// This implementation cannot do that, or not while the domain runs.
    #[error("the {hypervisor} hypervisor cannot {operation}")]
    NotPossible {
        /// Implementation.
        hypervisor: &'static str,
        /// What was asked, as an infinitive.
        operation: String,
    },
    /// A device cannot be given to it.
    #[error("qube `{name}` cannot have `{}`: {detail}", device.display())]
    Device {
        /// The domain's name.
        name: QubeName,
        /// In dom0.
        device: PathBuf,
        /// One clause.
        detail: String,
    },
    /// The domain did not come up.
    #[error("qube `{name}` did not start: {detail}")]
    StartFailed {
        /// Its name.
        name: QubeName,
        /// One sentence: what failed, with the last lines it said.
        detail: String,
    },
    /// No room for so much memory.
    #[error("{} MiB of memory are needed, and {} MiB are free", .needed.0, .free.0)]
    OutOfMemory {
        /// With what the hypervisor itself takes for it.
        needed: Mib,
        /// What nobody has.
        free: Mib,
        /// Who has the rest.
        #[source]
        held: HeldMemory,
    },
    /// No space is left on a disk of dom0.
    #[error("no space left while {doing}; free some on that disk, then try again")]
    Full {
        /// What was being done and to what.
        doing: String,
    },
    /// The machine refused.
    #[error("{doing}")]
    Io {
        /// What was being done and to what.
        doing: String,
        /// What the machine said.
        #[source]
        source: std::io::Error,
    },
}

impl HypervisorError {
    /// An error of the machine, told apart by whether a disk is full.
    pub(crate) fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let doing = doing.into();
        match source.kind() {
            StorageFull | QuotaExceeded => Self::Full { doing },
            _ => Self::Io { doing, source },
        }
    }
}

/// A hypervisor: makes domains, ends them, tells what runs. Knows nothing of descriptions.
#[async_trait]
pub trait Hypervisor: Send + Sync + Debug {
    /// Short name for messages (`embedded`, `xen`).
    fn name(&self) -> &'static str;
    /// What carries the channels of its domains.
    fn carrier(&self) -> Carrier {
        Carrier::Sockets
    }
    /// Checks that domains can run here; refuses with the remedy.
    async fn probe(&self) -> Result<HostReport, HypervisorError>;
    /// Creates a domain. It runs when this returns; if it fails nothing of it is left.
    async fn create(&self, spec: &DomainSpec) -> Result<(), HypervisorError>;
    /// Freezes it. Pausing a paused domain does nothing.
    async fn pause(&self, domid: DomId) -> Result<(), HypervisorError>;
    /// Thaws it. Unpausing a running domain does nothing.
    async fn unpause(&self, domid: DomId) -> Result<(), HypervisorError>;
    /// Asks it to end; [`DomainEvent::Died`] tells when it has.
    async fn shutdown(&self, domid: DomId) -> Result<(), HypervisorError>;
    /// Ends it at once. It is gone when this returns.
    async fn destroy(&self, domid: DomId) -> Result<(), HypervisorError>;
    /// Gives a running domain the memory that it would have if it were started with this.
    async fn set_memory(&self, domid: DomId, memory: Memory) -> Result<(), HypervisorError>;
    /// Changes the number of processors of a running domain.
    async fn set_vcpus(&self, domid: DomId, vcpus: u32) -> Result<(), HypervisorError>;
    /// Changes a running domain's share of processor time.
    async fn set_cpu_weight(&self, domid: DomId, weight: u32) -> Result<(), HypervisorError>;
    /// Makes `netvm` the network of a running domain, in the place of what was, which may be gone by
    /// now; none takes its network away. If it fails the domain has none, and may be tried again.
    async fn set_netvm(&self, domid: DomId, netvm: Option<DomId>) -> Result<(), HypervisorError>;
    /// Gives a running domain these block devices of dom0 and no others. If it fails some of it may
    /// be done, and it may be tried again.
    async fn set_blocks(&self, _domid: DomId, _wanted: &[PathBuf]) -> Result<(), HypervisorError> {
        Err(HypervisorError::NotPossible {
            hypervisor: self.name(),
            operation: "give a qube block devices".to_owned(),
        })
    }
    /// Whether networks are connected here, or only told of.
    fn connects_networks(&self) -> bool;
    /// Whether the memory limit of a running domain can be changed on this machine.
    fn can_set_memory(&self) -> bool;
    /// Whether the number of processors of a running domain can be changed on this machine.
    fn can_set_vcpus(&self) -> bool;
    /// Whether the share of processor time of a running domain can be changed on this machine.
    fn can_set_cpu_weight(&self) -> bool;
    /// Whether domains can have block devices of dom0, and get and lose them while they run.
    fn can_set_blocks(&self) -> bool {
        false
    }
    /// What a running domain may use that has this memory.
    fn may_use(&self, memory: Memory) -> Mib {
        memory.maximum
    }
    /// How far a running domain can be changed.
    fn reach(&self, _domid: DomId) -> Reach {
        Reach::default()
    }
    /// What is declared of a qube and kept, but changes nothing here: names of properties.
    fn without_effect(&self, _qube: &Qube) -> Vec<String> {
        Vec::new()
    }
    /// What is declared of a qube and missing here, so that it cannot start; a clause.
    fn unmet(&self, _qube: &Qube) -> Option<String> {
        None
    }
    /// What really runs, also right after a restart of the daemon.
    async fn list(&self) -> Result<Vec<DomainInfo>, HypervisorError>;
    /// Events from now on.
    fn subscribe(&self) -> broadcast::Receiver<DomainEvent>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        let doing = "making `/var/lib/bulkhead/scratch/7`";
        let full = HypervisorError::io(doing, rustix::io::Errno::NOSPC.into());
        insta::assert_snapshot!(full, @"no space left while making `/var/lib/bulkhead/scratch/7`; free some on that disk, then try again");
        let other = HypervisorError::io(doing, rustix::io::Errno::ACCESS.into());
        assert!(matches!(other, HypervisorError::Io { .. }), "{other}");
    }
}
