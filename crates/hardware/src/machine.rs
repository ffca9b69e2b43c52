//! The case and its firmware.

use serde::Serialize;

use crate::tree::Tree;

/// What is on the case, and the firmware in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Who made it.
    pub vendor: Option<String>,
    /// What it is called.
    pub product: Option<String>,
    /// Which one of that name.
    pub version: Option<String>,
    /// Its firmware.
    pub firmware: Firmware,
}

/// The firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Firmware {
    /// By which interface it started the machine.
    pub kind: FirmwareKind,
    /// Who made it.
    pub vendor: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// When it was made, as it says.
    pub date: Option<String>,
    /// Whether it starts only what is signed; none where it does not say.
    pub secure_boot: Option<bool>,
}

/// The interface of a firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FirmwareKind {
    /// The old one.
    Bios,
    /// The one with variables.
    Uefi,
}

/// The variable `SecureBoot`: four bytes of attributes and one of value.
const SECURE_BOOT: &str =
    "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

pub(crate) fn read(tree: &Tree) -> Machine {
    let dmi = |name: &str| {
        let text = tree.text(&format!("sys/class/dmi/id/{name}"))?;
        Some(text).filter(|text| !is_filler(text))
    };
    let uefi = tree.exists("sys/firmware/efi");
    Machine {
        vendor: dmi("sys_vendor"),
        product: dmi("product_name"),
        version: dmi("product_version"),
        firmware: Firmware {
            kind: if uefi {
                FirmwareKind::Uefi
            } else {
                FirmwareKind::Bios
            },
            vendor: dmi("bios_vendor"),
            version: dmi("bios_version"),
            date: dmi("bios_date"),
            secure_boot: tree
                .bytes(SECURE_BOOT)
                .and_then(|bytes| bytes.get(4).map(|value| *value == 1)),
        },
    }
}

/// What vendors write where they have nothing to say.
fn is_filler(text: &str) -> bool {
    const FILLERS: [&str; 6] = [
        "to be filled by o.e.m.",
        "system product name",
        "system manufacturer",
        "system version",
        "default string",
        "not specified",
    ];
    FILLERS.contains(&text.to_lowercase().as_str())
}

/// Memory that the kernel knows of, in MiB.
pub(crate) fn memory(tree: &Tree) -> Option<u64> {
    let text = tree.text("proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// Whether the kernel uses an IOMMU, or could: none where nothing says.
pub(crate) fn iommu(tree: &Tree) -> Option<bool> {
    if !tree.names("sys/class/iommu").is_empty() {
        return Some(true);
    }
    // Intel's and AMD's tables that describe one.
    let tables = tree.names("sys/firmware/acpi/tables");
    if tables.is_empty() {
        return None;
    }
    Some(tables.iter().any(|name| name == "DMAR" || name == "IVRS"))
}
