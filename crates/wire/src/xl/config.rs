//! What a domain is made from.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::names::{
    Access, Cmdline, DomId, DomainName, DomainUuid, HostPath, MacAddress, Mib, NicId, PciAddress,
    Vcpus, Vdev, Weight,
};

/// Disks of a domain at most: as many as Xen names without extended device numbers.
pub const DISKS_MAX: usize = 16;

/// Network interfaces of a domain at most: what fits one packet many times, and more than the
/// addresses that any qube has.
pub const NICS_MAX: usize = 8;

/// PCI devices of a domain at most: as many as the bus has that a PV domain sees.
pub const PCI_MAX: usize = 32;

/// Longest kernel command line of a PV domain, in bytes: Xen's start page has 1024 with the NUL.
pub const PV_CMDLINE_MAX: usize = 1023;

/// Everything that one domain is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainConfig {
    /// The number that it gets; free, and not dom0's.
    pub domid: DomId,
    /// Its identity.
    pub uuid: DomainUuid,
    /// Its name.
    pub name: DomainName,
    /// How it is virtualised, and what it boots.
    pub mode: Mode,
    /// Memory at start.
    pub memory: Mib,
    /// Memory at most, ever.
    pub maximum: Mib,
    /// Processors at start.
    pub vcpus: Vcpus,
    /// Processors at most, ever.
    pub vcpus_maximum: Vcpus,
    /// Share of processor time.
    pub weight: Weight,
    /// Its disks; each with a name of its own.
    pub disks: Vec<Disk>,
    /// Its network interfaces; each with a number of its own.
    pub nics: Vec<Nic>,
    /// Functions of PCI devices that it has alone.
    pub pci: Vec<PciAddress>,
    /// How it begins.
    pub initial: Initial,
}

/// How a domain begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Initial {
    /// It runs when it is created.
    Running,
    /// It waits for [`super::Operation::Unpause`].
    Paused,
}

/// How a domain is virtualised, and what it boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// In hardware, without emulated devices.
    Pvh(Kernel),
    /// By a kernel that knows Xen; its command line has at most [`PV_CMDLINE_MAX`] bytes.
    Pv(Kernel),
    /// In hardware, with devices that QEMU emulates in dom0: for this domain alone, as a user of its
    /// own in an empty folder, and never as root. Without a kernel it boots what the boot sector of
    /// its first disk says.
    Hvm(Option<Kernel>),
}

impl Mode {
    /// The kernel that is booted directly.
    #[must_use]
    pub const fn kernel(&self) -> Option<&Kernel> {
        match self {
            Self::Pvh(kernel) | Self::Pv(kernel) => Some(kernel),
            Self::Hvm(kernel) => kernel.as_ref(),
        }
    }
}

/// A kernel that is booted directly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Its file in dom0.
    pub path: HostPath,
    /// In dom0.
    pub ramdisk: Option<HostPath>,
    /// What it is told.
    pub cmdline: Cmdline,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its name in the domain.
    pub vdev: Vdev,
    /// A block device or a file with an image, in its backend.
    pub path: HostPath,
    /// What the domain may do with it.
    pub access: Access,
    /// The domain that has it; usually dom0.
    pub backend: DomId,
    /// Who asks for it sees to it that nobody else uses it who would mind. Otherwise Xen's own script
    /// looks for such, which takes its time.
    pub sole: bool,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Which of the domain's.
    pub id: NicId,
    /// Its address.
    pub mac: MacAddress,
    /// The domain that it leads to. Never dom0, which has no network.
    pub backend: DomId,
    /// The address that the backend routes to it.
    pub ip: Option<Ipv4Addr>,
}

/// Why nothing can be made from a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum ConfigError {
    /// It wants dom0's number.
    #[error("a new domain cannot be domain 0")]
    Domain0,
    /// No memory.
    #[error("a domain needs memory")]
    NoMemory,
    /// Its memory at start is over its maximum.
    #[error("{memory} MiB at start are more than the maximum of {maximum} MiB")]
    Memory {
        /// At start.
        memory: Mib,
        /// At most.
        maximum: Mib,
    },
    /// Its processors at start are over its maximum.
    #[error("{vcpus} processors at start are more than the maximum of {maximum}")]
    Vcpus {
        /// At start.
        vcpus: Vcpus,
        /// At most.
        maximum: Vcpus,
    },
    /// Over [`DISKS_MAX`].
    #[error("{0} disks are more than {DISKS_MAX}")]
    TooManyDisks(usize),
    /// Over [`NICS_MAX`].
    #[error("{0} network interfaces are more than {NICS_MAX}")]
    TooManyNics(usize),
    /// Two disks with one name.
    #[error("there are two disks `{0}`")]
    SameDisk(Vdev),
    /// Two interfaces with one number.
    #[error("there are two network interfaces {0}")]
    SameNic(NicId),
    /// Over [`PCI_MAX`].
    #[error("{0} PCI devices are more than {PCI_MAX}")]
    TooManyPci(usize),
    /// One PCI device twice.
    #[error("PCI device {0} is there twice")]
    SamePci(PciAddress),
    /// PVH has no PCI bus, and the QEMU of HVM is confined and reaches no devices.
    #[error("only a PV domain can have PCI device {0}")]
    PciWithoutPv(PciAddress),
    /// dom0 has no network.
    #[error("network interface {0} leads to domain 0, which has no network")]
    NicToDomain0(NicId),
    /// A device of the domain's own.
    #[error("a device leads to the domain itself")]
    ToItself,
    /// An HVM domain with neither a kernel nor a disk.
    #[error("there is neither a kernel nor a disk to boot from")]
    NothingToBoot,
    /// Over [`PV_CMDLINE_MAX`].
    #[error("a command line of {0} bytes is longer than the {PV_CMDLINE_MAX} of PV domains")]
    PvCmdline(usize),
}

impl DomainConfig {
    /// Processors that its firmware tables call usable. Linux (6.9 and later) never brings up one that
    /// they do not, so a PVH domain is told of all, and that those above `vcpus` are offline.
    #[must_use]
    pub fn vcpus_at_boot(&self) -> Vcpus {
        match self.mode {
            Mode::Pvh(_) => self.vcpus_maximum,
            Mode::Pv(_) | Mode::Hvm(_) => self.vcpus,
        }
    }

    /// Checks what its parts alone cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.domid == DomId::DOM0 {
            return Err(ConfigError::Domain0);
        }
        if self.memory.number() == 0 {
            return Err(ConfigError::NoMemory);
        }
        if self.memory > self.maximum {
            let (memory, maximum) = (self.memory, self.maximum);
            return Err(ConfigError::Memory { memory, maximum });
        }
        if self.vcpus > self.vcpus_maximum {
            let (vcpus, maximum) = (self.vcpus, self.vcpus_maximum);
            return Err(ConfigError::Vcpus { vcpus, maximum });
        }
        if let Mode::Pv(kernel) = &self.mode
            && kernel.cmdline.as_str().len() > PV_CMDLINE_MAX
        {
            return Err(ConfigError::PvCmdline(kernel.cmdline.as_str().len()));
        }
        if self.mode == Mode::Hvm(None) && self.disks.is_empty() {
            return Err(ConfigError::NothingToBoot);
        }
        self.check_disks()?;
        self.check_nics()?;
        self.check_pci()
    }

    fn check_pci(&self) -> Result<(), ConfigError> {
        if self.pci.len() > PCI_MAX {
            return Err(ConfigError::TooManyPci(self.pci.len()));
        }
        for (at, device) in self.pci.iter().enumerate() {
            if !matches!(self.mode, Mode::Pv(_)) {
                return Err(ConfigError::PciWithoutPv(*device));
            }
            if self.pci.iter().skip(at + 1).any(|other| other == device) {
                return Err(ConfigError::SamePci(*device));
            }
        }
        Ok(())
    }

    fn check_disks(&self) -> Result<(), ConfigError> {
        if self.disks.len() > DISKS_MAX {
            return Err(ConfigError::TooManyDisks(self.disks.len()));
        }
        for (at, disk) in self.disks.iter().enumerate() {
            disk.check(self.domid)?;
            if self.disks.iter().skip(at + 1).any(|d| d.vdev == disk.vdev) {
                return Err(ConfigError::SameDisk(disk.vdev.clone()));
            }
        }
        Ok(())
    }

    fn check_nics(&self) -> Result<(), ConfigError> {
        if self.nics.len() > NICS_MAX {
            return Err(ConfigError::TooManyNics(self.nics.len()));
        }
        for (at, nic) in self.nics.iter().enumerate() {
            nic.check(self.domid)?;
            if self.nics.iter().skip(at + 1).any(|n| n.id == nic.id) {
                return Err(ConfigError::SameNic(nic.id));
            }
        }
        Ok(())
    }
}

impl Disk {
    /// Checks it as a disk of `domid`.
    ///
    /// # Errors
    /// Where the domain would serve itself.
    pub fn check(&self, domid: DomId) -> Result<(), ConfigError> {
        if self.backend == domid {
            return Err(ConfigError::ToItself);
        }
        Ok(())
    }
}

impl Nic {
    /// Checks it as an interface of `domid`.
    ///
    /// # Errors
    /// Where it leads to dom0, or the domain would serve itself.
    pub fn check(&self, domid: DomId) -> Result<(), ConfigError> {
        if self.backend == DomId::DOM0 {
            return Err(ConfigError::NicToDomain0(self.id));
        }
        if self.backend == domid {
            return Err(ConfigError::ToItself);
        }
        Ok(())
    }
}
