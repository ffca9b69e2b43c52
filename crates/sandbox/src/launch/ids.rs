//! Whose processes these are: the change of user and the user namespace.

use std::fs;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::{LaunchError, QUBE_UID};

/// A mount namespace of our own, into which and out of which nothing propagates.
pub(super) fn unshare_mounts() -> Result<(), LaunchError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(LaunchError::system("making a mount namespace"))?;
    super::stage::make_private()
}

/// From root to the host user `id`, for good.
pub(super) fn become_user(id: u32) -> Result<(), LaunchError> {
    if id == 0 {
        return Err(LaunchError::Unusable {
            what: "host user id",
            value: id.to_string(),
        });
    }
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[]).map_err(LaunchError::system("leaving all groups"))?;
    setresgid(gid, gid, gid).map_err(LaunchError::system(format!("becoming group {id}")))?;
    setresuid(uid, uid, uid).map_err(LaunchError::system(format!("becoming user {id}")))?;
    // A change of user makes /proc/self root's; the id maps below are written through it.
    nix::sys::prctl::set_dumpable(true).map_err(LaunchError::system("owning /proc/self"))
}

/// A user namespace in which only `uid` exists, as [`QUBE_UID`], and a mount namespace owned by it.
pub(super) fn enter_user_namespace(uid: u32, gid: u32) -> Result<(), LaunchError> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(LaunchError::system("making a user namespace"))?;
    let write = |file: &str, text: String| {
        let path = format!("/proc/self/{file}");
        fs::write(&path, text).map_err(LaunchError::system(format!("writing `{path}`")))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{QUBE_UID} {uid} 1"))?;
    write("gid_map", format!("{QUBE_UID} {gid} 1"))?;
    super::stage::make_private()
}
