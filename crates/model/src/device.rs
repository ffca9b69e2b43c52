//! Devices as they are written: `class:backend:ident`, as in `qvm-device`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Kinds of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceClass {
    /// A block device.
    Block,
    /// A microphone.
    Mic,
    /// A function of a PCI device.
    Pci,
    /// A USB device.
    Usb,
}

impl DeviceClass {
    /// Every one of them, with its name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("block", Self::Block),
        ("mic", Self::Mic),
        ("pci", Self::Pci),
        ("usb", Self::Usb),
    ];
}

/// The name of dom0 as a backend.
pub const DOM0: &str = "dom0";

/// A function of a PCI device, by its address on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PciAddress {
    /// Most machines have one, which is 0.
    pub segment: u16,
    /// The bus.
    pub bus: u8,
    /// The device on it, below 32.
    pub device: u8,
    /// The function of the device, below 8.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    /// As Linux names it: `0000:00:14.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            segment,
            bus,
            device,
            function,
        } = self;
        write!(f, "{segment:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

/// Reads `00_14.0`, or `0000_00_14.0` with the segment first.
fn pci_address(ident: &str) -> Option<PciAddress> {
    let (place, function) = ident.split_once('.')?;
    let parts: Vec<&str> = place.split('_').collect();
    let (segment, bus, device) = match *parts.as_slice() {
        [bus, device] => ("0", bus, device),
        [segment, bus, device] => (segment, bus, device),
        _ => return None,
    };
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u16::from_str_radix(text, 16).ok()).flatten()
    };
    let below = |text, most: u8| {
        let small = u8::try_from(number(text)?).ok();
        small.filter(|small| *small <= most)
    };
    Some(PciAddress {
        segment: number(segment)?,
        bus: below(bus, u8::MAX)?,
        device: below(device, 31)?,
        function: below(function, 7)?,
    })
}

/// One device of a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device<'t> {
    /// What it is.
    pub class: DeviceClass,
    /// The qube that has it, or [`DOM0`].
    pub backend: &'t str,
    /// Which one of that qube's; not empty.
    pub ident: &'t str,
}

/// Why a text is no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceProblem {
    /// It has not three parts, or an ident that cannot be.
    Form,
    /// Its class is none of [`DeviceClass::ALL`].
    Class,
    /// Its ident is no address of a PCI device.
    Pci,
}

impl<'t> Device<'t> {
    /// Takes a text apart.
    ///
    /// # Errors
    /// [`DeviceProblem`].
    pub fn parse(text: &'t str) -> Result<Self, DeviceProblem> {
        let parts: Vec<&str> = text.splitn(3, ':').collect();
        let [class, backend, ident] = *parts.as_slice() else {
            return Err(DeviceProblem::Form);
        };
        // An ident may become a path, which is to lead nowhere else.
        let dots = ident.split('_').any(|part| matches!(part, "." | ".."));
        if ident.is_empty() || dots || !ident.bytes().all(is_ident) {
            return Err(DeviceProblem::Form);
        }
        let mut classes = DeviceClass::ALL.into_iter();
        let class = classes.find(|(name, _)| *name == class);
        let (_, class) = class.ok_or(DeviceProblem::Class)?;
        if class == DeviceClass::Pci && pci_address(ident).is_none() {
            return Err(DeviceProblem::Pci);
        }
        Ok(Self {
            class,
            backend,
            ident,
        })
    }

    /// The block device of dom0 that it is, if it is one: an ident has `_` for the `/` of a path
    /// below `/dev`, as in Qubes.
    #[must_use]
    pub fn block_of_dom0(self) -> Option<PathBuf> {
        let block = self.class == DeviceClass::Block && self.backend == DOM0;
        block.then(|| PathBuf::from(format!("/dev/{}", self.ident.replace('_', "/"))))
    }
}

/// The function of a PCI device of dom0 that `text` is, if it is one.
#[must_use]
pub fn pci_of_dom0(text: &str) -> Option<PciAddress> {
    let device = Device::parse(text).ok()?;
    let pci = device.class == DeviceClass::Pci && device.backend == DOM0;
    pci.then(|| pci_address(device.ident)).flatten()
}

/// See [`Device::block_of_dom0`]; none for what is no device.
#[must_use]
pub fn block_of_dom0(text: &str) -> Option<PathBuf> {
    Device::parse(text).ok()?.block_of_dom0()
}

fn is_ident(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b':' | b'*' | b'+')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_device_of_dom0_is_a_path_below_dev() {
        let path = |text| Device::parse(text).unwrap().block_of_dom0();
        assert_eq!(path("block:dom0:sda"), Some("/dev/sda".into()));
        assert_eq!(
            path("block:dom0:mapper_a-b"),
            Some("/dev/mapper/a-b".into())
        );
        assert_eq!(path("block:sys-usb:sda"), None);
        assert_eq!(path("usb:dom0:1-1"), None);
    }

    #[test]
    fn a_pci_device_is_an_address_with_or_without_its_segment() {
        let address = |ident: &str| pci_of_dom0(&format!("pci:dom0:{ident}"));
        let shown = |ident| address(ident).map(|address| address.to_string());
        assert_eq!(shown("00_14.0").as_deref(), Some("0000:00:14.0"));
        assert_eq!(shown("0001_fF_1f.7").as_deref(), Some("0001:ff:1f.7"));
        for ident in [
            "00_20.0",
            "00_14.8",
            "100_00.0",
            "00:14.0",
            "00_14",
            "+0_14.0",
            "_00.0",
            "10000_00_00.0",
        ] {
            assert_eq!(address(ident), None, "{ident}");
        }
        assert_eq!(Device::parse("pci:dom0:00_20.0"), Err(DeviceProblem::Pci));
        assert_eq!(pci_of_dom0("pci:sys-usb:00_14.0"), None);
    }

    #[test]
    fn no_path_leaves_dev() {
        for text in [
            "block:dom0:.._etc_shadow",
            "block:dom0:._x",
            "block:dom0:a_.._b",
        ] {
            assert_eq!(Device::parse(text), Err(DeviceProblem::Form), "{text}");
        }
        assert_eq!(Device::parse("block:dom0:"), Err(DeviceProblem::Form));
        assert_eq!(Device::parse("gpu:dom0:1"), Err(DeviceProblem::Class));
    }
}
