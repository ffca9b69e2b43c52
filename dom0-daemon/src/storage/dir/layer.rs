//! What a qube wrote over a root, as a tree that overlayfs can lay over the same root again.
//!
//! Such a tree holds what is new or changed. What is gone is a whiteout (a character device 0, 0),
//! and a folder that hides the one below has an attribute that says so. Files are never copied: two
//! trees share them, and neither is written to again.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

/// Deepest nesting of folders in a layer: four times what package managers that nest make of it, and
/// far from what would exhaust a stack.
const DEPTH_MAX: usize = 200;

/// Says that a folder hides what is below it.
const OPAQUE: &str = "user.overlay.opaque";
/// Begins the names of overlayfs' own attributes.
const OVERLAY: &str = "user.overlay.";
/// What else a qube can give a folder.
const KEPT: [&str; 2] = ["user.", "system.posix_acl_"];

/// Most bytes of an attribute, and of all names of them, by the kernel's `XATTR_SIZE_MAX`.
const ATTRIBUTE_MAX: usize = 64 * 1024;

/// What the owner may do with each folder of a layer: whoever makes the next one reads it.
const READABLE: u32 = 0o500;

/// Makes at `to` the layer that is the same as `upper` laid over `lower`. `upper` is not needed
/// any more afterwards: where its owner cannot read a folder, that is changed.
pub(super) fn merge(upper: &Path, lower: Option<&Path>, to: &Path) -> io::Result<()> {
    merge_folder(upper, lower, to, 0)?;
    // All who start from it look through it.
    let mode = fs::symlink_metadata(to)?.mode();
    fs::set_permissions(to, Permissions::from_mode((mode & 0o7777) | 0o555))
}

fn merge_folder(upper: &Path, lower: Option<&Path>, to: &Path, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!(
            "folders are nested more than {DEPTH_MAX} deep"
        )));
    }
    let meta = fs::symlink_metadata(upper)?;
    if meta.mode() & READABLE != READABLE {
        fs::set_permissions(
            upper,
            Permissions::from_mode((meta.mode() & 0o7777) | 0o700),
        )?;
    }
    let hides = is_opaque(upper)?;
    let below = lower.filter(|_| !hides);
    let lower_meta = below.map(fs::symlink_metadata).transpose()?;
    let covers_none = lower_meta.as_ref().is_some_and(|meta| !meta.is_dir());
    let below = below.filter(|_| !covers_none);
    DirBuilder::new().mode(0o700).create(to)?;
    let names = names(upper)?;
    for name in &names {
        let from = upper.join(name);
        if fs::symlink_metadata(&from)?.is_dir() {
            let under = below.map(|below| below.join(name));
            let under = under.filter(|under| fs::symlink_metadata(under).is_ok());
            merge_folder(&from, under.as_deref(), &to.join(name), depth + 1)?;
        } else {
            fs::hard_link(&from, to.join(name))?;
        }
    }
    let mut opaque = hides || covers_none;
    if let Some(below) = below {
        opaque |= is_opaque(below)?;
        for name in self::names(below)?.difference(&names) {
            let from = below.join(name);
            if fs::symlink_metadata(&from)?.is_dir() {
                merge_folder(&from, None, &to.join(name), depth + 1)?;
            } else {
                fs::hard_link(&from, to.join(name))?;
            }
        }
    }
    attributes(upper, to, opaque)?;
    owner_and_times(&meta, to)
}

fn names(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    let entries = fs::read_dir(folder)?;
    entries.map(|entry| Ok(entry?.file_name())).collect()
}

fn is_opaque(folder: &Path) -> io::Result<bool> {
    use rustix::io::Errno;
    let mut value = [0; 1];
    match rustix::fs::lgetxattr(folder, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(length == 1 && value == *b"y"),
        // A longer one says something else.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// One attribute, where there is one.
fn attribute(path: &Path, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    use rustix::io::Errno;
    let mut value = vec![0; ATTRIBUTE_MAX];
    match rustix::fs::lgetxattr(path, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Gives the folder `to` what `from` has, and says whether it hides what is below it.
fn attributes(from: &Path, to: &Path, opaque: bool) -> io::Result<()> {
    use rustix::io::Errno;
    let mut list = vec![0; ATTRIBUTE_MAX];
    let length = match rustix::fs::llistxattr(from, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    list.truncate(length);
    let set = |name: &OsStr, value: &[u8]| {
        rustix::fs::lsetxattr(to, name, value, XattrFlags::empty()).map_err(io::Error::from)
    };
    for name in list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let kept = KEPT.iter().any(|kept| name.starts_with(kept.as_bytes()));
        if !kept || name.starts_with(OVERLAY.as_bytes()) {
            continue;
        }
        let name = OsStr::from_bytes(name);
        if let Some(value) = attribute(from, name)? {
            set(name, &value)?;
        }
    }
    match opaque {
        true => set(OsStr::new(OPAQUE), b"y"),
        false => Ok(()),
    }
}

fn owner_and_times(meta: &Metadata, to: &Path) -> io::Result<()> {
    let own = fs::symlink_metadata(to)?;
    if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
        lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    }
    let mode = (meta.mode() & 0o7777) | READABLE;
    fs::set_permissions(to, Permissions::from_mode(mode))?;
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(
        CWD,
        to,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, symlink};
    use std::path::PathBuf;

    use rustix::fs::{FileType, Mode};

    use super::*;

    struct Lab(tempfile::TempDir);

    impl Lab {
        fn new() -> Self {
            let lab = Self(tempfile::tempdir().unwrap());
            for layer in ["lower", "upper"] {
                fs::create_dir(lab.path(layer)).unwrap();
            }
            lab
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn folder(&self, name: &str) {
            fs::create_dir_all(self.path(name)).unwrap();
        }

        fn file(&self, name: &str) {
            self.folder(Path::new(name).parent().unwrap().to_str().unwrap());
            fs::write(self.path(name), name).unwrap();
        }

        fn whiteout(&self, name: &str) {
            let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
            rustix::fs::mknodat(CWD, self.path(name), kind, mode, 0).unwrap();
        }

        fn opaque(&self, name: &str) {
            let flags = XattrFlags::empty();
            rustix::fs::setxattr(self.path(name), OPAQUE, b"y", flags).unwrap();
        }

        fn merge(&self) -> io::Result<()> {
            let lower = self.path("lower");
            merge(&self.path("upper"), Some(&lower), &self.path("to"))
        }

        /// What is in the merged layer, a line each.
        fn merged(&self) -> String {
            let mut lines = Vec::new();
            show(&self.path("to"), "", &mut lines);
            lines.join("\n")
        }
    }

    fn show(at: &Path, shown: &str, lines: &mut Vec<String>) {
        for name in names(at).unwrap() {
            let path = at.join(&name);
            let shown = format!("{shown}/{}", name.display());
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                let hides = if is_opaque(&path).unwrap() {
                    " (opaque)"
                } else {
                    ""
                };
                lines.push(format!("{shown}/{hides}"));
                show(&path, &shown, lines);
            } else if kind.is_char_device() {
                lines.push(format!("{shown} is gone"));
            } else if kind.is_symlink() {
                lines.push(format!(
                    "{shown} -> {}",
                    fs::read_link(&path).unwrap().display()
                ));
            } else {
                lines.push(format!("{shown} = {}", fs::read_to_string(&path).unwrap()));
            }
        }
    }

    #[test]
    fn a_layer_over_a_layer_is_one_that_says_the_same() {
        let lab = Lab::new();
        for file in [
            "kept",
            "changed",
            "removed",
            "d/kept",
            "d/removed",
            "dd/below",
        ] {
            lab.file(&format!("lower/{file}"));
        }
        lab.whiteout("lower/gone");
        lab.whiteout("lower/gone_twice");
        lab.whiteout("lower/back");
        lab.whiteout("lower/back_as_folder");
        for file in [
            "changed",
            "new",
            "d/new",
            "dd/instead",
            "back",
            "back_as_folder/f",
        ] {
            lab.file(&format!("upper/{file}"));
        }
        lab.whiteout("upper/removed");
        lab.whiteout("upper/gone_twice");
        lab.whiteout("upper/d/removed");
        lab.opaque("upper/dd");
        // A folder where there was a file, a file where there was a folder, a link to elsewhere.
        lab.file("lower/file");
        lab.file("upper/file/now_a_folder");
        lab.file("lower/folder/f");
        lab.file("upper/folder");
        lab.file("lower/link/f");
        symlink("/etc", lab.path("upper/link")).unwrap();
        symlink("/etc", lab.path("lower/was_link")).unwrap();
        lab.file("upper/was_link/f");
        lab.folder("lower/hides/in");
        lab.opaque("lower/hides");
        lab.folder("upper/hides");
        lab.merge().unwrap();
        insta::assert_snapshot!(lab.merged(), @r"
        /back = upper/back
        /back_as_folder/ (opaque)
        /back_as_folder/f = upper/back_as_folder/f
        /changed = upper/changed
        /d/
        /d/kept = lower/d/kept
        /d/new = upper/d/new
        /d/removed is gone
        /dd/ (opaque)
        /dd/instead = upper/dd/instead
        /file/ (opaque)
        /file/now_a_folder = upper/file/now_a_folder
        /folder = upper/folder
        /gone is gone
        /gone_twice is gone
        /hides/ (opaque)
        /hides/in/
        /kept = lower/kept
        /link -> /etc
        /new = upper/new
        /removed is gone
        /was_link/ (opaque)
        /was_link/f = upper/was_link/f
        ");
    }

    #[test]
    fn folders_keep_what_they_are_and_can_be_read_by_whoever_makes_the_next_layer() {
        let lab = Lab::new();
        lab.file("upper/d/f");
        let d = lab.path("upper/d");
        rustix::fs::setxattr(&d, "user.note", b"text", XattrFlags::empty()).unwrap();
        rustix::fs::setxattr(&d, "user.overlay.impure", b"y", XattrFlags::empty()).unwrap();
        let time = |path: &Path| fs::symlink_metadata(path).unwrap().modified().unwrap();
        let before = time(&d);
        fs::set_permissions(&d, Permissions::from_mode(0o1037)).unwrap();
        fs::set_permissions(lab.path("upper"), Permissions::from_mode(0o700)).unwrap();
        lab.merge().unwrap();
        let to = lab.path("to/d");
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&to), 0o1537);
        assert_eq!(mode(&lab.path("to")), 0o755);
        assert_eq!(time(&to), before);
        let note = attribute(&to, OsStr::new("user.note")).unwrap();
        assert_eq!(note.unwrap(), b"text");
        let impure = attribute(&to, OsStr::new("user.overlay.impure")).unwrap();
        assert_eq!(impure, None);
        // Files are the same, not copies.
        let number = |path: &str| fs::symlink_metadata(lab.path(path)).unwrap().ino();
        assert_eq!(number("upper/d/f"), number("to/d/f"));
    }

    #[test]
    fn what_is_nested_too_deep_is_refused() {
        for (depth, fits) in [(DEPTH_MAX, true), (DEPTH_MAX + 1, false)] {
            let lab = Lab::new();
            lab.folder(&format!("upper/{}", vec!["d"; depth].join("/")));
            let merged = lab.merge();
            assert_eq!(merged.is_ok(), fits, "{merged:?}");
        }
    }
}
