//! Who may talk to the daemon.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use bulkhead_sandbox::peer::peer_groups;
use nix::unistd::{Gid, Group, Uid, User};

use super::backend::Caller;

/// Members of this group may do everything that root may do to qubes.
pub const GROUP: &str = "bulkhead";

/// Who is let in: root, the daemon's own user, and members of [`GROUP`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// 0; tests, which may run as root, say otherwise.
    pub(super) root: u32,
    pub(super) own: u32,
    pub(super) group: Option<u32>,
}

/// What the kernel or the bus daemon says about a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) uid: u32,
    /// All of them, the primary group too.
    pub(super) groups: Vec<u32>,
}

/// Why a peer is not let in; one sentence for that peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    user: String,
    group_exists: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, group_exists } = self;
        if *group_exists {
            write!(f, "{user} is neither root nor a member of group {GROUP}")
        } else {
            write!(
                f,
                "{user} is not root, and this machine has no group {GROUP}"
            )
        }
    }
}

impl Gate {
    /// The gate of this process, on this machine. The group is looked up once: one that is made
    /// later counts from the next start of the daemon.
    pub fn of_this_process() -> Self {
        let group = Group::from_name(GROUP).ok().flatten();
        Self {
            root: 0,
            own: Uid::effective().as_raw(),
            group: group.map(|group| group.gid.as_raw()),
        }
    }

    /// The group that may connect, where this machine has it.
    pub(super) fn group(&self) -> Option<Gid> {
        self.group.map(Gid::from_raw)
    }

    /// The name of whoever connected `socket`, if they may.
    ///
    /// # Errors
    /// Why they may not.
    pub(crate) fn who(&self, socket: &impl AsFd) -> Result<String, String> {
        let peer = Credentials::of_socket(socket).map_err(|error| error.to_string())?;
        let admitted = self.admit(&peer).map_err(|refusal| refusal.to_string())?;
        Ok(admitted.name)
    }

    /// Decides.
    pub(super) fn admit(&self, peer: &Credentials) -> Result<Caller, Refusal> {
        let owner = peer.uid == self.root || peer.uid == self.own;
        let member = self.group.is_some_and(|group| peer.groups.contains(&group));
        let name = user_name(peer.uid);
        if owner || member {
            Ok(Caller {
                uid: peer.uid,
                name,
                owner,
            })
        } else {
            Err(Refusal {
                user: format!("user {name}"),
                group_exists: self.group.is_some(),
            })
        }
    }
}

impl Credentials {
    /// Of the process that connected `socket`, as they were at that moment: the kernel keeps them
    /// with the connection, so a process id that is used again changes nothing.
    pub(super) fn of_socket(socket: &impl AsFd) -> io::Result<Self> {
        let peer = rustix::net::sockopt::socket_peercred(socket)?;
        let mut groups = peer_groups(socket.as_fd())?;
        groups.push(peer.gid.as_raw());
        Ok(Self {
            uid: peer.uid.as_raw(),
            groups,
        })
    }
}

/// The name of a user, or the number where it has none.
fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 4242;
    const BULKHEAD: u32 = 777;

    fn gate(group: Option<u32>) -> Gate {
        Gate {
            root: 0,
            own: OWN,
            group,
        }
    }

    fn peer(uid: u32, groups: &[u32]) -> Credentials {
        Credentials {
            uid,
            groups: groups.to_vec(),
        }
    }

    #[test]
    fn admits_root_itself_and_members() {
        let gate = gate(Some(BULKHEAD));
        assert!(gate.admit(&peer(0, &[])).unwrap().owner);
        assert!(gate.admit(&peer(OWN, &[1])).unwrap().owner);
        assert!(!gate.admit(&peer(5000, &[BULKHEAD])).unwrap().owner);
        assert!(!gate.admit(&peer(5000, &[1, 3, BULKHEAD])).unwrap().owner);
    }

    #[test]
    fn refuses_everyone_else_and_says_why() {
        let stranger = peer(4_000_000, &[0, 1, 2]);
        let said = gate(Some(BULKHEAD)).admit(&stranger).unwrap_err();
        insta::assert_snapshot!(said, @"user 4000000 is neither root nor a member of group bulkhead");
        let said = gate(None).admit(&stranger).unwrap_err();
        insta::assert_snapshot!(said, @"user 4000000 is not root, and this machine has no group bulkhead");
    }

    #[test]
    fn without_the_group_no_group_counts() {
        // An absent group must never compare equal to a real one.
        for gid in [0, 1, u32::MAX] {
            assert!(gate(None).admit(&peer(5000, &[gid])).is_err());
        }
    }
}
