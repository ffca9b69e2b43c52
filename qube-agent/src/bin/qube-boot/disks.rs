//! Disks of the qube.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::BootError;

/// dom0 offers disks before the qube starts, so they appear as soon as the driver has asked; under
/// emulation on a busy machine that was seen to take seconds.
pub(crate) const APPEARS: Duration = Duration::from_secs(60);

/// Between two looks. A folder of devices cannot be watched before it is one.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until the disk is there.
pub(crate) fn wait_for(disk: &Path) -> Result<(), BootError> {
    let end = Instant::now() + APPEARS;
    while !disk.exists() {
        if Instant::now() >= end {
            return Err(BootError::NoDisk(disk.to_owned()));
        }
        sleep(PAUSE);
    }
    Ok(())
}
