//! Who may make channels. udev says it again when it is up, by the rules of this package.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::BootError;
use crate::log;

/// What a server of channels needs.
const DEVICES: &[&str] = &["/dev/xen/evtchn", "/dev/xen/gntalloc", "/dev/xen/xenbus"];

/// Who may be one.
const GROUP: &str = "qubes";

const MODE: u32 = 0o660;

/// Lets the group have the devices. Where there is no such group, only root makes calls.
pub(crate) fn share() {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let Some(group) = number(&groups) else {
        return;
    };
    for device in DEVICES.iter().map(Path::new) {
        let permissions = fs::Permissions::from_mode(MODE);
        let shared = chown(device, None, Some(group))
            .and_then(|()| fs::set_permissions(device, permissions))
            .map_err(BootError::at("share", device));
        if let Err(error) = shared {
            log::chain(&error);
        }
    }
}

/// The number of the group in the text of `/etc/group`.
fn number(groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        fields.nth(1)?.parse().ok().filter(|_| name == GROUP)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nqubes2:x:7:\nqubes:x:98:user\nuser:x:1000:\n";
        assert_eq!(number(groups), Some(98));
        assert_eq!(number("qubes\nqubes:x:many:\nnot-qubes:x:5:\n"), None);
    }

    #[test]
    fn udev_shares_the_same_devices() {
        let rules = include_str!("../../../dist/udev.rules");
        let names: Vec<_> = DEVICES
            .iter()
            .map(|device| device.trim_start_matches("/dev/"))
            .collect();
        let rule = format!(
            "SUBSYSTEM==\"misc\", KERNEL==\"{}\", GROUP=\"{GROUP}\", MODE=\"0{MODE:o}\"",
            names.join("|")
        );
        assert!(rules.lines().any(|line| line == rule), "{rule}");
    }
}
