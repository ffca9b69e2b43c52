//! The end of everything, and why qubes do not run that have run, for a daemon that starts again:
//! one that a person stopped stays stopped. Forgotten with the boot of the machine, as what runs is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use bulkhead_api::qube::{QubeRow, QubeState};
use bulkhead_model::name::QubeName;
use serde::{Deserialize, Serialize};

use super::{Inner, Runtime};
use crate::hypervisor::embedded::boot_id;
use crate::machine::{Machine, Reason, Stopped};
use crate::whole_file::{self, Lasting};

const FILE: &str = "stopped.json";

#[derive(Debug, Serialize, Deserialize)]
struct Stops {
    boot: String,
    qubes: BTreeMap<QubeName, Stopped>,
}

/// What is known from before in this boot. What cannot be read is reported and counts as nothing.
fn load(runtime_dir: &Path) -> BTreeMap<QubeName, Stopped> {
    let read = fs::read(runtime_dir.join(FILE))
        .and_then(|bytes| Ok(serde_json::from_slice::<Stops>(&bytes)?));
    match read {
        Ok(stops) if stops.boot == boot_id() => stops.qubes,
        Ok(_) => BTreeMap::new(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => {
            tracing::warn!(%error, "it is not known any more which qubes were stopped");
            BTreeMap::new()
        }
    }
}

/// Writes them, whole or not at all.
fn save(runtime_dir: &Path, qubes: BTreeMap<QubeName, Stopped>) -> io::Result<()> {
    let boot = boot_id();
    let text = serde_json::to_vec(&Stops { boot, qubes })?;
    let path = runtime_dir.join(FILE);
    Ok(whole_file::replace(&path, &text, 0o600, Lasting::ThisBoot)?)
}

impl Stopped {
    pub(super) fn state(self) -> QubeState {
        match self {
            Self::Died => QubeState::Failed,
            Self::ByPerson | Self::ByItself => QubeState::Stopped,
        }
    }
}

impl Inner {
    /// Keeps why qubes do not run, for the next daemon. Written in the order of the changes: the
    /// lock is held, and the file is small.
    pub(super) fn save_stops(&self) {
        let state = self.state();
        let stops = state.qubes.iter().filter(|(_, entry)| entry.run.is_none());
        let stops = stops.filter_map(|(name, entry)| Some((name.clone(), entry.stopped?)));
        if let Err(error) = save(&self.config.runtime_dir, stops.collect()) {
            tracing::warn!(%error, "a daemon that starts again will not know what was stopped");
        }
    }

    /// What a daemon before this one has kept. Of those that run it says nothing any more.
    pub(super) fn load_stops(&self) {
        for (name, stopped) in load(&self.config.runtime_dir) {
            let mut state = self.state();
            self.mailbox_in(&mut state, &name, None);
            let entry = state.qubes.get_mut(&name);
            if let Some(entry) = entry.filter(|entry| entry.run.is_none()) {
                entry.stopped = Some(stopped);
                entry.state = stopped.state();
            }
        }
    }
}

impl Runtime {
    /// Stops everything, each qube within its own time and a netvm after all that use it. Nothing
    /// counts as stopped by a person: what starts by itself starts with the next daemon.
    pub async fn stop_all(&self) {
        let mut tried = BTreeSet::new();
        loop {
            let wave = next_to_stop(&self.list(), &tried);
            if wave.is_empty() {
                return;
            }
            let mut stops = tokio::task::JoinSet::new();
            for name in &wave {
                let (runtime, name) = (self.clone(), name.clone());
                let timeout = self.inner.shutdown_timeout(&name);
                stops.spawn(async move {
                    if let Err(error) = runtime.stop(&name, timeout, Reason::Exit).await {
                        tracing::error!(%name, %error, "a qube did not stop");
                    }
                });
            }
            while stops.join_next().await.is_some() {}
            tried.extend(wave);
        }
    }
}

/// Those that run, were not tried, and are the netvm of none of the others that do; all of them
/// where each is some other's.
fn next_to_stop(rows: &[QubeRow], tried: &BTreeSet<QubeName>) -> Vec<QubeName> {
    let running = |row: &&QubeRow| row.state.has_domain();
    let left: Vec<(QubeName, &QubeRow)> = rows
        .iter()
        .filter(running)
        .filter_map(|row| Some((QubeName::new(row.name.as_str()).ok()?, row)))
        .filter(|(name, _)| !tried.contains(name))
        .collect();
    let is_used = |name: &QubeName| left.iter().any(|(_, row)| row.netvm == name.as_str());
    let free = left.iter().filter(|(name, _)| !is_used(name));
    let free: Vec<QubeName> = free.map(|(name, _)| name.clone()).collect();
    if free.is_empty() {
        return left.into_iter().map(|(name, _)| name).collect();
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_of_this_boot_and_a_broken_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).is_empty());
        let stops: BTreeMap<_, _> = [(QubeName::new("work").unwrap(), Stopped::ByPerson)].into();
        save(dir.path(), stops.clone()).unwrap();
        assert_eq!(load(dir.path()), stops);
        let file = dir.path().join(FILE);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(&boot_id(), "another")).unwrap();
        assert!(load(dir.path()).is_empty());
        fs::write(&file, "{").unwrap();
        assert!(load(dir.path()).is_empty());
    }
}
