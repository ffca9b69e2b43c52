//! PCI devices of dom0 that a qube has alone, from its start to its end.

use std::path::{Path, PathBuf};

use bulkhead_model::device::PciAddress;
use bulkhead_model::qube::VirtMode;
use bulkhead_wire::xl;

use crate::hypervisor::{DomainSpec, HypervisorError};

/// Where Linux has a folder for each function of a PCI device.
const DEVICES: &str = "/sys/bus/pci/devices";

/// PVH has no PCI bus, and QEMU is confined before it could reach a device.
const NOT_PV: &str = "only a qube with `virt_mode: Pv` can have PCI devices";

/// Without this, a qube could have its device read and write all memory.
const NO_IOMMU: &str =
    "this machine has no IOMMU that Xen uses, which keeps a device to the memory of its qube";

/// Those of a new domain on a machine with these capabilities.
pub(super) fn addresses(
    spec: &DomainSpec,
    can: xl::Capabilities,
) -> Result<Vec<xl::PciAddress>, HypervisorError> {
    let refused = |address: &PciAddress, detail: String| HypervisorError::Device {
        name: spec.name.clone(),
        device: folder(Path::new(DEVICES), address),
        detail,
    };
    let pci = spec.pci.iter().map(|address| {
        if spec.boot.mode != VirtMode::Pv {
            return Err(refused(address, NOT_PV.to_owned()));
        }
        if !can.iommu {
            return Err(refused(address, NO_IOMMU.to_owned()));
        }
        if let Some(detail) = absent(Path::new(DEVICES), address) {
            return Err(refused(address, detail));
        }
        let PciAddress {
            segment,
            bus,
            device,
            function,
        } = *address;
        xl::PciAddress::new(segment, bus, device, function)
            .map_err(|error| refused(address, error.to_string()))
    });
    pci.collect()
}

/// Why it cannot be had, as a clause; none if nothing speaks against it.
pub(super) fn missing(address: &PciAddress) -> Option<String> {
    let detail = absent(Path::new(DEVICES), address)?;
    Some(format!("it is to have PCI device {address}, but {detail}"))
}

fn absent(devices: &Path, address: &PciAddress) -> Option<String> {
    let there = folder(devices, address).exists();
    (!there).then(|| "dom0 has no such device".to_owned())
}

fn folder(devices: &Path, address: &PciAddress) -> PathBuf {
    devices.join(address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_where_linux_has_it() {
        let devices = tempfile::tempdir().unwrap();
        let address = PciAddress {
            segment: 0,
            bus: 3,
            device: 0x1f,
            function: 2,
        };
        let detail = absent(devices.path(), &address);
        assert_eq!(detail.as_deref(), Some("dom0 has no such device"));
        std::fs::create_dir(devices.path().join("0000:03:1f.2")).unwrap();
        assert_eq!(absent(devices.path(), &address), None);
    }
}
