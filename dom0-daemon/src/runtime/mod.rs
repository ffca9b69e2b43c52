//! Qubes by name: the one place that starts, stops and connects them.
//!
//! [`Runtime`] implements [`Machine`](crate::machine::Machine) for applies (`machine`) and has the
//! operations that faces offer (`people`). Each qube has a task of its own (`lifecycle`); what
//! everyone may ask at any time is in memory (`state`). Calls between qubes are in [`crate::calls`], their relays in [`crate::relays`].
//!
//! Invariant: no lock is held across an await, and nothing here parses what a guest sent.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bulkhead_api::event::Event;
use bulkhead_api::qube::QubeState;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::Qube;
use bulkhead_wire::end::Carrier;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

pub use self::error::RuntimeError;
use self::lifecycle::{Command, MAILBOX, Owner, Places};
use self::state::Entry;
pub(crate) use self::state::State;
pub(crate) use self::state::{Agent, Life, Run};
use crate::audit::{Audit, SETTLE_EVERY};
use crate::bus::Events;
use crate::calls::{Calls, ServicesConfig};
use crate::clipboard::Clipboard;
use crate::db::Database;
use crate::hypervisor::{DomainEvent, Ending, Hypervisor};
use crate::machine::{MachineError, Reason, Stopped};
use crate::meeting::Meeting;
use crate::notifications::Board;
use crate::policy::Policy;
use crate::storage::{ImageDigest, Storage};
use crate::windows::Displays;

mod disposables;
mod error;
mod guest;
mod identity;
mod keys;
mod lifecycle;
mod machine;
mod monitors;
mod network;
mod people;
mod roots;
mod start;
mod state;
mod stops;
mod windows;

/// How long a qube's agent may take to connect. Qubes: `qrexec_timeout`, 60 seconds.
pub const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest that may be configured: a qube that does not come up holds up an apply for so long.
pub const STARTUP_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Where the runtime keeps things and whom it starts.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// The daemon's state folder.
    pub state_dir: PathBuf,
    /// The daemon's runtime folder.
    pub runtime_dir: PathBuf,
    /// The `bulkhead-relay` program.
    pub relay: PathBuf,
    /// What qubes may call in dom0.
    pub services: ServicesConfig,
    /// The `bulkhead-gui` program; without it no windows are shown.
    pub gui: Option<PathBuf>,
    /// How long something is carried between clipboards, usually [`crate::clipboard::CARRIED_FOR`].
    pub clipboard_timeout: Duration,
    /// How long an agent may take to connect, usually [`STARTUP_TIMEOUT`].
    pub startup_timeout: Duration,
    /// How long a question stays open, usually [`crate::calls::ASK_TIMEOUT`].
    pub ask_timeout: Duration,
    /// For how long a question that a person refused is not asked again, usually
    /// [`crate::calls::HOLD_BACK`].
    pub hold_back: Duration,
}

/// What becomes of running qubes that have their network from one that is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependents {
    /// It does not stop while there are any.
    Respect,
    /// They lose it.
    CutOff,
}

/// What everything here shares.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: RuntimeConfig,
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) database: Database,
    pub(crate) events: Events,
    pub(crate) audit: Audit,
    pub(crate) calls: Calls,
    pub(crate) clipboard: Clipboard,
    pub(crate) displays: Arc<Displays>,
    pub(crate) notifications: Arc<Board>,
    pub(crate) policy: Policy,
    /// Where qubes are found that are domains of Xen.
    pub(crate) meeting: Option<Arc<Meeting>>,
    state: Mutex<State>,
    pub(crate) own: Weak<Inner>,
}

/// The runtime. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub(crate) inner: Arc<Inner>,
}

impl Inner {
    /// Oneself, to hand to a task.
    pub(crate) fn own(&self) -> Option<Arc<Self>> {
        self.own.upgrade()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task of a qube, begun if there is none.
    fn mailbox(&self, name: &QubeName) -> mpsc::Sender<Command> {
        self.mailbox_in(&mut self.state(), name, None)
    }

    fn mailbox_in(
        &self,
        state: &mut State,
        name: &QubeName,
        run: Option<Arc<Run>>,
    ) -> mpsc::Sender<Command> {
        if let Some(entry) = state.qubes.get(name) {
            return entry.mailbox.clone();
        }
        let (mailbox, commands) = mpsc::channel(MAILBOX);
        if let Some(inner) = self.own.upgrade() {
            tokio::spawn(Owner::new(inner, name.clone(), run.clone()).serve(commands));
        }
        let entry = Entry {
            mailbox: mailbox.clone(),
            state: QubeState::Stopped,
            run,
            spec: None,
            netvm: None,
            paused: false,
            stopped: None,
        };
        state.qubes.insert(name.clone(), entry);
        mailbox
    }

    async fn ask<T>(
        &self,
        name: &QubeName,
        command: impl FnOnce(oneshot::Sender<Result<T, MachineError>>) -> Command,
    ) -> Result<T, MachineError> {
        let (reply, answer) = oneshot::channel();
        let mailbox = self.mailbox(name);
        // The task lives as long as the entry that the mailbox is from.
        let gone = || MachineError::NotRunning(name.clone());
        mailbox.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    fn publish(&self, state: &State, name: &QubeName) {
        if let Some(row) = state.row(name) {
            self.events.send(Event::QubeChanged(row));
        } else {
            self.events.send(Event::QubeRemoved {
                name: name.to_string(),
            });
        }
    }

    pub(crate) fn set_state(&self, name: &QubeName, to: QubeState) {
        self.show(&mut self.state(), name, to);
    }

    fn show(&self, state: &mut State, name: &QubeName, to: QubeState) {
        if let Some(entry) = state.qubes.get_mut(name)
            && entry.state != to
        {
            entry.state = to;
            self.publish(state, name);
        }
    }

    /// Shows a qube as it is again whose stop was refused.
    fn goes_on(&self, name: &QubeName) {
        let paused = self.state().qubes.get(name).is_some_and(|e| e.paused);
        self.set_paused(name, paused);
    }

    fn set_paused(&self, name: &QubeName, paused: bool) {
        let up = {
            let mut state = self.state();
            let Some(entry) = state.qubes.get_mut(name) else {
                return;
            };
            entry.paused = paused;
            entry.run.as_ref().is_some_and(|run| run.is_up())
        };
        let to = match (paused, up) {
            (true, _) => QubeState::Paused,
            (false, true) => QubeState::Running,
            (false, false) => QubeState::Starting,
        };
        self.set_state(name, to);
    }

    fn note_stopped(&self, name: &QubeName, stopped: Option<Stopped>) {
        if let Some(entry) = self.state().qubes.get_mut(name) {
            entry.stopped = stopped;
        }
        self.save_stops();
    }

    /// How long a qube may take to stop.
    fn shutdown_timeout(&self, name: &QubeName) -> Duration {
        /// Of a qube that is declared no more and of which nothing is known.
        const UNKNOWN: u32 = 60;
        let seconds = self
            .spec_of(name)
            .map_or(UNKNOWN, |qube| qube.shutdown_timeout);
        Duration::from_secs(seconds.into())
    }

    fn spec_of(&self, name: &QubeName) -> Option<Qube> {
        let state = self.state();
        state
            .declared_qube(name)
            .or_else(|| state.qubes.get(name)?.spec.as_ref())
            .cloned()
    }

    /// A qube as declared now, and the image its root is made of.
    pub(crate) fn declared(&self, name: &QubeName) -> Option<(Qube, Option<ImageDigest>)> {
        let state = self.state();
        let qube = state.declared_qube(name)?;
        Some((qube.clone(), state.image_of(qube)))
    }

    /// The end of one life of a qube.
    fn run_ended(&self, run: &Arc<Run>, stopped: Option<Stopped>) {
        run.agent.send_replace(Agent::Gone);
        self.calls.domain_gone(self, run);
        run.place.gone();
        // Before anybody hears of the end. It may be gone already; a name that stays would only lead nowhere.
        let clients = start::clients_socket(&self.config.runtime_dir, &run.name);
        let _ = std::fs::remove_file(clients);
        if run.life.is_disposable() && stopped != Some(Stopped::Died) {
            // What it said on its console goes with it; of one that died, that says why.
            let log = start::console_log(&self.config.state_dir, &run.name);
            let _ = std::fs::remove_file(log);
        }
        let places = Places::new(&self.config.runtime_dir, &run.name);
        start::clear(&self.config.runtime_dir, &places, run.domid);
        let mut state = self.state();
        let netvm = state.qubes.get(&run.name).and_then(|entry| entry.netvm);
        state.domains.remove(&run.domid.0);
        if run.life.is_disposable() {
            // Its task ends with its mailbox.
            state.qubes.remove(&run.name);
        } else if let Some(entry) = state.qubes.get_mut(&run.name) {
            entry.run = None;
            entry.spec = None;
            entry.netvm = None;
            entry.paused = false;
            entry.stopped = stopped;
            entry.state = stopped.map_or(QubeState::Stopped, Stopped::state);
        }
        state.rebuild_view();
        self.publish(&state, &run.name);
        drop(state);
        self.save_stops();
        self.network_ended(run, netvm);
        self.root_unused(run);
    }

    /// Starts what is declared under `name`, unless it runs.
    pub(crate) async fn start_declared(
        &self,
        name: &QubeName,
        reason: Reason,
    ) -> Result<(), MachineError> {
        let (qube, image) = self
            .declared(name)
            .ok_or_else(|| MachineError::NoSuchQube(name.clone()))?;
        self.start_as(qube, image, Life::Declared, reason).await
    }

    pub(crate) async fn start_as(
        &self,
        qube: Qube,
        image: Option<ImageDigest>,
        life: Life,
        reason: Reason,
    ) -> Result<(), MachineError> {
        if self.state().run(&qube.name).is_some() {
            let entry_state = self.state().qubes.get(&qube.name).map(|e| e.state);
            if entry_state != Some(QubeState::Stopping) {
                return Ok(());
            }
        }
        let name = qube.name.clone();
        let qube = Box::new(qube);
        self.ask(&name, |reply| Command::Start {
            qube,
            image,
            life,
            reason,
            reply,
        })
        .await
    }

    /// Waits until the agent of a running qube has said hello.
    pub(crate) async fn wait_agent(&self, name: &QubeName) -> Result<Arc<Run>, RuntimeError> {
        let run = self.state().run(name).cloned();
        let run = run.ok_or_else(|| MachineError::NotRunning(name.clone()))?;
        let mut agent = run.agent.subscribe();
        let wait = agent.wait_for(|agent| *agent != Agent::Absent);
        let outcome = tokio::time::timeout(self.config.startup_timeout, wait).await;
        match outcome {
            Err(_) => Err(RuntimeError::AgentTimeout {
                name: name.clone(),
                seconds: self.config.startup_timeout.as_secs(),
            }),
            Ok(Ok(agent)) if matches!(*agent, Agent::Connected(_)) => {
                drop(agent);
                Ok(run)
            }
            Ok(Ok(agent)) if *agent == Agent::NotExpected => {
                Err(RuntimeError::NoAgent(name.clone()))
            }
            Ok(_) => Err(RuntimeError::Ended(name.clone())),
        }
    }

    pub(crate) async fn kill(&self, name: &QubeName, reason: Reason) -> Result<(), MachineError> {
        if self.state().run(name).is_none() {
            return Ok(());
        }
        self.ask(name, |reply| Command::Kill { reason, reply })
            .await
    }
}

impl Runtime {
    /// Takes over what runs and begins to serve it.
    ///
    /// # Errors
    /// Where the folders cannot be used or the hypervisor cannot tell what runs.
    pub async fn open(
        config: RuntimeConfig,
        hypervisor: Arc<dyn Hypervisor>,
        storage: Arc<dyn Storage>,
        database: Database,
        events: Events,
    ) -> Result<Self, MachineError> {
        let io = |doing: &str| {
            let doing = doing.to_owned();
            move |source| MachineError::Io { doing, source }
        };
        start::prepare_folders(&config.runtime_dir).map_err(io("preparing the runtime folder"))?;
        let audit = Audit::open(&config.state_dir.join("log"), events.clone())
            .map_err(io("opening the audit log"))?;
        let uuids = identity::load(&config.state_dir).map_err(io("reading the qubes' UUIDs"))?;
        let deaths = hypervisor.subscribe();
        let meeting = match hypervisor.carrier() {
            Carrier::Sockets => None,
            Carrier::Rings => {
                let meeting = Meeting::start().map_err(io("connecting to xenstore"))?;
                Some(Arc::new(meeting))
            }
        };
        let inner = Arc::new_cyclic(|own| Inner {
            config,
            state: Mutex::new(State::new(uuids, Arc::clone(&hypervisor))),
            hypervisor,
            storage,
            database,
            events,
            audit,
            calls: Calls::new(),
            clipboard: Clipboard::default(),
            displays: Arc::default(),
            notifications: Arc::default(),
            policy: Policy::default(),
            meeting,
            own: own.clone(),
        });
        inner.adopt().await?;
        inner.load_stops();
        tokio::spawn(watch_deaths(Arc::downgrade(&inner), deaths));
        tokio::spawn(crate::policy::follow(Arc::downgrade(&inner)));
        tokio::spawn(settle_audit(Arc::downgrade(&inner), inner.audit.counted()));
        Ok(Self { inner })
    }

    /// Lets go of all qubes, which run on: their relays end, and another runtime may take over.
    pub fn release(&self) {
        let (qubes, domains) = {
            let mut state = self.inner.state();
            (
                std::mem::take(&mut state.qubes),
                std::mem::take(&mut state.domains),
            )
        };
        // Outside of the lock: what ends with them may look at the state.
        drop((qubes, domains));
        self.inner.calls.end_hosted();
        self.inner.audit.settle_all();
    }

    /// Where a qube's console is logged.
    pub fn console_log(&self, name: &QubeName) -> PathBuf {
        start::console_log(&self.inner.config.state_dir, name)
    }

    /// The audit log.
    pub fn audit(&self) -> &Audit {
        &self.inner.audit
    }
}

/// Writes down what the audit log counts, while there is anything.
async fn settle_audit(inner: Weak<Inner>, counted: Arc<Notify>) {
    loop {
        counted.notified().await;
        loop {
            tokio::time::sleep(SETTLE_EVERY).await;
            let Some(inner) = inner.upgrade() else { return };
            let settled = tokio::task::spawn_blocking(move || inner.audit.settle()).await;
            if !settled.unwrap_or_default() {
                break;
            }
        }
    }
}

/// Tells the tasks of qubes when their domains end.
async fn watch_deaths(inner: Weak<Inner>, mut deaths: broadcast::Receiver<DomainEvent>) {
    loop {
        let event = deaths.recv().await;
        let Some(inner) = inner.upgrade() else { return };
        match event {
            Ok(DomainEvent::Died { domid, how }) => inner.tell_death(domid.0, how).await,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                // Events were lost: compare with what really runs.
                let Ok(list) = inner.hypervisor.list().await else {
                    continue;
                };
                let alive: BTreeSet<u32> = list.iter().map(|info| info.spec.domid.0).collect();
                let known: Vec<u32> = inner.state().domains.keys().copied().collect();
                for domid in known.into_iter().filter(|domid| !alive.contains(domid)) {
                    inner.tell_death(domid, Ending::Crashed).await;
                }
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

impl Inner {
    async fn tell_death(&self, domid: u32, how: Ending) {
        let mailbox = {
            let state = self.state();
            let run = state.domains.get(&domid);
            run.and_then(|run| Some(state.qubes.get(&run.name)?.mailbox.clone()))
        };
        if let Some(mailbox) = mailbox {
            let domid = crate::hypervisor::DomId(domid);
            // A task that is gone has nothing to be told.
            let _ = mailbox.send(Command::Died { domid, how }).await;
        }
    }
}
