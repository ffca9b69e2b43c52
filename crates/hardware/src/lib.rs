//! What a machine consists of, and what of it will work: the report of `bulkhead hcl`.
//!
//! Everything is read from what the kernel shows to anybody below `/sys` and `/proc`; nothing is
//! changed and no device is touched. People send these reports to each other, so there is nothing
//! in them that is of one machine alone: no serial numbers, no hardware addresses, no host name.

#![forbid(unsafe_code)]

mod machine;
mod names;
mod pci;
mod power;
mod processor;
mod tree;
mod verdict;

use serde::Serialize;

pub use machine::{Firmware, FirmwareKind, Machine};
pub use pci::{Device, Keyboard, Kind};
pub use power::{Suspend, Tpm};
pub use processor::Processor;
pub use tree::{ENTRIES_MAX, FILE_MAX, Tree};
pub use verdict::{Level, Topic, Verdict};

/// Version of the report's form; grows when a field changes its meaning.
pub const FORMAT: u32 = 1;

/// Something that can be, cannot be, or cannot be known from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// Who could tell was not there to ask.
    Unknown,
}

impl From<Option<bool>> for Known {
    fn from(known: Option<bool>) -> Self {
        match known {
            Some(true) => Self::Yes,
            Some(false) => Self::No,
            None => Self::Unknown,
        }
    }
}

/// What only the hypervisor knows about the machine below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Version.
    pub version: Option<String>,
    /// Whether it can run HVM and PVH domains.
    pub hvm: Option<bool>,
    /// Whether it uses hardware-assisted paging.
    pub hap: Option<bool>,
    /// Whether it uses an IOMMU.
    pub iommu: Option<bool>,
    /// Memory of the whole machine, in MiB.
    pub memory: Option<u64>,
    /// Threads of the whole machine.
    pub threads: Option<u32>,
}

/// The hypervisor that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hypervisor {
    /// `xen`, or another one's name as the kernel tells it.
    pub name: String,
    /// Its version, where it is told.
    pub version: Option<String>,
}

/// What the processor and the chipset do for domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Virtualisation {
    /// HVM and PVH domains.
    pub hvm: Known,
    /// Hardware-assisted paging (EPT, NPT).
    pub hap: Known,
    /// Devices confined to the domain that they are given to.
    pub iommu: Known,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// What is on its case, and its firmware.
    pub machine: Machine,
    /// Its processor.
    pub processor: Processor,
    /// All memory, in MiB.
    pub memory: Option<u64>,
    /// Kernel of domain 0.
    pub kernel: Option<String>,
    /// What runs below it; none means nothing that the kernel knows of.
    pub hypervisor: Option<Hypervisor>,
    /// What it does for domains.
    pub virtualisation: Virtualisation,
    /// Its security chip.
    pub tpm: Option<Tpm>,
    /// How it can sleep.
    pub suspend: Suspend,
    /// Graphics, network, USB, storage and sound, in order of their addresses.
    pub devices: Vec<Device>,
    /// Keyboards that are attached by USB, and by which controller.
    pub usb_keyboards: Vec<Keyboard>,
    /// What that comes to.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// Reads the machine whose files are below `tree`; `asked` is what its hypervisor said.
    #[must_use]
    pub fn read(tree: &Tree, asked: &Asked) -> Self {
        let hypervisor = hypervisor(tree, asked);
        let (processor, own) = processor::read(tree, asked.threads);
        let virtualisation = virtualisation(tree, asked, hypervisor.as_ref(), own);
        let mut report = Self {
            format: FORMAT,
            machine: machine::read(tree),
            processor,
            memory: asked.memory.or_else(|| machine::memory(tree)),
            kernel: tree.text("proc/sys/kernel/osrelease"),
            hypervisor,
            virtualisation,
            tpm: power::tpm(tree),
            suspend: power::suspend(tree),
            devices: pci::devices(tree),
            usb_keyboards: pci::keyboards(tree),
            verdicts: Vec::new(),
        };
        report.verdicts = verdict::all(&report);
        report
    }
}

fn hypervisor(tree: &Tree, asked: &Asked) -> Option<Hypervisor> {
    let name = tree.text("sys/hypervisor/type")?;
    let part = |name: &str| tree.text(&format!("sys/hypervisor/version/{name}"));
    let own = part("major").zip(part("minor")).map(|(major, minor)| {
        let extra = part("extra").unwrap_or_default();
        format!("{major}.{minor}{extra}")
    });
    Some(Hypervisor {
        name,
        version: asked.version.clone().or(own),
    })
}

/// What the hypervisor said; without one, what the processor and the firmware say.
fn virtualisation(
    tree: &Tree,
    asked: &Asked,
    hypervisor: Option<&Hypervisor>,
    own: processor::Virtualises,
) -> Virtualisation {
    if hypervisor.is_none() {
        return Virtualisation {
            hvm: own.hvm.into(),
            hap: own.hap.into(),
            iommu: machine::iommu(tree).into(),
        };
    }
    // Xen hides the processor's flags and the firmware's tables from domain 0.
    let told = tree.text("sys/hypervisor/properties/capabilities");
    let hvm = told.map(|told| told.split_whitespace().any(|word| word.starts_with("hvm-")));
    Virtualisation {
        hvm: asked.hvm.or(hvm).into(),
        hap: asked.hap.into(),
        iommu: asked.iommu.into(),
    }
}

#[cfg(test)]
mod tests;
