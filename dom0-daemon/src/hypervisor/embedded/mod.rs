//! Qubes as sealed groups of Linux processes, for trying out, development and tests.
//!
//! Not Xen and not of its strength: all qubes share this machine's kernel. Each runs in its own
//! user, pid, mount, net, ipc and uts namespaces without capabilities, under a system call
//! filter, on an overlay over a read-only template, within the limits that this machine can set
//! (`cgroup`). As root every qube has a host user of its own.
//!
//! A qube outlives the daemon. What is needed to find it again is in `domains/<id>/` of the
//! runtime folder: `record.json` (what it is, its first process), `console` (a named pipe) and
//! `status` (what bubblewrap says: pid, later the exit code).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use bulkhead_model::qube::{DEFAULT_CPU_WEIGHT, Memory, Qube, VirtMode};
use rustix::process::Signal;
use tokio::sync::{broadcast, watch};

use self::cgroup::{Cgroups, Controller, Group};
use self::process::{Process, ProcessId};
use self::record::Record;
use super::console;
use super::{
    DomId, DomainEvent, DomainInfo, DomainSpec, DomainState, Ending, HostReport, Hypervisor,
    HypervisorError,
};

mod cgroup;
mod probe;
mod process;
mod record;
mod start;

pub use cgroup::QUBE_TASKS_MAX;
pub(crate) use record::{boot_id, remove_tree};

/// Name in messages.
const NAME: &str = "embedded";

/// First host user id of qubes. Above every user and below the ranges that Debian gives to users
/// for their own namespaces (from 100,000 upwards in steps of 65,536) only on a machine with more
/// than six such users; the ids need no entry anywhere.
pub const HOST_ID_BASE: u32 = 524_288;
/// How many of them: domain numbers are below 0x7FF0.
pub const HOST_ID_COUNT: u32 = 0x8000;

/// Events kept for a slow receiver.
const EVENT_BACKLOG: usize = 256;

/// Where things are.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The daemon's runtime folder.
    pub runtime_dir: PathBuf,
    /// The `bulkhead-launch` program.
    pub launcher: PathBuf,
    /// The `qube-agent` program, which is copied for the qubes.
    pub agent: PathBuf,
    /// The `qube-gui-agent` program, likewise; none where qubes have no windows.
    pub compositor: Option<PathBuf>,
    /// The program that each qube starts with ([`LaunchSpec::guard`]): a static `qube-agent`.
    ///
    /// [`LaunchSpec::guard`]: bulkhead_sandbox::launch::LaunchSpec::guard
    pub guard: PathBuf,
    /// The bubblewrap program; none means looking for it.
    pub bwrap: Option<PathBuf>,
    /// Tasks that one qube may have, usually [`QUBE_TASKS_MAX`].
    pub tasks_max: u64,
}

/// One running domain.
#[derive(Debug)]
struct Domain {
    record: Record,
    process: Arc<Process>,
    group: Group,
    paused: bool,
    asked: Option<Ending>,
    gone: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Shared {
    config: EmbeddedConfig,
    cgroups: Cgroups,
    root: bool,
    domains: Mutex<BTreeMap<DomId, Domain>>,
    events: broadcast::Sender<DomainEvent>,
}

/// The embedded hypervisor. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> HypervisorError {
    let doing = doing.into();
    move |source| HypervisorError::io(doing, source)
}

impl Shared {
    fn domains(&self) -> MutexGuard<'_, BTreeMap<DomId, Domain>> {
        // Nothing that holds this lock can panic half way through a change.
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn domain_dir(&self, domid: DomId) -> PathBuf {
        self.config
            .runtime_dir
            .join("domains")
            .join(domid.to_string())
    }

    fn with<T>(
        &self,
        domid: DomId,
        act: impl FnOnce(&mut Domain) -> Result<T, HypervisorError>,
    ) -> Result<T, HypervisorError> {
        let mut domains = self.domains();
        act(domains
            .get_mut(&domid)
            .ok_or(HypervisorError::NoSuchDomain(domid))?)
    }

    /// Makes `domain` known and watches it.
    fn register(
        self: &Arc<Self>,
        record: Record,
        process: Process,
        group: Group,
        child: Option<tokio::process::Child>,
    ) {
        let domid = record.spec.domid;
        let (tell, gone) = watch::channel(false);
        let process = Arc::new(process);
        let domain = Domain {
            paused: group.frozen() || record.stopped,
            record,
            process: Arc::clone(&process),
            group,
            asked: None,
            gone,
        };
        self.domains().insert(domid, domain);
        let dir = self.domain_dir(domid);
        tokio::spawn(Self::watch(
            Arc::downgrade(self),
            (domid, dir),
            process,
            child,
            tell,
        ));
    }

    /// Waits for the end of a domain, clears up behind it and tells. If nobody has the hypervisor by
    /// then, the domain is somebody else's, and so is the clearing up.
    async fn watch(
        shared: Weak<Self>,
        (domid, dir): (DomId, PathBuf),
        process: Arc<Process>,
        child: Option<tokio::process::Child>,
        tell: watch::Sender<bool>,
    ) {
        let console = shared.upgrade().and_then(|shared| {
            shared
                .with(domid, |d| Ok(d.record.spec.console_log.clone()))
                .ok()
        });
        let follower = console.as_ref().and_then(|log| {
            console::follow(&dir.join(start::CONSOLE), log.clone())
                .inspect_err(|error| tracing::warn!(%domid, %error, "console is not followed"))
                .ok()
        });
        let status = fs::File::open(dir.join(start::STATUS)).ok();
        process.ended().await;
        let code = record::exit_code(child, status).await;
        if let Some(follower) = follower {
            follower.abort();
        }
        if let Some(log) = console {
            console::drain(&dir.join(start::CONSOLE), log).await;
        }
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let Some(domain) = shared.domains().remove(&domid) else {
            return;
        };
        let how = match (domain.asked, code) {
            (Some(Ending::Destroyed), _) => Ending::Destroyed,
            (_, Some(0)) => Ending::Shutdown,
            // Also where it was asked and something else was faster.
            _ => Ending::Crashed,
        };
        tracing::info!(%domid, qube = %domain.record.spec.name, ?how, ?code, "domain ended");
        shared.clear(&domain.record, &domain.group).await;
        // Nobody listening is fine for both.
        let _ = tell.send(true);
        let _ = shared.events.send(DomainEvent::Died { domid, how });
    }

    /// Removes everything of a domain that is gone.
    async fn clear(&self, record: &Record, group: &Group) {
        tokio::spawn(remove_cgroups(group.clone(), record.spec.domid));
        let trash = self.config.runtime_dir.join("trash");
        let moved = trash.join(record.spec.domid.to_string());
        let aside = fs::create_dir_all(&trash)
            .and_then(|()| fs::rename(&record.spec.overlay, &moved))
            .is_ok();
        let doomed = if aside {
            moved
        } else {
            record.spec.overlay.clone()
        };
        // What a guest made is removed by a program of its own: such a tree may be as deep and
        // wide as the guest liked, and takes its time.
        tokio::spawn(remove_tree(doomed));
        if let Err(error) = fs::remove_dir_all(self.domain_dir(record.spec.domid)) {
            tracing::warn!(domid = %record.spec.domid, %error, "record stays behind");
        }
    }
}

impl Embedded {
    /// Takes over what runs already and clears up what does not any more.
    ///
    /// # Errors
    /// Where the runtime folder cannot be used.
    pub async fn open(config: EmbeddedConfig) -> Result<Self, HypervisorError> {
        let domains = config.runtime_dir.join("domains");
        for dir in [&domains, &config.runtime_dir.join("trash")] {
            fs::create_dir_all(dir)
                .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)))
                .map_err(io_error(format!("making folder `{}`", dir.display())))?;
        }
        let shared = Arc::new(Shared {
            cgroups: Cgroups::detect(),
            root: rustix::process::geteuid().is_root(),
            config,
            domains: Mutex::default(),
            events: broadcast::channel(EVENT_BACKLOG).0,
        });
        let trash = shared.config.runtime_dir.join("trash");
        for entry in fs::read_dir(&trash).into_iter().flatten().flatten() {
            tokio::spawn(remove_tree(entry.path()));
        }
        for record in record::read_all(&domains) {
            shared.adopt(record).await;
        }
        Ok(Self { shared })
    }
}

impl Shared {
    async fn adopt(self: &Arc<Self>, record: Record) {
        let domid = record.spec.domid;
        let group = record.group.clone();
        match record.process {
            Some(id) if record.is_of_this_boot() => match Process::reopen(id) {
                Ok(process) => {
                    tracing::info!(%domid, qube = %record.spec.name, "domain taken over");
                    self.register(record, process, group, None);
                    return;
                }
                Err(error) => tracing::info!(%domid, %error, "domain ended while nobody looked"),
            },
            Some(_) => {}
            None => {
                if let Some(process) =
                    record::half_started(&record, &self.domain_dir(domid).join(start::STATUS))
                {
                    tracing::warn!(%domid, "domain was half started and is ended");
                    if process.signal(Signal::KILL).is_ok() {
                        process.ended().await;
                    }
                }
            }
        }
        self.clear(&record, &group).await;
    }

    /// Freezes or thaws, by the freezer where there is one.
    fn set_paused(&self, domid: DomId, paused: bool) -> Result<(), HypervisorError> {
        let dir = self.domain_dir(domid);
        self.with(domid, |domain| {
            if domain.paused == paused {
                return Ok(());
            }
            let verb = if paused { "freezing" } else { "thawing" };
            let doing = format!("{verb} qube `{}`", domain.record.spec.name);
            if domain.group.can_freeze() {
                domain.group.freeze(paused).map_err(io_error(doing))?;
            } else {
                let signal = if paused { Signal::STOP } else { Signal::CONT };
                domain
                    .process
                    .signal_tree(signal)
                    .map_err(io_error(doing))?;
                domain.record.stopped = paused;
                domain
                    .record
                    .write(&dir)
                    .map_err(io_error("writing a domain's record"))?;
            }
            domain.paused = paused;
            Ok(())
        })
    }

    fn info(domain: &Domain) -> DomainInfo {
        DomainInfo {
            spec: domain.record.spec.clone(),
            state: if domain.paused {
                DomainState::Paused
            } else {
                DomainState::Running
            },
            memory_used: domain.group.memory_used(),
            pid: u32::try_from(domain.process.id.pid).ok(),
        }
    }
}

#[async_trait]
impl Hypervisor for Embedded {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn probe(&self) -> Result<HostReport, HypervisorError> {
        probe::probe(&self.shared).await
    }

    async fn create(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        start::create(&self.shared, spec).await
    }

    async fn pause(&self, domid: DomId) -> Result<(), HypervisorError> {
        self.shared.set_paused(domid, true)
    }

    async fn unpause(&self, domid: DomId) -> Result<(), HypervisorError> {
        self.shared.set_paused(domid, false)
    }

    async fn shutdown(&self, domid: DomId) -> Result<(), HypervisorError> {
        self.shared.set_paused(domid, false)?;
        self.shared.with(domid, |domain| {
            domain.asked.get_or_insert(Ending::Shutdown);
            domain
                .process
                .signal(Signal::TERM)
                .map_err(io_error(format!("asking domain {domid} to stop")))
        })
    }

    async fn destroy(&self, domid: DomId) -> Result<(), HypervisorError> {
        let mut gone = self.shared.with(domid, |domain| {
            domain.asked = Some(Ending::Destroyed);
            domain
                .process
                .signal(Signal::KILL)
                .map_err(io_error(format!("killing domain {domid}")))?;
            // The old freezer holds back even this signal.
            if let Err(error) = domain.group.freeze(false) {
                tracing::warn!(%domid, %error, "cannot thaw a domain that was killed");
            }
            Ok(domain.gone.clone())
        })?;
        // The sender is dropped only after it has sent.
        let _ = gone.wait_for(|gone| *gone).await;
        Ok(())
    }

    async fn set_memory(&self, domid: DomId, memory: Memory) -> Result<(), HypervisorError> {
        if !self.can_set_memory() {
            return Err(HypervisorError::NotPossible {
                hypervisor: NAME,
                operation: "change memory limits without a memory cgroup".to_owned(),
            });
        }
        self.shared.with(domid, |domain| {
            let doing = format!("setting the memory limit of domain {domid}");
            let limited = domain.group.set_memory(self.may_use(memory));
            limited.map_err(io_error(doing))
        })
    }

    async fn set_vcpus(&self, domid: DomId, vcpus: u32) -> Result<(), HypervisorError> {
        if !self.can_set_vcpus() {
            return Err(HypervisorError::NotPossible {
                hypervisor: NAME,
                operation: "change processor limits without a cpu cgroup".to_owned(),
            });
        }
        self.shared.with(domid, |domain| {
            let doing = format!("setting the processor limit of domain {domid}");
            domain.group.set_vcpus(vcpus).map_err(io_error(doing))
        })
    }

    async fn set_cpu_weight(&self, domid: DomId, weight: u32) -> Result<(), HypervisorError> {
        if !self.can_set_cpu_weight() {
            return Err(HypervisorError::NotPossible {
                hypervisor: NAME,
                operation: "change shares of processor time without a cpu cgroup".to_owned(),
            });
        }
        self.shared.with(domid, |domain| {
            let doing = format!("setting the share of processor time of domain {domid}");
            let set = domain.group.set_cpu_weight(weight);
            set.map_err(io_error(doing))
        })
    }

    async fn set_netvm(&self, _: DomId, _: Option<DomId>) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn connects_networks(&self) -> bool {
        false
    }

    fn can_set_memory(&self) -> bool {
        self.shared.cgroups.has(Controller::Memory)
    }

    fn can_set_vcpus(&self) -> bool {
        self.shared.cgroups.has(Controller::Cpu)
    }

    fn can_set_cpu_weight(&self) -> bool {
        self.shared.cgroups.has(Controller::Cpu)
    }

    fn without_effect(&self, qube: &Qube) -> Vec<String> {
        // A netvm is told to the qube and starts with it; the report says that nothing is connected.
        let weighs = qube.cpu_weight != DEFAULT_CPU_WEIGHT;
        let properties = [
            ("cpu_weight", weighs && !self.can_set_cpu_weight()),
            ("devices", !qube.devices.is_empty()),
            ("kernel", qube.kernel.is_some()),
            ("kernelopts", !qube.kernelopts.is_empty()),
            ("virt_mode", qube.virt_mode != VirtMode::Pvh),
        ];
        let declared = properties.into_iter().filter(|(_, declared)| *declared);
        declared.map(|(name, _)| name.to_owned()).collect()
    }

    async fn list(&self) -> Result<Vec<DomainInfo>, HypervisorError> {
        Ok(self.shared.domains().values().map(Shared::info).collect())
    }

    fn subscribe(&self) -> broadcast::Receiver<DomainEvent> {
        self.shared.events.subscribe()
    }
}

/// Bubblewrap itself ends a moment after its qube; until then the cgroups are not empty.
async fn remove_cgroups(group: Group, domid: DomId) {
    const TRIES: u32 = 50;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
    for left in (0..TRIES).rev() {
        match group.remove() {
            Ok(()) => return,
            Err(error) if left == 0 => tracing::warn!(%domid, %error, "cgroups stay behind"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The host user of whoever owns `path`, if that is a qube's.
fn qube_owner(path: &Path) -> io::Result<Option<u32>> {
    let uid = fs::symlink_metadata(path)?.uid();
    let range = HOST_ID_BASE..HOST_ID_BASE + HOST_ID_COUNT;
    Ok(range.contains(&uid).then_some(uid))
}
