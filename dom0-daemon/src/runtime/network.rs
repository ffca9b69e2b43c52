//! Who is whose network, kept so while qubes come and go.
//!
//! A qube whose netvm ends is disconnected, and one whose netvm comes up is connected to it, which is
//! another domain by then. Each qube's own task does that to it, whenever it is told
//! ([`Command::Network`]) that something may have changed.

use std::sync::Arc;

use bulkhead_api::qube::QubeState;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::Qube;
use bulkhead_wire::causes::chain;
use tokio::sync::mpsc;

use super::keys;
use super::lifecycle::Command;
use super::{Inner, Run, RuntimeError, State};
use crate::hypervisor::DomId;
use crate::machine::{LiveChange, MachineError, Reason};

impl State {
    /// Domains that run and have their network from `provider`, in order.
    pub(super) fn served_by(&self, provider: DomId) -> Vec<DomId> {
        let served = self.qubes.values().filter(|e| e.netvm == Some(provider));
        let domains = served.filter_map(|entry| Some(entry.run.as_ref()?.domid));
        let mut domains: Vec<DomId> = domains.collect();
        domains.sort_unstable();
        domains
    }

    /// What a running qube should have its network from. One that still comes up is none, because it
    /// tells when it is up, nor is one that stops. One that a qube is connected to already stays, even
    /// where nobody has heard of its agent since the daemon began.
    fn network_of(&self, spec: &Qube, now: Option<DomId>, connects: bool) -> Option<DomId> {
        let netvm = spec.netvm.as_ref()?;
        let run = self.run(netvm)?;
        let serves = run.is_up() && !self.stops(netvm);
        (!connects || now == Some(run.domid) || serves).then_some(run.domid)
    }

    fn stops(&self, name: &QubeName) -> bool {
        let entry = self.qubes.get(name);
        entry.is_some_and(|entry| entry.state == QubeState::Stopping)
    }

    fn mailboxes(&self, of: impl Fn(&Qube) -> bool) -> Vec<mpsc::Sender<Command>> {
        let running = self.qubes.values().filter(|entry| entry.run.is_some());
        let meant = running.filter(|entry| entry.spec.as_ref().is_some_and(&of));
        meant.map(|entry| entry.mailbox.clone()).collect()
    }
}

impl Inner {
    /// The domain of `netvm`, which `name` is to have its network from. Started if it does not run,
    /// and waited for: nothing can be connected to what is not up.
    pub(super) async fn netvm_domain(
        &self,
        name: &QubeName,
        netvm: Option<&QubeName>,
    ) -> Result<Option<DomId>, MachineError> {
        let Some(netvm) = netvm else {
            return Ok(None);
        };
        let starts = {
            let state = self.state();
            state.run(netvm).is_none() || state.stops(netvm)
        };
        if starts {
            // Boxed: its own netvm may need this again; cycles are refused by the description.
            Box::pin(self.start_declared(netvm, Reason::Needed)).await?;
        }
        if !self.hypervisor.connects_networks() {
            return Ok(self.state().run(netvm).map(|run| run.domid));
        }
        let fails = |why: String| MachineError::NoNetwork {
            name: name.clone(),
            netvm: netvm.clone(),
            why,
        };
        match self.wait_agent(netvm).await {
            Ok(_) | Err(RuntimeError::NoAgent(_)) => {}
            Err(error) => return Err(fails(format!("does not come up: {}", chain(&error)))),
        }
        let state = self.state();
        let paused = state.qubes.get(netvm).is_some_and(|entry| entry.paused);
        match state.run(netvm) {
            Some(run) if !paused => Ok(Some(run.domid)),
            Some(_) => Err(fails("is paused".to_owned())),
            None => Err(fails("ended".to_owned())),
        }
    }

    /// Connects a running qube to what is its network by now.
    pub(super) async fn settle_network(&self, run: &Arc<Run>) -> Result<(), MachineError> {
        let connects = self.hypervisor.connects_networks();
        let (now, wanted) = {
            let state = self.state();
            let entry = state.qubes.get(&run.name);
            let Some((entry, spec)) = entry.and_then(|entry| Some((entry, entry.spec.as_ref()?)))
            else {
                return Ok(());
            };
            (entry.netvm, state.network_of(spec, entry.netvm, connects))
        };
        if now == wanted {
            return Ok(());
        }
        tracing::info!(qube = %run.name, ?now, ?wanted, "its network changes");
        self.set_network(run, wanted).await
    }

    /// Changes what a running qube is to have its network from.
    pub(super) async fn change_netvm(
        &self,
        run: &Arc<Run>,
        netvm: Option<QubeName>,
    ) -> Result<(), MachineError> {
        let wanted = self.netvm_domain(&run.name, netvm.as_ref()).await?;
        if let Err(error) = self.set_network(run, wanted).await {
            // What it had is still what it is to have.
            if let Err(error) = self.settle_network(run).await {
                tracing::error!(qube = %run.name, error = chain(&error), "it has no network");
            }
            return Err(error);
        }
        self.update_spec(run, LiveChange::NetVm(netvm))
    }

    async fn set_network(&self, run: &Run, netvm: Option<DomId>) -> Result<(), MachineError> {
        let set = self.hypervisor.set_netvm(run.domid, netvm).await;
        self.connected(run, netvm.filter(|_| set.is_ok()));
        set.map_err(|source| MachineError::Hypervisor {
            name: run.name.clone(),
            source,
        })
    }

    /// Takes note of what a qube is connected to, and tells all whom it concerns.
    fn connected(&self, run: &Run, netvm: Option<DomId>) {
        let before = {
            let mut state = self.state();
            let Some(entry) = state.qubes.get_mut(&run.name) else {
                return;
            };
            std::mem::replace(&mut entry.netvm, netvm)
        };
        let (old, new) = (
            keys::network_keys(run.domid, before),
            keys::network_keys(run.domid, netvm),
        );
        self.push(run, &old, new);
        for provider in [before, netvm].into_iter().flatten() {
            self.tell_served(provider);
        }
    }

    /// Tells a domain whom it serves.
    pub(super) fn tell_served(&self, provider: DomId) {
        let (run, served) = {
            let state = self.state();
            let Some(run) = state.domains.get(&provider.0).cloned() else {
                return;
            };
            (run, state.served_by(provider))
        };
        self.push(&run, &keys::Keys::new(), keys::clients_keys(&served));
    }

    /// Has those that run and have their network from `name` look at it again.
    pub(super) fn settle_clients(&self, name: &QubeName) {
        let clients = |spec: &Qube| spec.netvm.as_ref() == Some(name) && spec.name != *name;
        tell(self.state().mailboxes(clients));
    }

    /// The network of all that run, after a daemon that may have ended in the middle of a change.
    pub(super) fn adopt_networks(&self) {
        tell(self.state().mailboxes(|_| true));
    }

    /// A life is over that had its network from `netvm`.
    pub(super) fn network_ended(&self, run: &Run, netvm: Option<DomId>) {
        if let Some(provider) = netvm {
            self.tell_served(provider);
        }
        self.settle_clients(&run.name);
    }
}

/// A task that has much to do is not waited for.
fn tell(mailboxes: Vec<mpsc::Sender<Command>>) {
    for mailbox in mailboxes {
        tokio::spawn(async move {
            // One that is gone needs no network.
            let _ = mailbox.send(Command::Network).await;
        });
    }
}
