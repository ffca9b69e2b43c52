//! From root to another user, for good.

use std::io;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// Takes these ids, real, effective and saved; the process must be root.
///
/// # Errors
/// What the kernel refused. The process may be half way and must exit.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&groups)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    Ok(())
}
