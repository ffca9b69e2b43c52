//! `bulkhead-block add|remove`: what libxl runs for a disk that nobody else uses.
//!
//! Xen's own script also looks through all other disks for the same one, by some thirty programs that
//! it starts, one disk at a time. Here is what is left of it without that: telling the driver of the
//! backend which device it is (xen/io/blkif.h). It waits until the driver has opened it, so that a
//! device that goes with its last user has one.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_vchan::xen::store::{Store, StoreError, Tree};
use bulkhead_wire::causes::chain;
use thiserror::Error;

/// Where the kernel has the disks that it serves, and what each has from when it is open on.
const SERVED: &str = "/sys/bus/xen-backend/devices";
const OPEN: &str = "physical_device";

/// How long the driver may take, which has a file of its own to open at the most; libxl gives up after
/// forty seconds.
const OPENED: Duration = Duration::from_secs(20);

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug, Error)]
enum BlockError {
    #[error("xenstore does not answer")]
    Store(#[from] StoreError),
    #[error("`{}` cannot be looked at", .0.display())]
    Look(PathBuf, #[source] io::Error),
    #[error("`{}` is no block device", .0.display())]
    NoDevice(PathBuf),
    #[error("`{0}` is no folder of a disk")]
    Folder(String),
    #[error("the kernel did not open the device")]
    NotOpened,
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let folder = std::env::var("XENBUS_PATH");
    let done = match (words.first().and_then(|word| word.to_str()), folder) {
        // Nothing that it holds outlives the last user.
        (Some("remove"), _) => return ExitCode::SUCCESS,
        (Some("add"), Ok(folder)) => told(&folder),
        _ => {
            eprintln!("usage: bulkhead-block add|remove, with XENBUS_PATH set, by libxl");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bulkhead-block: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Makes the disk served; why not, xenstore says too, where `bulkhead-xl` looks for it.
fn told(folder: &str) -> Result<(), BlockError> {
    let mut store = Store::open()?;
    let done = serve(&mut store, folder);
    if let Err(error) = &done {
        store.write(&format!("{folder}/hotplug-error"), &chain(error))?;
        store.write(&format!("{folder}/hotplug-status"), "error")?;
    }
    done
}

fn serve(store: &mut Store, folder: &str) -> Result<(), BlockError> {
    let driver = driver(folder).ok_or_else(|| BlockError::Folder(folder.to_owned()))?;
    let path = store.read(&format!("{folder}/params"))?;
    let number = number(Path::new(&path))?;
    store.write(&format!("{folder}/physical-device-path"), &path)?;
    store.write(&format!("{folder}/physical-device"), &number)?;
    let end = Instant::now() + OPENED;
    while !driver.join(OPEN).exists() {
        if Instant::now() > end {
            return Err(BlockError::NotOpened);
        }
        thread::sleep(LOOK);
    }
    Ok(store.write(&format!("{folder}/hotplug-status"), "connected")?)
}

/// Where the kernel shows the disk of `.../backend/vbd/DOMAIN/DEVICE`.
fn driver(folder: &str) -> Option<PathBuf> {
    let mut parts = folder.rsplit('/');
    let (device, domain, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let whole = kind == "vbd" && digits(domain) && digits(device);
    whole.then(|| Path::new(SERVED).join(format!("vbd-{domain}-{device}")))
}

/// The number of a device as the driver reads it: `MAJOR:MINOR`, in hexadecimal.
fn number(path: &Path) -> Result<String, BlockError> {
    let found = std::fs::metadata(path).map_err(|e| BlockError::Look(path.to_owned(), e))?;
    if !found.file_type().is_block_device() {
        return Err(BlockError::NoDevice(path.to_owned()));
    }
    let (major, minor) = parts(found.rdev());
    Ok(format!("{major:x}:{minor:x}"))
}

/// Major and minor number of a device (glibc, bits/sysmacros.h).
const fn parts(device: u64) -> (u64, u64) {
    let major = ((device >> 8) & 0xfff) | ((device >> 32) & 0xffff_f000);
    let minor = (device & 0xff) | ((device >> 12) & 0xffff_ff00);
    (major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_two_numbers() {
        assert_eq!(parts(0x0700), (7, 0));
        assert_eq!(parts(0xfd01), (253, 1));
        assert_eq!(parts(0x0010_0702), (7, 0x102));
        assert_eq!(parts(0x0000_1000_0001_2304), (0x1123, 4));
    }

    #[test]
    fn the_driver_is_found_by_the_folder() {
        let found = |folder: &str| driver(folder).map(|path| path.display().to_string());
        let place = Some("/sys/bus/xen-backend/devices/vbd-7-51712".to_owned());
        assert_eq!(found("/local/domain/0/backend/vbd/7/51712"), place);
        assert_eq!(found("backend/vbd/7/51712"), place);
        for bad in [
            "", "vbd", "vbd/7", "vif/7/0", "vbd/7/..", "vbd//0", "vbd/7/",
        ] {
            assert_eq!(found(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_a_block_device_can_be_served() {
        assert!(matches!(
            number(Path::new("/dev/null")),
            Err(BlockError::NoDevice(_))
        ));
        assert!(matches!(
            number(Path::new("/nonexistent")),
            Err(BlockError::Look(..))
        ));
    }
}
