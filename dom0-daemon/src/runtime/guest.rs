//! What a qube's relay says, on its way to those whom it concerns.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bulkhead_api::qube::QubeState;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Description, Qube};
use bulkhead_wire::relay::{FromRelay, ToRelay};

use super::keys::{self, Keys};
use super::windows::shows_windows;
use super::{Agent, Inner, Run};
use crate::machine::Reason;
use crate::relays::{Misuse, RelayEvents, printable};

/// The ear of one life of a qube.
#[derive(Debug)]
pub(super) struct GuestEvents {
    inner: Weak<Inner>,
    run: Weak<Run>,
}

impl GuestEvents {
    pub(super) fn new(inner: Weak<Inner>, run: Weak<Run>) -> Self {
        Self { inner, run }
    }

    fn both(&self) -> Option<(Arc<Inner>, Arc<Run>)> {
        Some((self.inner.upgrade()?, self.run.upgrade()?))
    }
}

impl RelayEvents for GuestEvents {
    fn keys(&self) -> Vec<(String, Vec<u8>)> {
        let Some((inner, run)) = self.both() else {
            return Vec::new();
        };
        inner.keys_of(&run).into_iter().collect()
    }

    fn message(&self, epoch: u64, message: FromRelay) {
        let Some((inner, run)) = self.both() else {
            return;
        };
        match message {
            FromRelay::Ready { confinement } => {
                let confinement = printable(&confinement);
                tracing::debug!(qube = %run.name, confinement, "relay serves");
            }
            FromRelay::AgentConnected { version } => {
                tracing::info!(qube = %run.name, version, "agent connected");
                // Shown first: who waits for the agent goes on at once and may change the state.
                inner.agent_changed(&run.name, true);
                run.agent.send_replace(Agent::Connected(version));
                inner.settle_clients(&run.name);
            }
            FromRelay::AgentLost { reason } => {
                let reason = printable(&reason);
                tracing::warn!(qube = %run.name, reason, "agent is gone");
                inner.agent_lost(&run);
            }
            FromRelay::CallRequest {
                request,
                service,
                target,
                requested_source,
                announced,
            } => inner.call_requested(
                &run,
                crate::calls::Request {
                    epoch,
                    id: request,
                    service,
                    target,
                    requested_source,
                    announced,
                },
            ),
            FromRelay::CallWithdrawn { request } => inner.call_withdrawn(&run, epoch, request),
            FromRelay::ConnectionTerminated { domain, port } => {
                inner.connection_terminated(run.domid.0, domain, port);
            }
            FromRelay::ClientExec { client, .. } => {
                let connect_port = inner.calls.allocate_for_client(run.domid.0);
                let answer = ToRelay::ClientPort {
                    client,
                    connect_port,
                };
                inner.send_to(&run, &answer);
            }
            FromRelay::DbLost { reason } if !reason.is_empty() => {
                // As often as the qube likes, and its own loss alone.
                let reason = printable(&reason);
                tracing::debug!(qube = %run.name, reason, "QubesDB link ended");
            }
            // What a qube writes about itself is nothing that dom0 acts on.
            FromRelay::Failed { .. }
            | FromRelay::ClientGone { .. }
            | FromRelay::DbSynchronised
            | FromRelay::DbLost { .. }
            | FromRelay::DbChanged { .. } => {}
        }
    }

    fn appeared(&self, name: &str) {
        if let Some((inner, run)) = self.both() {
            inner.socket_appeared(&run, name);
        }
    }

    fn is_known(&self, name: &str) -> bool {
        self.both()
            .is_some_and(|(inner, run)| inner.knows_socket(&run, name))
    }

    fn misused(&self, how: Misuse) {
        let Some((inner, run)) = self.both() else {
            return;
        };
        tracing::error!(qube = %run.name, %how, "the qube is killed");
        tokio::spawn(async move {
            // Only if it is still this life of it.
            if inner.state().run(&run.name).map(|now| now.domid) != Some(run.domid) {
                return;
            }
            if let Err(error) = inner.kill(&run.name, Reason::Misuse).await {
                tracing::error!(qube = %run.name, %error, "cannot be killed");
            }
        });
    }

    fn lost(&self, epoch: u64) {
        if let Some((inner, run)) = self.both() {
            run.epoch.store(epoch + 1, Ordering::Relaxed);
            inner.agent_lost(&run);
        }
    }
}

impl Inner {
    /// Sends and only notes a failure: for what has no one to tell.
    pub(crate) fn send_to(&self, run: &Run, message: &ToRelay) {
        let sent = run.relay.get().map(|relay| relay.send(message));
        if let Some(Err(error)) = sent {
            tracing::warn!(qube = %run.name, %error, "message is not delivered");
        }
    }

    /// Shows whether the qube's agent is there, unless it is paused or on its way down.
    fn agent_changed(&self, name: &QubeName, connected: bool) {
        let mut state = self.state();
        let entry = state.qubes.get(name);
        if entry.is_none_or(|entry| entry.paused || entry.state == QubeState::Stopping) {
            return;
        }
        let to = if connected {
            QubeState::Running
        } else {
            QubeState::Starting
        };
        self.show(&mut state, name, to);
    }

    fn agent_lost(&self, run: &Arc<Run>) {
        // What was asked of an agent that is gone cannot be answered any more.
        self.calls.withdraw(self, run.domid.0);
        let changed = run.agent.send_if_modified(|agent| {
            let connected = matches!(agent, Agent::Connected(_));
            if connected {
                *agent = Agent::Absent;
            }
            connected
        });
        if changed {
            self.agent_changed(&run.name, false);
        }
    }

    fn keys_of(&self, run: &Run) -> Keys {
        let state = self.state();
        let Some(qube) = state.qubes.get(&run.name).and_then(|e| e.spec.as_ref()) else {
            return Default::default();
        };
        let netvm = state.qubes.get(&run.name).and_then(|entry| entry.netvm);
        let description = state.description().map(|description| &**description);
        let mut keys = keys::keys(qube, run.domid, netvm, &state.served_by(run.domid));
        keys.extend(keys::window_keys(
            self.config.gui.is_some() && shows_windows(qube, description),
        ));
        if let Some(description) = description {
            keys.extend(keys::remote_keys(&run.name, description));
        }
        keys
    }

    /// Tells a running qube what changed: keys that are new or different, and those that are gone.
    pub(super) fn push_keys(&self, run: &Run, before: &Qube, after: &Qube) {
        let of = |qube: &Qube| {
            let mut keys = keys::service_keys(&qube.services);
            keys.extend(keys::feature_keys(&qube.features));
            keys
        };
        self.push(run, &of(before), of(after));
    }

    /// Tells running qubes which qubes of other machines they relay for now.
    pub(super) fn push_remotes(&self, before: Option<&Description>, after: &Description) {
        if before.is_none_or(|before| before.remotes == after.remotes) {
            return;
        }
        let running: Vec<Arc<Run>> = {
            let state = self.state();
            let runs = state.qubes.values().filter_map(|entry| entry.run.clone());
            runs.collect()
        };
        for run in running {
            let of = |description| keys::remote_keys(&run.name, description);
            self.push(&run, &before.map(of).unwrap_or_default(), of(after));
        }
    }

    pub(super) fn push(&self, run: &Run, old: &Keys, new: Keys) {
        for path in old.keys().filter(|path| !new.contains_key(*path)) {
            self.send_to(run, &ToRelay::DbRemove { path: path.clone() });
        }
        for (path, value) in new {
            if old.get(&path) != Some(&value) {
                self.send_to(run, &ToRelay::DbWrite { path, value });
            }
        }
    }
}
