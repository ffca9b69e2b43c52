//! The runtime as applies see it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_api::event::Event;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::Qube;

use super::lifecycle::Command;
use super::{Life, Runtime, identity};
use crate::hypervisor::DomainState;
use crate::machine::{
    Declared, LiveChange, LiveProperty, Machine, MachineError, MachineState, Reason, RunningQube,
};
use crate::storage::ImageDigest;

#[async_trait]
impl Machine for Runtime {
    async fn observe(&self) -> Result<MachineState, MachineError> {
        let state = self.inner.state();
        let mut seen = MachineState {
            live: [
                LiveProperty::NetVm,
                LiveProperty::Services,
                LiveProperty::Features,
            ]
            .into(),
            revisions: state.newest_revisions(),
            ..MachineState::default()
        };
        // What cannot be changed while a qube runs takes effect at its next start, and plans say so.
        if self.inner.hypervisor.can_set_memory() {
            seen.live.insert(LiveProperty::Memory);
        }
        if self.inner.hypervisor.can_set_vcpus() {
            seen.live.insert(LiveProperty::Vcpus);
        }
        if self.inner.hypervisor.can_set_cpu_weight() {
            seen.live.insert(LiveProperty::CpuWeight);
        }
        if self.inner.hypervisor.can_set_blocks() {
            seen.live.insert(LiveProperty::Devices);
        }
        for (name, entry) in &state.qubes {
            if let (Some(run), Some(spec)) = (&entry.run, &entry.spec) {
                let running = RunningQube {
                    spec: spec.clone(),
                    image: run.image.clone(),
                    revision: run.revision,
                    domid: run.domid,
                    uuid: run.uuid,
                    state: if entry.paused {
                        DomainState::Paused
                    } else {
                        DomainState::Running
                    },
                    reach: self.inner.hypervisor.reach(run.domid),
                    disposable: run.life.is_disposable(),
                };
                seen.running.insert(name.clone(), running);
            } else if let Some(stopped) = entry.stopped {
                seen.stopped.insert(name.clone(), stopped);
            }
        }
        Ok(seen)
    }

    async fn declare(&self, declared: Declared) -> Result<(), MachineError> {
        let policy = self
            .inner
            .prepare_policy(Arc::clone(&declared.description))
            .await;
        if let Some(refusal) = policy.refusal() {
            if self.inner.state().declared.is_some() {
                return Err(MachineError::Policy(refusal));
            }
            // There is no old one to stay with.
            tracing::error!(errors = %refusal, "the policy has errors: every call is refused");
        }
        let description = Arc::clone(&declared.description);
        let (old, before, after) = self.inner.put_policy(policy, |state| {
            let before = state.rows();
            let names = declared.description.names();
            let old = state.declared.replace(declared);
            identity::update(&mut state.uuids, &names);
            state.rebuild_view();
            (old, before, state.rows())
        });
        let old = old.map(|old| old.description);
        self.inner.push_remotes(old.as_deref(), &description);
        self.inner.tidy_revisions().await;
        let uuids = self.inner.state().uuids.clone();
        identity::save(&self.inner.config.state_dir, &uuids).map_err(|source| {
            MachineError::Io {
                doing: "writing the qubes' UUIDs".to_owned(),
                source,
            }
        })?;
        for row in &before {
            if !after.iter().any(|r| r.name == row.name) {
                let name = row.name.clone();
                self.inner.events.send(Event::QubeRemoved { name });
            }
        }
        for row in after {
            if !before.contains(&row) {
                self.inner.events.send(Event::QubeChanged(row));
            }
        }
        Ok(())
    }

    async fn start(
        &self,
        qube: &Qube,
        image: Option<&ImageDigest>,
        reason: Reason,
    ) -> Result<(), MachineError> {
        self.inner
            .start_as(qube.clone(), image.cloned(), Life::Declared, reason)
            .await
    }

    async fn stop(
        &self,
        name: &QubeName,
        timeout: Duration,
        reason: Reason,
    ) -> Result<(), MachineError> {
        if !self.inner.state().qubes.contains_key(name) {
            return Ok(());
        }
        self.inner
            .ask(name, |reply| Command::Stop {
                timeout,
                reason,
                reply,
            })
            .await
    }

    async fn live_update(&self, name: &QubeName, change: &LiveChange) -> Result<(), MachineError> {
        if self.inner.state().run(name).is_none() {
            return Ok(());
        }
        let change = change.clone();
        self.inner
            .ask(name, |reply| Command::Update { change, reply })
            .await
    }

    fn warnings(&self) -> Vec<String> {
        let state = self.inner.state();
        let declared = state.description().into_iter();
        let unmet = declared
            .flat_map(|all| all.qubes.values())
            .filter_map(|qube| {
                let unmet = self.inner.hypervisor.unmet(qube)?;
                Some(format!("Qube {} cannot start: {unmet}.", qube.name))
            });
        unmet.collect()
    }
}
