//! What an HVM domain has beside the others: a QEMU that emulates its devices, and what that leaves.
//!
//! libxl confines it: it runs as user `xen-qemuuser-range-base` and the domain's number, in an empty
//! root, with hypercalls for its own domain alone, and may write no more than 256 KiB into any file.
//! So disks that it emulates are block devices here, and there are none where a kernel is booted
//! directly.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bulkhead_libxl_sys::LoopDevice;
use bulkhead_wire::xl::{Access, Disk, DomId, DomainConfig, DomainName, Failure, HostPath, Mode};

/// Starts QEMU, if it is told to confine itself. Stands beside us.
const STARTER: &str = "bulkhead-device-model";

/// What that starts.
const QEMU: &str = "/usr/libexec/xen-qemu-system-i386";

/// Where libxl has the empty root of each QEMU.
const ROOTS: &str = "/var/run/xen";

/// Where libxl has QEMU write what it has to say.
const LOGS: &str = "/var/log/xen";

/// Lines of QEMU's log that are told of at most.
const TOLD_MAX: usize = 8;

/// The program that libxl is to start for an HVM domain; none where there is nothing to emulate.
pub(crate) fn starter(mode: &Mode) -> Result<Option<HostPath>, Failure> {
    if !matches!(mode, Mode::Hvm(_)) {
        return Ok(None);
    }
    let broken = |error: &dyn std::error::Error| Failure::Broken(error.to_string());
    let own = std::env::current_exe().map_err(|e| broken(&e))?;
    let starter = own.with_file_name(STARTER);
    let starter = HostPath::new(starter.to_string_lossy()).map_err(|e| broken(&e))?;
    for needed in [&starter, &HostPath::new(QEMU).map_err(|e| broken(&e))?] {
        if !Path::new(needed.as_str()).is_file() {
            return Err(Failure::NoDeviceModel(needed.clone()));
        }
    }
    Ok(Some(starter))
}

/// How the disks of a domain come to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Disks {
    /// When it is made. Of an HVM domain QEMU emulates these.
    pub(crate) first: Vec<Disk>,
    /// When it is there and does not run yet. QEMU knows nothing of them.
    pub(crate) later: Vec<Disk>,
}

impl Disks {
    /// An emulated disk is there for a boot sector, and for systems without drivers for Xen; libxl
    /// cannot emulate one that is only read.
    pub(crate) fn of(config: &DomainConfig) -> Self {
        let emulated = |disk: &&Disk| match config.mode {
            Mode::Pvh(_) | Mode::Pv(_) => true,
            Mode::Hvm(None) => disk.access == Access::ReadWrite,
            Mode::Hvm(Some(_)) => false,
        };
        let (first, later) = config.disks.iter().partition(emulated);
        let owned = |disks: Vec<&Disk>| disks.into_iter().cloned().collect();
        Self {
            first: owned(first),
            later: owned(later),
        }
    }
}

/// Makes devices of the files that QEMU is to write to. They go when nobody has them open; until
/// somebody has, what is returned does.
pub(crate) fn on_devices(mode: &Mode, disks: &mut [Disk]) -> Result<Vec<LoopDevice>, Failure> {
    if !matches!(mode, Mode::Hvm(_)) {
        return Ok(Vec::new());
    }
    let made: Result<Vec<_>, _> = disks.iter_mut().map(on_device).collect();
    Ok(made?.into_iter().flatten().collect())
}

fn on_device(disk: &mut Disk) -> Result<Option<LoopDevice>, Failure> {
    let path = Path::new(disk.path.as_str());
    if disk.backend != DomId::DOM0 || !path.is_file() {
        return Ok(None);
    }
    let vdev = disk.vdev.clone();
    let refused = |why: String| Failure::Disk { vdev, why };
    let made = LoopDevice::over(path);
    let device = match made {
        Ok(device) => device,
        Err(error) => {
            return Err(refused(format!(
                "no loop device for {}: {error}",
                disk.path
            )));
        }
    };
    disk.path =
        HostPath::new(device.path().to_string_lossy()).map_err(|e| refused(e.to_string()))?;
    Ok(Some(device))
}

fn log_of(name: &DomainName) -> PathBuf {
    Path::new(LOGS).join(format!("qemu-dm-{name}.log"))
}

/// The last that QEMU said, for a domain that was not made.
pub(crate) fn last_words(config: &DomainConfig) -> Vec<String> {
    let Mode::Hvm(_) = config.mode else {
        return Vec::new();
    };
    let said = fs::read(log_of(&config.name)).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let mut last: Vec<String> = said
        .lines()
        .rev()
        .take(TOLD_MAX)
        .map(str::to_owned)
        .collect();
    last.reverse();
    last
}

/// Removes what the QEMU of a domain that is gone has left.
pub(crate) fn clear(domid: DomId, name: Option<&DomainName>) {
    let root = Path::new(ROOTS).join(format!("qemu-root-{domid}"));
    gone(&root, fs::remove_dir(&root));
    if let Some(name) = name {
        let log = log_of(name);
        gone(&log, fs::remove_file(&log));
    }
}

fn gone(path: &Path, removed: io::Result<()>) {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "this stays of a device model");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_wire::xl::{Cmdline, DomainUuid, Initial, Kernel, Mib, Vcpus, Vdev, Weight};

    use super::*;

    fn disk(path: &str) -> Disk {
        Disk {
            vdev: Vdev::new("xvda").unwrap(),
            path: HostPath::new(path).unwrap(),
            access: Access::ReadWrite,
            backend: DomId::DOM0,
        }
    }

    #[test]
    fn what_is_no_file_in_dom0_is_left_alone() {
        for mut disk in [
            disk("/dev/null"),
            disk("/nonexistent"),
            Disk {
                backend: DomId::new(3).unwrap(),
                ..disk("/proc/self/exe")
            },
        ] {
            let before = disk.clone();
            assert!(on_device(&mut disk).unwrap().is_none());
            assert_eq!(disk, before);
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
            ..disk("/modules.img")
        };
        for (mode, emulated) in [
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
                disks: vec![disk("/root.img"), modules.clone()],
                nics: Vec::new(),
                initial: Initial::Running,
            };
            let disks = Disks::of(&config);
            assert_eq!(disks.first, config.disks[..emulated]);
            assert_eq!(disks.later, config.disks[emulated..]);
        }
    }
}
