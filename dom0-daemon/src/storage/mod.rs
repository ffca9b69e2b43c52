//! What is on disk: volumes of qubes and images of templates. One module per implementation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use async_trait::async_trait;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Mib, Qube, QubeKind, TemplateSource, Volume};
use serde::{Deserialize, Serialize};

use crate::hypervisor::ROOT_VOLUME;

pub mod block;
pub mod dir;
mod folder;
mod images;
mod revisions;
mod room;
mod tree;

pub use revisions::{RevisionId, RevisionInfo};

/// Where storage has its things, and which programs build images.
#[derive(Debug, Clone)]
pub struct Config {
    /// The daemon's state folder.
    pub state_dir: PathBuf,
    /// Folder for what can be fetched again.
    pub cache_dir: PathBuf,
    /// The program that builds Debian trees.
    pub mmdebstrap: PathBuf,
}

impl Config {
    /// State in `state_dir`, everything else as usual on this machine: the cache is what the
    /// service manager gave us, else the user's, or `/var/cache/bulkhead` for root.
    pub fn new(state_dir: PathBuf) -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let ours = |base: PathBuf| base.join("bulkhead");
        let user = || {
            let home = || Some(PathBuf::from(set("HOME")?).join(".cache"));
            set("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
        };
        let given = set("CACHE_DIRECTORY")
            // It may be a list; the first is the one that is meant for everything.
            .and_then(|list| std::env::split_paths(&list).next());
        let cache_dir = match given {
            Some(given) => given,
            None if rustix::process::geteuid().is_root() => ours("/var/cache".into()),
            None => ours(user().unwrap_or_else(|| "/var/cache".into())),
        };
        Self {
            state_dir,
            cache_dir,
            mmdebstrap: "mmdebstrap".into(),
        }
    }
}

/// Names the content of a template image: 64 lower-case hexadecimal digits of SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageDigest(String);

/// Text that is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an image digest (64 lower-case hexadecimal digits)")]
pub struct ImageDigestError(String);

impl ImageDigest {
    /// Digits shown to people.
    const SHORT: usize = 12;

    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..Self::SHORT).unwrap_or(&self.0)
    }
}

impl FromStr for ImageDigest {
    type Err = ImageDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for ImageDigest {
    type Error = ImageDigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(hex) {
            Ok(Self(text))
        } else {
            Err(ImageDigestError(text))
        }
    }
}

impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> Self {
        digest.0
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The root that a domain starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageRoot {
    /// This machine's own root.
    Host,
    /// A root tree, never written to once it is there.
    Folder(PathBuf),
    /// A disk image, never written to once it is there.
    Disk(DiskRoot),
    /// What a template qube wrote over a root, never written to once it is there.
    Layer {
        /// Its tree.
        tree: PathBuf,
        /// The root below.
        over: Box<ImageRoot>,
    },
}

/// What a domain boots, with a root on a disk or, as a unikernel, without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRoot {
    /// The disk itself: one file system, without partitions. None where the kernel is all there is.
    pub disk: Option<PathBuf>,
    /// The image's own kernel; there is one where there is no disk.
    pub kernel: Option<PathBuf>,
    /// The initrd that goes with it.
    pub initrd: Option<PathBuf>,
}

/// Longest volume name: with a qube's name and our own additions it still is a file name.
pub const VOLUME_NAME_MAX: usize = 64;

/// Names one volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeId {
    /// The qube it belongs to.
    pub qube: QubeName,
    /// Its name there (`private`).
    pub volume: String,
}

impl VolumeId {
    /// A volume's name becomes part of a path, and must not lead elsewhere.
    fn check(&self) -> Result<(), StorageError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let name = &self.volume;
        if name.is_empty() || name.len() > VOLUME_NAME_MAX || !name.chars().all(allowed) {
            return Err(StorageError::BadVolumeName(name.clone()));
        }
        Ok(())
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.qube, self.volume)
    }
}

/// A volume that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Which.
    pub id: VolumeId,
    /// Size it may grow to.
    pub size: Mib,
    /// Where it is.
    pub path: PathBuf,
    /// Whether `size` is enforced, or only recorded.
    pub enforced: bool,
}

/// A template image that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Names its content.
    pub digest: ImageDigest,
    /// What it was made from.
    pub source: TemplateSource,
    /// Space it takes.
    pub size: Mib,
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Tells how far a long operation has come: a short line for people.
pub type ProgressFn<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Why storage could not do something. No variant leaves a half-made thing behind.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No space is left. Nothing was changed.
    #[error(
        "no space left in `{}` while {doing}; free some on that disk, then try again",
        .path.display()
    )]
    Full {
        /// Where.
        path: PathBuf,
        /// What was being done, as a gerund with its subject.
        doing: String,
    },
    /// The volume is not there.
    #[error("volume `{0}` does not exist")]
    NoSuchVolume(VolumeId),
    /// A volume name that cannot be a file name.
    #[error(
        "volume name `{0}` is not allowed; letters, digits, `_` and `-` are, at most {VOLUME_NAME_MAX}"
    )]
    BadVolumeName(String),
    /// A volume that shall begin as a disk which is larger.
    #[error(
        "volume `{id}` has {size}, and the disk of its template takes {needed}: give it at least that `size`"
    )]
    TooSmall {
        /// The volume.
        id: VolumeId,
        /// Its size.
        size: Mib,
        /// The disk's.
        needed: Mib,
    },
    /// The image is not there.
    #[error("template image {} is not in the store", .0.short())]
    NoSuchImage(ImageDigest),
    /// The revision of a root is not there.
    #[error("the root of `{qube}` has no revision {number}")]
    NoSuchRevision {
        /// Whose root.
        qube: QubeName,
        /// Which revision.
        number: u64,
    },
    /// A root has no revision before its newest.
    #[error("the root of `{0}` has no revision before the newest")]
    NothingEarlier(QubeName),
    /// The folder of a template is gone.
    #[error("template folder `{}` does not exist", .0.display())]
    FolderVanished(PathBuf),
    /// The folder of a template is no root tree.
    #[error("template folder `{}` is not a root tree: it has no `{missing}`", .path.display())]
    NotARoot {
        /// The folder.
        path: PathBuf,
        /// What is missing in it.
        missing: &'static str,
    },
    /// The folder of a template is no disk image.
    #[error(
        "template folder `{}` holds no image: it has neither `root.ext4` nor a kernel (`vmlinuz`, `vmlinux`)",
        .0.display()
    )]
    NotADisk(PathBuf),
    /// A template source that this kind of storage has no use for.
    #[error("a template with `source: {given}` cannot be used here: {why}")]
    NotUsable {
        /// The source as a description writes it.
        given: &'static str,
        /// Why, and what to use.
        why: &'static str,
    },
    /// A program that builds an image failed.
    #[error("`{program}` failed ({status}): {detail}")]
    BuildFailed {
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: String,
        /// What it said about that.
        detail: String,
    },
    /// A program that builds an image is not installed.
    #[error("`{0}` is not installed: on Debian, install the package `{0}`")]
    NoProgram(&'static str),
    /// The machine refused.
    #[error("{doing}")]
    Io {
        /// What was being done and to what.
        doing: String,
        /// What the machine said.
        #[source]
        source: std::io::Error,
    },
}

/// Storage: persistent volumes and immutable images. Every operation may be repeated: doing again
/// what is done already succeeds and changes nothing.
#[async_trait]
pub trait Storage: Send + Sync + Debug {
    /// What is declared of a qube's volumes and kept, but changes nothing here: names of properties.
    fn without_effect(&self, _qube: &Qube) -> Vec<String> {
        Vec::new()
    }
    /// What a person should know before it does harm: that there is little room.
    async fn warnings(&self) -> Result<Vec<String>, StorageError>;
    /// All volumes, also of qubes that nobody declares.
    async fn volumes(&self) -> Result<Vec<VolumeInfo>, StorageError>;
    /// One volume.
    async fn volume(&self, id: &VolumeId) -> Result<VolumeInfo, StorageError>;
    /// Creates an empty volume; if it exists it is left as it is.
    async fn create_volume(&self, id: &VolumeId, size: Mib) -> Result<VolumeInfo, StorageError>;
    /// Sets a volume's size. Smaller only to undo a growth; storage that cannot keeps the size.
    async fn resize_volume(&self, id: &VolumeId, size: Mib) -> Result<VolumeInfo, StorageError>;
    /// Sets a volume aside under `tag`: gone for qubes, not yet destroyed. No such volume: nothing.
    async fn retire_volume(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError>;
    /// Brings back what was set aside under `tag`.
    async fn restore_volume(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError>;
    /// Destroys what was set aside under `tag`. For good.
    async fn purge_volume(&self, id: &VolumeId, tag: &str) -> Result<(), StorageError>;
    /// Everything that is set aside, with its tag.
    async fn retired_volumes(&self) -> Result<Vec<(VolumeId, String)>, StorageError>;
    /// Makes sure an image from `source` is in the store. With `locked` given and in the store,
    /// nothing is built; otherwise the result may have another digest than `locked`.
    async fn ensure_image(
        &self,
        source: &TemplateSource,
        locked: Option<&ImageDigest>,
        progress: ProgressFn<'_>,
    ) -> Result<ImageInfo, StorageError>;
    /// Makes an image of what `source` is now, whatever was built from it before; the result may be
    /// an image that is in the store already.
    async fn renew_image(
        &self,
        source: &TemplateSource,
        progress: ProgressFn<'_>,
    ) -> Result<ImageInfo, StorageError>;
    /// All images in the store.
    async fn images(&self) -> Result<Vec<ImageInfo>, StorageError>;
    /// The root of an image in the store.
    async fn image_root(&self, digest: &ImageDigest) -> Result<ImageRoot, StorageError>;
    /// The root of a qube that keeps its own in the volume `id`. It began, or begins now, as the
    /// root of the template qube that keeps that in `template`, or as that of the image.
    async fn own_root(
        &self,
        id: &VolumeId,
        digest: &ImageDigest,
        template: Option<&VolumeId>,
    ) -> Result<ImageRoot, StorageError>;
    /// What qubes start from whose template keeps its root in the volume `id`: its newest revision,
    /// which stays until `holder` is let go of. None where there is none yet.
    async fn template_root(
        &self,
        id: &VolumeId,
        holder: &QubeName,
    ) -> Result<Option<(RevisionId, ImageRoot)>, StorageError>;
    /// Keeps the revision that `holder` runs on, for a daemon that starts again.
    fn hold_revision(&self, id: RevisionId, holder: &QubeName);
    /// Lets go of what `holder` ran on.
    fn release_revision(&self, holder: &QubeName);
    /// Makes the root in the volume `id`, whose qube has stopped in order, the next revision. Where
    /// that fails the root stays as it is, and [`Self::warnings`] tells.
    async fn publish_root(&self, id: &VolumeId) -> Result<Option<RevisionId>, StorageError>;
    /// The root in the volume `id` is not published, for this reason: [`Self::warnings`] tells until
    /// it is, goes back or is no more, as long as this is there.
    fn leave_root(&self, id: &VolumeId, why: &str);
    /// Makes the root in the volume `id`, whose qube does not run, what it was at an earlier
    /// revision (none: the one before the newest), as a new one.
    async fn revert_root(&self, id: &VolumeId, to: Option<u64>) -> Result<Reverted, StorageError>;
    /// The revisions of each qube's root, oldest first.
    async fn revisions(&self) -> Result<BTreeMap<QubeName, Vec<RevisionInfo>>, StorageError>;
    /// Removes revisions that nobody runs on, beyond the newest and as many earlier ones as `keep`
    /// says. Those of qubes that it does not name stay while there is a volume.
    async fn prune_revisions(&self, keep: &BTreeMap<QubeName, u32>) -> Result<(), StorageError>;
    /// Images that roots lie over which qubes keep.
    async fn images_below(&self) -> Result<BTreeSet<ImageDigest>, StorageError>;
    /// Removes an image that nobody uses any more; returns the space freed.
    async fn remove_image(&self, digest: &ImageDigest) -> Result<Mib, StorageError>;
}

/// See [`Storage::without_effect`], for the revisions of one volume: only the root that others start
/// from has any.
fn without_revisions(qube: &Qube, name: &str, volume: &Volume) -> Option<String> {
    let published = qube.kind == QubeKind::Template && name == ROOT_VOLUME;
    let asked = volume.revisions_to_keep > 0 && !published;
    asked.then(|| format!("volumes.{name}.revisions_to_keep"))
}

/// Runs file work where no async worker waits for it.
async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(job).await {
        Ok(result) => result,
        Err(error) => Err(StorageError::Io {
            doing: "cannot finish work on storage".to_owned(),
            source: std::io::Error::other(error),
        }),
    }
}

/// See [`Storage::warnings`], for volumes below `folder`.
async fn warnings(folder: &Path) -> Result<Vec<String>, StorageError> {
    let folder = folder.to_owned();
    blocking(move || {
        let low = room::warning(&folder);
        let low = low.map_err(|error| failed(&folder, "looking for room below", error))?;
        Ok(low.into_iter().collect())
    })
    .await
}

/// A root that went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reverted {
    /// What it is as again.
    pub to: RevisionId,
    /// What that is called by now.
    pub now: RevisionId,
}

/// The revision that a revert goes back to.
fn earlier(
    id: &VolumeId,
    list: &[RevisionInfo],
    to: Option<u64>,
) -> Result<RevisionId, StorageError> {
    let found = match to {
        Some(number) => list.iter().find(|info| info.id.number == number),
        None => list.iter().rev().nth(1),
    };
    found.map(|info| info.id).ok_or_else(|| {
        let qube = id.qube.clone();
        match to {
            Some(number) => StorageError::NoSuchRevision { qube, number },
            None => StorageError::NothingEarlier(qube),
        }
    })
}

/// An error of the machine, told apart by whether the disk is full. `doing` is a gerund with its
/// object.
fn failed(path: &Path, doing: &str, source: std::io::Error) -> StorageError {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    if matches!(source.kind(), StorageFull | QuotaExceeded) {
        StorageError::Full {
            path: path.to_owned(),
            doing: doing.to_owned(),
        }
    } else {
        StorageError::Io {
            doing: format!("failed {doing} `{}`", path.display()),
            source,
        }
    }
}
