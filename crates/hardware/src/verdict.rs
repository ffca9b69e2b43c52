//! What will work here and what will not.

use serde::Serialize;

use crate::{Kind, Known, Report};

/// Memory below which few qubes run at once, in MiB: a desktop of six small ones and dom0.
const MEMORY_LOW: u64 = 6 * 1024;

/// What a verdict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Whether domains can be PVH at all.
    Virtualisation,
    /// Whether they are fast.
    Paging,
    /// Whether devices can be given away safely.
    Iommu,
    /// How many qubes fit.
    Memory,
    /// Whether what booted can be measured.
    Tpm,
    /// Whether it can sleep.
    Suspend,
    /// Whether there is a picture.
    Graphics,
    /// Whether a qube can have the network.
    Network,
    /// Whether a qube can have what is plugged in.
    Usb,
    /// Whether there is a disk.
    Storage,
}

/// How well something will work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should.
    Works,
    /// Not as it should.
    Limited,
    /// Not at all.
    Fails,
    /// It cannot be known from here.
    Unknown,
}

/// What one part of the machine comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// About what.
    pub topic: Topic,
    /// How well.
    pub level: Level,
    /// In words.
    pub says: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

fn verdict(topic: Topic, level: Level, says: impl Into<String>) -> Verdict {
    Verdict {
        topic,
        level,
        says: says.into(),
        remedy: None,
    }
}

impl Verdict {
    fn remedy(self, remedy: &str) -> Self {
        Self {
            remedy: Some(remedy.to_owned()),
            ..self
        }
    }
}

/// One for each topic, in order.
pub(crate) fn all(report: &Report) -> Vec<Verdict> {
    vec![
        virtualisation(report),
        paging(report),
        iommu(report),
        memory(report),
        tpm(report),
        suspend(report),
        graphics(report),
        network(report),
        usb(report),
        storage(report),
    ]
}

const ASK: &str = "Ask again on Xen while bulkheadd runs.";
const FIRMWARE: &str =
    "Look for it in the firmware's settings (VT-x, SVM, VT-d, AMD-Vi): it is often off.";

fn virtualisation(report: &Report) -> Verdict {
    let topic = Topic::Virtualisation;
    match report.virtualisation.hvm {
        Known::Yes => verdict(topic, Level::Works, "qubes can be PVH and HVM domains"),
        Known::No => {
            let says = "no hardware virtualisation: only PV domains, whose isolation is weaker";
            verdict(topic, Level::Fails, says).remedy(FIRMWARE)
        }
        Known::Unknown => {
            verdict(topic, Level::Unknown, "nothing says if domains can be PVH").remedy(ASK)
        }
    }
}

fn paging(report: &Report) -> Verdict {
    let topic = Topic::Paging;
    match report.virtualisation.hap {
        Known::Yes => verdict(
            topic,
            Level::Works,
            "memory of domains is mapped by hardware",
        ),
        Known::No => {
            let says = "no hardware-assisted paging (EPT, NPT): qubes are slow";
            verdict(topic, Level::Limited, says).remedy(FIRMWARE)
        }
        Known::Unknown => {
            let says = "nothing says if there is hardware-assisted paging";
            verdict(topic, Level::Unknown, says).remedy(ASK)
        }
    }
}

fn iommu(report: &Report) -> Verdict {
    let topic = Topic::Iommu;
    match report.virtualisation.iommu {
        Known::Yes => {
            let says = "a device given to a qube reaches the memory of that qube alone";
            verdict(topic, Level::Works, says)
        }
        Known::No => {
            let says = "no IOMMU: a qube with a device could read and change all memory";
            verdict(topic, Level::Fails, says).remedy(FIRMWARE)
        }
        Known::Unknown => {
            verdict(topic, Level::Unknown, "nothing says if there is an IOMMU").remedy(ASK)
        }
    }
}

fn memory(report: &Report) -> Verdict {
    let topic = Topic::Memory;
    match report.memory {
        Some(mib) if mib < MEMORY_LOW => {
            let says = format!("{mib} MiB: few qubes run at once");
            verdict(topic, Level::Limited, says)
        }
        Some(mib) => verdict(topic, Level::Works, format!("{mib} MiB")),
        None => verdict(topic, Level::Unknown, "nothing says how much there is"),
    }
}

fn tpm(report: &Report) -> Verdict {
    let topic = Topic::Tpm;
    match &report.tpm {
        Some(tpm) => {
            let version = tpm.version.as_deref().unwrap_or("of unknown version");
            verdict(topic, Level::Works, format!("TPM {version}"))
        }
        None => {
            let says = "no TPM: what booted cannot be measured";
            verdict(topic, Level::Limited, says)
                .remedy("Look for it in the firmware's settings (TPM, PTT, fTPM).")
        }
    }
}

fn suspend(report: &Report) -> Verdict {
    let topic = Topic::Suspend;
    let has = |mode: &str| report.suspend.modes.iter().any(|known| known == mode);
    if has("deep") {
        verdict(topic, Level::Works, "suspend to memory (S3)")
    } else if has("s2idle") {
        let says = "only s2idle, which Xen does not have: a closed lid saves no power";
        verdict(topic, Level::Fails, says)
            .remedy("Some firmware offers S3, as `Linux` among its sleep states.")
    } else {
        verdict(topic, Level::Fails, "it cannot suspend to memory")
    }
}

/// How many of a kind there are, and how many of them nothing drives.
fn count(report: &Report, kind: Kind) -> (usize, usize) {
    let all = report.devices.iter().filter(|device| device.kind == kind);
    let idle = all.clone().filter(|device| device.driver.is_none());
    (all.count(), idle.count())
}

fn graphics(report: &Report) -> Verdict {
    let topic = Topic::Graphics;
    match count(report, Kind::Graphics) {
        (0, _) => verdict(
            topic,
            Level::Fails,
            "no graphics: there is nothing to show windows on",
        ),
        (all, idle) if all == idle => {
            let says = "no driver: pictures are as large and as fast as the firmware left them";
            verdict(topic, Level::Limited, says)
                .remedy("Install the firmware packages of the device in domain 0.")
        }
        (all, _) => verdict(topic, Level::Works, many(all, "device", "devices")),
    }
}

fn many(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// Whether devices of a kind can be given to qubes, and what that depends on.
fn to_give(report: &Report, topic: Topic, kind: Kind, one: &str, more: &str) -> Verdict {
    let (all, _) = count(report, kind);
    let what = many(all, one, more);
    let stuck = report.devices.iter();
    let stuck = stuck.filter(|device| device.kind == kind && !device.can_reset);
    let stuck: Vec<_> = stuck.map(|device| device.address.as_str()).collect();
    match report.virtualisation.iommu {
        Known::No => {
            let says = format!("{what}; without IOMMU no qube can have one safely");
            verdict(topic, Level::Limited, says)
        }
        _ if !stuck.is_empty() => {
            let says = format!("{what}; cannot be reset: {}", stuck.join(", "));
            verdict(topic, Level::Limited, says)
                .remedy("Give such a device to one qube only, and stop that before another.")
        }
        Known::Yes => verdict(
            topic,
            Level::Works,
            format!("{what}, each for a qube to have"),
        ),
        Known::Unknown => verdict(topic, Level::Unknown, what).remedy(ASK),
    }
}

fn network(report: &Report) -> Verdict {
    if count(report, Kind::Network).0 == 0 {
        let says = "no network device: what is attached by USB needs a qube for USB";
        return verdict(Topic::Network, Level::Limited, says);
    }
    to_give(report, Topic::Network, Kind::Network, "device", "devices")
}

fn usb(report: &Report) -> Verdict {
    let topic = Topic::Usb;
    let (all, _) = count(report, Kind::Usb);
    if all == 0 {
        return verdict(topic, Level::Works, "no controllers");
    }
    let held = |address: &String| {
        let mut keyboards = report.usb_keyboards.iter();
        keyboards.any(|keyboard| keyboard.controller == *address)
    };
    let mut controllers = report.devices.iter().filter(|d| d.kind == Kind::Usb);
    if controllers.all(|device| held(&device.address)) {
        let whose = if all == 1 {
            "the controller has"
        } else {
            "all controllers have"
        };
        let says = format!("{whose} a keyboard: a qube for USB could type in your name");
        return verdict(topic, Level::Limited, says)
            .remedy("Attach the keyboard by PS/2, or keep one controller for it alone.");
    }
    to_give(report, topic, Kind::Usb, "controller", "controllers")
}

fn storage(report: &Report) -> Verdict {
    let topic = Topic::Storage;
    match count(report, Kind::Storage) {
        (0, _) => verdict(topic, Level::Unknown, "no controller on PCI"),
        (all, idle) if all == idle => verdict(topic, Level::Fails, "no driver for any controller"),
        (all, _) => verdict(topic, Level::Works, many(all, "controller", "controllers")),
    }
}
