//! Images as folders named after their content.
//!
//! ```text
//! templates/<digest>/root/        an image, never written to again
//! templates/<digest>/image.json   what it was made from
//! templates/.new-*                images being made; removed when the daemon starts
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_model::qube::{Mib, TemplateSource};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use self::debian::{Age, Debian};
use self::program::{spawn, tail, wait};
use super::{
    Config, DiskRoot, ImageDigest, ImageInfo, ImageRoot, ProgressFn, StorageError, blocking,
    failed, hex, tree,
};
use crate::whole_file::{self, Lasting};

mod debian;
pub(super) mod disk;
mod program;

const UNFINISHED: &str = ".new-";

/// Names in an image's folder.
const TREE: &str = "root";
const DISK: &str = "disk";

/// What an image does not bring along: each start mounts its own.
const NOT_IMPORTED: [&str; 5] = ["./dev/*", "./proc/*", "./sys/*", "./run/*", "./tmp/*"];

/// What the machine's own root is called. It is no content digest: the root changes under us.
const HOST: &[u8] = b"bulkhead: the root of this machine";

#[derive(Debug)]
pub(super) struct Images {
    root: PathBuf,
    debian: Debian,
    counter: AtomicU64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    source: TemplateSource,
    size: Mib,
}

impl Images {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            root: config.state_dir.join("templates"),
            debian: Debian::new(config),
            counter: AtomicU64::new(0),
        }
    }

    pub(super) fn prepare(&self) -> Result<(), StorageError> {
        fs::create_dir_all(&self.root)
            .map_err(|error| failed(&self.root, "creating folder", error))?;
        for entry in self.entries()? {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                let path = entry.path();
                tree::remove(&path).map_err(|error| failed(&path, "removing", error))?;
            }
        }
        Ok(())
    }

    pub(super) fn list(&self) -> Result<Vec<ImageInfo>, StorageError> {
        let mut found = vec![host()];
        for entry in self.entries()? {
            let name = entry.file_name();
            let digest = name
                .to_str()
                .and_then(|name| name.parse::<ImageDigest>().ok());
            if let Some(digest) = digest
                && let Some(info) = self.info(digest)?
            {
                found.push(info);
            }
        }
        found.sort_by(|a, b| a.digest.cmp(&b.digest));
        Ok(found)
    }

    pub(super) fn root(&self, digest: &ImageDigest) -> Result<ImageRoot, StorageError> {
        if *digest == host().digest {
            return Ok(ImageRoot::Host);
        }
        match self.info(digest.clone())? {
            Some(_) => Ok(ImageRoot::Folder(self.folder(digest).join(TREE))),
            None => Err(StorageError::NoSuchImage(digest.clone())),
        }
    }

    /// The disk of an image; [`Self::ensure_disk`] has made it.
    pub(super) fn disk(&self, digest: &ImageDigest) -> Result<DiskRoot, StorageError> {
        let disk = disk::find(&self.folder(digest).join(DISK));
        disk.ok_or_else(|| StorageError::NoSuchImage(digest.clone()))
    }

    /// Makes the disk of an image that is a tree so far.
    pub(super) async fn ensure_disk(
        &self,
        digest: &ImageDigest,
        progress: ProgressFn<'_>,
    ) -> Result<(), StorageError> {
        let place = self.folder(digest).join(DISK);
        if disk::find(&place).is_some() {
            return Ok(());
        }
        progress("making its disk");
        let new = self.unfinished();
        let made = disk::make(&self.folder(digest).join(TREE), digest, &new).await;
        self.or_remove(&new, made).await?;
        store(new, place).await
    }

    pub(super) async fn ensure(
        &self,
        source: &TemplateSource,
        locked: Option<&ImageDigest>,
        progress: ProgressFn<'_>,
    ) -> Result<ImageInfo, StorageError> {
        if let Some(digest) = locked
            && let Some(info) = self.info(digest.clone())?
        {
            return Ok(info);
        }
        self.make(source, Age::Any, progress).await
    }

    /// As [`Self::ensure`], from what `source` is now.
    pub(super) async fn renew(
        &self,
        source: &TemplateSource,
        progress: ProgressFn<'_>,
    ) -> Result<ImageInfo, StorageError> {
        self.make(source, Age::New, progress).await
    }

    async fn make(
        &self,
        source: &TemplateSource,
        age: Age,
        progress: ProgressFn<'_>,
    ) -> Result<ImageInfo, StorageError> {
        match source {
            TemplateSource::Host => Ok(host()),
            TemplateSource::Folder(path) => {
                let folder = Path::new(path);
                check_tree(folder)?;
                progress("copying the tree");
                self.import(source, tar_of(folder)).await
            }
            TemplateSource::Image(path) => {
                progress("copying the disk");
                self.import_disk(source, Path::new(path)).await
            }
            TemplateSource::Debian { suite, packages } => {
                let tar = self.debian.tar(suite, packages, age, progress).await?;
                progress("unpacking");
                let mut command = Command::new("cat");
                command.arg(&tar);
                self.import(source, command).await
            }
        }
    }

    pub(super) async fn remove(&self, digest: &ImageDigest) -> Result<Mib, StorageError> {
        let Some(info) = self
            .info(digest.clone())?
            .filter(|info| info.source != TemplateSource::Host)
        else {
            return Ok(Mib(0));
        };
        let (folder, aside) = (self.folder(digest), self.unfinished());
        blocking(move || {
            // One rename, so that no half an image is ever found.
            fs::rename(&folder, &aside)
                .and_then(|()| tree::remove(&aside))
                .map_err(|error| failed(&folder, "removing image", error))
        })
        .await?;
        Ok(info.size)
    }

    /// Makes an image of what `packer` writes: a tar stream.
    async fn import(
        &self,
        source: &TemplateSource,
        packer: Command,
    ) -> Result<ImageInfo, StorageError> {
        let new = self.unfinished();
        let made = self.import_at(&new, source, packer).await;
        self.or_remove(&new, made).await
    }

    /// Makes an image of the disk in the folder `from`.
    async fn import_disk(
        &self,
        source: &TemplateSource,
        from: &Path,
    ) -> Result<ImageInfo, StorageError> {
        let new = self.unfinished();
        let made = match disk::take(from, &new.join(DISK)).await {
            Ok(()) => {
                let place = new.clone();
                let summed = move || {
                    disk::summarise(&place.join(DISK))
                        .map_err(|error| failed(&place, "reading disk image", error))
                };
                self.name(&new, source, summed).await
            }
            Err(error) => Err(error),
        };
        self.or_remove(&new, made).await
    }

    /// Passes on what came of making `new`, and removes it if that failed.
    async fn or_remove<T>(
        &self,
        new: &Path,
        made: Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if made.is_err() {
            let new = new.to_owned();
            // The first error is the one to tell; what stays is removed at the next start.
            let _ = blocking(move || {
                tree::remove(&new).map_err(|error| failed(&new, "removing", error))
            })
            .await;
        }
        made
    }

    async fn import_at(
        &self,
        new: &Path,
        source: &TemplateSource,
        packer: Command,
    ) -> Result<ImageInfo, StorageError> {
        let root = new.join(TREE);
        fs::create_dir_all(&root).map_err(|error| failed(&root, "creating folder", error))?;
        unpack(packer, &root).await?;
        let place = new.to_owned();
        let summed = move || {
            let root = place.join(TREE);
            let summary =
                tree::summarise(&root).map_err(|error| failed(&root, "reading tree", error))?;
            Ok((summary.digest, Mib(summary.bytes.div_ceil(1 << 20))))
        };
        self.name(new, source, summed).await
    }

    /// Describes what was made at `new` and gives it the name of its content, which `summed` tells
    /// with its size.
    async fn name(
        &self,
        new: &Path,
        source: &TemplateSource,
        summed: impl FnOnce() -> Result<(String, Mib), StorageError> + Send + 'static,
    ) -> Result<ImageInfo, StorageError> {
        let (place, source) = (new.to_owned(), source.clone());
        let image = blocking(move || {
            let (digest, size) = summed()?;
            let digest = ImageDigest::try_from(digest)
                .map_err(|error| failed(&place, "naming", io::Error::other(error)))?;
            let record = serde_json::to_vec(&Record {
                source: source.clone(),
                size,
            })
            .map_err(|error| failed(&place, "describing", io::Error::other(error)))?;
            whole_file::replace(&place.join("image.json"), &record, 0o600, Lasting::Always)
                .map_err(|error| failed(&place, "describing image", error.into()))?;
            Ok(ImageInfo {
                digest,
                source,
                size,
            })
        })
        .await?;
        store(new.to_owned(), self.folder(&image.digest)).await?;
        Ok(image)
    }

    fn info(&self, digest: ImageDigest) -> Result<Option<ImageInfo>, StorageError> {
        let host = host();
        if digest == host.digest {
            return Ok(Some(host));
        }
        let folder = self.folder(&digest);
        if !folder.join(TREE).is_dir() && disk::find(&folder.join(DISK)).is_none() {
            return Ok(None);
        }
        let path = folder.join("image.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, "reading", error)),
        };
        let record: Record = serde_json::from_slice(&text)
            .map_err(|error| failed(&path, "understanding", io::Error::other(error)))?;
        Ok(Some(ImageInfo {
            digest,
            source: record.source,
            size: record.size,
        }))
    }

    fn folder(&self, digest: &ImageDigest) -> PathBuf {
        self.root.join(digest.as_str())
    }

    fn unfinished(&self) -> PathBuf {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        self.root
            .join(format!("{UNFINISHED}{}-{number}", std::process::id()))
    }

    fn entries(&self) -> Result<Vec<fs::DirEntry>, StorageError> {
        fs::read_dir(&self.root)
            .and_then(Iterator::collect)
            .map_err(|error| failed(&self.root, "reading folder", error))
    }
}

/// Gives what was made at `new` its final place.
async fn store(new: PathBuf, place: PathBuf) -> Result<(), StorageError> {
    blocking(move || {
        // Content first, then the name that says that it is whole.
        rustix::fs::syncfs(fs::File::open(&new).map_err(|e| failed(&new, "opening", e))?)
            .map_err(|error| failed(&new, "writing out", error.into()))?;
        match fs::rename(&new, &place) {
            // The same content: from another source perhaps, or made meanwhile.
            Err(_) if place.is_dir() => {
                tree::remove(&new).map_err(|error| failed(&new, "removing", error))
            }
            renamed => renamed
                .and_then(|()| whole_file::sync_folder(place.parent().unwrap_or(&place)))
                .map_err(|error| failed(&place, "storing image", error)),
        }
    })
    .await
}

fn host() -> ImageInfo {
    let digest = hex(&Sha256::digest(HOST));
    ImageInfo {
        digest: ImageDigest::try_from(digest).expect("SHA-256 in hexadecimal is a digest"),
        source: TemplateSource::Host,
        size: Mib(0),
    }
}

fn check_tree(folder: &Path) -> Result<(), StorageError> {
    if !folder.is_dir() {
        return Err(StorageError::FolderVanished(folder.to_owned()));
    }
    for missing in ["usr", "etc"] {
        if !folder.join(missing).is_dir() {
            return Err(StorageError::NotARoot {
                path: folder.to_owned(),
                missing,
            });
        }
    }
    Ok(())
}

fn tar_of(folder: &Path) -> Command {
    let mut command = Command::new("tar");
    command
        .args([
            "--create",
            "--file=-",
            "--numeric-owner",
            "--one-file-system",
            "--xattrs",
        ])
        .arg("--directory")
        .arg(folder)
        .args(NOT_IMPORTED.map(|pattern| format!("--exclude={pattern}")))
        .arg(".");
    command
}

/// Unpacks what `packer` writes. Owners are kept where we may give files away.
async fn unpack(mut packer: Command, root: &Path) -> Result<(), StorageError> {
    let mut packer = spawn("tar", packer.stdout(Stdio::piped()))?;
    let stdout = packer
        .stdout
        .take()
        .and_then(|stdout| stdout.into_owned_fd().ok());
    let mut command = Command::new("tar");
    command
        .args([
            "--extract",
            "--file=-",
            "--numeric-owner",
            "--preserve-permissions",
            "--xattrs",
        ])
        .arg(if rustix::process::geteuid().is_root() {
            "--same-owner"
        } else {
            "--no-same-owner"
        })
        .args(NOT_IMPORTED.map(|pattern| format!("--exclude={pattern}")))
        .arg("--directory")
        .arg(root)
        .stdin(stdout.map_or_else(Stdio::null, Stdio::from))
        .stdout(Stdio::null());
    let mut unpacker = spawn("tar", &mut command)?;
    drop(command);
    let (packed, unpacked) = tokio::join!(tail(packer.stderr.take()), tail(unpacker.stderr.take()));
    // A full disk shows where it is written to, so that side speaks first.
    wait("tar", &mut unpacker, || unpacked.join("; "))
        .await
        .map_err(|error| full(error, root, "unpacking a template image"))?;
    wait("tar", &mut packer, || packed.join("; ")).await
}

/// A program does not tell us the error number; its words do.
fn full(error: StorageError, path: &Path, doing: &str) -> StorageError {
    match error {
        StorageError::BuildFailed { detail, .. } if detail.contains("No space left on device") => {
            StorageError::Full {
                path: path.to_owned(),
                doing: doing.to_owned(),
            }
        }
        other => other,
    }
}
