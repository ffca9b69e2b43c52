//! A machine made of files, so that it outlives the process as qubes outlive a daemon.
//!
//! One file per qube says whether it runs, and everything that ever really changed about it, so that
//! a test sees what was done twice or not at all. Both change in one rename: a kill comes before a
//! change or after it, never in its midst.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::Qube;
use bulkheadd::hypervisor::{DomId, DomainState, Reach};
use bulkheadd::machine::{
    Declared, LiveChange, LiveProperty, Machine, MachineError, MachineState, Reason, RunningQube,
    Stopped,
};
use bulkheadd::plan::lag::set_live;
use bulkheadd::storage::ImageDigest;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

#[derive(Debug)]
pub(crate) struct FakeMachine {
    root: PathBuf,
    /// Every start takes this long.
    pub(crate) delay: Duration,
    /// Every start takes one of these, and waits where there is none.
    pub(crate) gate: Option<Arc<Semaphore>>,
    changing: Mutex<()>,
}

/// One qube, on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) running: Option<RunningQube>,
    pub(crate) stopped: Option<Stopped>,
    effects: Vec<String>,
}

impl FakeMachine {
    pub(crate) fn new(root: PathBuf) -> Self {
        fs::create_dir_all(&root).unwrap();
        Self {
            root,
            delay: Duration::ZERO,
            gate: None,
            changing: Mutex::default(),
        }
    }

    pub(crate) fn records(root: &Path) -> Vec<(QubeName, Record)> {
        let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
        let mut records: Vec<_> = entries
            .filter_map(|entry| {
                let name = QubeName::new(entry.file_name().into_string().unwrap()).ok()?;
                let text = fs::read(entry.path()).unwrap();
                Some((name, serde_json::from_slice(&text).unwrap()))
            })
            .collect();
        records.sort_by(|(a, _), (b, _)| a.cmp(b));
        records
    }

    /// Everything that changed, by qube and in order.
    pub(crate) fn effects(root: &Path) -> Vec<String> {
        Self::records(root)
            .into_iter()
            .flat_map(|(_, record)| record.effects)
            .collect()
    }

    pub(crate) fn forget_effects(&self) {
        for (name, mut record) in Self::records(&self.root) {
            record.effects.clear();
            self.write(&name, &record);
        }
    }

    /// The qube dies as if its kernel had crashed.
    pub(crate) fn crash(&self, name: &str) {
        let name = QubeName::new(name).unwrap();
        self.change(&name, |record| {
            record.running = None;
            record.stopped = Some(Stopped::Died);
            None
        });
    }

    fn read(&self, name: &QubeName) -> Record {
        let text = fs::read(self.root.join(name.as_str()));
        text.map(|text| serde_json::from_slice(&text).unwrap())
            .unwrap_or_default()
    }

    fn write(&self, name: &QubeName, record: &Record) {
        // No qube's name starts with a dot.
        let new = self.root.join(format!(".{name}"));
        fs::write(&new, serde_json::to_vec(record).unwrap()).unwrap();
        fs::rename(new, self.root.join(name.as_str())).unwrap();
    }

    fn change(&self, name: &QubeName, change: impl FnOnce(&mut Record) -> Option<String>) {
        let _changing = self.changing.lock().unwrap();
        let mut record = self.read(name);
        let effect = change(&mut record);
        record.effects.extend(effect);
        self.write(name, &record);
    }
}

#[async_trait]
impl Machine for FakeMachine {
    async fn observe(&self) -> Result<MachineState, MachineError> {
        let mut state = MachineState::default();
        for (name, record) in Self::records(&self.root) {
            state
                .running
                .extend(record.running.map(|running| (name.clone(), running)));
            state
                .stopped
                .extend(record.stopped.map(|stopped| (name, stopped)));
        }
        state.live = [
            LiveProperty::Memory,
            LiveProperty::Vcpus,
            LiveProperty::CpuWeight,
            LiveProperty::NetVm,
        ]
        .into();
        Ok(state)
    }

    async fn declare(&self, declared: Declared) -> Result<(), MachineError> {
        for policy in &declared.description.policy {
            if policy.text.contains("unparsable") {
                return Err(MachineError::Policy(format!(
                    "{}:1 is nonsense",
                    policy.origin
                )));
            }
        }
        Ok(())
    }

    async fn start(
        &self,
        qube: &Qube,
        image: Option<&ImageDigest>,
        _: Reason,
    ) -> Result<(), MachineError> {
        tokio::time::sleep(self.delay).await;
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        if self.read(&qube.name).running.is_some() {
            return Ok(());
        }
        if qube.kernelopts == "broken" {
            return Err(MachineError::NotStartable {
                name: qube.name.clone(),
                why: "its kernel does not boot".into(),
            });
        }
        if let Some(netvm) = &qube.netvm {
            assert!(
                self.read(netvm).running.is_some(),
                "{} starts before its netvm",
                qube.name
            );
        }
        self.change(&qube.name, |record| {
            record.stopped = None;
            record.running = Some(RunningQube {
                spec: qube.clone(),
                image: image.cloned(),
                revision: None,
                domid: DomId(1),
                uuid: uuid::Uuid::nil(),
                state: DomainState::Running,
                reach: Reach::default(),
                disposable: false,
            });
            Some(format!("start {} {:?}", qube.name, qube.kernelopts))
        });
        Ok(())
    }

    async fn stop(&self, name: &QubeName, _: Duration, _: Reason) -> Result<(), MachineError> {
        self.change(name, |record| {
            record.running.take()?;
            record.stopped = Some(Stopped::ByPerson);
            Some(format!("stop {name}"))
        });
        Ok(())
    }

    async fn live_update(&self, name: &QubeName, change: &LiveChange) -> Result<(), MachineError> {
        self.change(name, |record| {
            let running = record.running.as_mut()?;
            let before = running.spec.clone();
            set_live(&mut running.spec, change);
            (running.spec != before).then(|| format!("live {name} {change:?}"))
        });
        Ok(())
    }
}
