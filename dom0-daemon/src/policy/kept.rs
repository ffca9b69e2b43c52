//! The last good rules of live folders, kept for the next daemon.
//!
//! They are in the state folder, beside the generations, which hold the rest of the policy: whoever
//! can write there decides everything already.

use std::fs;
use std::io;
use std::path::Path;

use bulkhead_model::qube::{PolicyFolder, PolicyText};
use bulkhead_policy::LivePolicy;
use serde::{Deserialize, Serialize};

use crate::whole_file::{self, Lasting};

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
        return whole_file::remove(&path);
    }
    let text = serde_json::to_vec(kept)?;
    Ok(whole_file::replace(&path, &text, 0o600, Lasting::Always)?)
}
