//! Block devices of dom0 that a qube has beside its own disks.
//!
//! Each has a place, which gives it its name in the qube, and keeps it as long as it is there.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bulkhead_wire::xl;

use super::domain::disk;
use crate::hypervisor::{DomainSpec, HypervisorError};

/// Names of the places, as Qubes guests know them: as many as Xen has without extended numbers.
const PLACES: [&str; 8] = [
    "xvdi", "xvdj", "xvdk", "xvdl", "xvdm", "xvdn", "xvdo", "xvdp",
];

/// One disk for each of a new domain's block devices.
pub(super) fn disks(spec: &DomainSpec) -> Result<Vec<xl::Disk>, HypervisorError> {
    let places = spec.blocks.iter().enumerate();
    places
        .filter_map(|(place, device)| Some((place, device.as_ref()?)))
        .map(|(place, device)| at(spec, place, device))
        .collect()
}

/// The block device `device` as a disk in this place.
pub(super) fn at(
    spec: &DomainSpec,
    place: usize,
    device: &Path,
) -> Result<xl::Disk, HypervisorError> {
    let vdev = name(spec, place, device)?;
    let access = access(device).map_err(|detail| refused(spec, device, detail))?;
    let disk = disk(spec, vdev, device, access)?;
    // Anybody may use it too.
    Ok(xl::Disk {
        sole: false,
        ..disk
    })
}

/// The name that the block device `device` has in this place.
pub(super) fn name(
    spec: &DomainSpec,
    place: usize,
    device: &Path,
) -> Result<&'static str, HypervisorError> {
    let most = PLACES.len();
    let too_many = || format!("a qube has {most} block devices at most");
    let name = PLACES.get(place).copied();
    name.ok_or_else(|| refused(spec, device, too_many()))
}

fn refused(spec: &DomainSpec, device: &Path, detail: String) -> HypervisorError {
    HypervisorError::Device {
        name: spec.name.clone(),
        device: device.to_owned(),
        detail,
    }
}

/// Takes note of what is in a place.
pub(super) fn set(spec: &mut DomainSpec, place: usize, device: Option<PathBuf>) {
    if spec.blocks.len() <= place {
        spec.blocks.resize(place + 1, None);
    }
    if let Some(there) = spec.blocks.get_mut(place) {
        *there = device;
    }
}

/// Why it cannot be had, as a clause; none if it can.
pub(super) fn missing(device: &Path) -> Option<String> {
    let detail = access(device).err()?;
    Some(format!(
        "it is to have `{}`, but {detail}",
        device.display()
    ))
}

/// What can be done with it. The kernel's own answer: a disc in a drive cannot be written to.
fn access(device: &Path) -> Result<xl::Access, String> {
    let status = fs::metadata(device)
        .ok()
        .filter(|status| status.file_type().is_block_device())
        .ok_or("dom0 has no such block device")?;
    let (major, minor) = numbers(status.rdev());
    let read_only = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro"));
    match read_only.as_deref().map(str::trim) {
        Ok("0") => Ok(xl::Access::ReadWrite),
        Ok("1") => Ok(xl::Access::ReadOnly),
        _ => Err("the kernel does not say what can be done with it".to_owned()),
    }
}

fn numbers(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

/// A block device and its place.
type Placed = (usize, PathBuf);

/// What is to change so that a domain has the devices `wanted`: those that go and those that come,
/// with their places. What it has already stays where it is.
pub(super) fn changes(has: &[Option<PathBuf>], wanted: &[PathBuf]) -> (Vec<Placed>, Vec<Placed>) {
    let mut after: Vec<Option<PathBuf>> = has.to_vec();
    let mut gone = Vec::new();
    for (place, device) in after.iter_mut().enumerate() {
        let unwanted = device.take_if(|device| !wanted.contains(device));
        gone.extend(unwanted.map(|device| (place, device)));
    }
    let mut new = Vec::new();
    for device in wanted {
        if after.iter().flatten().any(|there| there == device) {
            continue;
        }
        let free = after.iter().position(Option::is_none);
        let place = free.unwrap_or(after.len());
        match after.get_mut(place) {
            Some(free) => *free = Some(device.clone()),
            None => after.push(Some(device.clone())),
        }
        new.push((place, device.clone()));
    }
    (gone, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn what_stays_keeps_its_place_and_free_places_are_taken_first() {
        let has = [Some("/dev/a".into()), Some("/dev/b".into()), None];
        let same = changes(&has, &devices(&["/dev/b", "/dev/a"]));
        assert_eq!(same, (vec![], vec![]));
        let places = |all: &[(usize, &str)]| -> Vec<Placed> {
            let all = all.iter();
            all.map(|(place, path)| (*place, path.into())).collect()
        };
        let (gone, new) = changes(&has, &devices(&["/dev/b", "/dev/c", "/dev/d", "/dev/e"]));
        assert_eq!(gone, places(&[(0, "/dev/a")]));
        assert_eq!(new, places(&[(0, "/dev/c"), (2, "/dev/d"), (3, "/dev/e")]));
        let all = places(&[(0, "/dev/a"), (1, "/dev/b")]);
        assert_eq!(changes(&has, &[]), (all, vec![]));
    }

    #[test]
    fn only_block_devices_are_had() {
        for path in ["/dev/null", "/etc/passwd", "/dev/no-such-device"] {
            let expect = format!("it is to have `{path}`, but dom0 has no such block device");
            assert_eq!(missing(Path::new(path)), Some(expect));
        }
    }
}
