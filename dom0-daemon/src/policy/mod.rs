//! The call policy while the daemon runs: made of a description, and of folders that are read again
//! whenever something in them changes.
//!
//! ```text
//! declare --> read folders --> engine in force --> watch them
//!                                   ^                 |
//!                                   |              changed, and quiet again
//!                                   |                 v
//!                 one swap -- read again, watch first, and again if anything moved meanwhile
//! ```
//!
//! A call takes the engine that is in force when it is decided, whole. Folders that cannot be read
//! keep the rules of their last good reading, also across restarts (`kept`).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bulkhead_api::call::AuditRecord;
use bulkhead_api::event::Event;
use bulkhead_api::policy::{PolicyFault, PolicyFolderStatus, PolicyStatus};
use bulkhead_model::qube::{Description, PolicyFolder};
use bulkhead_policy::{
    DiskFolders, Engine, FolderError, Layout, LiveChange, LivePolicy, PolicyError, PolicyFolders,
    Reading, read_live,
};
use tokio::sync::Notify;

pub(crate) use self::services::PolicyService;
use self::watch::Watch;
use crate::runtime::{Inner, Runtime, State};

mod kept;
mod services;
mod sockets;
mod store;
mod watch;

/// How often files are read again because something changed while they were read; after that the
/// last reading counts, and the next change brings another.
const READINGS_MAX: u32 = 5;
/// Errors told of one entry: a person mends them one by one.
const ERRORS_TOLD_MAX: usize = 32;
/// Pause before watching is tried again after it failed.
const RETRY: Duration = Duration::from_secs(10);
/// What audit records about policy itself have as their service; no service has a bracket.
const AUDIT_SERVICE: &str = "(policy)";

#[derive(Debug, Default)]
struct Current {
    /// Counts the descriptions that were put in force.
    number: u64,
    live: Option<LivePolicy>,
    /// When each entry was last read without error.
    read: Vec<Option<u64>>,
    /// What is wrong with the rules of the description itself.
    errors: Vec<PolicyError>,
    /// Why changes are not noticed.
    blind: Option<String>,
}

/// The policy in force and its folders.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    current: Mutex<Current>,
    declared: Arc<Notify>,
    /// Held by whoever changes policy files.
    files: Mutex<()>,
}

/// A policy that was read and is not in force yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    live: Option<LivePolicy>,
    read: Vec<Option<u64>>,
    errors: Vec<PolicyError>,
}

impl Prepared {
    /// Why it denies every call; none if it does not.
    pub(crate) fn refusal(&self) -> Option<String> {
        let denies = (self.live.as_ref()).is_none_or(LivePolicy::denies_all);
        let live = self.live.iter().flat_map(LivePolicy::errors);
        let errors = self.errors.iter().chain(live).map(ToString::to_string);
        denies.then(|| errors.collect::<Vec<_>>().join("; "))
    }

    /// Its engine.
    pub(crate) fn engine(&self) -> Engine {
        match &self.live {
            Some(live) => live.engine(),
            None => Engine::broken(self.errors.clone()),
        }
    }
}

fn now() -> u64 {
    crate::audit::now_ms() / 1000
}

/// Reads the policy of a description, on top of what is in force or what was kept.
fn prepare(description: &Description, before: Option<&Current>, state_dir: &Path) -> Prepared {
    let mut live = match LivePolicy::new(description) {
        Ok(live) => live,
        Err(errors) => {
            return Prepared {
                live: None,
                read: Vec::new(),
                errors,
            };
        }
    };
    let mut known: Vec<(PolicyFolder, Option<u64>)> = Vec::new();
    match before.and_then(|before| Some((before.live.as_ref()?, &before.read))) {
        Some((old, read)) => {
            live.inherit(old);
            let folders = old.entries().iter().map(|entry| entry.folder.clone());
            known.extend(folders.zip(read.iter().copied()));
        }
        None => {
            for kept in kept::load(state_dir) {
                if live.recall(&kept.folder, &kept.texts) {
                    known.push((kept.folder, kept.read));
                }
            }
        }
    }
    let folders: Vec<PolicyFolder> = (live.entries().iter().map(|e| e.folder.clone())).collect();
    let mut read = Vec::new();
    for (number, folder) in folders.iter().enumerate() {
        let before = known.iter().find(|(old, _)| old.reads_as(folder));
        let before = before.and_then(|(_, read)| *read);
        live.take(number, read_live(folder, &DiskFolders));
        let good = (live.entries().get(number)).is_some_and(|entry| entry.errors().is_empty());
        read.push(if good { Some(now()) } else { before });
    }
    Prepared {
        live: Some(live),
        read,
        errors: Vec::new(),
    }
}

/// The disk, but for files that somebody is writing: half of a file may be worse than none.
#[derive(Debug)]
struct Quiet<'a> {
    writing: &'a BTreeSet<PathBuf>,
}

impl PolicyFolders for Quiet<'_> {
    fn read(&self, path: &Path) -> Result<Arc<[u8]>, FolderError> {
        if self.writing.contains(path) {
            let why = "a program is still writing it";
            return Err(FolderError::Io(io::Error::other(why)));
        }
        DiskFolders.read(path)
    }

    fn files(&self, folder: &Path) -> Result<Vec<String>, FolderError> {
        DiskFolders.files(folder)
    }
}

impl Policy {
    fn lock_files(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing that holds this lock can panic half way through a change.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Reads what `description` has as its policy.
    pub(crate) async fn prepare_policy(&self, description: Arc<Description>) -> Prepared {
        let before = {
            let current = self.policy.current();
            Current {
                live: current.live.clone(),
                read: current.read.clone(),
                ..Current::default()
            }
        };
        let before = before.live.is_some().then_some(before);
        let state_dir = self.config.state_dir.clone();
        let read = move || prepare(&description, before.as_ref(), &state_dir);
        match tokio::task::spawn_blocking(read).await {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::error!(%error, "the policy was not read to its end");
                Prepared {
                    live: None,
                    read: Vec::new(),
                    errors: Vec::new(),
                }
            }
        }
    }

    /// Puts a policy in force, and with it whatever `declare` changes.
    pub(crate) fn put_policy<R>(
        &self,
        prepared: Prepared,
        declare: impl FnOnce(&mut State) -> R,
    ) -> R {
        let engine = Arc::new(prepared.engine());
        let (kept, faulty, declared) = {
            let mut current = self.policy.current();
            let Prepared { live, read, errors } = prepared;
            current.number += 1;
            current.live = live;
            current.read = read;
            current.errors = errors;
            let kept = current.live.as_ref().map(|l| kept::of(l, &current.read));
            let faulty = !current.faults().is_empty();
            // Under the lock, so that no reading for the policy before comes after.
            let mut state = self.state();
            state.engine = engine;
            (kept, faulty, declare(&mut state))
        };
        if let Some(kept) = kept {
            self.keep_policy(&kept);
        }
        if faulty {
            self.tell_policy();
        }
        self.policy.declared.notify_one();
        declared
    }

    fn keep_policy(&self, kept: &[kept::Kept]) {
        if let Err(error) = kept::save(&self.config.state_dir, kept) {
            tracing::error!(%error, "the last good policy cannot be kept for the next start");
        }
    }

    /// Tells what is in force now: log, audit log and signal.
    fn tell_policy(&self) {
        let status = self.policy.current().status();
        let faults: Vec<&PolicyFault> = status.faults().collect();
        for fault in &faults {
            let remedy = &fault.remedy;
            tracing::error!(at = %fault.place, remedy, "policy: {}", fault.message);
        }
        let rule = match faults.first() {
            None => format!("{} rules are in force", status.rules),
            Some(first) => {
                let others = match faults.len() {
                    1 => String::new(),
                    more => format!(" (and {} more)", more - 1),
                };
                let outcome = if status.denies_all {
                    "every call is refused"
                } else {
                    "the last good rules stay in force"
                };
                format!("{}: {}{others}: {outcome}", first.place, first.message)
            }
        };
        let decision = if faults.is_empty() { "loaded" } else { "error" };
        self.audit.record(AuditRecord {
            time: 0,
            source: "dom0".to_owned(),
            requested_target: "dom0".to_owned(),
            target: String::new(),
            service: AUDIT_SERVICE.to_owned(),
            decision: decision.to_owned(),
            by: "policy".to_owned(),
            rule,
            notify: !faults.is_empty(),
            count: 1,
            since: None,
        });
        let shown = |fault: &&PolicyFault| format!("{}: {}", fault.place, fault.message);
        self.events.send(Event::PolicyChanged {
            ok: faults.is_empty(),
            rules: status.rules,
            errors: faults.iter().map(shown).collect(),
        });
    }

    /// Where the `policy.*` services work: the first entry of live folders.
    fn admin_layout(&self) -> Option<Layout> {
        let (_, folders) = self.live_folders();
        folders.into_iter().next().map(|entry| Layout {
            folders: entry.folders,
            legacy: entry.legacy,
            shown_from: entry.shown_from,
        })
    }

    fn live_folders(&self) -> (u64, Vec<PolicyFolder>) {
        let current = self.policy.current();
        let entries = current.live.iter().flat_map(LivePolicy::entries);
        let folders = entries.map(|entry| entry.folder.clone()).collect();
        (current.number, folders)
    }

    /// Puts readings in force, unless another description is by now.
    fn take_readings(&self, number: u64, readings: Vec<Reading>) {
        let (changed, kept) = {
            let mut current = self.policy.current();
            if current.number != number {
                return;
            }
            let Current { live, read, .. } = &mut *current;
            let Some(live) = live else { return };
            let mut changed = false;
            let mut rules = false;
            for (number, reading) in readings.into_iter().enumerate() {
                let good = reading.rules.is_ok();
                let change = live.take(number, reading);
                changed |= change != LiveChange::Nothing;
                rules |= change == LiveChange::Rules;
                if let Some(read) = read.get_mut(number).filter(|_| good) {
                    *read = Some(now());
                }
            }
            if changed {
                // Under the lock, so that no description comes between.
                self.state().engine = Arc::new(live.engine());
            }
            (changed, rules.then(|| kept::of(live, read)))
        };
        if let Some(kept) = kept {
            self.keep_policy(&kept);
        }
        if changed {
            self.tell_policy();
        }
    }

    fn set_blind(&self, why: Option<&io::Error>) {
        let why = why.map(ToString::to_string);
        self.policy.current().blind = why;
    }
}

impl Current {
    fn faults(&self) -> Vec<&PolicyError> {
        let live = self.live.iter().flat_map(LivePolicy::errors);
        self.errors.iter().chain(live).collect()
    }

    fn status(&self) -> PolicyStatus {
        let entries = self.live.iter().flat_map(LivePolicy::entries);
        let read = self.read.iter().copied().chain(std::iter::repeat(None));
        let folders = entries.zip(read).map(|(entry, read)| PolicyFolderStatus {
            place: format!("{}:{}", entry.folder.origin, entry.folder.line),
            folders: (entry.folder.folders.iter().map(|f| f.display().to_string())).collect(),
            ok: entry.errors().is_empty(),
            rules: entry.rules().map_or(0, |rules| count(rules.len())),
            files: count(entry.files()),
            read,
            faults: faults(entry.errors()),
            faults_in_all: count(entry.errors().len()),
        });
        let denies_all = self.live.as_ref().is_none_or(LivePolicy::denies_all);
        let rules = match &self.live {
            Some(live) if !denies_all => live.rules(),
            _ => 0,
        };
        PolicyStatus {
            rules: count(rules),
            denies_all,
            faults: faults(&self.errors),
            folders: folders.collect(),
            blind: self.blind.clone(),
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn faults(errors: &[PolicyError]) -> Vec<PolicyFault> {
    let told = errors.iter().take(ERRORS_TOLD_MAX);
    told.map(|error| PolicyFault {
        place: match error.origin.line {
            0 => error.origin.to_string(),
            _ => format!("{}:{}", error.origin, error.column),
        },
        message: error.kind.to_string(),
        remedy: error.remedy(),
    })
    .collect()
}

impl Runtime {
    /// How the policy is: what is in force, and what is wrong with what should be.
    pub fn policy_status(&self) -> PolicyStatus {
        self.inner.policy.current().status()
    }
}

/// Reads live folders again whenever they change, until the runtime is gone.
pub(crate) async fn follow(inner: Weak<Inner>) {
    loop {
        let Err(error) = watch_and_read(&inner).await else {
            return;
        };
        let Some(own) = inner.upgrade() else { return };
        tracing::error!(%error, "changes of policy folders are not noticed");
        own.set_blind(Some(&error));
        drop(own);
        tokio::time::sleep(RETRY).await;
    }
}

async fn watch_and_read(inner: &Weak<Inner>) -> io::Result<()> {
    let mut watch = Watch::new()?;
    let Some(declared) = inner.upgrade().map(|own| Arc::clone(&own.policy.declared)) else {
        return Ok(());
    };
    // Whatever was declared before.
    watch.doubt();
    loop {
        tokio::select! {
            () = declared.notified() => {}
            settled = watch.settled() => settled?,
        }
        let Some(inner) = inner.upgrade() else {
            return Ok(());
        };
        read_again(&inner, &mut watch).await?;
        inner.set_blind(None);
    }
}

async fn read_again(inner: &Arc<Inner>, watch: &mut Watch) -> io::Result<()> {
    for round in 1..=READINGS_MAX {
        let (number, folders) = inner.live_folders();
        let writing = watch.writing().clone();
        let reading = tokio::task::spawn_blocking(move || {
            let disk = Quiet { writing: &writing };
            let all = folders.iter().map(|folder| read_live(folder, &disk));
            all.collect::<Vec<Reading>>()
        });
        let readings = reading.await.map_err(io::Error::other)?;
        let mut paths = BTreeSet::new();
        for reading in &readings {
            paths.extend(reading.looked_at.iter().cloned());
        }
        let grew = watch.want(&paths)?;
        // A file is cut short a moment before the kernel tells of it.
        tokio::time::sleep(watch::AFTERMATH).await;
        let moved = watch.changed()?;
        if (grew || moved) && round < READINGS_MAX {
            continue;
        }
        inner.take_readings(number, readings);
        if moved {
            watch.doubt();
        }
        break;
    }
    Ok(())
}
