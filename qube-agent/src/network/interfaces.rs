//! What xenstore says of interfaces, and what the kernel has made of it.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use bulkhead_vchan::xen::store::{Store, StoreError, Tree};

use super::hardware::HardwareAddress;

/// Where the kernel shows interfaces.
const CLASS: &str = "/sys/class/net";

/// Interfaces that one qube serves at the most; dom0 makes no more than it has memory for qubes.
pub(super) const SERVED_MAX: usize = 1024;

/// State of a device that has ended, as Xen's `xenbus_state` counts.
const CLOSED: &str = "6";

/// One end of an interface of another qube.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    /// Where xenstore has it, below this qube's home.
    pub(super) path: String,
    /// What the kernel calls it: `vif5.0`.
    pub(super) name: String,
    /// The qube's domain.
    pub(super) domain: u16,
    /// The qube's address; none where dom0 did not give it one.
    pub(super) address: Option<Ipv4Addr>,
    /// Its interface's hardware address.
    pub(super) hardware: Option<HardwareAddress>,
    /// Whether it has ended, and is to be forgotten.
    pub(super) over: bool,
    /// Whether the driver was told that this end is ready.
    pub(super) connected: bool,
}

/// Whether the kernel has an interface of that name.
pub(super) fn exists(name: &str) -> bool {
    Path::new(CLASS).join(name).exists()
}

/// An interface that dom0 has given to this qube.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frontend {
    /// What the kernel calls it.
    pub(super) name: String,
    /// Its number: one that went and came again has another.
    index: String,
}

/// The first of them.
pub(super) fn first_frontend() -> Option<Frontend> {
    let interfaces = std::fs::read_dir(CLASS).ok()?;
    let mut names = interfaces.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.find_map(|name| {
        let read =
            |file: &str| std::fs::read_to_string(Path::new(CLASS).join(&name).join(file)).ok();
        let ours = read("device/nodename")?.trim() == "device/vif/0";
        let index = read("ifindex")?;
        ours.then_some(Frontend { name, index })
    })
}

/// All interfaces that this qube is to serve, in order.
pub(super) fn backends(store: &mut Store) -> Result<Vec<Backend>, StoreError> {
    let mut found = Vec::new();
    for domain in children(store, "backend/vif")? {
        let above = format!("backend/vif/{domain}");
        for number in children(store, &above)? {
            if found.len() >= SERVED_MAX {
                return Ok(found);
            }
            let (Ok(domain), Ok(number)) = (domain.parse(), number.parse::<u16>()) else {
                continue;
            };
            found.push(backend(store, domain, number)?);
        }
    }
    found.sort_by_key(|backend: &Backend| backend.domain);
    Ok(found)
}

fn backend(store: &mut Store, domain: u16, number: u16) -> Result<Backend, StoreError> {
    let path = format!("backend/vif/{domain}/{number}");
    let mut key = |name: &str| match store.read(&format!("{path}/{name}")) {
        Ok(text) => Ok(text),
        Err(error) if is_missing(&error) => Ok(String::new()),
        Err(error) => Err(error),
    };
    // One that does not say whether it is in use is being made.
    let over = key("online")? == "0" && key("state")? == CLOSED;
    // More than one address may be given; the first is the qube's own.
    let address = key("ip")?
        .split_whitespace()
        .next()
        .and_then(|ip| ip.parse().ok());
    Ok(Backend {
        name: format!("vif{domain}.{number}"),
        domain,
        address,
        hardware: key("mac")?.parse().ok(),
        over,
        connected: key("hotplug-status")? == "connected",
        path,
    })
}

fn children(store: &mut Store, path: &str) -> Result<Vec<String>, StoreError> {
    match store.list(path) {
        Err(error) if is_missing(&error) => Ok(Vec::new()),
        listed => listed,
    }
}

fn is_missing(error: &StoreError) -> bool {
    error.refusal() == Some(io::ErrorKind::NotFound)
}

/// Tells the driver that this end is ready.
pub(super) fn connected(store: &mut Store, backend: &Backend) -> Result<(), StoreError> {
    store.write(&format!("{}/hotplug-status", backend.path), "connected")
}

/// Forgets an interface that has ended. dom0 leaves that to the domain that served it, and waits
/// for it.
pub(super) fn forget(store: &mut Store, backend: &Backend) -> Result<(), StoreError> {
    store.remove(&backend.path)?;
    let above = format!("backend/vif/{}", backend.domain);
    let emptied = store.transaction(|t| match t.list(&above)?.is_empty() {
        true => t.remove(&above),
        false => Ok(()),
    });
    match emptied {
        // An empty folder that is dom0's harms nobody.
        Err(error) if error.refusal().is_some() => Ok(()),
        emptied => emptied,
    }
}
