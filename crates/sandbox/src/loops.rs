//! Block devices over files.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use libc::{c_int, c_ulong};

/// Gives out the number of a loop device that is free (linux/loop.h).
const CONTROL: &str = "/dev/loop-control";

/// Requests of linux/loop.h.
const LOOP_CTL_GET_FREE: c_ulong = 0x4C82;
const LOOP_CONFIGURE: c_ulong = 0x4C0A;

/// It cannot be written to (linux/loop.h).
const LO_FLAGS_READ_ONLY: u32 = 1;

/// It goes when the last one that has it open closes it (linux/loop.h).
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// Times that a free device is asked for: others may take it before us.
const TRIES: usize = 64;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
#[derive(Default)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [[u8; 32]; 2],
    crypt_name: [[u8; 32]; 2],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
#[derive(Default)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = {
    assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);
    assert!(std::mem::offset_of!(LoopInfo, flags) == 52);
    assert!(std::mem::offset_of!(LoopInfo, encrypt_key) == 184);
    assert!(std::mem::offset_of!(LoopInfo, init) == 216);
    assert!(std::mem::offset_of!(LoopConfig, info) == 8);
    assert!(std::mem::offset_of!(LoopConfig, reserved) == 240);
};

/// A loop device. It is there as long as this, or as somebody else has it open: nobody has to remove
/// it, however whoever made it ends.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// A device with the content of the file at `path`, that can be written to.
    ///
    /// # Errors
    /// Where the file cannot be opened, or no device can be had.
    pub fn over(path: &Path) -> io::Result<Self> {
        Self::made(&File::options().read(true).write(true).open(path)?, 0)
    }

    /// The same, but that cannot be written to.
    ///
    /// # Errors
    /// As [`Self::over`].
    pub fn read_only(path: &Path) -> io::Result<Self> {
        Self::made(&File::open(path)?, LO_FLAGS_READ_ONLY)
    }

    fn made(file: &File, flags: u32) -> io::Result<Self> {
        let control = File::options().read(true).write(true).open(CONTROL)?;
        for _ in 0..TRIES {
            // SAFETY: it takes no argument.
            let number = returned(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::options().read(true).write(true).open(&path)?;
            match configure(&device, file, flags | LO_FLAGS_AUTOCLEAR) {
                Ok(()) => {
                    return Ok(Self {
                        path,
                        _open: device,
                    });
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Its name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn configure(device: &File, file: &File, flags: u32) -> io::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?,
        info: LoopInfo {
            flags,
            ..LoopInfo::default()
        },
        ..LoopConfig::default()
    };
    // SAFETY: it reads one structure of this layout, and takes a reference of its own to the file.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    returned(done).map(drop)
}

fn returned(number: c_int) -> io::Result<c_int> {
    match number {
        0.. => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_missing_file_is_an_error() {
        let error = LoopDevice::over(Path::new("/nonexistent/disk")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_written_to_the_device_is_in_the_file_and_the_device_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        let device = match LoopDevice::over(&path) {
            Ok(device) => device,
            // Not for an ordinary user, and not in every container.
            Err(error) => {
                eprintln!("skipped: {error}");
                return;
            }
        };
        let name = device.path().to_owned();
        let open = File::options().write(true).open(&name).unwrap();
        open.write_all_at(b"written", 4096).unwrap();
        open.sync_all().unwrap();
        drop(device);
        let mut found = [0; 7];
        let read = File::open(&path).unwrap();
        read.read_exact_at(&mut found, 4096).unwrap();
        assert_eq!(&found, b"written");
        let backing = Path::new("/sys/block")
            .join(name.file_name().unwrap())
            .join("loop/backing_file");
        assert!(backing.exists(), "it went while it was open");
        drop(open);
        let device = LoopDevice::read_only(&path).unwrap();
        let read = File::open(device.path()).unwrap();
        read.read_exact_at(&mut found, 4096).unwrap();
        assert_eq!(&found, b"written");
        // Some kernels refuse to open it, others to write to it.
        let write = File::options().write(true).open(device.path());
        assert!(write.and_then(|open| open.write_all_at(b"x", 0)).is_err());
        drop((device, read));
        // Somebody else's test may have one of that number now.
        let own = path.to_string_lossy().into_owned();
        let ours = |at: &Path| std::fs::read_to_string(at).is_ok_and(|f| f.trim() == own);
        // A program that another test is about to start has everything open until it runs.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while ours(&backing) {
            assert!(std::time::Instant::now() < end, "it stays");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
