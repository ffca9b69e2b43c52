//! From a resolved qube to a running domain with its relay, and back to nothing.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use bulkhead_api::qube::QubeState;
use bulkhead_model::device::{block_of_dom0, pci_of_dom0};
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Qube, QubeKind};
use bulkhead_wire::causes::chain;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use super::guest::GuestEvents;
use super::lifecycle::Places;
use super::{Agent, Inner, Life, Run};
use crate::hypervisor::{
    Boot, DomId, DomainInfo, DomainSpec, DomainState, DomainVolume, ROOT_VOLUME,
};
use crate::machine::{LiveChange, MachineError};
use crate::plan::lag::set_live;
use crate::relays::{Folder, Place, Relay, RelaySpec, Rings};
use crate::storage::{DiskRoot, ImageDigest, ImageRoot, RevisionId, VolumeId};
use crate::whole_file::{self, Lasting};

/// What a running qube was started from, for a daemon that starts again.
#[derive(Debug, Serialize, Deserialize)]
struct RunRecord {
    qube: Qube,
    image: Option<ImageDigest>,
    #[serde(default)]
    revision: Option<RevisionId>,
    domid: DomId,
    life: Life,
    started: u64,
}

pub(super) fn console_log(state_dir: &Path, name: &QubeName) -> PathBuf {
    state_dir.join("log/qubes").join(format!("{name}.log"))
}

fn folder(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

pub(super) fn prepare_folders(runtime_dir: &Path) -> io::Result<()> {
    fs::create_dir_all(runtime_dir)?;
    folder(&runtime_dir.join("trash"), 0o700)?;
    // Qubes see their own folder alone; nobody else has any business in here.
    folder(&runtime_dir.join("qubes"), 0o700)
}

/// Where dom0's qrexec clients reach a qube's relay.
pub(super) fn clients_socket(runtime_dir: &Path, name: &QubeName) -> PathBuf {
    runtime_dir.join(format!("qrexec.{name}"))
}

/// Sets aside what one life of a qube left, and removes it in the background: parts of it are the
/// qube's own making.
pub(super) fn clear(runtime_dir: &Path, places: &Places, domid: DomId) {
    let moved = runtime_dir.join("trash").join(format!("run-{domid}"));
    match fs::rename(&places.base, &moved) {
        Ok(()) => {
            tokio::spawn(crate::hypervisor::embedded::remove_tree(moved));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(folder = %places.base.display(), %error, "folder stays behind");
        }
    }
}

fn io_error(name: &QubeName) -> impl Fn(io::Error) -> MachineError + '_ {
    move |source| MachineError::Io {
        doing: format!("preparing the folders of qube `{name}`"),
        source,
    }
}

/// Whether an agent is waited for: as the feature `qrexec` says, else unless all there is of the
/// qube is a kernel.
fn expected_agent(qube: &Qube, root: &ImageRoot) -> Agent {
    let has_root = !matches!(root, ImageRoot::Disk(DiskRoot { disk: None, .. }));
    let feature = qube.features.get("qrexec").map(String::as_str);
    match feature.map_or(has_root, |value| !matches!(value, "" | "0")) {
        true => Agent::Absent,
        false => Agent::NotExpected,
    }
}

/// Those of the devices that are block devices of dom0.
pub(super) fn blocks(devices: &[String]) -> Vec<PathBuf> {
    let blocks = devices.iter().filter_map(|text| block_of_dom0(text));
    blocks.collect()
}

impl Inner {
    /// Starts `qube`; called from its own task only.
    pub(super) async fn bring_up(
        &self,
        qube: &Qube,
        image: Option<ImageDigest>,
        life: Life,
    ) -> Result<Arc<Run>, MachineError> {
        let netvm = self.netvm_domain(&qube.name, qube.netvm.as_ref()).await?;
        let made = self.domain_spec(qube, image.as_ref(), netvm).await;
        let (spec, revision) = made.inspect_err(|_| self.let_go(&qube.name))?;
        let places = Places::new(&self.config.runtime_dir, &qube.name);
        clear(&self.config.runtime_dir, &places, spec.domid);
        let prepared = folder(&places.vchan(), 0o700)
            .and_then(|()| folder(&places.own(), 0o700))
            .and_then(|()| folder(&places.overlay(), 0o700))
            .and_then(|()| self.place(&places, spec.domid))
            .map_err(io_error(&qube.name));
        let record = RunRecord {
            qube: qube.clone(),
            image: image.clone(),
            revision,
            domid: spec.domid,
            life,
            started: crate::audit::now_ms() / 1000,
        };
        let brought = match prepared {
            Ok(place) => self.create(&spec, record, place, &places).await,
            Err(error) => Err(error),
        };
        if brought.is_err() {
            self.forget_run(spec.domid, &qube.name);
            self.let_go(&qube.name);
            clear(&self.config.runtime_dir, &places, spec.domid);
        } else if let Some(provider) = spec.netvm {
            self.tell_served(provider);
        }
        brought
    }

    async fn create(
        &self,
        spec: &DomainSpec,
        record: RunRecord,
        place: Place,
        places: &Places,
    ) -> Result<Arc<Run>, MachineError> {
        let name = &spec.name;
        write_record(&places.record(), &record).map_err(io_error(name))?;
        // The relay comes first: it starts while the domain does.
        let run = self.register(record, spec, place, false)?;
        self.hypervisor
            .create(spec)
            .await
            .map_err(|source| MachineError::Hypervisor {
                name: name.clone(),
                source,
            })?;
        Ok(run)
    }

    /// How a qube is reached whose folders are there.
    fn place(&self, places: &Places, domid: DomId) -> io::Result<Place> {
        Ok(match &self.meeting {
            None => Place::Sockets(Folder::open(&places.vchan(), &places.own())?),
            Some(meeting) => Place::Rings(Rings::new(Arc::clone(meeting), domid.0, &places.own())?),
        })
    }

    async fn domain_spec(
        &self,
        qube: &Qube,
        image: Option<&ImageDigest>,
        netvm: Option<DomId>,
    ) -> Result<(DomainSpec, Option<RevisionId>), MachineError> {
        let name = &qube.name;
        let storage = |source| MachineError::Storage {
            name: name.clone(),
            source,
        };
        let mut volumes = Vec::new();
        if qube.kind != QubeKind::NamedDisposable {
            for volume in qube.volumes.keys() {
                let id = VolumeId {
                    qube: name.clone(),
                    volume: volume.clone(),
                };
                let info = self.storage.volume(&id).await.map_err(storage)?;
                volumes.push(DomainVolume {
                    name: volume.clone(),
                    path: info.path,
                    size: info.size,
                });
            }
        }
        let own = volumes.iter().find(|volume| volume.name == ROOT_VOLUME);
        let (root, revision) = match (own, image) {
            (Some(_), Some(image)) => (self.own_root(qube, image).await.map_err(storage)?, None),
            (None, Some(image)) => self.root_for(qube, image).await.map_err(storage)?,
            // What is on it is the qube's own affair, and so is how that boots.
            (Some(volume), None) if qube.template.is_none() => {
                let disk = DiskRoot {
                    disk: Some(volume.path.clone()),
                    kernel: None,
                    initrd: None,
                };
                (ImageRoot::Disk(disk), None)
            }
            (_, None) => {
                return Err(MachineError::NotStartable {
                    name: name.clone(),
                    why: "it has no template image".to_owned(),
                });
            }
        };
        let domid =
            self.database
                .allocate_domid()
                .await
                .map_err(|e| MachineError::NotStartable {
                    name: name.clone(),
                    why: chain(&e),
                })?;
        let uuid = self.state().uuids.get(name).copied();
        let places = Places::new(&self.config.runtime_dir, name);
        let spec = DomainSpec {
            domid,
            uuid: uuid.unwrap_or_else(Uuid::new_v4),
            name: name.clone(),
            root,
            overlay: places.overlay(),
            volumes,
            memory: qube.memory,
            vcpus: qube.vcpus,
            vcpus_maximum: qube.maxvcpus,
            cpu_weight: qube.cpu_weight,
            boot: Boot {
                mode: qube.virt_mode,
                kernel: qube.kernel.clone(),
                options: qube.kernelopts.clone(),
            },
            default_user: qube.default_user.clone(),
            vchan_dir: places.vchan(),
            netvm,
            provides_network: qube.provides_network,
            blocks: blocks(&qube.devices).into_iter().map(Some).collect(),
            pci: (qube.devices.iter().filter_map(|text| pci_of_dom0(text))).collect(),
            console_log: console_log(&self.config.state_dir, name),
        };
        Ok((spec, revision))
    }

    /// Makes a life known and gives it a relay.
    fn register(
        &self,
        record: RunRecord,
        spec: &DomainSpec,
        place: Place,
        paused: bool,
    ) -> Result<Arc<Run>, MachineError> {
        let (name, qube) = (record.qube.name.clone(), record.qube.clone());
        let agent = expected_agent(&record.qube, &spec.root);
        let place = Arc::new(place);
        let run = Arc::new(Run {
            name: name.clone(),
            domid: record.domid,
            uuid: spec.uuid,
            image: record.image,
            revision: record.revision,
            life: record.life,
            started: record.started,
            default_user: record.qube.default_user.clone(),
            place: Arc::clone(&place),
            relay: OnceLock::new(),
            windows: OnceLock::new(),
            agent: watch::Sender::new(agent),
            epoch: AtomicU64::new(0),
        });
        {
            let mut state = self.state();
            self.mailbox_in(&mut state, &name, Some(Arc::clone(&run)));
            state.domains.insert(record.domid.0, Arc::clone(&run));
            if let Some(entry) = state.qubes.get_mut(&name) {
                entry.run = Some(Arc::clone(&run));
                entry.spec = Some(record.qube);
                entry.netvm = spec.netvm;
                entry.paused = paused;
                entry.stopped = None;
                entry.state = if paused {
                    QubeState::Paused
                } else {
                    QubeState::Starting
                };
            }
            state.rebuild_view();
            self.publish(&state, &name);
        }
        let relay = Relay::keep(
            RelaySpec {
                program: self.config.relay.clone(),
                qube: name.to_string(),
                domid: run.domid.0,
                default_user: run.default_user.clone(),
                place,
                clients: clients_socket(&self.config.runtime_dir, &name),
            },
            Arc::new(GuestEvents::new(self.own.clone(), Arc::downgrade(&run))),
        )
        .map_err(io_error(&name))?;
        // Nobody else sets it.
        let _ = run.relay.set(relay);
        self.show_windows(&run, &qube);
        Ok(run)
    }

    /// Undoes [`Self::register`] for a start that failed.
    fn forget_run(&self, domid: DomId, name: &QubeName) {
        let mut state = self.state();
        if let Some(run) = state.domains.remove(&domid.0) {
            run.place.gone();
        }
        if let Some(entry) = state.qubes.get_mut(name) {
            entry.run = None;
            entry.spec = None;
            entry.netvm = None;
        }
        state.rebuild_view();
        drop(state);
        // Else it is removed when a life ends, and this was none.
        let _ = fs::remove_file(clients_socket(&self.config.runtime_dir, name));
    }

    /// Takes over what the hypervisor says is running; called once, before anything else.
    pub(super) async fn adopt(&self) -> Result<(), MachineError> {
        let running = self.hypervisor.list().await;
        let running = running.map_err(|source| MachineError::NotStartable {
            name: QubeName::new("machine").unwrap_or_else(|_| unreachable!()),
            why: chain(&source),
        })?;
        for info in running {
            if let Err(error) = self.adopt_one(&info) {
                tracing::error!(
                    qube = %info.spec.name,
                    %error,
                    "runs but is not known any more, and is ended"
                );
                if let Err(error) = self.hypervisor.destroy(info.spec.domid).await {
                    tracing::error!(domid = %info.spec.domid, %error, "cannot be ended");
                }
            }
        }
        self.adopt_connections();
        self.adopt_networks();
        Ok(())
    }

    fn adopt_one(&self, info: &DomainInfo) -> io::Result<()> {
        let places = Places::new(&self.config.runtime_dir, &info.spec.name);
        let record: RunRecord = serde_json::from_slice(&fs::read(places.record())?)?;
        if record.domid != info.spec.domid || record.qube.name != info.spec.name {
            return Err(io::Error::other("its record is another domain's"));
        }
        if let Some(revision) = record.revision {
            self.storage.hold_revision(revision, &info.spec.name);
        }
        let place = self.place(&places, info.spec.domid)?;
        let paused = info.state == DomainState::Paused;
        let spec = &info.spec;
        let run = self
            .register(record, spec, place, paused)
            .map_err(|e| io::Error::other(chain(&e)))?;
        if run.expects_no_agent() && !paused {
            self.set_state(&spec.name, QubeState::Running);
        }
        Ok(())
    }

    /// A live change: into what is known, the record, and QubesDB.
    pub(super) fn update_spec(
        &self,
        run: &Arc<Run>,
        change: LiveChange,
    ) -> Result<(), MachineError> {
        let (before, record) = {
            let mut state = self.state();
            let Some(spec) = state
                .qubes
                .get_mut(&run.name)
                .and_then(|entry| entry.spec.as_mut())
            else {
                return Ok(());
            };
            let before = spec.clone();
            set_live(spec, &change);
            let record = RunRecord {
                qube: spec.clone(),
                image: run.image.clone(),
                revision: run.revision,
                domid: run.domid,
                life: run.life,
                started: run.started,
            };
            state.rebuild_view();
            self.publish(&state, &run.name);
            (before, record)
        };
        let places = Places::new(&self.config.runtime_dir, &run.name);
        write_record(&places.record(), &record).map_err(io_error(&run.name))?;
        self.push_keys(run, &before, &record.qube);
        Ok(())
    }
}

fn write_record(path: &Path, record: &RunRecord) -> io::Result<()> {
    let text = serde_json::to_vec(record)?;
    Ok(whole_file::replace(path, &text, 0o600, Lasting::ThisBoot)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_waited_for_where_there_can_be_one_or_the_feature_says_so() {
        let disk = |disk: Option<&str>| {
            ImageRoot::Disk(DiskRoot {
                disk: disk.map(Into::into),
                kernel: Some("/vmlinux".into()),
                initrd: None,
            })
        };
        let name = QubeName::new("work").unwrap();
        let mut qube = Qube::new(name, QubeKind::App, "blue");
        for (feature, root, expect) in [
            (None, disk(Some("/root.ext4")), Agent::Absent),
            (None, ImageRoot::Host, Agent::Absent),
            (None, disk(None), Agent::NotExpected),
            (Some("1"), disk(None), Agent::Absent),
            (Some(""), disk(Some("/root.ext4")), Agent::NotExpected),
            (Some("0"), ImageRoot::Host, Agent::NotExpected),
        ] {
            qube.features = feature
                .map(|value| ("qrexec".to_owned(), value.to_owned()))
                .into_iter()
                .collect();
            assert_eq!(expected_agent(&qube, &root), expect, "{feature:?} {root:?}");
        }
    }
}
