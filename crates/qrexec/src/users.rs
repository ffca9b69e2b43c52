//! Who a service may run as.
//!
//! Read from the files themselves: the name service switch would have to load libraries, which a
//! static program cannot.

use std::io;
use std::path::{Path, PathBuf};

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// Home folder.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// The users and groups of a system.
#[derive(Debug, Clone)]
pub struct Users {
    passwd: String,
    group: String,
}

impl Users {
    /// Reads `/etc/passwd` and `/etc/group`; a missing file has no entries.
    ///
    /// # Errors
    /// What reading said.
    pub fn read() -> io::Result<Self> {
        let read = |path: &str| match std::fs::read(Path::new(path)) {
            Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(e) => Err(e),
        };
        Ok(Self {
            passwd: read("/etc/passwd")?,
            group: read("/etc/group")?,
        })
    }

    /// The user of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<User> {
        self.all().find(|user| user.name == name)
    }

    /// The first user of that id.
    #[must_use]
    pub fn by_uid(&self, uid: u32) -> Option<User> {
        self.all().find(|user| user.uid == uid)
    }

    /// All groups of a user, the main one first.
    #[must_use]
    pub fn groups(&self, user: &User) -> Vec<u32> {
        let mut out = vec![user.gid];
        for line in self.group.lines() {
            let fields: Vec<_> = line.split(':').collect();
            if let [_, _, gid, members] = fields.as_slice()
                && members.split(',').any(|member| member == user.name)
                && let Ok(gid) = gid.parse()
                && !out.contains(&gid)
            {
                out.push(gid);
            }
        }
        out
    }

    fn all(&self) -> impl Iterator<Item = User> {
        self.passwd.lines().filter_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, uid, gid, _, home, shell] = fields.as_slice() else {
                return None;
            };
            let shell = if shell.is_empty() { "/bin/sh" } else { shell };
            Some(User {
                name: (*name).into(),
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                home: home.into(),
                shell: shell.into(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_and_broken_lines_skipped() {
        let it = Users {
            passwd: "root:x:0:0:root:/root:/bin/bash\nbroken:x:1\nu:x:x:1::/:/bin/sh\n\
                user:x:1000:1000::/home/user:\n"
                .into(),
            group: "a:x:5:user\nb:x:6:root,user\nmain:x:1000:user\nbad:x:7\n".into(),
        };
        let user = it.by_name("user").unwrap();
        assert_eq!((user.uid, user.shell.to_str()), (1000, Some("/bin/sh")));
        assert_eq!(it.groups(&user), [1000, 5, 6]);
        assert_eq!(it.by_uid(0).unwrap().name, "root");
        assert!(it.by_name("u").is_none() && it.by_name("broken").is_none());
    }
}
