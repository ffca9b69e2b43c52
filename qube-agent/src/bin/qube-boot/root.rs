//! Mounting the root and going there.

use std::ffi::CStr;
use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_move};

use crate::BootError;
use crate::line::{Access, Line};

/// Where the root is mounted until it is `/`.
const ROOT: &str = "/root";

/// What the kernel offers as file systems, and systemd expects in these places.
const SYSTEM: &[(&str, &CStr)] = &[
    ("/dev", c"devtmpfs"),
    ("/proc", c"proc"),
    ("/sys", c"sysfs"),
];

/// Options of the file system for what lives no longer than the qube.
const RUN: &CStr = c"mode=0755,size=20%,nr_inodes=800k";

/// Mounts the kernel's own file systems.
pub(crate) fn system_folders() -> Result<(), BootError> {
    for (path, kind) in SYSTEM {
        let at = Path::new(path);
        fs::create_dir_all(at).map_err(BootError::at("make", at))?;
        let flags = match *path {
            "/dev" => MountFlags::NOSUID,
            _ => MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        };
        match mount(*kind, at, *kind, flags, None) {
            Err(Errno::BUSY) => {}
            mounted => mounted.map_err(BootError::at("mount", at))?,
        }
    }
    Ok(())
}

/// Mounts the root and makes it `/`, with the kernel's file systems in it.
pub(crate) fn enter(line: &Line) -> Result<(), BootError> {
    let root = Path::new(ROOT);
    fs::create_dir_all(root).map_err(BootError::at("make", root))?;
    let flags = match line.access {
        Access::ReadWrite => MountFlags::NOATIME,
        Access::ReadOnly => MountFlags::RDONLY,
    };
    mount(&line.root, root, c"ext4", flags, None).map_err(BootError::at("mount", &line.root))?;
    for (path, _) in SYSTEM {
        let from = Path::new(path);
        let to = root.join(path.trim_start_matches('/'));
        mount_move(from, &to).map_err(BootError::at("move into the root", from))?;
    }
    forget_initrd();
    let slash = Path::new("/");
    std::env::set_current_dir(root).map_err(BootError::at("enter", root))?;
    mount_move(".", slash).map_err(BootError::at("move to `/`", root))?;
    std::os::unix::fs::chroot(".").map_err(BootError::at("enter", root))?;
    std::env::set_current_dir(slash).map_err(BootError::at("enter", slash))?;
    let run = Path::new("/run");
    mount(
        c"tmpfs",
        run,
        c"tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        Some(RUN),
    )
    .map_err(BootError::at("mount", run))
}

/// Gives back the memory of the initrd: nothing reaches it from the new root.
fn forget_initrd() {
    let _ = fs::remove_dir_all("/modules");
    let _ = fs::remove_file("/init");
}
