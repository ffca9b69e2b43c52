//! What an HVM domain has beside the others: a QEMU that emulates its devices, and what that leaves.
//!
//! libxl confines it: it runs as user `xen-qemuuser-range-base` and the domain's number, in an empty
//! root, with hypercalls for its own domain alone, and may write no more than 256 KiB into any file.
//! So disks that it emulates are block devices here, and there are none where a kernel is booted
//! directly.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bulkhead_wire::xl::{DomId, DomainConfig, DomainName, Failure, HostPath, Mode};

use crate::disks::beside;

/// Starts QEMU, if it is told to confine itself. Stands beside us.
const STARTER: &str = "bulkhead-device-model";

/// What that starts.
const QEMU: &str = "/usr/libexec/xen-qemu-system-i386";

/// Where libxl has the empty root of each QEMU.
const ROOTS: &str = "/var/run/xen";

/// Where libxl has QEMU write what it has to say.
const LOGS: &str = "/var/log/xen";

/// Lines of QEMU's log that are told of at most.
const TOLD_MAX: usize = 8;

/// The program that libxl is to start for an HVM domain; none where there is nothing to emulate.
pub(crate) fn starter(mode: &Mode) -> Result<Option<HostPath>, Failure> {
    if !matches!(mode, Mode::Hvm(_)) {
        return Ok(None);
    }
    let starter = beside(STARTER)?;
    let qemu = HostPath::new(QEMU).map_err(|e| Failure::Broken(e.to_string()))?;
    for needed in [&starter, &qemu] {
        if !Path::new(needed.as_str()).is_file() {
            return Err(Failure::NoDeviceModel(needed.clone()));
        }
    }
    Ok(Some(starter))
}

fn log_of(name: &DomainName) -> PathBuf {
    Path::new(LOGS).join(format!("qemu-dm-{name}.log"))
}

/// The last that QEMU said, for a domain that was not made.
pub(crate) fn last_words(config: &DomainConfig) -> Vec<String> {
    let Mode::Hvm(_) = config.mode else {
        return Vec::new();
    };
    let said = fs::read(log_of(&config.name)).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let mut last: Vec<String> = said
        .lines()
        .rev()
        .take(TOLD_MAX)
        .map(str::to_owned)
        .collect();
    last.reverse();
    last
}

/// Removes what the QEMU of a domain that is gone has left.
pub(crate) fn clear(domid: DomId, name: Option<&DomainName>) {
    let root = Path::new(ROOTS).join(format!("qemu-root-{domid}"));
    gone(&root, fs::remove_dir(&root));
    let Some(name) = name else {
        return;
    };
    let asked = Path::new(LOGS).join(format!("qemu-probe-{name}.log"));
    for log in [log_of(name), asked] {
        gone(&log, fs::remove_file(&log));
    }
}

fn gone(path: &Path, removed: io::Result<()>) {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "this stays of a device model");
        }
        _ => {}
    }
}
