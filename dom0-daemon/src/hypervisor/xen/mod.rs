//! Qubes as domains of Xen.
//!
//! All that needs libxl is asked of another process, `bulkhead-xl` (`keeper`): libxl blocks for
//! seconds and may crash. Disks of a start are made here (`layer`).
//!
//! A domain outlives the daemon and `bulkhead-xl`. What is needed to find it again is in
//! `domains/<id>/record.json` of the runtime folder; whether it still runs, Xen tells. A domain
//! that has no record is somebody else's, and is left alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bulkhead_model::device::{block_of_dom0, pci_of_dom0};
use bulkhead_model::qube::{Memory, Mib, Qube};
use bulkhead_wire::causes;
use bulkhead_wire::end::Carrier;
use bulkhead_wire::xl::{self, Answer, Operation};
use tokio::sync::{broadcast, mpsc, watch};

use self::boot::BootFiles;
use self::keeper::{AskError, Xl};
use self::record::Record;
use super::{
    DomId, DomainEvent, DomainInfo, DomainSpec, DomainState, Ending, HeldMemory, HostMachine,
    HostReport, Hypervisor, HypervisorError, Reach,
};

mod blocks;
mod boot;
mod console;
mod domain;
mod keeper;
mod layer;
mod pci;
mod record;

/// Name in messages.
const NAME: &str = "xen";

/// Events kept for a slow receiver.
const EVENT_BACKLOG: usize = 256;

/// Where things are.
#[derive(Debug, Clone)]
pub struct XenConfig {
    /// The daemon's runtime folder.
    pub runtime_dir: PathBuf,
    /// What qubes write and what is gone with them is below it. Not on memory: a qube may write a lot.
    pub scratch_dir: PathBuf,
    /// The `bulkhead-xl` program.
    pub xl: PathBuf,
    /// Folder of the installed kernels, each a folder with its name.
    pub kernels: PathBuf,
}

/// One running domain.
#[derive(Debug)]
struct Domain {
    spec: DomainSpec,
    target: xl::Target,
    asked: Option<Ending>,
    console: tokio::task::AbortHandle,
    tell: watch::Sender<bool>,
}

#[derive(Debug)]
struct Shared {
    config: XenConfig,
    xl: Xl,
    domains: Mutex<BTreeMap<DomId, Domain>>,
    events: broadcast::Sender<DomainEvent>,
}

/// The hypervisor Xen. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Xen {
    shared: Arc<Shared>,
}

impl Shared {
    fn domains(&self) -> MutexGuard<'_, BTreeMap<DomId, Domain>> {
        // Nothing that holds this lock can panic half way through a change.
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn domain_dir(&self, domid: DomId) -> PathBuf {
        let domains = self.config.runtime_dir.join("domains");
        domains.join(domid.to_string())
    }

    /// Where what a domain writes beside its volumes is.
    fn scratch(&self, domid: DomId) -> PathBuf {
        self.config.scratch_dir.join(domid.to_string())
    }

    /// Something of a domain that runs.
    fn of<T>(&self, domid: DomId, take: impl FnOnce(&Domain) -> T) -> Result<T, HypervisorError> {
        let domains = self.domains();
        let domain = domains.get(&domid);
        domain.map(take).ok_or(HypervisorError::NoSuchDomain(domid))
    }

    fn target(&self, domid: DomId) -> Result<xl::Target, HypervisorError> {
        self.of(domid, |domain| domain.target)
    }

    /// Has something done to a running domain.
    async fn to(
        &self,
        domid: DomId,
        doing: &str,
        operation: impl FnOnce(xl::Target) -> Operation,
    ) -> Result<(), HypervisorError> {
        let target = self.target(domid)?;
        match self.xl.ask_again(&operation(target)).await {
            Ok(_) => Ok(()),
            Err(error) => match self.out_of_memory(&error).await {
                Some(error) => Err(error),
                None => Err(refusal(domid, doing, error)),
            },
        }
    }

    /// Has something taken away from a running domain, which may not be there.
    async fn to_device(
        &self,
        domid: DomId,
        doing: &str,
        operation: impl FnOnce(xl::Target) -> Operation,
    ) -> Result<(), HypervisorError> {
        let target = self.target(domid)?;
        match self.xl.ask_again(&operation(target)).await {
            Ok(_)
            | Err(AskError::Refused(xl::XlError {
                failure: xl::Failure::NoSuchDevice,
                ..
            })) => Ok(()),
            Err(error) => Err(refusal(domid, doing, error)),
        }
    }

    /// Takes note of what has changed about a running domain, also for a daemon that starts again.
    fn note(
        &self,
        domid: DomId,
        change: impl FnOnce(&mut DomainSpec),
    ) -> Result<(), HypervisorError> {
        let mut domains = self.domains();
        let domain = domains.get_mut(&domid);
        let domain = domain.ok_or(HypervisorError::NoSuchDomain(domid))?;
        change(&mut domain.spec);
        // Under the lock: once a domain has ended, nothing is written about it.
        self.record(&domain.spec)
    }

    /// Writes down what a daemon that starts again must know of a domain.
    fn record(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        let folder = self.domain_dir(spec.domid);
        fs::create_dir_all(&folder)
            .and_then(|()| Record::new(spec.clone()).write(&folder))
            .map_err(|source| {
                let doing = format!("recording domain {} in `{}`", spec.domid, folder.display());
                HypervisorError::io(doing, source)
            })
    }

    /// Who has the memory, where that is why something failed.
    async fn out_of_memory(&self, error: &AskError) -> Option<HypervisorError> {
        let AskError::Refused(xl::XlError {
            failure: xl::Failure::OutOfMemory { needed, free },
            ..
        }) = error
        else {
            return None;
        };
        // What is missing here is told less of; the reason stands.
        let domains = self.all().await.unwrap_or_default();
        let total = self.xl.host().await.map(|host| host.memory.number());
        Some(HypervisorError::OutOfMemory {
            needed: Mib(needed.number().into()),
            free: Mib(free.number().into()),
            held: held(&domains, total.unwrap_or(0), free.number()),
        })
    }

    /// Makes a domain known that runs.
    fn register(&self, spec: DomainSpec, target: xl::Target) {
        let console = console::follow(spec.domid, spec.console_log.clone());
        let domain = Domain {
            target,
            asked: None,
            console,
            tell: watch::Sender::new(false),
            spec,
        };
        self.domains().insert(domain.spec.domid, domain);
    }

    /// Takes note of the end of a domain, clears up behind it and tells.
    async fn ended(&self, target: xl::Target, how: xl::Ending) {
        let domid = DomId(target.domid.number().into());
        let gone = {
            let mut domains = self.domains();
            let ours = domains.get(&domid).is_some_and(|d| d.target == target);
            if ours { domains.remove(&domid) } else { None }
        };
        let Some(domain) = gone else {
            return;
        };
        let ending = ending(domain.asked, how);
        tracing::info!(%domid, qube = %domain.spec.name, ?how, ?ending, "domain ended");
        console::end(domain.console);
        self.clear(&domain.spec).await;
        // Nobody listening is fine for both.
        let _ = domain.tell.send(true);
        let _ = self.events.send(DomainEvent::Died { domid, how: ending });
    }

    /// Removes what a start has made.
    async fn clear(&self, spec: &DomainSpec) {
        layer::remove(spec.domid).await;
        for folder in [self.scratch(spec.domid), self.domain_dir(spec.domid)] {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(folder = %folder.display(), %error, "folder stays behind");
                }
                _ => {}
            }
        }
    }

    /// Whether a domain is there, is ours and has not ended.
    async fn runs(&self, target: xl::Target) -> Result<bool, AskError> {
        let all = self.all().await?;
        Ok(all.iter().any(|domain| {
            domain.target == target
                && domain.origin == xl::Origin::Ours
                && domain.state != xl::State::Ended
        }))
    }

    /// Every domain that Xen has.
    async fn all(&self) -> Result<Vec<xl::DomainInfo>, AskError> {
        let mut found = Vec::new();
        let mut from = Some(xl::DomId::DOM0);
        while let Some(at) = from {
            match self.xl.ask_again(&Operation::List { from: at }).await? {
                Answer::Domains { domains, next } => {
                    found.extend(domains);
                    from = next.filter(|next| *next > at);
                }
                Answer::Ok | Answer::Host(_) => return Err(AskError::Lost),
            }
        }
        Ok(found)
    }
}

/// Who has the memory of a machine with `total` MiB, of which `free` nobody has.
fn held(domains: &[xl::DomainInfo], total: u32, free: u32) -> HeldMemory {
    let mib = |number: u32| Mib(number.into());
    let mut held: Vec<(String, Mib)> = domains
        .iter()
        .map(|domain| (format!("`{}`", domain.name), mib(domain.memory.number())))
        .collect();
    let theirs: u64 = held.iter().map(|(_, mib)| mib.0).sum();
    let rest = u64::from(total).saturating_sub(theirs + u64::from(free));
    held.push(("dom0 with Xen".to_owned(), Mib(rest)));
    held.sort_by_key(|(_, mib)| std::cmp::Reverse(mib.0));
    HeldMemory(held)
}

/// What an end means, given what was asked.
fn ending(asked: Option<Ending>, how: xl::Ending) -> Ending {
    match (asked, how) {
        (Some(Ending::Destroyed), _) => Ending::Destroyed,
        (_, xl::Ending::Poweroff | xl::Ending::Reboot) => Ending::Shutdown,
        // Also where it was asked and somebody else was faster.
        (
            _,
            xl::Ending::Crash | xl::Ending::Watchdog | xl::Ending::Other(_) | xl::Ending::Destroyed,
        ) => Ending::Crashed,
    }
}

fn refusal(domid: DomId, doing: &str, error: AskError) -> HypervisorError {
    match error {
        AskError::Refused(xl::XlError {
            failure: xl::Failure::NoSuchDomain,
            ..
        }) => HypervisorError::NoSuchDomain(domid),
        AskError::Refused(xl::XlError {
            failure: xl::Failure::Libxl(xl::LibxlCode::NoParavirt),
            ..
        }) => HypervisorError::NotPossible {
            hypervisor: NAME,
            operation: format!("ask domain {domid} to stop: it has no driver for that"),
        },
        error => HypervisorError::Io {
            doing: format!("{doing} domain {domid}"),
            source: io::Error::other(chain(&error)),
        },
    }
}

/// An error with its causes, and what libxl said about it.
fn chain(error: &AskError) -> String {
    let mut text = causes::chain(error);
    if let AskError::Refused(refused) = error
        && !refused.log.is_empty()
    {
        text.push_str(&format!(" ({})", refused.log.join("; ")));
    }
    text
}

impl Xen {
    /// Takes over what runs already and clears up what does not any more.
    ///
    /// # Errors
    /// Where there is no Xen, or not the one that `bulkhead-xl` is for.
    pub async fn open(config: XenConfig) -> Result<Self, HypervisorError> {
        let (died, mut told) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            xl: Xl::keep(keeper::program(config.xl.clone()), died),
            config,
            domains: Mutex::default(),
            events: broadcast::Sender::new(EVENT_BACKLOG),
        });
        let running = shared.all().await.map_err(|error| unsupported(&error))?;
        for record in record::read_all(&shared.config.runtime_dir.join("domains")) {
            let target = domain::target(&record.spec)?;
            let runs = running.iter().any(|domain| {
                domain.target == target
                    && domain.origin == xl::Origin::Ours
                    && domain.state != xl::State::Ended
            });
            if runs && record.is_of_this_boot() {
                shared.register(record.spec, target);
            } else {
                shared.clear(&record.spec).await;
            }
        }
        let known = |domid: DomId| shared.domains().contains_key(&domid);
        layer::sweep(&shared.config.scratch_dir, known).await;
        let listening = Arc::downgrade(&shared);
        tokio::spawn(async move {
            while let Some((target, how)) = told.recv().await {
                let Some(shared) = listening.upgrade() else {
                    return;
                };
                shared.ended(target, how).await;
            }
        });
        Ok(Self { shared })
    }
}

fn unsupported(error: &AskError) -> HypervisorError {
    HypervisorError::Unsupported {
        hypervisor: NAME,
        missing: chain(error),
        remedy: "Boot this machine under the Xen that `bulkhead-xl` was built for, with Debian's \
                 packages xen-system-amd64 and xen-utils installed; or use `--hypervisor embedded`."
            .to_owned(),
    }
}

#[async_trait]
impl Hypervisor for Xen {
    fn name(&self) -> &'static str {
        NAME
    }

    fn carrier(&self) -> Carrier {
        Carrier::Rings
    }

    async fn probe(&self) -> Result<HostReport, HypervisorError> {
        let host = self.shared.xl.host().await;
        let host = host.map_err(|error| unsupported(&error))?;
        let can = host.capabilities;
        let mut warnings = Vec::new();
        if !can.hvm || !can.hap {
            warnings.push(
                "this processor cannot run PVH domains with hardware-assisted paging: switch \
                 virtualisation on in the firmware"
                    .to_owned(),
            );
        }
        if !can.iommu {
            warnings.push(
                "there is no IOMMU: a device given to a qube could read the memory of all"
                    .to_owned(),
            );
        }
        let version = format!("{}{}", host.running, host.version_extra);
        let facts = [
            ("xen", version.clone()),
            (
                "memory",
                format!("{} MiB, {} MiB free", host.memory, host.free),
            ),
            ("processors", host.cpus.to_string()),
        ];
        Ok(HostReport {
            hypervisor: NAME.to_owned(),
            warnings,
            facts: facts.map(|(name, fact)| (name.to_owned(), fact)).into(),
            machine: Some(HostMachine {
                version,
                hvm: can.hvm,
                hap: can.hap,
                iommu: can.iommu,
                memory: host.memory.number().into(),
                threads: host.cpus,
            }),
        })
    }

    async fn create(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        let shared = &self.shared;
        let target = domain::target(spec)?;
        shared.record(spec)?;
        match self.make(spec, target).await {
            Ok(()) => {
                shared.register(spec.clone(), target);
                Ok(())
            }
            Err(NotMade::Failed(error)) => {
                shared.clear(spec).await;
                Err(error)
            }
            // Its record stays: the next daemon ends what there may be.
            Err(NotMade::Unknown(error)) => Err(error),
        }
    }

    async fn pause(&self, domid: DomId) -> Result<(), HypervisorError> {
        self.shared.to(domid, "pausing", Operation::Pause).await
    }

    async fn unpause(&self, domid: DomId) -> Result<(), HypervisorError> {
        self.shared.to(domid, "unpausing", Operation::Unpause).await
    }

    async fn shutdown(&self, domid: DomId) -> Result<(), HypervisorError> {
        if let Some(domain) = self.shared.domains().get_mut(&domid) {
            domain.asked.get_or_insert(Ending::Shutdown);
        }
        self.shared
            .to(domid, "shutting down", Operation::Shutdown)
            .await
    }

    async fn destroy(&self, domid: DomId) -> Result<(), HypervisorError> {
        let mut gone = {
            let mut domains = self.shared.domains();
            let domain = domains.get_mut(&domid);
            let domain = domain.ok_or(HypervisorError::NoSuchDomain(domid))?;
            domain.asked = Some(Ending::Destroyed);
            domain.tell.subscribe()
        };
        match self.shared.to(domid, "ending", Operation::Destroy).await {
            // It ended by itself meanwhile; that is told as well.
            Ok(()) | Err(HypervisorError::NoSuchDomain(_)) => {}
            Err(error) => return Err(error),
        }
        // The end of the sender is the end of the domain too.
        let _ = gone.wait_for(|gone| *gone).await;
        Ok(())
    }

    async fn set_memory(&self, domid: DomId, memory: Memory) -> Result<(), HypervisorError> {
        let memory = xl::Mib::new(self.may_use(memory).0).map_err(|error| HypervisorError::Io {
            doing: format!("changing the memory of domain {domid}"),
            source: io::Error::other(error),
        })?;
        let operation = |target| Operation::SetMemory { target, memory };
        self.shared
            .to(domid, "changing the memory of", operation)
            .await
    }

    async fn set_vcpus(&self, domid: DomId, vcpus: u32) -> Result<(), HypervisorError> {
        let vcpus = xl::Vcpus::new(vcpus.into()).map_err(|error| HypervisorError::Io {
            doing: format!("changing the processors of domain {domid}"),
            source: io::Error::other(error),
        })?;
        let operation = |target| Operation::SetVcpus { target, vcpus };
        self.shared
            .to(domid, "changing the processors of", operation)
            .await
    }

    async fn set_cpu_weight(&self, domid: DomId, weight: u32) -> Result<(), HypervisorError> {
        let doing = "changing the share of processor time of";
        let weight = xl::Weight::new(weight.into()).map_err(|error| HypervisorError::Io {
            doing: format!("{doing} domain {domid}"),
            source: io::Error::other(error),
        })?;
        let operation = |target| Operation::SetWeight { target, weight };
        self.shared.to(domid, doing, operation).await
    }

    async fn set_netvm(&self, domid: DomId, netvm: Option<DomId>) -> Result<(), HypervisorError> {
        let spec = self.shared.of(domid, |domain| domain.spec.clone())?;
        if spec.netvm == netvm {
            return Ok(());
        }
        // Whoever comes after us finds one that may have none, and begins here again.
        self.shared.note(domid, |spec| spec.netvm = None)?;
        let nic = domain::nic_id(&spec)?;
        let detach = |target| Operation::DetachNic { target, nic };
        (self.shared)
            .to_device(domid, "taking the network from", detach)
            .await?;
        let Some(netvm) = netvm else {
            return Ok(());
        };
        let nic = domain::nic(&spec, netvm)?;
        let attach = |target| Operation::AttachNic { target, nic };
        self.shared.to(domid, "connecting", attach).await?;
        self.shared.note(domid, |spec| spec.netvm = Some(netvm))
    }

    async fn set_blocks(&self, domid: DomId, wanted: &[PathBuf]) -> Result<(), HypervisorError> {
        let spec = self.shared.of(domid, |domain| domain.spec.clone())?;
        let (gone, new) = blocks::changes(&spec.blocks, wanted);
        for (place, device) in gone {
            let name = blocks::name(&spec, place, &device)?;
            self.detach(domid, domain::vdev(&spec, name)?).await?;
            self.shared
                .note(domid, |spec| blocks::set(spec, place, None))?;
        }
        for (place, device) in new {
            let disk = blocks::at(&spec, place, &device)?;
            // Whoever was here before us may have been ended before it took note.
            self.detach(domid, disk.vdev.clone()).await?;
            let attach = |target| Operation::AttachDisk { target, disk };
            self.shared
                .to(domid, "giving a block device to", attach)
                .await?;
            self.shared
                .note(domid, |spec| blocks::set(spec, place, Some(device)))?;
        }
        Ok(())
    }

    fn connects_networks(&self) -> bool {
        true
    }

    fn can_set_memory(&self) -> bool {
        true
    }

    fn can_set_blocks(&self) -> bool {
        true
    }

    fn can_set_vcpus(&self) -> bool {
        true
    }

    fn can_set_cpu_weight(&self) -> bool {
        true
    }

    fn may_use(&self, memory: Memory) -> Mib {
        // Nobody moves memory between qubes: each has what it starts with until that is changed.
        memory.initial
    }

    fn reach(&self, domid: DomId) -> Reach {
        let domains = self.shared.domains();
        let domain = domains.get(&domid);
        Reach {
            memory: domain.map(|domain| domain::maximum(&domain.spec)),
            vcpus: domain.map(|domain| domain::vcpus_maximum(&domain.spec)),
        }
    }

    fn without_effect(&self, qube: &Qube) -> Vec<String> {
        let devices = qube.devices.iter();
        let had = |text: &str| block_of_dom0(text).is_some() || pci_of_dom0(text).is_some();
        let devices = devices.filter(|text| !had(text));
        devices.map(|text| format!("devices: {text}")).collect()
    }

    fn unmet(&self, qube: &Qube) -> Option<String> {
        let kernel = qube.kernel.as_ref();
        let kernel = kernel.and_then(|name| boot::missing(&self.shared.config.kernels, name));
        let missing = |text: &String| match block_of_dom0(text) {
            Some(device) => blocks::missing(&device),
            None => pci::missing(&pci_of_dom0(text)?),
        };
        kernel.or_else(|| qube.devices.iter().find_map(missing))
    }

    async fn list(&self) -> Result<Vec<DomainInfo>, HypervisorError> {
        let all = self
            .shared
            .all()
            .await
            .map_err(|error| HypervisorError::Io {
                doing: "listing domains".to_owned(),
                source: io::Error::other(chain(&error)),
            })?;
        let domains = self.shared.domains();
        let found = all.iter().filter_map(|info| {
            let domain = domains.get(&DomId(info.target.domid.number().into()))?;
            // One that has ended is told of by its event.
            if domain.target != info.target || info.state == xl::State::Ended {
                return None;
            }
            Some(DomainInfo {
                spec: domain.spec.clone(),
                state: match info.state {
                    xl::State::Paused => DomainState::Paused,
                    xl::State::Running | xl::State::Ended => DomainState::Running,
                },
                memory_used: Some(Mib(info.memory.number().into())),
                pid: None,
            })
        });
        Ok(found.collect())
    }

    fn subscribe(&self) -> broadcast::Receiver<DomainEvent> {
        self.shared.events.subscribe()
    }
}

/// Why a domain was not made.
enum NotMade {
    /// Nothing of it is left.
    Failed(HypervisorError),
    /// Whoever made it is gone, and nobody can say what is left.
    Unknown(HypervisorError),
}

impl From<HypervisorError> for NotMade {
    fn from(error: HypervisorError) -> Self {
        Self::Failed(error)
    }
}

impl Xen {
    /// Takes a disk away that may not be there.
    async fn detach(&self, domid: DomId, vdev: xl::Vdev) -> Result<(), HypervisorError> {
        let detach = |target| Operation::DetachDisk { target, vdev };
        self.shared
            .to_device(domid, "taking a block device from", detach)
            .await
    }

    /// Makes disks and domain.
    async fn make(&self, spec: &DomainSpec, target: xl::Target) -> Result<(), NotMade> {
        let failed = |error: AskError| HypervisorError::StartFailed {
            name: spec.name.clone(),
            detail: chain(&error),
        };
        let host = self.shared.xl.host().await.map_err(failed)?;
        let boot = BootFiles::of(spec, &self.shared.config.kernels)?;
        let pci = pci::addresses(spec, host.capabilities)?;
        let disks = layer::make(spec, &self.shared.scratch(spec.domid)).await?;
        let config = domain::config(spec, boot.as_ref(), &disks, pci)?;
        let operation = Operation::Create(Box::new(config));
        match self.shared.xl.ask(operation).await {
            Ok(_) => Ok(()),
            Err(lost @ (AskError::Lost | AskError::Link(_))) => {
                // Whoever comes next has removed it before it answers, unless it is whole.
                match self.shared.runs(target).await {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(NotMade::Failed(failed(lost))),
                    Err(_) => Err(NotMade::Unknown(failed(lost))),
                }
            }
            Err(error) => Err(NotMade::Failed(
                match self.shared.out_of_memory(&error).await {
                    Some(error) => error,
                    None => failed(error),
                },
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_no_qube_has_is_that_of_dom0_and_xen() {
        let domain = |number: u64, name: &str, memory: u64| xl::DomainInfo {
            target: xl::Target {
                domid: xl::DomId::new(number).unwrap(),
                uuid: xl::DomainUuid([7; 16]),
            },
            name: name.to_owned(),
            origin: xl::Origin::Ours,
            state: xl::State::Running,
            memory: xl::Mib::new(memory).unwrap(),
            maximum: xl::Mib::new(memory).unwrap(),
            vcpus: 1,
            cpu_time_ns: 0,
        };
        let domains = [domain(1, "work", 300), domain(2, "vault", 2000)];
        insta::assert_snapshot!(
            held(&domains, 4096, 700),
            @"`vault` has 2000 MiB, dom0 with Xen has 1096 MiB, `work` has 300 MiB"
        );
        insta::assert_snapshot!(held(&[], 0, 700), @"dom0 with Xen has 0 MiB");
    }

    #[test]
    fn what_was_asked_and_what_happened_make_the_end() {
        use xl::Ending as Xl;
        let destroyed = Some(Ending::Destroyed);
        let shutdown = Some(Ending::Shutdown);
        for (asked, how, expect) in [
            (None, Xl::Poweroff, Ending::Shutdown),
            (None, Xl::Reboot, Ending::Shutdown),
            (None, Xl::Crash, Ending::Crashed),
            (None, Xl::Watchdog, Ending::Crashed),
            (None, Xl::Other(9), Ending::Crashed),
            (None, Xl::Destroyed, Ending::Crashed),
            (shutdown, Xl::Poweroff, Ending::Shutdown),
            (shutdown, Xl::Crash, Ending::Crashed),
            (shutdown, Xl::Destroyed, Ending::Crashed),
            (destroyed, Xl::Destroyed, Ending::Destroyed),
            (destroyed, Xl::Poweroff, Ending::Destroyed),
        ] {
            assert_eq!(ending(asked, how), expect, "{asked:?} {how:?}");
        }
    }
}
