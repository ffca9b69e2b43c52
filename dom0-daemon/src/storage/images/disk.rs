//! The disk of an image: what a domain on Xen has for a root, and the kernel that it boots.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bulkhead_model::qube::{DEFAULT_ROOT_SIZE, Mib};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::super::{DiskRoot, ImageDigest, StorageError, failed, hex};
use super::program::{spawn, tail, wait};

/// Names in the folder of a disk; of a template source `Image(…)` too.
const ROOT: &str = "root.ext4";
const KERNEL: &str = "vmlinuz";
const UNPACKED_KERNEL: &str = "vmlinux";
const INITRD: &str = "initrd";
const ALL: [&str; 4] = [ROOT, KERNEL, UNPACKED_KERNEL, INITRD];

/// Bytes of a file that are hashed at a time.
const PART: usize = 1 << 20;

/// What there is in `folder`; none without a root and without a kernel.
pub(in crate::storage) fn find(folder: &Path) -> Option<DiskRoot> {
    let file = |name| Some(folder.join(name)).filter(|path| is_file(path));
    let found = DiskRoot {
        disk: file(ROOT),
        kernel: file(KERNEL).or_else(|| file(UNPACKED_KERNEL)),
        initrd: file(INITRD),
    };
    (found.disk.is_some() || found.kernel.is_some()).then_some(found)
}

/// A file and not a link, which may lead anywhere.
fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
}

/// Copies the disk, kernel and initrd at `from` into `to`.
pub(super) async fn take(from: &Path, to: &Path) -> Result<(), StorageError> {
    if !from.is_dir() {
        return Err(StorageError::FolderVanished(from.to_owned()));
    }
    if find(from).is_none() {
        return Err(StorageError::NotADisk(from.to_owned()));
    }
    fs::create_dir_all(to).map_err(|error| failed(to, "creating folder", error))?;
    for name in ALL {
        if is_file(&from.join(name)) {
            copy(&from.join(name), &to.join(name)).await?;
        }
    }
    Ok(())
}

/// Whether a disk has a journal. Images have none, because what is written over them never outlives
/// a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) enum Journal {
    /// It has.
    Has,
    /// It gets one.
    Add,
}

/// Makes `to` the root of a qube that keeps it, as the disk `from` is.
pub(in crate::storage) async fn begin_root(
    from: &Path,
    to: &Path,
    journal: Journal,
) -> Result<(), StorageError> {
    copy(from, to).await?;
    if journal == Journal::Has {
        return Ok(());
    }
    let mut add = Command::new("tune2fs");
    add.args(["-O", "has_journal", "--"]).arg(to);
    run("tune2fs", &mut add, to, "making a root").await
}

/// Copies the disk, kernel and initrd of `from` into the folder `to`.
pub(in crate::storage) async fn copy_all(from: &DiskRoot, to: &Path) -> Result<(), StorageError> {
    if let Some(disk) = &from.disk {
        copy(disk, &to.join(ROOT)).await?;
    }
    take_boot(from, to).await
}

/// Copies the kernel and initrd of `image` into the folder `to`.
pub(in crate::storage) async fn take_boot(image: &DiskRoot, to: &Path) -> Result<(), StorageError> {
    fs::create_dir_all(to).map_err(|error| failed(to, "creating folder", error))?;
    for file in image.kernel.iter().chain(&image.initrd) {
        copy(file, &to.join(file.file_name().unwrap_or_default())).await?;
    }
    Ok(())
}

/// Copies a file without its holes, and where the file system can without its content.
async fn copy(from: &Path, to: &Path) -> Result<(), StorageError> {
    let mut command = Command::new("cp");
    command
        .args(["--sparse=always", "--reflink=auto", "--"])
        .args([from, to]);
    run("cp", &mut command, to, "copying a disk image").await
}

/// Digest of all files of the disk in `folder`, and how many bytes they have.
pub(super) fn summarise(folder: &Path) -> io::Result<(String, Mib)> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    for name in ALL {
        let path = folder.join(name);
        if !is_file(&path) {
            continue;
        }
        let length = fs::metadata(&path)?.len();
        // Every field has its length before it, so that no two disks hash the same bytes.
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update(length.to_le_bytes());
        let mut file = File::open(&path)?;
        let mut part = vec![0; PART];
        loop {
            let length = file.read(&mut part)?;
            if length == 0 {
                break;
            }
            hash.update(part.get(..length).unwrap_or_default());
        }
        bytes += length;
    }
    Ok((hex(&hash.finalize()), Mib(bytes.div_ceil(1 << 20))))
}

/// Makes the disk of the tree `root` in the folder `to`. The same tree gives the same disk.
pub(super) async fn make(root: &Path, digest: &ImageDigest, to: &Path) -> Result<(), StorageError> {
    fs::create_dir_all(to).map_err(|error| failed(to, "creating folder", error))?;
    let disk = to.join(ROOT);
    File::create(&disk)
        .and_then(|file| file.set_len(DEFAULT_ROOT_SIZE.0 << 20))
        .map_err(|error| failed(&disk, "creating", error))?;
    let id = uuid_of(digest);
    let mut command = Command::new("mke2fs");
    command
        // A start writes to a layer of its own that goes with it, so nothing is to be recovered.
        .args([
            "-q",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            "-L",
            "root",
            "-U",
            &id,
        ])
        .args(["-E", &format!("hash_seed={id},lazy_itable_init=1"), "-d"])
        .args([root, &disk])
        .env("SOURCE_DATE_EPOCH", "0");
    run(
        "mke2fs",
        &mut command,
        &disk,
        "making a disk of a template image",
    )
    .await?;
    if let Some((kernel, initrd)) = kernel_of(&root.join("boot")) {
        copy(&kernel, &to.join(KERNEL)).await?;
        if is_file(&initrd) {
            copy(&initrd, &to.join(INITRD)).await?;
        }
    }
    Ok(())
}

/// An identity that follows from the content.
fn uuid_of(digest: &ImageDigest) -> String {
    let bytes = Sha256::digest(digest.as_str());
    let mut id = [0; 16];
    id.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    uuid::Builder::from_custom_bytes(id).into_uuid().to_string()
}

/// The newest kernel in a folder as Debian fills it, and where its initrd would be.
fn kernel_of(boot: &Path) -> Option<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(boot).ok()?;
    let names = entries.flatten().filter(|entry| is_file(&entry.path()));
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let versions = names.filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()));
    let newest = versions.max_by(|a, b| by_version(a, b))?;
    Some((
        boot.join(format!("vmlinuz-{newest}")),
        boot.join(format!("initrd.img-{newest}")),
    ))
}

/// Orders versions: numbers by size, everything between them as text.
fn by_version(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| {
        let mut parts: Vec<(u64, String)> = vec![(0, String::new())];
        for c in text.chars() {
            let started = parts.last().is_some_and(|(_, text)| text.is_empty());
            match (c.to_digit(10), parts.last_mut()) {
                (Some(digit), Some((number, _))) if started => {
                    *number = number.saturating_mul(10).saturating_add(digit.into());
                }
                (Some(digit), _) => parts.push((digit.into(), String::new())),
                (None, Some((_, text))) => text.push(c),
                (None, None) => {}
            }
        }
        parts
    };
    parts(a).cmp(&parts(b))
}

async fn run(
    program: &'static str,
    command: &mut Command,
    path: &Path,
    doing: &str,
) -> Result<(), StorageError> {
    let mut child = spawn(program, command.stdin(Stdio::null()).stdout(Stdio::null()))?;
    let said = tail(child.stderr.take()).await;
    let ended = wait(program, &mut child, || said.join("; ")).await;
    ended.map_err(|error| super::full(error, path, doing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        for (older, newer) in [
            ("6.9.1-amd64", "6.12.117+deb13-amd64"),
            ("6.12.9-amd64", "6.12.10-amd64"),
            ("6.12-rc1", "6.12-rc2"),
            ("5.99", "6.1"),
        ] {
            assert_eq!(by_version(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(
                by_version(newer, older),
                Ordering::Greater,
                "{older} {newer}"
            );
        }
    }

    #[test]
    fn the_newest_kernel_is_taken_and_no_link_is_followed() {
        let boot = tempfile::tempdir().unwrap();
        let file = |name: &str| fs::write(boot.path().join(name), name).unwrap();
        assert_eq!(kernel_of(boot.path()), None);
        for name in [
            "vmlinuz-6.9.1",
            "vmlinuz-6.12.3",
            "initrd.img-6.12.3",
            "config-7.0",
        ] {
            file(name);
        }
        std::os::unix::fs::symlink("/etc/shadow", boot.path().join("vmlinuz-9")).unwrap();
        let (kernel, initrd) = kernel_of(boot.path()).unwrap();
        assert_eq!(kernel, boot.path().join("vmlinuz-6.12.3"));
        assert_eq!(initrd, boot.path().join("initrd.img-6.12.3"));
    }
}
