//! Names of PCI devices, from the list that Debian has as `pci.ids`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use crate::tree::Tree;

/// Bytes of the list that are read; the whole of it had 1.5 MiB in 2026.
const LIST_MAX: u64 = 8 << 20;

/// Where distributions have it.
const LISTS: [&str; 2] = ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids"];

/// Vendor and device.
pub(crate) type Id = (u16, u16);

/// Names of `wanted`, each as vendor and device; empty where there is no list.
pub(crate) fn find(tree: &Tree, wanted: &[Id]) -> BTreeMap<Id, String> {
    let list = LISTS
        .iter()
        .find_map(|path| File::open(tree.path(path)).ok());
    let Some(list) = list else {
        return BTreeMap::new();
    };
    read(BufReader::new(list.take(LIST_MAX)), wanted)
}

/// The list has `vvvv  vendor`, below it `\tdddd  device`, and below those lines with two tabs.
fn read(list: impl BufRead, wanted: &[Id]) -> BTreeMap<Id, String> {
    let mut found = BTreeMap::new();
    let mut vendor: Option<(u16, String)> = None;
    for line in list.split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        // Classes come behind all devices, and look like them.
        if line.starts_with("C ") {
            break;
        }
        if let Some(device) = line.strip_prefix('\t') {
            let (Some((vendor, of)), Some((device, name))) = (&vendor, entry(device)) else {
                continue;
            };
            if wanted.contains(&(*vendor, device)) {
                found.insert((*vendor, device), format!("{of} {name}"));
            }
        } else if let Some((id, name)) = entry(&line) {
            vendor = Some((id, name.to_owned()));
        }
    }
    found
}

fn entry(line: &str) -> Option<(u16, &str)> {
    let (id, name) = line.split_once("  ")?;
    let id = (id.len() == 4).then(|| u16::from_str_radix(id, 16).ok())??;
    Some((id, name.trim()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = "# comment\n8086  Intel Corporation\n\t1237  440FX\n\t\t1af4 1100  Board\n\
        1af4  Red Hat, Inc.\n\t1000  Virtio network device\nC 02  Network controller\n\t00  Ethernet\n";

    #[test]
    fn a_device_is_found_below_its_vendor() {
        let found = read(LIST.as_bytes(), &[(0x1af4, 0x1000), (0x8086, 0x1000)]);
        let found: Vec<_> = found.values().collect();
        assert_eq!(found, ["Red Hat, Inc. Virtio network device"]);
    }

    proptest! {
        #[test]
        fn any_list_is_read(list in "[0-9a-fC \t\n#x]{0,400}") {
            read(list.as_bytes(), &[(0, 0), (0xffff, 0xffff)]);
        }
    }
}
