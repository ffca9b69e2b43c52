//! What `bulkheadd` and `bulkhead-xl`, the one process that uses libxl, say to each other.
//!
//! One `SOCK_SEQPACKET` pair, inherited at its start: one packet is one message
//! ([`crate::relay::encode`], [`crate::relay::decode`]), and no descriptors travel. Both ends are of
//! one build, so there is no version to agree on.
//!
//! ```text
//!   bulkheadd                          bulkhead-xl
//!      | <------- Hello or Failed ---------- |   once
//!      | -------- Request{id, ..} ---------> |   at most REQUESTS_MAX at a time
//!      | <------- Done{id, ..} ------------- |   once for each, in any order
//!      | <------- Died{..} ----------------- |   once for each domain of ours
//! ```
//!
//! Requests for one domain are done in the order in which they came, others beside each other. A
//! domain that ends is told of before what is left of it is removed; [`FromXl::Died`] comes before
//! the [`FromXl::Done`] of the [`Operation::Destroy`] that ended it. Domains outlive both processes:
//! the next `bulkhead-xl` lists them, and tells of those that ended meanwhile right after its hello.

use serde::{Deserialize, Serialize};

pub use config::{
    ConfigError, DISKS_MAX, Disk, DomainConfig, Initial, Kernel, Mode, NICS_MAX, Nic, PCI_MAX,
    PV_CMDLINE_MAX,
};
pub use error::{
    ConnectError, Failure, LOG_LINE_MAX, LOG_LINES_MAX, LibxlCode, OperationKind, XlError,
};
pub use names::{
    Access, CMDLINE_MAX, Cmdline, DomId, DomainName, DomainUuid, HostPath, MIB_MAX, MacAddress,
    Mib, NAME_MAX, NicId, PATH_MAX, PciAddress, Text, TextError, VCPUS_MAX, ValueError, Vcpus,
    Vdev, Weight, XenVersion,
};

mod config;
mod error;
mod names;

/// Requests that are not done yet at most; more are refused by [`Failure::Busy`]. Each may take a
/// thread and a connection to libxl.
pub const REQUESTS_MAX: usize = 64;

/// Domains in one answer to [`Operation::List`] at most, so that it fits a packet.
pub const DOMAINS_MAX: usize = 256;

/// Bytes of the name of a domain that others made; a longer one is told cut off.
pub const SHOWN_NAME_MAX: usize = 64;

/// Names one request; never used twice in the life of one `bulkhead-xl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// One domain and no later one with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Its number.
    pub domid: DomId,
    /// What it was created with.
    pub uuid: DomainUuid,
}

/// From `bulkheadd` to `bulkhead-xl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToXl {
    /// Do this; answered by [`FromXl::Done`].
    Request {
        /// Names the request in the answer.
        id: RequestId,
        /// What to do.
        operation: Operation,
    },
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Make a domain. If it fails, nothing of it is left.
    Create(Box<DomainConfig>),
    /// Freeze. A domain that is paused stays so.
    Pause(Target),
    /// Go on. A domain that runs is left alone.
    Unpause(Target),
    /// Ask it to end; [`FromXl::Died`] tells when it has.
    Shutdown(Target),
    /// End it at once. It is gone when this is done.
    Destroy(Target),
    /// Ask its balloon driver to come to this size. Done when asked, not when reached.
    SetMemory {
        /// Which.
        target: Target,
        /// At most its maximum.
        memory: Mib,
    },
    /// Ask its kernel to use so many processors. Done when asked.
    SetVcpus {
        /// Which.
        target: Target,
        /// At most its maximum.
        vcpus: Vcpus,
    },
    /// Change its share of processor time.
    SetWeight {
        /// Which.
        target: Target,
        /// Its new share.
        weight: Weight,
    },
    /// Give it one more disk.
    AttachDisk {
        /// Which.
        target: Target,
        /// The disk.
        disk: Disk,
    },
    /// Take a disk away.
    DetachDisk {
        /// Which.
        target: Target,
        /// The disk's name.
        vdev: Vdev,
    },
    /// Give it one more network interface.
    AttachNic {
        /// Which.
        target: Target,
        /// The interface.
        nic: Nic,
    },
    /// Take an interface away.
    DetachNic {
        /// Which.
        target: Target,
        /// The interface.
        nic: NicId,
    },
    /// Tell of the domains that exist, dom0 not among them.
    List {
        /// Only these and above, for what did not fit the answer before.
        from: DomId,
    },
    /// Tell of the machine.
    Host,
}

/// From `bulkhead-xl` to `bulkheadd`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromXl {
    /// First message: it serves.
    Hello {
        /// The machine.
        host: Host,
        /// What was left of interrupted creates, and was removed.
        swept: Vec<Target>,
    },
    /// First message otherwise: it cannot serve, and exits.
    Failed(ConnectError),
    /// A request is done.
    Done {
        /// Which.
        id: RequestId,
        /// What came of it.
        result: Result<Answer, XlError>,
    },
    /// A domain that was made by [`Operation::Create`] has ended.
    Died {
        /// Which.
        target: Target,
        /// How.
        how: Ending,
    },
}

/// What is answered to an operation that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To all others.
    Ok,
    /// To [`Operation::List`].
    Domains {
        /// By number, at most [`DOMAINS_MAX`].
        domains: Vec<DomainInfo>,
        /// Where to go on, if there are more.
        next: Option<DomId>,
    },
    /// To [`Operation::Host`].
    Host(Host),
}

/// A machine with Xen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The version that the bindings are of.
    pub bound: XenVersion,
    /// The version that runs.
    pub running: XenVersion,
    /// The rest of its version (`.3-pre`), at most [`SHOWN_NAME_MAX`] bytes.
    pub version_extra: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// All memory.
    pub memory: Mib,
    /// Memory that no domain has.
    pub free: Mib,
    /// Processors.
    pub cpus: u32,
}

/// What Xen can do on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// PV domains.
    pub pv: bool,
    /// HVM and PVH domains.
    pub hvm: bool,
    /// Hardware-assisted paging, which PVH domains are fast by.
    pub hap: bool,
    /// Devices can be given to domains safely.
    pub iommu: bool,
}

/// A domain that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainInfo {
    /// Which.
    pub target: Target,
    /// Its name, at most [`SHOWN_NAME_MAX`] bytes. Anything at all where it is not ours.
    pub name: String,
    /// Who made it.
    pub origin: Origin,
    /// How it is doing.
    pub state: State,
    /// Memory that it has now.
    pub memory: Mib,
    /// Memory that it may have at most now.
    pub maximum: Mib,
    /// Processors that are in use.
    pub vcpus: u32,
    /// Processor time that it has used, in nanoseconds.
    pub cpu_time_ns: u64,
}

/// Who made a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// [`Operation::Create`], of this process or of one before.
    Ours,
    /// Somebody else, and nothing is done with it but to list it.
    Foreign,
}

/// How a domain is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It runs, or would if there were something to do.
    Running,
    /// Frozen.
    Paused,
    /// It has ended and is not removed yet.
    Ended,
}

/// How a domain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It switched itself off, asked or not.
    Poweroff,
    /// It wanted to start again, and was not.
    Reboot,
    /// It crashed.
    Crash,
    /// Its watchdog was not fed.
    Watchdog,
    /// In another way (suspend, soft reset, or one that is newer than us), by Xen's number.
    Other(u8),
    /// Somebody destroyed it: we or others.
    Destroyed,
}

#[cfg(test)]
mod tests;
