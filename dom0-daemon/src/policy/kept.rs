//! The last good rules of live folders, kept for the next daemon.
//!
//! They are in the state folder, beside the generations, which hold the rest of the policy: whoever
//! can write there decides everything already.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bulkhead_model::qube::{PolicyFolder, PolicyText};
use bulkhead_policy::LivePolicy;
use serde::{Deserialize, Serialize};

const FILE: &str = "live-policy.json";

/// One entry.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) folder: PolicyFolder,
    pub(super) texts: Vec<PolicyText>,
    /// When they were read: seconds since the epoch.
    pub(super) read: Option<u64>,
}

/// What an earlier daemon kept. What cannot be read is reported and counts as nothing: the folders
/// then deny every call until they can be read.
pub(super) fn load(state_dir: &Path) -> Vec<Kept> {
    let read = fs::read(state_dir.join(FILE));
    let kept = read.and_then(|bytes| Ok(serde_json::from_slice::<Vec<Kept>>(&bytes)?));
    kept.unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::error!(%error, "the last good policy cannot be read");
        }
        Vec::new()
    })
}

/// What there is to keep.
pub(super) fn of(live: &LivePolicy, read: &[Option<u64>]) -> Vec<Kept> {
    let read = read.iter().copied().chain(std::iter::repeat(None));
    let entries = live.entries().iter().zip(read);
    let good = entries.filter(|(entry, _)| entry.rules().is_some());
    good.map(|(entry, read)| Kept {
        folder: entry.folder.clone(),
        texts: entry.texts(),
        read,
    })
    .collect()
}

/// Writes it, whole or not at all.
pub(super) fn save(state_dir: &Path, kept: &[Kept]) -> io::Result<()> {
    let path = state_dir.join(FILE);
    if kept.is_empty() {
        return match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
    }
    let new = state_dir.join("live-policy.json.new");
    let mut file = fs::OpenOptions::new();
    let file = file.create(true).truncate(true).write(true).mode(0o600);
    let mut file = file.open(&new)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    fs::File::open(state_dir)?.sync_all()
}
