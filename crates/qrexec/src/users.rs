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

/// The users of a system.
#[derive(Debug, Clone)]
pub struct Users {
    passwd: String,
}

impl Users {
    /// Reads `/etc/passwd`; a missing file has no entries.
    ///
    /// # Errors
    /// What reading said.
    pub fn read() -> io::Result<Self> {
        let passwd = text_of("/etc/passwd")?;
        Ok(Self { passwd })
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

/// All groups of a user, the main one first, as `/etc/group` has them.
///
/// # Errors
/// What reading said; a missing file has no entries.
pub fn groups(user: &User) -> io::Result<Vec<u32>> {
    Ok(groups_in(&text_of("/etc/group")?, user))
}

fn groups_in(text: &str, user: &User) -> Vec<u32> {
    let mut out = vec![user.gid];
    for line in text.lines() {
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

fn text_of(path: &str) -> io::Result<String> {
    match std::fs::read(Path::new(path)) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e),
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
        };
        let user = it.by_name("user").unwrap();
        assert_eq!((user.uid, user.shell.to_str()), (1000, Some("/bin/sh")));
        let group = "a:x:5:user\nb:x:6:root,user\nmain:x:1000:user\nbad:x:7\n";
        assert_eq!(groups_in(group, &user), [1000, 5, 6]);
        assert_eq!(it.by_uid(0).unwrap().name, "root");
        assert!(it.by_name("u").is_none() && it.by_name("broken").is_none());
    }
}
