//! What a start of a qube writes beside its persistent volumes: a layer over the image's root, and
//! disks that are gone with it.
//!
//! The layer is a copy that shares its content with the image, where the file system can do that
//! (btrfs, XFS). Elsewhere it is a snapshot of the device mapper: reads go to the image, what is
//! written goes to a sparse file.

use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bulkhead_model::qube::Mib;
use bulkhead_sandbox::loops::LoopDevice;
use tokio::process::Command;

use super::domain::Disks;
use crate::hypervisor::{DomId, DomainSpec, HypervisorError, PRIVATE_VOLUME, ROOT_VOLUME};

/// What a qube may write to its root in one start, and to `xvdc`.
const SCRATCH: Mib = Mib(10 * 1024);

/// Bytes of a sector, in which the device mapper counts.
const SECTOR: u64 = 512;

/// Sectors of one piece that is copied when it is first written to: what the kernel's own
/// documentation of snapshots uses.
const CHUNK: u64 = 16;

/// Where the device mapper's devices are.
const MAPPER: &str = "/dev/mapper";

/// Begins the names of ours.
const PREFIX: &str = "bulkhead-";

/// Name of a domain's layer.
fn name(domid: DomId) -> String {
    format!("{PREFIX}{domid}-root")
}

fn io_error(doing: String) -> impl FnOnce(io::Error) -> HypervisorError {
    move |source| HypervisorError::io(doing, source)
}

/// The number of the domain whose layer has this name.
fn number(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)?.strip_suffix("-root")
}

/// Makes the disks of a start, those that are gone with it in `folder`.
pub(super) async fn make(spec: &DomainSpec, folder: &Path) -> Result<Disks, HypervisorError> {
    let doing = format!("making `{}`", folder.display());
    fresh(folder).map_err(io_error(doing))?;
    let blank = |name: &str| {
        let path = folder.join(name);
        let made = File::create(&path).and_then(|file| file.set_len(SCRATCH.0 << 20));
        made.map(|()| path.clone())
            .map_err(io_error(format!("making `{}`", path.display())))
    };
    let mut others: std::collections::BTreeMap<_, _> = spec
        .volumes
        .iter()
        .map(|volume| (volume.name.clone(), volume.path.clone()))
        .collect();
    let private = others.remove(PRIVATE_VOLUME);
    let own = others.remove(ROOT_VOLUME);
    let Some(image) = &super::domain::root(spec)?.disk else {
        // A bare kernel gets what was declared for it and nothing else.
        return Ok(Disks {
            root: own,
            private,
            volatile: None,
            others,
        });
    };
    let private = private.map_or_else(|| blank("private.img"), Ok)?;
    Ok(Disks {
        root: Some(match own {
            Some(own) => own,
            None => root(image, spec.domid, folder).await?,
        }),
        private: Some(private),
        volatile: Some(blank("volatile.img")?),
        others,
    })
}

/// Makes a folder, without what was in it: a machine that went down leaves everything behind.
fn fresh(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)
}

/// Makes the layer of a domain over `image`, with its file in `folder`.
async fn root(image: &Path, domid: DomId, folder: &Path) -> Result<PathBuf, HypervisorError> {
    let copy = folder.join("root.img");
    if shared_copy(image, &copy).is_ok() {
        return Ok(copy);
    }
    // What that left behind is empty, and goes with the folder.
    let doing = || format!("making a layer over `{}`", image.display());
    let made = snapshot(image, domid, &folder.join("root.cow")).await;
    made.map_err(io_error(doing()))
}

/// Makes a copy that shares its content, which takes no time, or fails.
fn shared_copy(image: &Path, copy: &Path) -> io::Result<()> {
    let (image, copy) = (File::open(image)?, File::create(copy)?);
    Ok(rustix::fs::ioctl_ficlone(&copy, &image)?)
}

async fn snapshot(image: &Path, domid: DomId, layer: &Path) -> io::Result<PathBuf> {
    File::create(layer)?.set_len(SCRATCH.0 << 20)?;
    let sectors = std::fs::metadata(image)?.len() / SECTOR;
    // Both go with the snapshot.
    let below = LoopDevice::read_only(image)?;
    let above = LoopDevice::over(layer)?;
    let (below, above) = (below.path().display(), above.path().display());
    let table = format!("0 {sectors} snapshot {below} {above} N {CHUNK}");
    let name = name(domid);
    let mut create = Command::new("dmsetup");
    // Whether or not udev runs here: the name is made below.
    run(create.args(["create", &name, "--noudevsync", "--table", &table])).await?;
    run(Command::new("dmsetup").args(["mknodes", &name])).await?;
    Ok(Path::new(MAPPER).join(name))
}

/// Removes the layer of a domain that is gone; where it is none that needs it, nothing.
pub(super) async fn remove(domid: DomId) {
    let name = name(domid);
    let path = Path::new(MAPPER).join(&name);
    if !path.exists() {
        return;
    }
    let mut command = Command::new("dmsetup");
    // The domain's backend may not have closed it yet.
    let removed = run(command.args(["remove", "--retry", "--noudevsync", &name])).await;
    // The name was made by us, and udev may leave it.
    let removed = removed.and_then(|_| match std::fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    });
    if let Err(error) = removed {
        tracing::warn!(%domid, %error, "a layer stays");
    }
}

/// Removes the layers of domains that are not among `running`, and what they wrote in `scratch`.
pub(super) async fn sweep(scratch: &Path, running: impl Fn(DomId) -> bool) {
    let doomed = |folder: &Path, number: fn(&str) -> Option<&str>| -> Vec<DomId> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| number(entry.file_name().to_str()?)?.parse().ok().map(DomId))
            .filter(|domid| !running(*domid))
            .collect()
    };
    for domid in doomed(Path::new(MAPPER), number) {
        remove(domid).await;
    }
    for domid in doomed(scratch, |name| Some(name)) {
        let folder = scratch.join(domid.to_string());
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "folder stays behind");
        }
    }
}

/// Runs a program; what it printed, or as an error what it said.
async fn run(command: &mut Command) -> io::Result<String> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            error.kind(),
            format!("`{program}` is not installed (Debian package dmsetup)"),
        ),
        _ => error,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().replace('\n', "; ");
    Err(io::Error::other(format!(
        "`{program}` ended with {}: {said}",
        output.status
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_ended_domains_wrote_is_removed_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["3", "4", "other"] {
            std::fs::create_dir(scratch.path().join(name)).unwrap();
            std::fs::write(scratch.path().join(name).join("root.cow"), "x").unwrap();
        }
        sweep(scratch.path(), |domid| domid == DomId(4)).await;
        let there = |name: &str| scratch.path().join(name).join("root.cow").exists();
        assert_eq!(
            [there("3"), there("4"), there("other")],
            [false, true, true]
        );
        fresh(&scratch.path().join("4")).unwrap();
        assert!(!there("4") && scratch.path().join("4").exists());
    }
}
