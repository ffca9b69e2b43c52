//! Whose the process is, and what it can see.

use std::fs;
use std::io;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{
    Gid, Uid, chdir, chroot, getegid, geteuid, pivot_root, setgroups, setresgid, setresuid,
};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Enters new namespaces; through a new user namespace where the process lacks the capability.
pub(super) fn namespaces() -> io::Result<()> {
    let wanted = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    match unshare(wanted) {
        Ok(()) => Ok(()),
        Err(nix::Error::EPERM) => {
            let (uid, gid) = (geteuid(), getegid());
            unshare(wanted | CloneFlags::CLONE_NEWUSER)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
            fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
        }
        Err(e) => Err(e.into()),
    }
}

/// Makes an empty folder the root and lets go of the old one.
pub(super) fn empty_root() -> io::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    // Any folder that exists will do: nothing else sees this mount.
    mount(
        Some("tmpfs"),
        "/proc",
        Some("tmpfs"),
        flags,
        Some("size=4k,nr_inodes=2,mode=0555"),
    )?;
    chdir("/proc")?;
    match pivot_root(".", ".") {
        Ok(()) => umount2(".", MntFlags::MNT_DETACH)?,
        // An initial RAM file system cannot be swapped out.
        Err(nix::Error::EINVAL) => chroot(".")?,
        Err(e) => return Err(e.into()),
    }
    chdir("/")?;
    Ok(())
}

/// Takes `uid` as user and group where the process is root; false where it is not.
pub(super) fn own_uid(uid: u32) -> io::Result<bool> {
    if !geteuid().is_root() {
        return Ok(false);
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    Ok(true)
}

/// Drops all capabilities, also those that a new user namespace gave.
pub(super) fn no_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}
