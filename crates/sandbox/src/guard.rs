//! The first step inside a qube: its folder of sockets takes sockets and nothing else.
//!
//! That folder lies in the machine's own runtime file system, so whatever a qube could write
//! there would fill it for everyone. The rule is a Landlock domain: all that the qube ever runs is
//! in it. Landlock can only name places where something is allowed, and forbids mounts to whom it
//! binds. So the folder is at the top of the qube's root, [`SOCKETS`], everything else at the top
//! is allowed, and bubblewrap is done when this begins.
//!
//! What this leaves: making and removing sockets. How many, the daemon watches.
//!
//! For each file that is made or opened for writing, the kernel looks for a rule at each folder
//! from the file upwards: nine folders down, that is a third of the time that making it takes. So
//! [`only_sockets`] may be told of a folder in which many are made, which then has a rule too.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use landlock::{
    AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, make_bitflags,
};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

/// Where the folder of sockets is in a qube. `/run/vchan` is a link to it.
pub const SOCKETS: &str = "/vchan";

/// What it takes to make room for data in a folder, and to bring in what was made elsewhere. A file
/// without a name is made by writing to the folder.
fn making() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{
        WriteFile | MakeReg | MakeDir | MakeSym | MakeFifo | MakeChar | MakeBlock | Refer
    })
}

/// Why the folder could not be guarded. The qube must not run then.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The root could not be looked at.
    #[error("the qube's root cannot be read")]
    Root(#[source] io::Error),
    /// A rule was refused.
    #[error(
        "the kernel cannot keep a qube from filling its folder of sockets \
         (Landlock of Linux 5.19 or newer)"
    )]
    Landlock(#[source] RulesetError),
}

/// Whether the kernel knows all of it.
#[must_use]
pub fn is_possible() -> bool {
    handled().is_ok()
}

fn handled() -> Result<RulesetCreated, GuardError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(making())
        .and_then(Ruleset::create)
        .map_err(GuardError::Landlock)
}

/// Binds the calling process, which has one thread, and all that come of it. In `busy`, a folder
/// below what is at the top, many files will be made.
///
/// # Errors
/// Where the kernel has no Landlock that knows all of it.
pub fn only_sockets(busy: Option<OwnedFd>) -> Result<(), GuardError> {
    let mut rules = handled()?;
    for entry in fs::read_dir("/").map_err(GuardError::Root)? {
        let entry = entry.map_err(GuardError::Root)?;
        if entry.path() == Path::new(SOCKETS) {
            continue;
        }
        let kind = entry.file_type().map_err(GuardError::Root)?;
        let access = if kind.is_dir() {
            making()
        } else if kind.is_file() {
            AccessFs::WriteFile.into()
        } else {
            continue;
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let at = rustix::fs::open(entry.path(), flags, Mode::empty());
        let at = at.map_err(|e| GuardError::Root(e.into()))?;
        rules = allow(rules, at, access)?;
    }
    if let Some(busy) = busy {
        rules = allow(rules, busy, making())?;
    }
    // The console is opened anew by whoever writes to `/dev/stderr`.
    rules = allow(rules, io::stderr(), AccessFs::WriteFile.into())?;
    rules.restrict_self().map_err(GuardError::Landlock)?;
    Ok(())
}

/// Opens `path`, an absolute one that lies below `home`, and makes what of it is missing in `home`.
/// Never through a link: what is in a home folder is up to the qube, and [`SOCKETS`] must not be
/// reached by it.
///
/// # Errors
/// Where `path` does not lie below `home`, or is no folder and cannot become one.
pub fn busy_folder(home: &Path, path: &Path) -> Result<OwnedFd, Errno> {
    let inside = path.strip_prefix(home).map_err(|_| Errno::INVAL)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let step = |from: OwnedFd, to: Component<'_>| match to {
        Component::RootDir => Ok(from),
        Component::Normal(name) => openat(&from, name, flags, Mode::empty()),
        _ => Err(Errno::INVAL),
    };
    let root = rustix::fs::open("/", flags, Mode::empty())?;
    let home = home.components().try_fold(root, step)?;
    inside.components().try_fold(home, |from, to| {
        match mkdirat(&from, Path::new(&to), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => step(from, to),
            Err(error) => Err(error),
        }
    })
}

fn allow(
    rules: RulesetCreated,
    at: impl AsFd,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, GuardError> {
    rules
        .add_rule(PathBeneath::new(at, access))
        .map_err(GuardError::Landlock)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn inode(folder: OwnedFd) -> u64 {
        rustix::fs::fstat(folder).unwrap().st_ino
    }

    #[test]
    fn a_busy_folder_is_made_in_the_home_folder() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap().join("user");
        let path = home.join("state/deep");
        assert_eq!(busy_folder(&home, &path).unwrap_err(), Errno::NOENT);
        fs::create_dir(&home).unwrap();
        for _ in 0..2 {
            let found = inode(busy_folder(&home, &path).unwrap());
            assert_eq!(found, fs::metadata(&path).unwrap().ino());
        }
    }

    #[test]
    fn a_busy_folder_is_no_other_place() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (home, elsewhere) = (dir.join("user"), dir.join("elsewhere"));
        fs::create_dir(&home).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, home.join("link")).unwrap();
        fs::write(home.join("file"), "").unwrap();
        symlink(&home, dir.join("home")).unwrap();
        for (home, path) in [
            (&home, home.join("link")),
            (&home, home.join("link/deep")),
            (&home, home.join("file")),
            (&home, home.join("../elsewhere")),
            (&home, elsewhere.clone()),
            (&dir.join("home"), dir.join("home/deep")),
        ] {
            assert!(busy_folder(home, &path).is_err(), "{}", path.display());
        }
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&home).unwrap().count(), 2);
    }
}
