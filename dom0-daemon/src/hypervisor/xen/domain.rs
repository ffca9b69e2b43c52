//! What `bulkhead-xl` is told to make of a domain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bulkhead_model::qube::{Mib, VirtMode};
use bulkhead_wire::xl;

use super::NAME;
use super::blocks;
use super::boot::BootFiles;
use crate::address;
use crate::hypervisor::{DomId, DomainSpec, HypervisorError};
use crate::storage::{DiskRoot, ImageRoot};

/// Why a domain that cannot boot its disk itself does not start.
const NO_KERNEL: &str = "its template has no kernel in /boot, and its description names none";

/// Names of disks, as Qubes guests know them.
const ROOT: &str = "xvda";
const PRIVATE: &str = "xvdb";
const VOLATILE: &str = "xvdc";
const OTHERS: [&str; 4] = ["xvde", "xvdf", "xvdg", "xvdh"];

/// Where guests of Qubes expect the modules of a kernel that is not their own.
const MODULES: &str = "xvdd";

/// What a kernel with a root is told of it and of its name, which systemd would set otherwise later:
/// agents come before it. A host name has no `_`. A kernel without a root knows itself.
fn root_options(spec: &DomainSpec, boot: &BootFiles) -> String {
    let name = spec.name.as_str().replace('_', "-");
    format!(
        "{} hostname={name} systemd.hostname={name}",
        boot.root_options
    )
}

/// The disks of one start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disks {
    /// This start's own layer over the image's root; none where the image is a kernel alone.
    pub(super) root: Option<PathBuf>,
    /// Persistent, or gone with this start.
    pub(super) private: Option<PathBuf>,
    /// For what is too large for memory; gone with this start.
    pub(super) volatile: Option<PathBuf>,
    /// Other volumes, by name.
    pub(super) others: BTreeMap<String, PathBuf>,
}

fn refused(spec: &DomainSpec, detail: String) -> HypervisorError {
    HypervisorError::StartFailed {
        name: spec.name.clone(),
        detail,
    }
}

/// The image's disk; other roots are of the embedded hypervisor.
pub(super) fn root(spec: &DomainSpec) -> Result<&DiskRoot, HypervisorError> {
    match &spec.root {
        ImageRoot::Disk(root) => Ok(root),
        ImageRoot::Host | ImageRoot::Folder(_) | ImageRoot::Layer { .. } => {
            Err(HypervisorError::NotPossible {
                hypervisor: NAME,
                operation: "start a qube from a tree of files".to_owned(),
            })
        }
    }
}

/// Names a domain for `bulkhead-xl`.
pub(super) fn target(spec: &DomainSpec) -> Result<xl::Target, HypervisorError> {
    Ok(xl::Target {
        domid: number(spec, spec.domid)?,
        uuid: xl::DomainUuid(*spec.uuid.as_bytes()),
    })
}

fn number(spec: &DomainSpec, domid: DomId) -> Result<xl::DomId, HypervisorError> {
    checked(spec, "its domain number", xl::DomId::new(domid.0.into()))
}

/// Passes on a value that fits, and says which one does not.
fn checked<T, E: std::error::Error>(
    spec: &DomainSpec,
    what: &str,
    value: Result<T, E>,
) -> Result<T, HypervisorError> {
    value.map_err(|error| refused(spec, format!("{what} cannot be used: {error}")))
}

/// Processors of a domain at most while it runs.
pub(super) fn vcpus_maximum(spec: &DomainSpec) -> u32 {
    spec.vcpus_maximum.unwrap_or(spec.vcpus)
}

/// Memory of a domain at most while it runs. A system that comes with a boot loader of its own may
/// have no driver that keeps it to less than it sees.
pub(super) fn maximum(spec: &DomainSpec) -> Mib {
    let kernel = spec.boot.kernel.is_some() || root(spec).is_ok_and(|root| root.kernel.is_some());
    match spec.boot.mode {
        VirtMode::Hvm if !kernel => spec.memory.initial,
        VirtMode::Hvm | VirtMode::Pvh | VirtMode::Pv => spec.memory.maximum,
    }
}

/// Everything that the domain is made from.
pub(super) fn config(
    spec: &DomainSpec,
    boot: Option<&BootFiles>,
    disks: &Disks,
    pci: Vec<xl::PciAddress>,
) -> Result<xl::DomainConfig, HypervisorError> {
    let mib = |what, mib| checked(spec, what, xl::Mib::new(mib));
    let vcpus = |number: u32| {
        let number = xl::Vcpus::new(number.into());
        checked(spec, "its number of processors", number)
    };
    let weight = checked(
        spec,
        "its share of processor time",
        xl::Weight::new(spec.cpu_weight.into()),
    )?;
    let config = xl::DomainConfig {
        domid: number(spec, spec.domid)?,
        uuid: xl::DomainUuid(*spec.uuid.as_bytes()),
        name: checked(spec, "its name", xl::DomainName::new(spec.name.as_str()))?,
        mode: mode(spec, boot)?,
        memory: mib("its initial memory", spec.memory.initial.0)?,
        maximum: mib("its maximum memory", maximum(spec).0)?,
        vcpus: vcpus(spec.vcpus)?,
        // A kernel can bring up all of these, whatever it is told.
        vcpus_maximum: vcpus(vcpus_maximum(spec))?,
        weight,
        disks: all_disks(spec, boot, disks)?,
        nics: nics(spec)?,
        pci,
        initial: xl::Initial::Running,
    };
    checked(spec, "its description", config.check())?;
    Ok(config)
}

fn mode(spec: &DomainSpec, boot: Option<&BootFiles>) -> Result<xl::Mode, HypervisorError> {
    let kernel = boot.map(|boot| kernel(spec, boot)).transpose()?;
    let needed = || refused(spec, NO_KERNEL.to_owned());
    Ok(match spec.boot.mode {
        VirtMode::Pvh => xl::Mode::Pvh(kernel.ok_or_else(needed)?),
        VirtMode::Pv => xl::Mode::Pv(kernel.ok_or_else(needed)?),
        VirtMode::Hvm => xl::Mode::Hvm(kernel),
    })
}

/// The kernel that is booted directly, with what it is told.
fn kernel(spec: &DomainSpec, boot: &BootFiles) -> Result<xl::Kernel, HypervisorError> {
    let root = root(spec)?.disk.as_ref().map(|_| root_options(spec, boot));
    let line = format!("{} {}", root.unwrap_or_default(), spec.boot.options);
    let initrd = boot.initrd.as_ref();
    Ok(xl::Kernel {
        path: host_path(spec, &boot.kernel)?,
        ramdisk: initrd.map(|path| host_path(spec, path)).transpose()?,
        cmdline: checked(
            spec,
            "its kernel command line",
            xl::Cmdline::new(line.trim()),
        )?,
    })
}

fn host_path(spec: &DomainSpec, path: &Path) -> Result<xl::HostPath, HypervisorError> {
    let text = path
        .to_str()
        .ok_or_else(|| refused(spec, format!("the path `{}` is not UTF-8", path.display())))?;
    checked(spec, "a path", xl::HostPath::new(text))
}

fn all_disks(
    spec: &DomainSpec,
    boot: Option<&BootFiles>,
    disks: &Disks,
) -> Result<Vec<xl::Disk>, HypervisorError> {
    if disks.others.len() > OTHERS.len() {
        let count = disks.others.len();
        let most = OTHERS.len();
        return Err(refused(
            spec,
            format!("{count} volumes beside `private` are more than {most}"),
        ));
    }
    let own = [
        (ROOT, &disks.root),
        (PRIVATE, &disks.private),
        (VOLATILE, &disks.volatile),
    ];
    let own = own
        .into_iter()
        .filter_map(|(vdev, path)| Some((vdev, path.as_ref()?)))
        .chain(OTHERS.into_iter().zip(disks.others.values()))
        .map(|(vdev, path)| disk(spec, vdev, path, xl::Access::ReadWrite));
    let modules = boot.and_then(|boot| boot.modules.as_ref()).into_iter();
    // Every qube with this kernel has the same disk of modules.
    let modules = modules.map(|path| disk(spec, MODULES, path, xl::Access::ReadOnly));
    let mut all: Vec<_> = own.chain(modules).collect::<Result<_, _>>()?;
    all.extend(blocks::disks(spec)?);
    Ok(all)
}

pub(super) fn vdev(spec: &DomainSpec, name: &str) -> Result<xl::Vdev, HypervisorError> {
    checked(spec, "the name of a disk", xl::Vdev::new(name))
}

pub(super) fn disk(
    spec: &DomainSpec,
    vdev: &str,
    path: &Path,
    access: xl::Access,
) -> Result<xl::Disk, HypervisorError> {
    Ok(xl::Disk {
        vdev: self::vdev(spec, vdev)?,
        path: host_path(spec, path)?,
        access,
        backend: xl::DomId::DOM0,
        // A qube runs once, and what several have they only read.
        sole: true,
    })
}

fn nics(spec: &DomainSpec) -> Result<Vec<xl::Nic>, HypervisorError> {
    let nics = spec.netvm.iter().map(|&netvm| nic(spec, netvm));
    nics.collect()
}

/// The one interface of a qube.
pub(super) fn nic_id(spec: &DomainSpec) -> Result<xl::NicId, HypervisorError> {
    checked(spec, "the number of an interface", xl::NicId::new(0))
}

/// A qube's interface, which leads to `netvm`.
pub(super) fn nic(spec: &DomainSpec, netvm: DomId) -> Result<xl::Nic, HypervisorError> {
    Ok(xl::Nic {
        id: nic_id(spec)?,
        mac: checked(
            spec,
            "its hardware address",
            xl::MacAddress::new(address::hardware(spec.domid)),
        )?,
        backend: number(spec, netvm)?,
        ip: Some(address::of(spec.domid)),
    })
}

#[cfg(test)]
mod tests {
    use bulkhead_model::name::QubeName;
    use bulkhead_model::qube::Memory;
    use uuid::Uuid;

    use super::*;
    use crate::hypervisor::Boot;

    fn spec() -> DomainSpec {
        DomainSpec {
            domid: DomId(300),
            uuid: Uuid::from_bytes([7; 16]),
            name: QubeName::new("work").unwrap(),
            root: ImageRoot::Disk(DiskRoot {
                disk: Some("/images/root.ext4".into()),
                kernel: Some("/images/vmlinuz".into()),
                initrd: Some("/images/initrd".into()),
            }),
            overlay: "/run/overlay".into(),
            volumes: Vec::new(),
            memory: Memory {
                initial: Mib(400),
                maximum: Mib(4000),
            },
            vcpus: 2,
            vcpus_maximum: Some(4),
            cpu_weight: 512,
            boot: Boot::default(),
            default_user: "user".into(),
            vchan_dir: "/run/vchan".into(),
            netvm: Some(DomId(5)),
            provides_network: false,
            blocks: Vec::new(),
            pci: Vec::new(),
            console_log: "/log".into(),
        }
    }

    fn disks() -> Disks {
        Disks {
            root: Some("/dev/mapper/root".into()),
            private: Some("/volumes/private.img".into()),
            volatile: Some("/run/volatile.img".into()),
            others: BTreeMap::from([("data".to_owned(), "/volumes/data.img".into())]),
        }
    }

    /// With what `spec` boots; no kernel is installed.
    fn config(spec: &DomainSpec, disks: &Disks) -> Result<xl::DomainConfig, HypervisorError> {
        let boot = BootFiles::of(spec, Path::new("/nowhere"))?;
        super::config(spec, boot.as_ref(), disks, Vec::new())
    }

    #[track_caller]
    fn refusal(change: impl FnOnce(&mut DomainSpec, &mut Disks)) -> String {
        let (mut spec, mut disks) = (spec(), disks());
        change(&mut spec, &mut disks);
        config(&spec, &disks).unwrap_err().to_string()
    }

    #[test]
    fn a_qube_gets_the_disks_that_guests_of_qubes_know() {
        let config = config(&spec(), &disks()).unwrap();
        let disks: Vec<_> = config
            .disks
            .iter()
            .map(|disk| format!("{} {}", disk.vdev, disk.path))
            .collect();
        assert_eq!(
            disks,
            [
                "xvda /dev/mapper/root",
                "xvdb /volumes/private.img",
                "xvdc /run/volatile.img",
                "xvde /volumes/data.img"
            ]
        );
        assert_eq!(
            (config.vcpus.number(), config.vcpus_maximum.number()),
            (2, 4)
        );
        assert_eq!(config.weight.number(), 512);
        let nic = config.nics.first().unwrap();
        assert_eq!(nic.mac.to_string(), "00:16:3e:5e:01:2c");
        assert_eq!(nic.ip.unwrap().to_string(), "10.137.1.44");
        assert_eq!(nic.backend.to_string(), "5");
    }

    #[test]
    fn an_installed_kernel_comes_with_its_modules_and_without_an_initrd_of_another() {
        let mut spec = spec();
        spec.boot.options = "quiet".into();
        let installed = BootFiles {
            kernel: "/kernels/6.12/vmlinuz".into(),
            initrd: None,
            modules: Some("/kernels/6.12/modules.img".into()),
            root_options: "root=/dev/mapper/dmroot ro".into(),
        };
        let config = super::config(&spec, Some(&installed), &disks(), Vec::new()).unwrap();
        let xl::Mode::Pvh(kernel) = config.mode else {
            panic!("it is PVH");
        };
        assert_eq!(kernel.path.as_str(), "/kernels/6.12/vmlinuz");
        assert_eq!(kernel.ramdisk, None);
        assert_eq!(
            kernel.cmdline.as_str(),
            "root=/dev/mapper/dmroot ro hostname=work systemd.hostname=work quiet"
        );
        let modules = config.disks.last().unwrap();
        assert_eq!(modules.vdev.to_string(), "xvdd");
        assert_eq!(modules.access, xl::Access::ReadOnly);
    }

    #[test]
    fn a_kernel_alone_is_a_whole_qube() {
        let mut spec = spec();
        spec.root = ImageRoot::Disk(DiskRoot {
            disk: None,
            kernel: Some("/images/vmlinux".into()),
            initrd: None,
        });
        spec.boot.options = "-l debug".into();
        let disks = Disks {
            root: None,
            private: None,
            volatile: None,
            others: BTreeMap::new(),
        };
        let config = config(&spec, &disks).unwrap();
        assert!(config.disks.is_empty());
        let xl::Mode::Pvh(kernel) = config.mode else {
            panic!("it is PVH");
        };
        assert_eq!(kernel.path.as_str(), "/images/vmlinux");
        assert_eq!(kernel.cmdline.as_str(), "-l debug");
    }

    #[test]
    fn an_hvm_domain_without_a_kernel_boots_its_disk() {
        let mut spec = spec();
        spec.boot.mode = VirtMode::Hvm;
        let installed = BootFiles {
            kernel: "/kernels/6.12/vmlinuz".into(),
            initrd: None,
            modules: None,
            root_options: String::new(),
        };
        let direct = super::config(&spec, Some(&installed), &disks(), Vec::new()).unwrap();
        assert!(matches!(direct.mode, xl::Mode::Hvm(Some(_))), "{direct:?}");
        assert_eq!(direct.maximum.number(), 4000);
        spec.root = ImageRoot::Disk(DiskRoot {
            disk: Some("/volumes/root.img".into()),
            kernel: None,
            initrd: None,
        });
        let own = config(&spec, &disks()).unwrap();
        assert_eq!(own.mode, xl::Mode::Hvm(None));
        assert_eq!(own.maximum.number(), 400);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let found = [
            refusal(|spec, _| {
                spec.root = ImageRoot::Disk(DiskRoot {
                    disk: Some("/d".into()),
                    kernel: None,
                    initrd: None,
                });
            }),
            refusal(|spec, _| spec.root = ImageRoot::Host),
            refusal(|spec, _| spec.boot.kernel = Some("6.12".into())),
            refusal(|spec, _| spec.blocks = vec![None, Some("/dev/null".into())]),
            refusal(|spec, _| {
                spec.blocks = vec![None; 8];
                spec.blocks.push(Some("/dev/null".into()));
            }),
            refusal(|spec, _| spec.boot.options = "two\nlines".into()),
            refusal(|spec, _| spec.vcpus = 0x10000),
            refusal(|spec, _| spec.cpu_weight = 0x10000),
            refusal(|spec, _| spec.memory.initial = Mib(4001)),
            refusal(|spec, _| spec.netvm = Some(DomId(0))),
            refusal(|_, disks| {
                disks.others = (0..=4).map(|n| (n.to_string(), "/x".into())).collect();
            }),
        ];
        insta::assert_snapshot!(found.join("\n"), @r"
        qube `work` did not start: its template has no kernel in /boot, and its description names none
        the xen hypervisor cannot start a qube from a tree of files
        qube `work` did not start: kernel `6.12` is not installed: there is no `/nowhere/6.12/vmlinuz`; no kernel is
        qube `work` cannot have `/dev/null`: dom0 has no such block device
        qube `work` cannot have `/dev/null`: a qube has 8 block devices at most
        qube `work` did not start: its kernel command line cannot be used: `root=/dev/xvda rw console=hvc0 hostname=work systemd.hostname=work two\nlines` is no kernel command line
        qube `work` did not start: its number of processors cannot be used: number of processors 65536 is not in 1..=128
        qube `work` did not start: its share of processor time cannot be used: weight 65536 is not in 1..=65535
        qube `work` did not start: its description cannot be used: 4001 MiB at start are more than the maximum of 4000 MiB
        qube `work` did not start: its description cannot be used: network interface 0 leads to domain 0, which has no network
        qube `work` did not start: 5 volumes beside `private` are more than 4
        ");
    }
}
