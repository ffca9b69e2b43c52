//! Revisions of roots: what the root of a template qube was at its clean stops.
//!
//! ```text
//! volumes/.revisions/<root>/<number>/                one revision, never written to again
//! volumes/.revisions/<root>/<number>/revision.json   when it was made
//! volumes/.revisions/<root>/.new-<number>/           one that is being made
//! volumes/.revisions/<root>/.gone-<number>/          one that is being removed
//! ```
//!
//! A root has an identity that its volume keeps for as long as there is one, so that a qube declared
//! anew under an old name never starts from what another one left. A revision gets its name by one
//! rename once it is whole. The newest stays as long as the volume; a qube that runs on one holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_model::name::QubeName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{StorageError, failed, folder, tree};
use crate::whole_file::{self, Lasting};

const FOLDER: &str = ".revisions";
const RECORD: &str = "revision.json";

/// What names begin with that are no revision.
const UNFINISHED: &str = ".new-";
const GONE: &str = ".gone-";
const SEALING: &str = ".sealing-";

/// Names one revision of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RevisionId {
    /// The root, whatever its qube is called.
    pub root: Uuid,
    /// Counts up from 1; never given twice.
    pub number: u64,
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of root {}", self.number, self.root)
    }
}

/// A revision that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionInfo {
    /// Which.
    pub id: RevisionId,
    /// Seconds since the epoch at which it was made.
    pub made: u64,
}

/// What is kept beside the content of a revision.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    made: u64,
}

/// The revisions of all roots.
#[derive(Debug)]
pub(super) struct Revisions {
    folder: PathBuf,
    holds: Mutex<BTreeMap<QubeName, BTreeSet<RevisionId>>>,
    troubles: Mutex<BTreeMap<QubeName, String>>,
}

impl Revisions {
    /// Below the folder of all volumes, so that parts of a volume become a revision by a rename.
    pub(super) fn new(volumes: &Path) -> Self {
        Self {
            folder: volumes.join(FOLDER),
            holds: Mutex::default(),
            troubles: Mutex::default(),
        }
    }

    /// Makes the folder and removes what was being made or removed.
    pub(super) fn prepare(&self) -> Result<(), StorageError> {
        folder::make(&self.folder)?;
        for root in self.roots()? {
            for name in names(&self.root(root))? {
                if name.starts_with(UNFINISHED) || name.starts_with(GONE) {
                    destroy(&self.root(root).join(name));
                }
            }
        }
        Ok(())
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<QubeName, BTreeSet<RevisionId>>> {
        // Nothing that holds this lock can panic half way through a change.
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn root(&self, root: Uuid) -> PathBuf {
        self.folder.join(root.to_string())
    }

    fn roots(&self) -> Result<Vec<Uuid>, StorageError> {
        let names = names(&self.folder)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Folder of a revision.
    pub(super) fn place(&self, id: RevisionId) -> PathBuf {
        self.root(id.root).join(id.number.to_string())
    }

    /// Where what is to become a revision waits for that.
    pub(super) fn sealing(&self, id: RevisionId) -> PathBuf {
        self.root(id.root).join(format!("{SEALING}{}", id.number))
    }

    /// What waits so: of one root at most one thing does.
    pub(super) fn waiting(&self, root: Uuid) -> Result<Option<RevisionId>, StorageError> {
        let names = names(&self.root(root))?;
        let numbers = names.iter().filter_map(|name| name.strip_prefix(SEALING));
        let mut numbers = numbers.filter_map(|number| number.parse().ok());
        Ok(numbers.next().map(|number| RevisionId { root, number }))
    }

    fn numbers(&self, root: Uuid) -> Result<Vec<u64>, StorageError> {
        let names = names(&self.root(root))?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The newest one; none where there is none yet.
    pub(super) fn newest(&self, root: Uuid) -> Result<Option<RevisionId>, StorageError> {
        let newest = self.numbers(root)?.pop();
        Ok(newest.map(|number| RevisionId { root, number }))
    }

    /// What the next one will be.
    pub(super) fn next(&self, root: Uuid) -> Result<RevisionId, StorageError> {
        let newest = self.newest(root)?.map_or(0, |newest| newest.number);
        let number = newest + 1;
        Ok(RevisionId { root, number })
    }

    /// All of a root, oldest first.
    pub(super) fn list(&self, root: Uuid) -> Result<Vec<RevisionInfo>, StorageError> {
        let ids = self.numbers(root)?.into_iter();
        let ids = ids.map(|number| RevisionId { root, number });
        ids.map(|id| {
            let path = self.place(id).join(RECORD);
            let text = fs::read(&path).map_err(|error| failed(&path, "reading", error))?;
            let record: Record = serde_json::from_slice(&text)
                .map_err(|error| failed(&path, "understanding", io::Error::other(error)))?;
            let made = record.made;
            Ok(RevisionInfo { id, made })
        })
        .collect()
    }

    /// Makes the revision `id` of what `fill` puts into a folder, unless it is there. Nothing half
    /// made stays.
    pub(super) fn make(
        &self,
        id: RevisionId,
        fill: impl FnOnce(&Path) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let place = self.place(id);
        if place.exists() {
            return Ok(());
        }
        let new = self.unfinished(id)?;
        let made = fill(&new).and_then(|()| self.finish(id, &new));
        if made.is_err() {
            // The first error is the one to tell.
            destroy(&new);
        }
        made
    }

    /// An empty folder in which the revision `id` can be made.
    pub(super) fn unfinished(&self, id: RevisionId) -> Result<PathBuf, StorageError> {
        let new = self
            .root(id.root)
            .join(format!("{UNFINISHED}{}", id.number));
        tree::remove(&new).map_err(|error| failed(&new, "removing", error))?;
        folder::make(&new)?;
        Ok(new)
    }

    /// Makes what is whole in `new` the revision `id`.
    pub(super) fn finish(&self, id: RevisionId, new: &Path) -> Result<(), StorageError> {
        let made = SystemTime::now().duration_since(UNIX_EPOCH);
        let made = made.map_or(0, |since| since.as_secs());
        let place = self.place(id);
        let text = serde_json::to_vec(&Record { made })
            .map_err(|error| failed(&place, "describing", io::Error::other(error)))?;
        whole_file::replace(&new.join(RECORD), &text, 0o600, Lasting::Always)
            .map_err(|error| failed(&place, "describing", error.into()))?;
        // Content first, then the name that says that it is whole.
        let whole = File::open(new).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
        whole
            .and_then(|()| fs::rename(new, &place))
            .and_then(|()| whole_file::sync_folder(&self.root(id.root)))
            .and_then(|()| whole_file::sync_folder(&self.folder))
            .map_err(|error| failed(&place, "making revision", error))
    }

    /// Removes something of ours that is no revision any more, in such a way that nothing of it is
    /// found again. Its content may be a qube's making; what cannot be removed is told.
    pub(super) fn discard(&self, root: Uuid, path: &Path) {
        let name = format!("{GONE}{}", Uuid::new_v4());
        let gone = self.root(root).join(name);
        match folder::make(&self.root(root)).map(|()| fs::rename(path, &gone)) {
            Ok(Ok(())) => destroy(&gone),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "stays behind");
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "stays behind"),
        }
    }

    /// Keeps a revision for as long as `holder` runs, or until it lets go.
    pub(super) fn hold(&self, id: RevisionId, holder: &QubeName) {
        self.holds().entry(holder.clone()).or_default().insert(id);
    }

    /// The newest revision, held from when it was chosen.
    pub(super) fn hold_newest(
        &self,
        root: Uuid,
        holder: &QubeName,
    ) -> Result<Option<RevisionId>, StorageError> {
        let mut holds = self.holds();
        let newest = self.newest(root)?;
        holds.entry(holder.clone()).or_default().extend(newest);
        Ok(newest)
    }

    /// Lets go of everything that `holder` holds.
    pub(super) fn release(&self, holder: &QubeName) {
        self.holds().remove(holder);
    }

    /// Removes what nobody holds: of roots that are there, beyond the newest and as many earlier
    /// ones as `keep` says (none: all); of others, everything.
    pub(super) fn prune(&self, keep: &BTreeMap<Uuid, Option<u32>>) -> Result<(), StorageError> {
        for root in self.roots()? {
            let earlier = match keep.get(&root) {
                Some(None) => continue,
                Some(Some(earlier)) => usize::try_from(*earlier).unwrap_or(usize::MAX),
                None => {
                    self.remove_from(root, 0)?;
                    if let Some(waiting) = self.waiting(root)? {
                        self.discard(root, &self.sealing(waiting));
                    }
                    folder::remove_if_empty(&self.root(root))?;
                    continue;
                }
            };
            self.remove_from(root, earlier.saturating_add(1))?;
        }
        Ok(())
    }

    /// Removes all but the newest `stay`, and those that somebody holds.
    fn remove_from(&self, root: Uuid, stay: usize) -> Result<(), StorageError> {
        let mut doomed = Vec::new();
        {
            let holds = self.holds();
            let held: BTreeSet<&RevisionId> = holds.values().flatten().collect();
            for number in self.numbers(root)?.into_iter().rev().skip(stay) {
                let id = RevisionId { root, number };
                if held.contains(&id) {
                    continue;
                }
                let gone = self.root(root).join(format!("{GONE}{}", Uuid::new_v4()));
                let place = self.place(id);
                // Under the lock: nobody chooses it meanwhile.
                fs::rename(&place, &gone)
                    .map_err(|error| failed(&place, "removing revision", error))?;
                doomed.push(gone);
            }
        }
        doomed.iter().for_each(|gone| destroy(gone));
        Ok(())
    }

    /// Remembers what came of publishing the root of a qube, for whoever asks how things are.
    pub(super) fn note(&self, qube: &QubeName, published: Result<(), &StorageError>) {
        match published {
            Ok(()) => drop(self.troubles().remove(qube)),
            Err(error) => self.note_trouble(qube, bulkhead_wire::causes::chain(error)),
        }
    }

    /// Remembers why the root of a qube is not published.
    pub(super) fn note_trouble(&self, qube: &QubeName, why: String) {
        self.troubles().insert(qube.clone(), why);
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<QubeName, String>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was remembered, in sentences.
    pub(super) fn warnings(&self) -> Vec<String> {
        let troubles = self.troubles();
        let told = troubles.iter().map(|(qube, why)| {
            format!(
                "The root of {qube} as it was at its last stop is not what its qubes start from: \
                 {why}. The next stop of {qube} tries again."
            )
        });
        told.collect()
    }
}

/// Removes a tree; what stays is told, and tried again when the daemon starts.
fn destroy(path: &Path) {
    if let Err(error) = tree::remove(path) {
        tracing::warn!(path = %path.display(), %error, "cannot be removed");
    }
}

/// Names in a folder; one that is not there has none.
fn names(path: &Path) -> Result<Vec<String>, StorageError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| failed(path, "reading folder", error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(path, "reading folder", error))?;
        found.extend(entry.file_name().into_string().ok());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qube(text: &str) -> QubeName {
        QubeName::new(text).unwrap()
    }

    fn numbers(revisions: &Revisions, root: Uuid) -> Vec<u64> {
        let list = revisions.list(root).unwrap();
        list.iter().map(|info| info.id.number).collect()
    }

    fn make(revisions: &Revisions, root: Uuid) -> RevisionId {
        let next = revisions.next(root).unwrap();
        let fill = |new: &Path| {
            fs::write(new.join("content"), next.number.to_string()).unwrap();
            Ok(())
        };
        revisions.make(next, fill).unwrap();
        next
    }

    #[test]
    fn those_in_use_and_as_many_as_declared_stay() {
        let dir = tempfile::tempdir().unwrap();
        let revisions = Revisions::new(dir.path());
        revisions.prepare().unwrap();
        let root = Uuid::new_v4();
        assert_eq!(revisions.newest(root).unwrap(), None);
        let app = qube("app");
        assert_eq!(revisions.hold_newest(root, &app).unwrap(), None);
        for _ in 0..5 {
            make(&revisions, root);
            if numbers(&revisions, root).len() == 2 {
                let held = revisions.hold_newest(root, &app).unwrap();
                assert_eq!(held.unwrap().number, 2);
            }
        }
        let keep = |earlier| BTreeMap::from([(root, earlier)]);
        revisions.prune(&keep(None)).unwrap();
        assert_eq!(numbers(&revisions, root), [1, 2, 3, 4, 5]);
        revisions.prune(&keep(Some(1))).unwrap();
        assert_eq!(numbers(&revisions, root), [2, 4, 5]);
        revisions.release(&app);
        revisions.prune(&keep(Some(1))).unwrap();
        assert_eq!(numbers(&revisions, root), [4, 5]);
        revisions.prune(&keep(Some(0))).unwrap();
        assert_eq!(numbers(&revisions, root), [5]);
        // A number is never given twice, and a root that is gone keeps what is in use.
        assert_eq!(make(&revisions, root).number, 6);
        revisions.hold(RevisionId { root, number: 5 }, &app);
        revisions.prune(&BTreeMap::new()).unwrap();
        assert_eq!(numbers(&revisions, root), [5]);
        revisions.release(&app);
        revisions.prune(&BTreeMap::new()).unwrap();
        assert_eq!(names(&revisions.folder).unwrap(), [""; 0]);
    }

    #[test]
    fn what_was_half_made_or_half_removed_is_no_revision() {
        let dir = tempfile::tempdir().unwrap();
        let revisions = Revisions::new(dir.path());
        let root = Uuid::new_v4();
        let kept = make(&revisions, root);
        for half in [".new-2/deep", ".gone-1/deep"] {
            fs::create_dir_all(revisions.root(root).join(half)).unwrap();
        }
        assert_eq!(revisions.newest(root).unwrap(), Some(kept));
        revisions.prepare().unwrap();
        assert_eq!(names(&revisions.root(root)).unwrap(), ["1"]);
        let refused = revisions.make(RevisionId { root, number: 2 }, |_| {
            Err(StorageError::BadVolumeName("x".into()))
        });
        assert!(refused.is_err());
        assert_eq!(names(&revisions.root(root)).unwrap(), ["1"]);
    }
}
