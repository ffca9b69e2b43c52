//! What a person asks of single qubes.

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_api::qube::{QubeInfo, QubeRow};
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::Qube;

use super::lifecycle::Command;
use super::{Agent, Dependents, Inner, Runtime, RuntimeError};
use crate::machine::{Machine, MachineError, Reason};

impl Inner {
    fn without_effect(&self, qube: &Qube) -> Vec<String> {
        let mut names = self.hypervisor.without_effect(qube);
        names.extend(self.storage.without_effect(qube));
        names
    }
}

impl Runtime {
    /// Every qube, sorted by name; from memory.
    pub fn list(&self) -> Vec<QubeRow> {
        self.inner.state().rows()
    }

    /// One qube.
    ///
    /// # Errors
    /// Where there is none.
    pub fn info(&self, name: &QubeName) -> Result<QubeInfo, MachineError> {
        let state = self.inner.state();
        let row = state
            .row(name)
            .ok_or_else(|| MachineError::NoSuchQube(name.clone()))?;
        let entry = state.qubes.get(name);
        let run = entry.and_then(|e| e.run.as_ref());
        let running = entry.and_then(|e| e.spec.as_ref());
        let declared = state.declared_qube(name);
        let differs = run.is_some_and(|run| {
            declared.is_some_and(|qube| running != Some(qube) || state.root_differs(run, qube))
        });
        let agent_version = run.and_then(|run| match *run.agent.borrow() {
            Agent::Connected(version) => Some(version),
            Agent::NotExpected | Agent::Absent | Agent::Gone => None,
        });
        let shown = declared.or(running);
        Ok(QubeInfo {
            without_effect: shown.map_or_else(Vec::new, |qube| self.inner.without_effect(qube)),
            uuid: run
                .map(|r| r.uuid)
                .or_else(|| state.uuids.get(name).copied())
                .map(|uuid| uuid.to_string()),
            started: run.map(|r| r.started),
            restart_needed: differs,
            agent_version,
            template_root: shown.and_then(|qube| state.template_root(run, qube)),
            revisions: shown.map_or_else(Vec::new, |qube| state.revisions_of(qube)),
            declared: serde_json::to_value(shown).unwrap_or_default(),
            row,
        })
    }

    /// What is declared and changes nothing on this machine: qubes by property.
    pub fn without_effect(&self) -> BTreeMap<String, Vec<String>> {
        let state = self.inner.state();
        let mut by_property: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for qube in state
            .description()
            .into_iter()
            .flat_map(|d| d.qubes.values())
        {
            for property in self.inner.without_effect(qube) {
                let qubes = by_property.entry(property).or_default();
                qubes.push(qube.name.to_string());
            }
        }
        by_property
    }

    fn known(&self, name: &QubeName) -> Result<(), MachineError> {
        match self.inner.state().row(name) {
            Some(_) => Ok(()),
            None => Err(MachineError::NoSuchQube(name.clone())),
        }
    }

    /// Starts a declared qube; returns once its agent has connected, if it is to have one.
    ///
    /// # Errors
    /// Where it cannot be started or its agent does not come up.
    pub async fn start_qube(&self, name: &QubeName) -> Result<(), RuntimeError> {
        if self.inner.state().run(name).is_none() || self.inner.declared(name).is_some() {
            self.inner.start_declared(name, Reason::Person).await?;
        }
        match self.inner.wait_agent(name).await {
            // It runs, and nobody will say so.
            Ok(_) | Err(RuntimeError::NoAgent(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether a qube may go that there is: it, or those that have their network from it.
    fn may_go(&self, name: &QubeName, dependents: Dependents) -> Result<(), MachineError> {
        self.known(name)?;
        if dependents == Dependents::CutOff {
            return Ok(());
        }
        let by = self.inner.state().running_clients(name);
        if by.is_empty() {
            return Ok(());
        }
        let name = name.clone();
        Err(MachineError::InUse { name, by })
    }

    /// Asks a qube to stop and waits; without a timeout it has its own.
    ///
    /// # Errors
    /// Where there is no such qube, others need it, or the hypervisor refuses.
    pub async fn stop_qube(
        &self,
        name: &QubeName,
        timeout: Option<Duration>,
        dependents: Dependents,
    ) -> Result<(), MachineError> {
        self.may_go(name, dependents)?;
        let timeout = timeout.unwrap_or_else(|| self.inner.shutdown_timeout(name));
        self.stop(name, timeout, Reason::Person).await
    }

    /// Ends a qube at once.
    ///
    /// # Errors
    /// Where there is no such qube or others need it.
    pub async fn kill_qube(
        &self,
        name: &QubeName,
        dependents: Dependents,
    ) -> Result<(), MachineError> {
        self.may_go(name, dependents)?;
        self.inner.kill(name, Reason::Person).await
    }

    /// Freezes a running qube or lets it go on.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn set_paused(&self, name: &QubeName, paused: bool) -> Result<(), MachineError> {
        self.known(name)?;
        self.inner
            .ask(name, |reply| Command::SetPaused { paused, reply })
            .await
    }

    /// Stops a qube and starts it as it is declared now.
    ///
    /// # Errors
    /// As for both.
    pub async fn restart_qube(
        &self,
        name: &QubeName,
        timeout: Option<Duration>,
        dependents: Dependents,
    ) -> Result<(), RuntimeError> {
        // Those that need it lose it until it is back, and what they had open for good.
        self.stop_qube(name, timeout, dependents).await?;
        self.start_qube(name).await
    }
}
