//! The machine, as the hypervisor found it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a hypervisor finds on this machine before it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// Name of the implementation: `xen`, `embedded`.
    pub hypervisor: String,
    /// Sentences a person should read once: what this backend is not, what is only partly there.
    pub warnings: Vec<String>,
    /// What was found, by name (`cgroup` = `v2, memory pids cpu`).
    pub facts: BTreeMap<String, String>,
    /// What it alone knows of the machine; none where it runs on a kernel that shows all of it.
    pub machine: Option<HostMachine>,
}

/// A machine that only its hypervisor sees whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMachine {
    /// Version of the hypervisor.
    pub version: String,
    /// Whether it can run HVM and PVH domains.
    pub hvm: bool,
    /// Whether it uses hardware-assisted paging.
    pub hap: bool,
    /// Whether it confines devices by an IOMMU.
    pub iommu: bool,
    /// All memory, in MiB.
    pub memory: u64,
    /// All threads.
    pub threads: u32,
}
