//! The private volume: `/rw`, and `/home` on it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, ExitStatus};

use rustix::mount::{MountFlags, mount, mount_bind};
use thiserror::Error;

use crate::log;

/// The disk, where Qubes has it too.
const DISK: &str = "/dev/xvdb";

/// Where it is mounted.
const RW: &str = "/rw";

/// As much of a disk as must be zero for it to be new: every file system, partition table and
/// encrypted volume has its mark within.
const BLANK: u64 = 1 << 20;

/// Read at once: ext4 has its mark within the first of these.
const PART: usize = 16 * 1024;

/// The private volume cannot be used.
#[derive(Debug, Error)]
pub(crate) enum PrivateError {
    #[error("cannot read the private volume")]
    Read(#[source] io::Error),
    #[error("cannot format the private volume: `{program}` {}", .how)]
    Format { program: &'static str, how: String },
    #[error("cannot mount the private volume, and it is left as it is")]
    Mount(#[source] io::Error),
    #[error("cannot put home folders on the private volume")]
    Home(#[source] io::Error),
}

/// Mounts the private volume if there is one; a new one is formatted first.
fn mount_volume(disk: &Path) -> Result<(), PrivateError> {
    if is_blank(disk).map_err(PrivateError::Read)? {
        format(disk)?;
        log::say("private volume formatted");
    }
    fs::create_dir_all(RW).map_err(PrivateError::Mount)?;
    let flags = MountFlags::NOATIME | MountFlags::NOSUID | MountFlags::NODEV;
    mount(disk, RW, c"ext4", flags, None).map_err(|error| PrivateError::Mount(error.into()))?;
    homes().map_err(PrivateError::Home)?;
    log::say("private volume mounted");
    Ok(())
}

/// The same with the disk of this qube.
pub(crate) fn mount_own() -> Result<(), PrivateError> {
    let disk = Path::new(DISK);
    // Its driver found it together with the root's.
    match disk.exists() {
        true => mount_volume(disk),
        false => Ok(()),
    }
}

/// Whether nothing was ever written to it. One that is in use shows that in its first part.
fn is_blank(disk: &Path) -> io::Result<bool> {
    let mut start = File::open(disk)?.take(BLANK);
    let mut part = [0; PART];
    loop {
        let read = start.read(&mut part)?;
        if read == 0 {
            return Ok(true);
        }
        if part.iter().take(read).any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
}

fn format(disk: &Path) -> Result<(), PrivateError> {
    // Tables of inodes are zeroed later, by the kernel, and what is blank needs no discarding: a
    // large volume is ready at once.
    let options = [
        "-q",
        "-L",
        "private",
        "-m",
        "0",
        "-E",
        "lazy_itable_init=1,nodiscard",
    ];
    run(
        Command::new("/usr/sbin/mkfs.ext4").args(options).arg(disk),
        "mkfs.ext4",
    )
}

fn run(command: &mut Command, program: &'static str) -> Result<(), PrivateError> {
    let how = match command.status() {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => ended(status),
        Err(error) => format!("cannot be started: {error}"),
    };
    Err(PrivateError::Format { program, how })
}

fn ended(status: ExitStatus) -> String {
    format!("ended with {status}")
}

/// Home folders are the private volume's; a new one gets those of the template.
fn homes() -> io::Result<()> {
    let kept = Path::new(RW).join("home");
    if !kept.exists() {
        // Under another name until it is whole: the qube may be killed meanwhile.
        let new = Path::new(RW).join("home.new");
        let _ = fs::remove_dir_all(&new);
        let copied = Command::new("/bin/cp")
            .args(["-a", "/home"])
            .arg(&new)
            .status()?;
        if !copied.success() {
            return Err(io::Error::other(format!("`cp` {}", ended(copied))));
        }
        fs::rename(&new, &kept)?;
    }
    Ok(mount_bind(&kept, "/home")?)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn one_byte_within_the_first_mebibyte_is_somebodys_data() {
        let mut disk = tempfile::NamedTempFile::new().unwrap();
        disk.as_file().set_len(BLANK * 2).unwrap();
        assert!(is_blank(disk.path()).unwrap());
        disk.seek(SeekFrom::Start(BLANK)).unwrap();
        disk.write_all(b"x").unwrap();
        assert!(is_blank(disk.path()).unwrap());
        disk.seek(SeekFrom::Start(BLANK - 1)).unwrap();
        disk.write_all(b"x").unwrap();
        assert!(!is_blank(disk.path()).unwrap());
    }
}
