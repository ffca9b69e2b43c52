//! Devices as they are written: `class:backend:ident`, as in `qvm-device`.

use std::path::PathBuf;

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
