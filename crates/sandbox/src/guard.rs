//! The first step inside a qube: its folder of sockets takes sockets and nothing else.
//!
//! That folder lies in the machine's own runtime file system, so whatever a qube could write
//! there would fill it for everyone. The rule is a Landlock domain: all that the qube ever runs is
//! in it. Landlock can only name places where something is allowed, and forbids mounts to whom it
//! binds. So the folder is at the top of the qube's root, [`SOCKETS`], everything else at the top
//! is allowed, and bubblewrap is done when this begins.
//!
//! What this leaves: making and removing sockets. How many, the daemon watches.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use landlock::{
    AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, make_bitflags,
};
use rustix::fs::{Mode, OFlags};

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

/// Binds the calling process, which has one thread, and all that come of it.
///
/// # Errors
/// Where the kernel has no Landlock that knows all of it.
pub fn only_sockets() -> Result<(), GuardError> {
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
    // The console is opened anew by whoever writes to `/dev/stderr`.
    rules = allow(rules, io::stderr(), AccessFs::WriteFile.into())?;
    rules.restrict_self().map_err(GuardError::Landlock)?;
    Ok(())
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
