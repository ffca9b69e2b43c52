//! The mounts that bubblewrap binds from.
//!
//! Sources may lie under folders that the qube's user cannot enter, and bubblewrap knows only
//! paths, so all of them are bound below [`STAGE`], a memory file system in this process's own
//! mount namespace.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use rustix::fs::{Mode, OFlags};

use super::{GUARD, LaunchError, LaunchSpec, QUBE_UID, RootSource, SOCKETS};

/// Exists on every machine; covered in our mount namespace only.
const STAGE: &str = "/tmp";
/// Holds mount points and a few small files.
const STAGE_OPTIONS: &str = "mode=0755,size=1m";
/// Bytes of a scratch file system for each of its inodes, which are kernel memory too: smaller
/// files than this on average are more than a root has.
const SCRATCH_BYTES_PER_INODE: u64 = 2048;
/// The parts of this machine's root that a qube on the `host` template sees. An allow-list:
/// `/home`, `/root`, `/var`, `/opt`, `/srv` and `/run` hold what is nobody else's business.
const HOST_PARTS: [&str; 2] = ["usr", "etc"];
/// Top-level links that a host root may have into `/usr`.
pub(super) const ROOT_LINKS: [&str; 6] = ["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// How overlays name their lower folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lower {
    /// Bound below the stage, so that they are reachable after the change of user.
    Bind,
    /// By descriptor: nothing with mounts of the machine below it can be bound by a plain user.
    Descriptor,
}

/// Where the sources are after [`bind_sources`].
#[derive(Debug)]
pub(super) struct Staged {
    /// For each part of the root, its lower folders, topmost first.
    parts: Vec<(String, Vec<PathBuf>)>,
    /// The folder for this start's writes.
    scratch: PathBuf,
    /// The persistent folder, or one in `scratch`.
    pub(super) private: PathBuf,
    /// The socket folder.
    pub(super) vchan: PathBuf,
    /// The program that closes it.
    pub(super) guard: PathBuf,
    /// More volumes, by name.
    pub(super) volumes: Vec<(String, PathBuf)>,
    /// Keeps the descriptors behind `/proc/self/fd` paths open.
    _open: Vec<OwnedFd>,
}

/// One finished overlay, and where it goes in the qube.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RootPart {
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
}

/// No mount of ours reaches the machine, and none of the machine's later ones reaches us.
pub(super) fn make_private() -> Result<(), LaunchError> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .map_err(LaunchError::system("making mounts private"))
}

fn open_folder(path: &Path) -> Result<OwnedFd, LaunchError> {
    open(path, OFlags::DIRECTORY)
}

fn open(path: &Path, more: OFlags) -> Result<OwnedFd, LaunchError> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | more;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(LaunchError::system(format!("opening `{}`", path.display())))
}

fn by_descriptor(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn make_folder(path: &Path) -> Result<(), LaunchError> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(LaunchError::system(format!(
            "making folder `{}`",
            path.display()
        ))(e)),
        _ => Ok(()),
    }
}

fn bind(from: &Path, to: &Path) -> Result<(), LaunchError> {
    make_folder(to)?;
    bind_to(from, to)
}

fn bind_file(from: &Path, to: &Path) -> Result<(), LaunchError> {
    let made = fs::File::create(to);
    made.map_err(LaunchError::system(format!("making `{}`", to.display())))?;
    bind_to(from, to)
}

fn bind_to(from: &Path, to: &Path) -> Result<(), LaunchError> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(LaunchError::system(format!("binding `{}`", from.display())))
}

/// The folders each part of the root is made of, topmost first, and the part's name.
fn lower_folders(spec: &LaunchSpec) -> Vec<(String, Vec<PathBuf>)> {
    let parts: Vec<(String, PathBuf)> = match &spec.root {
        RootSource::Host => HOST_PARTS
            .iter()
            .map(|part| ((*part).to_owned(), Path::new("/").join(part)))
            .collect(),
        RootSource::Tree(tree) => vec![(String::new(), tree.clone())],
    };
    parts
        .into_iter()
        .map(|(name, bottom)| {
            let mut lowers: Vec<PathBuf> = spec
                .layers
                .iter()
                .map(|layer| layer.join(&name))
                .filter(|folder| folder.is_dir())
                .collect();
            lowers.push(bottom);
            (name, lowers)
        })
        .collect()
}

/// Binds every source below the stage.
pub(super) fn bind_sources(spec: &LaunchSpec, how: Lower) -> Result<Staged, LaunchError> {
    // All are opened before the stage covers what may be one of their parents.
    let mut kept = Vec::new();
    let scratch = open_folder(&spec.scratch)?;
    let vchan = open_folder(&spec.vchan)?;
    let guard = open(&spec.guard, OFlags::empty())?;
    let private = spec.private.as_deref().map(open_folder).transpose()?;
    let mut volumes = Vec::new();
    for (name, path) in &spec.volumes {
        volumes.push((name.clone(), open_folder(path)?));
    }
    let mut lowers = Vec::new();
    for (name, folders) in lower_folders(spec) {
        let fds = folders
            .iter()
            .map(|folder| open_folder(folder))
            .collect::<Result<Vec<_>, _>>()?;
        lowers.push((name, fds));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        STAGE,
        Some("tmpfs"),
        flags,
        Some(STAGE_OPTIONS),
    )
    .map_err(LaunchError::system("mounting the stage"))?;
    let stage = Path::new(STAGE);
    bind(&by_descriptor(&scratch), &stage.join("scratch"))?;
    bind(&by_descriptor(&vchan), &stage.join("vchan"))?;
    bind_file(&by_descriptor(&guard), &stage.join("guard"))?;
    if let Some(fd) = &private {
        bind(&by_descriptor(fd), &stage.join("private"))?;
    }
    let mut staged_volumes = Vec::new();
    for (name, fd) in volumes {
        let path = stage.join(format!("volume.{}", staged_volumes.len()));
        bind(&by_descriptor(&fd), &path)?;
        staged_volumes.push((name, path));
    }
    let mut parts = Vec::new();
    for (part, (name, fds)) in lowers.into_iter().enumerate() {
        let mut paths = Vec::new();
        for (layer, fd) in fds.into_iter().enumerate() {
            let path = match how {
                Lower::Descriptor => by_descriptor(&fd),
                Lower::Bind => {
                    let path = stage.join(format!("lower.{part}.{layer}"));
                    bind(&by_descriptor(&fd), &path)?;
                    path
                }
            };
            paths.push(path);
            kept.push(fd);
        }
        parts.push((name, paths));
    }
    for (part, _) in parts.iter().enumerate() {
        make_folder(&stage.join(format!("root.{part}")))?;
    }
    Ok(Staged {
        parts,
        scratch: stage.join("scratch"),
        private: if private.is_some() {
            stage.join("private")
        } else {
            stage.join("scratch/private")
        },
        vchan: stage.join("vchan"),
        guard: stage.join("guard"),
        volumes: staged_volumes,
        _open: kept,
    })
}

/// Covers the folder for this start's writes with memory of its own and of bounded size: a qube
/// cannot fill the machine's runtime folder, and nothing is written back or removed when it ends.
fn bound_scratch(scratch: &Path, size: u64) -> Result<(), LaunchError> {
    let inodes = size.div_ceil(SCRATCH_BYTES_PER_INODE);
    let options = format!("mode=0700,size={size},nr_inodes={inodes}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        scratch,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )
    .map_err(LaunchError::system("mounting room for writes"))
}

/// Mounts the overlays as the qube's user and fills in what this start needs.
pub(super) fn mount_overlays(
    spec: &LaunchSpec,
    staged: &Staged,
) -> Result<Vec<RootPart>, LaunchError> {
    if let Some(size) = spec.scratch_size {
        bound_scratch(&staged.scratch, size)?;
    }
    let upper_root = staged.scratch.join("upper");
    let work_root = staged.scratch.join("work");
    make_folder(&upper_root)?;
    make_folder(&work_root)?;
    write_identity(spec, &upper_root)?;
    prepare_private(spec, &staged.private)?;
    let mut roots = Vec::new();
    for (index, (name, lowers)) in staged.parts.iter().enumerate() {
        let upper = upper_root.join(name);
        let work = work_root.join(format!("w{index}"));
        make_folder(&upper)?;
        make_folder(&work)?;
        let target = Path::new(STAGE).join(format!("root.{index}"));
        let lowers: Vec<String> = lowers.iter().map(|l| l.display().to_string()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},userxattr",
            lowers.join(":"),
            upper.display(),
            work.display()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some("overlay"),
            &target,
            Some("overlay"),
            flags,
            Some(options.as_str()),
        )
        .map_err(LaunchError::system(format!(
            "mounting the overlay of `/{name}`"
        )))?;
        if name.is_empty() {
            keep_plain(&target)?;
        }
        roots.push(RootPart {
            source: target,
            target: Path::new("/").join(name),
        });
    }
    Ok(roots)
}

/// Where the guard and what it guards are mounted there must be folders or nothing. A link there,
/// which a root that is kept can have of the qube's own making, would lead bubblewrap elsewhere.
fn keep_plain(root: &Path) -> Result<(), LaunchError> {
    for place in [GUARD, SOCKETS] {
        let top = place.split('/').nth(1).unwrap_or_default();
        let path = root.join(top);
        match fs::symlink_metadata(&path) {
            Ok(meta) if !meta.is_dir() => {
                return Err(LaunchError::Unusable {
                    what: "root with something else than a folder at",
                    value: format!("/{top}"),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The files that say who and where one is.
fn write_identity(spec: &LaunchSpec, upper: &Path) -> Result<(), LaunchError> {
    let etc = upper.join("etc");
    make_folder(&etc)?;
    let (user, name) = (&spec.user, &spec.hostname);
    let files = [
        (
            "passwd",
            format!(
                "root:x:0:0:root:/root:/bin/sh\n\
                 {user}:x:{QUBE_UID}:{QUBE_UID}::/home/{user}:/bin/bash\n\
                 nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
        ),
        (
            "group",
            format!("root:x:0:\n{user}:x:{QUBE_UID}:\nnogroup:x:65534:\n"),
        ),
        ("hostname", format!("{name}\n")),
        (
            "hosts",
            format!("127.0.0.1 localhost {name}\n::1 localhost {name}\n"),
        ),
        // The machine's own resolver and identity stay the machine's.
        ("resolv.conf", String::new()),
        ("machine-id", String::new()),
    ];
    for (file, text) in files {
        let path = etc.join(file);
        fs::write(&path, text)
            .map_err(LaunchError::system(format!("writing `{}`", path.display())))?;
    }
    Ok(())
}

/// Makes the folders that a new private volume lacks.
fn prepare_private(spec: &LaunchSpec, private: &Path) -> Result<(), LaunchError> {
    let home = private.join("home");
    let own = home.join(&spec.user);
    make_folder(private)?;
    make_folder(&home)?;
    make_folder(&own)?;
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(&own, mode).map_err(LaunchError::system(format!(
        "setting the mode of `{}`",
        own.display()
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_root_that_leads_the_guard_elsewhere_is_refused() {
        for top in ["run", "vchan"] {
            let root = tempfile::tempdir().unwrap();
            keep_plain(root.path()).unwrap();
            fs::create_dir(root.path().join("home")).unwrap();
            symlink("home", root.path().join(top)).unwrap();
            let error = keep_plain(root.path()).unwrap_err();
            assert!(error.to_string().contains(top), "{error}");
            fs::remove_file(root.path().join(top)).unwrap();
            fs::create_dir(root.path().join(top)).unwrap();
            keep_plain(root.path()).unwrap();
        }
    }
}
