//! How disks come to a domain: as what, by which program, and whether QEMU emulates them.

use std::path::Path;

use bulkhead_sandbox::loops::LoopDevice;
use bulkhead_wire::xl::{Access, Disk, DomId, DomainConfig, Failure, HostPath, Mode};

/// Makes a disk served that nobody else uses. Stands beside us.
const SERVER: &str = "bulkhead-block";

/// The path of a program that stands beside this one.
pub(crate) fn beside(name: &str) -> Result<HostPath, Failure> {
    let broken = |error: &dyn std::error::Error| Failure::Broken(error.to_string());
    let own = std::env::current_exe().map_err(|e| broken(&e))?;
    HostPath::new(own.with_file_name(name).to_string_lossy()).map_err(|e| broken(&e))
}

/// A disk as libxl is given it.
#[derive(Debug)]
pub(crate) struct Given {
    /// With its device in the place of a file.
    pub(crate) disk: Disk,
    /// What makes it served, in the place of Xen's own script.
    pub(crate) script: Option<HostPath>,
    /// Goes when nobody has it open: not before somebody has.
    _device: Option<LoopDevice>,
}

impl Given {
    /// `disk` as it is given to a domain. QEMU, where it emulates one, may write only to devices.
    ///
    /// # Errors
    /// Where no device can be made of its file.
    pub(crate) fn new(disk: &Disk, emulated: bool) -> Result<Self, Failure> {
        let mut given = Self {
            disk: disk.clone(),
            script: None,
            _device: None,
        };
        if disk.backend != DomId::DOM0 || !(disk.sole || emulated) {
            return Ok(given);
        }
        if !emulated {
            given.script = Some(beside(SERVER)?);
        }
        let path = Path::new(disk.path.as_str());
        if path.is_file() {
            let refused = |why: String| Failure::Disk {
                vdev: disk.vdev.clone(),
                why,
            };
            let made = match disk.access {
                Access::ReadWrite => LoopDevice::over(path),
                Access::ReadOnly => LoopDevice::read_only(path),
            };
            let device = made.map_err(|e| refused(format!("no device for {}: {e}", disk.path)))?;
            let name = HostPath::new(device.path().to_string_lossy());
            given.disk.path = name.map_err(|e| refused(e.to_string()))?;
            given._device = Some(device);
        }
        Ok(given)
    }
}

/// The disks of a domain that is to be made.
#[derive(Debug)]
pub(crate) struct Disks {
    /// Those that it is made with. Of an HVM domain QEMU emulates these.
    pub(crate) first: Vec<Given>,
    /// Those that it gets when it is there and does not run yet. QEMU knows nothing of them.
    pub(crate) later: Vec<Given>,
}

impl Disks {
    /// An emulated disk is there for a boot sector, and for systems without drivers for Xen; libxl
    /// cannot emulate one that is only read.
    ///
    /// # Errors
    /// As [`Given::new`].
    pub(crate) fn of(config: &DomainConfig) -> Result<Self, Failure> {
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for disk in &config.disks {
            match config.mode {
                Mode::Hvm(None) if disk.access == Access::ReadWrite => {
                    first.push(Given::new(disk, true)?);
                }
                Mode::Hvm(_) => later.push(Given::new(disk, false)?),
                Mode::Pvh(_) | Mode::Pv(_) => first.push(Given::new(disk, false)?),
            }
        }
        Ok(Self { first, later })
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_wire::xl::{
        Cmdline, DomainName, DomainUuid, Initial, Kernel, Mib, Vcpus, Vdev, Weight,
    };

    use super::*;

    fn disk(path: &str, sole: bool) -> Disk {
        Disk {
            vdev: Vdev::new("xvda").unwrap(),
            path: HostPath::new(path).unwrap(),
            access: Access::ReadWrite,
            backend: DomId::DOM0,
            sole,
        }
    }

    #[test]
    fn only_what_nobody_else_uses_is_served_by_our_program() {
        let elsewhere = Disk {
            backend: DomId::new(3).unwrap(),
            ..disk("/proc/self/exe", true)
        };
        for (disk, emulated, ours) in [
            (disk("/dev/null", true), false, true),
            (disk("/dev/null", false), false, false),
            (disk("/dev/null", true), true, false),
            (elsewhere, false, false),
        ] {
            let given = Given::new(&disk, emulated).unwrap();
            assert_eq!(given.script.is_some(), ours, "{disk:?}");
            assert_eq!(given.disk, disk);
        }
    }

    #[test]
    fn qemu_emulates_only_what_a_boot_sector_needs() {
        let kernel = || Kernel {
            path: HostPath::new("/vmlinuz").unwrap(),
            ramdisk: None,
            cmdline: Cmdline::new("").unwrap(),
        };
        let modules = Disk {
            vdev: Vdev::new("xvdd").unwrap(),
            access: Access::ReadOnly,
            ..disk("/dev/modules", true)
        };
        for (mode, first) in [
            (Mode::Pvh(kernel()), 2),
            (Mode::Pv(kernel()), 2),
            (Mode::Hvm(None), 1),
            (Mode::Hvm(Some(kernel())), 0),
        ] {
            let config = DomainConfig {
                domid: DomId::new(7).unwrap(),
                uuid: DomainUuid([7; 16]),
                name: DomainName::new("work").unwrap(),
                mode,
                memory: Mib::new(100).unwrap(),
                maximum: Mib::new(100).unwrap(),
                vcpus: Vcpus::new(1).unwrap(),
                vcpus_maximum: Vcpus::new(1).unwrap(),
                weight: Weight::default(),
                disks: vec![disk("/dev/root", true), modules.clone()],
                nics: Vec::new(),
                pci: Vec::new(),
                initial: Initial::Running,
            };
            let disks = Disks::of(&config).unwrap();
            let found = |given: &[Given]| -> Vec<Disk> {
                given.iter().map(|given| given.disk.clone()).collect()
            };
            assert_eq!(found(&disks.first), config.disks[..first]);
            assert_eq!(found(&disks.later), config.disks[first..]);
        }
    }
}
