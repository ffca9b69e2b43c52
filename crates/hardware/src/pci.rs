//! Devices that a desktop is made of.

use std::path::{Component, Path};

use serde::Serialize;

use crate::names;
use crate::tree::Tree;

const DEVICES: &str = "sys/bus/pci/devices";
const USB: &str = "sys/bus/usb/devices";

/// What a device is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Shows pictures.
    Graphics,
    /// Cable or radio.
    Network,
    /// Controller of USB ports.
    Usb,
    /// Controller of disks, or a disk of its own.
    Storage,
    /// Sound.
    Audio,
}

impl Kind {
    /// By the class code of the PCI specification: 24 bits, the upper eight being the base class.
    fn of(class: u32) -> Option<Self> {
        Some(match (class >> 16, class >> 8) {
            (0x03, _) => Self::Graphics,
            // Radios that are no Ethernet have a base class of their own.
            (0x02 | 0x0d, _) => Self::Network,
            (0x01, _) => Self::Storage,
            (_, 0x0c03) => Self::Usb,
            (_, 0x0401 | 0x0403) => Self::Audio,
            _ => return None,
        })
    }
}

/// A PCI function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Where: `0000:00:02.0`, domain, bus, device and function.
    pub address: String,
    /// What it is for.
    pub kind: Kind,
    /// Vendor and device: `8086:1237`.
    pub id: String,
    /// What it is called, where the machine has the list of names.
    pub name: Option<String>,
    /// What drives it in domain 0; none means nothing.
    pub driver: Option<String>,
    /// Whether it can be reset by itself, without which it keeps its state from qube to qube.
    pub can_reset: bool,
}

/// A keyboard that is attached by USB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Keyboard {
    /// Its port: `1-2`.
    pub port: String,
    /// Address of the controller.
    pub controller: String,
}

pub(crate) fn devices(tree: &Tree) -> Vec<Device> {
    let addresses = tree.names(DEVICES);
    let found: Vec<_> = addresses
        .into_iter()
        .filter_map(|address| device(tree, address))
        .collect();
    let ids: Vec<_> = found.iter().map(|(id, _)| *id).collect();
    let names = names::find(tree, &ids);
    let named = found.into_iter().map(|(id, device)| Device {
        name: names.get(&id).cloned(),
        ..device
    });
    named.collect()
}

fn device(tree: &Tree, address: String) -> Option<(names::Id, Device)> {
    let at = |file: &str| format!("{DEVICES}/{address}/{file}");
    let kind = Kind::of(tree.hex(&at("class"))?)?;
    let half = |file| u16::try_from(tree.hex(&at(file))?).ok();
    let id = (half("vendor")?, half("device")?);
    let device = Device {
        kind,
        id: format!("{:04x}:{:04x}", id.0, id.1),
        name: None,
        driver: tree.link_name(&at("driver")),
        can_reset: tree.exists(&at("reset")),
        address,
    };
    Some((id, device))
}

pub(crate) fn keyboards(tree: &Tree) -> Vec<Keyboard> {
    let interfaces = tree.names(USB).into_iter().filter_map(|name| {
        let (port, _) = name.split_once(':')?;
        let says = |file: &str, what: &str| {
            tree.text(&format!("{USB}/{name}/{file}")).as_deref() == Some(what)
        };
        // A human interface device that a firmware takes for a keyboard.
        let keyboard = says("bInterfaceClass", "03") && says("bInterfaceProtocol", "01");
        let real = tree.real(&format!("{USB}/{name}"))?;
        keyboard.then_some(Keyboard {
            port: port.to_owned(),
            controller: controller(&real)?,
        })
    });
    let mut all: Vec<_> = interfaces.collect();
    all.dedup();
    all
}

/// The PCI function nearest to the end of a device's path.
fn controller(path: &Path) -> Option<String> {
    path.components()
        .rev()
        .find_map(|part| match part {
            Component::Normal(name) => name.to_str().filter(|name| is_address(name)),
            _ => None,
        })
        .map(str::to_owned)
}

/// Whether this is `dddd:bb:dd.f`, all hexadecimal. Domains may have more digits.
fn is_address(name: &str) -> bool {
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut parts = name.split([':', '.']);
    let four = parts.by_ref().take(4).filter(|part| hex(part)).count() == 4;
    four && parts.next().is_none() && name.matches(':').count() == 2
}
