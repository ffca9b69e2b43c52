//! The life of one qube: a task that owns it and does one thing at a time.
//!
//! ```text
//!               start                     agent says hello
//!  stopped ----------------> starting -------------------------> running
//!     ^  ^                      |  |                              |    |
//!     |  |                      |  +---------- stop -------+      | pause / unpause
//!     |  |  died, by itself     |                          v      v    |
//!     |  +----------------------+-------- failed <---- stopping  paused
//!     |          (restart rule: wait, start again)        |
//!     +-------- died, or killed after the timeout --------+
//! ```
//!
//! Whether an agent has said hello is told from outside (`Runtime`); the task itself knows only
//! whether there is a domain, whether it is to end, and when to look again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::qube::QubeState;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Qube, RestartRule};
use bulkhead_wire::backoff::Backoff;
use bulkhead_wire::causes::chain;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::start::blocks;
use super::{Inner, Life, Run};
use crate::hypervisor::{DomId, Ending, HypervisorError};
use crate::machine::{LiveChange, MachineError, Reason, Stopped};
use crate::storage::{ImageDigest, Reverted};

/// Commands that may wait for one qube; each client of the daemon has at most a few.
pub(super) const MAILBOX: usize = 64;

/// First pause before a qube is started again by its restart rule.
const RESTART_FIRST: Duration = Duration::from_secs(1);
/// Longest pause; it doubles each time.
const RESTART_MAX: Duration = Duration::from_secs(60);
/// A qube that ran this long did well: the next pause is the first again.
const RESTART_CALM: Duration = Duration::from_secs(60);

/// First pause before a network that could not be connected is tried again; it doubles each time.
const NETWORK_FIRST: Duration = Duration::from_secs(5);
/// Longest pause. After it only a change of what provides it makes another try.
const NETWORK_MAX: Duration = Duration::from_secs(160);

/// First pause before a qube that is to stop is asked again; it doubles each time. One that boots
/// may lose what it is asked: its kernel takes it, and there is no init yet that could act on it.
const ASK_FIRST: Duration = Duration::from_secs(2);
/// Longest pause.
const ASK_MAX: Duration = Duration::from_secs(32);

type Reply = oneshot::Sender<Result<(), MachineError>>;

/// What a qube's task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start it as given.
    Start {
        qube: Box<Qube>,
        image: Option<ImageDigest>,
        life: Life,
        reason: Reason,
        reply: Reply,
    },
    /// Ask it to end until it does, kill it after the timeout.
    Stop {
        timeout: Duration,
        reason: Reason,
        reply: Reply,
    },
    /// End it at once.
    Kill { reason: Reason, reply: Reply },
    /// Freeze or thaw it.
    SetPaused { paused: bool, reply: Reply },
    /// Take its root back to a revision, or to the one before the newest.
    Revert {
        to: Option<u64>,
        reply: oneshot::Sender<Result<Reverted, MachineError>>,
    },
    /// Change it while it runs.
    Update { change: LiveChange, reply: Reply },
    /// What it has its network from has come or gone.
    Network,
    /// Its domain is gone.
    Died { domid: DomId, how: Ending },
}

enum Event {
    Command(Command),
    StopTimeout,
    AskDue,
    RestartDue,
    NetworkDue,
}

/// A start to be made again by the restart rule.
#[derive(Debug)]
struct Restart {
    qube: Box<Qube>,
    image: Option<ImageDigest>,
    at: Instant,
}

pub(super) struct Owner {
    inner: Arc<Inner>,
    name: QubeName,
    run: Option<Arc<Run>>,
    began: Instant,
    stopping: Option<(Instant, Reason)>,
    /// When to ask again that it stops, and the pause before.
    ask: Option<(Instant, Duration)>,
    waiting: Vec<Reply>,
    restart: Option<Restart>,
    backoff: Backoff,
    /// When to try again to connect its network, and the pause before.
    network: Option<(Instant, Duration)>,
    /// Started as soon as what runs has ended.
    next: Option<(Box<Qube>, Option<ImageDigest>, Life, Reply)>,
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

impl Owner {
    pub(super) fn new(inner: Arc<Inner>, name: QubeName, run: Option<Arc<Run>>) -> Self {
        Self {
            inner,
            name,
            run,
            began: Instant::now(),
            stopping: None,
            ask: None,
            waiting: Vec::new(),
            restart: None,
            backoff: Backoff::new(RESTART_FIRST, RESTART_MAX, RESTART_CALM),
            network: None,
            next: None,
        }
    }

    pub(super) async fn serve(mut self, mut mailbox: mpsc::Receiver<Command>) {
        loop {
            let deadline = self.stopping.as_ref().map(|(at, _)| *at);
            let ask = self.ask.map(|(at, _)| at);
            let due = self.restart.as_ref().map(|r| r.at);
            let network = self.network.map(|(at, _)| at);
            let event = tokio::select! {
                command = mailbox.recv() => match command {
                    Some(command) => Event::Command(command),
                    None => return,
                },
                () = at(deadline) => Event::StopTimeout,
                () = at(ask) => Event::AskDue,
                () = at(due) => Event::RestartDue,
                () = at(network) => Event::NetworkDue,
            };
            match event {
                Event::Command(command) => self.obey(command).await,
                Event::StopTimeout => self.stop_timeout().await,
                Event::AskDue => self.ask_again().await,
                Event::RestartDue => self.restart_due().await,
                Event::NetworkDue => self.settle_network().await,
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Start {
                qube,
                image,
                life,
                reason,
                reply,
            } => {
                tracing::debug!(qube = %self.name, ?reason, "start");
                if self.run.is_some() && self.stopping.is_none() {
                    let _ = reply.send(Ok(()));
                } else if self.run.is_some() {
                    self.next = Some((qube, image, life, reply));
                } else {
                    let _ = reply.send(self.start(qube, image, life).await);
                }
            }
            Command::Stop {
                timeout,
                reason,
                reply,
            } => self.stop(timeout, reason, reply).await,
            Command::Kill { reason, reply } => self.kill(reason, reply).await,
            Command::SetPaused { paused, reply } => {
                let _ = reply.send(self.set_paused(paused).await);
            }
            Command::Revert { to, reply } => {
                let reverted = match &self.run {
                    Some(_) => Err(MachineError::Runs(self.name.clone())),
                    None => self.inner.revert_root(&self.name, to).await,
                };
                let _ = reply.send(reverted);
            }
            Command::Update { change, reply } => {
                let _ = reply.send(self.update(change).await);
            }
            Command::Network => {
                self.network = None;
                self.settle_network().await;
            }
            Command::Died { domid, how } => self.died(domid, how).await,
        }
    }

    fn hypervisor_error(&self, source: HypervisorError) -> MachineError {
        MachineError::Hypervisor {
            name: self.name.clone(),
            source,
        }
    }

    async fn start(
        &mut self,
        qube: Box<Qube>,
        image: Option<ImageDigest>,
        life: Life,
    ) -> Result<(), MachineError> {
        self.restart = None;
        self.inner.set_state(&self.name, QubeState::Starting);
        match self.inner.bring_up(&qube, image, life).await {
            Ok(run) => {
                self.began = Instant::now();
                if run.expects_no_agent() {
                    self.inner.set_state(&self.name, QubeState::Running);
                    self.inner.settle_clients(&self.name);
                }
                self.run = Some(run);
                // What it has its network from may have ended meanwhile.
                self.network = None;
                self.settle_network().await;
                Ok(())
            }
            Err(error) => {
                tracing::error!(qube = %self.name, error = %chain(&error), "start failed");
                self.inner.note_stopped(&self.name, Some(Stopped::Died));
                self.inner.set_state(&self.name, QubeState::Failed);
                Err(error)
            }
        }
    }

    async fn stop(&mut self, timeout: Duration, reason: Reason, reply: Reply) {
        self.restart = None;
        let Some(run) = &self.run else {
            let _ = reply.send(Ok(()));
            return;
        };
        // Shown first: else the agent's goodbye is taken for a loss, and the qube for one that starts.
        self.inner.set_state(&self.name, QubeState::Stopping);
        let mut timeout = timeout;
        match self.inner.hypervisor.shutdown(run.domid).await {
            Ok(()) | Err(HypervisorError::NoSuchDomain(_)) => {}
            Err(HypervisorError::NotPossible { .. }) => {
                // A bare kernel never will; one that still boots is given its time.
                if run.expects_no_agent() {
                    timeout = Duration::ZERO;
                }
                tracing::warn!(qube = %self.name, ?timeout, "cannot be asked to stop, and is ended");
            }
            Err(error) => {
                if self.stopping.is_none() {
                    self.inner.goes_on(&self.name);
                }
                let _ = reply.send(Err(self.hypervisor_error(error)));
                return;
            }
        }
        let deadline = Instant::now() + timeout;
        let deadline = self
            .stopping
            .as_ref()
            .map_or(deadline, |(at, _)| deadline.min(*at));
        self.stopping = Some((deadline, reason));
        self.ask = Some((Instant::now() + ASK_FIRST, ASK_FIRST));
        self.waiting.push(reply);
    }

    async fn ask_again(&mut self) {
        let Some((run, (_, pause))) = self.run.clone().zip(self.ask.take()) else {
            return;
        };
        if let Err(error) = self.inner.hypervisor.shutdown(run.domid).await {
            // Its time runs, whatever it hears.
            tracing::debug!(qube = %self.name, error = %chain(&error), "cannot be asked again");
        }
        let pause = (pause * 2).min(ASK_MAX);
        self.ask = Some((Instant::now() + pause, pause));
    }

    async fn kill(&mut self, reason: Reason, reply: Reply) {
        self.restart = None;
        let Some(run) = self.run.clone() else {
            let _ = reply.send(Ok(()));
            return;
        };
        self.waiting.push(reply);
        self.stopping = Some((Instant::now(), reason));
        self.inner.set_state(&self.name, QubeState::Stopping);
        self.destroy(run.domid).await;
    }

    async fn stop_timeout(&mut self) {
        let Some(run) = self.run.clone() else {
            self.stopping = None;
            return;
        };
        tracing::warn!(qube = %self.name, "did not stop in time and is killed");
        self.destroy(run.domid).await;
    }

    /// Ends the domain; its death is told like any other.
    async fn destroy(&mut self, domid: DomId) {
        self.ask = None;
        // Far away: only a kill that failed comes back here.
        if let Some((at, _)) = &mut self.stopping {
            *at = Instant::now() + RESTART_MAX;
        }
        match self.inner.hypervisor.destroy(domid).await {
            Ok(()) | Err(HypervisorError::NoSuchDomain(_)) => {}
            Err(error) => {
                tracing::error!(qube = %self.name, error = %chain(&error), "cannot be killed");
                for reply in self.waiting.drain(..) {
                    // Each is told in words of its own, since an error cannot be copied.
                    let source = HypervisorError::Io {
                        doing: "it cannot be ended".to_owned(),
                        source: std::io::Error::other(chain(&error)),
                    };
                    let _ = reply.send(Err(MachineError::Hypervisor {
                        name: self.name.clone(),
                        source,
                    }));
                }
            }
        }
    }

    async fn set_paused(&mut self, paused: bool) -> Result<(), MachineError> {
        let run = self
            .run
            .as_ref()
            .filter(|_| self.stopping.is_none())
            .ok_or_else(|| MachineError::NotRunning(self.name.clone()))?;
        let done = if paused {
            self.inner.hypervisor.pause(run.domid).await
        } else {
            self.inner.hypervisor.unpause(run.domid).await
        };
        done.map_err(|e| self.hypervisor_error(e))?;
        self.inner.set_paused(&self.name, paused);
        Ok(())
    }

    async fn update(&mut self, change: LiveChange) -> Result<(), MachineError> {
        let Some(run) = &self.run else {
            return Ok(());
        };
        let hypervisor = &self.inner.hypervisor;
        let done = match &change {
            LiveChange::Memory(memory) => hypervisor.set_memory(run.domid, *memory).await,
            LiveChange::Vcpus(vcpus) => hypervisor.set_vcpus(run.domid, *vcpus).await,
            LiveChange::CpuWeight(weight) => hypervisor.set_cpu_weight(run.domid, *weight).await,
            LiveChange::NetVm(netvm) => {
                self.network = None;
                return self.inner.change_netvm(run, netvm.clone()).await;
            }
            LiveChange::Devices(devices) => {
                hypervisor.set_blocks(run.domid, &blocks(devices)).await
            }
            LiveChange::Services(_) | LiveChange::Features(_) => Ok(()),
        };
        done.map_err(|e| self.hypervisor_error(e))?;
        self.inner.update_spec(run, change)
    }

    /// Connects the qube to what is its network by now. What fails is tried again, ever later.
    async fn settle_network(&mut self) {
        let last = self.network.take().map(|(_, pause)| pause);
        let Some(run) = &self.run else {
            return;
        };
        let Err(error) = self.inner.settle_network(run).await else {
            return;
        };
        let pause = last.map_or(NETWORK_FIRST, |pause| pause * 2);
        let error = chain(&error);
        if pause > NETWORK_MAX {
            tracing::error!(qube = %self.name, error, "its network stays disconnected");
            return;
        }
        tracing::warn!(qube = %self.name, error, ?pause, "its network is not connected yet");
        self.network = Some((Instant::now() + pause, pause));
    }

    async fn died(&mut self, domid: DomId, how: Ending) {
        let Some(run) = self.run.take_if(|run| run.domid == domid) else {
            return;
        };
        let asked = self.stopping.take();
        self.ask = None;
        self.network = None;
        let stopped = match (&asked, how) {
            (Some((_, Reason::Misuse)), _) => Stopped::Died,
            (Some(_), _) | (None, Ending::Destroyed) => Stopped::ByPerson,
            (None, Ending::Shutdown) => Stopped::ByItself,
            (None, Ending::Crashed) => Stopped::Died,
        };
        if how == Ending::Shutdown && stopped != Stopped::Died {
            // Before anyone is told: who waits for this stop starts others next.
            self.inner.publish_root(&run).await;
        } else {
            self.inner.leave_root(&run);
        }
        let spec = self.inner.spec_of(&self.name);
        let restart = match (stopped, spec.as_ref().map(|q| q.restart)) {
            (Stopped::Died, Some(RestartRule::OnFailure | RestartRule::Always))
            | (Stopped::ByItself, Some(RestartRule::Always)) => spec.map(Box::new),
            _ => None,
        };
        let exit = matches!(asked, Some((_, Reason::Exit)));
        self.inner.run_ended(&run, (!exit).then_some(stopped));
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Ok(()));
        }
        if let Some((qube, image, life, reply)) = self.next.take() {
            let _ = reply.send(self.start(qube, image, life).await);
        } else if let Some(qube) = restart.filter(|_| !run.life.is_disposable()) {
            let pause = self.backoff.pause_after(self.began.elapsed());
            tracing::warn!(qube = %self.name, ?pause, "starts again by its rule");
            self.restart = Some(Restart {
                qube,
                image: run.image.clone(),
                at: Instant::now() + pause,
            });
        }
    }

    async fn restart_due(&mut self) {
        let Some(restart) = self.restart.take() else {
            return;
        };
        // As it is declared by now, if it still is.
        let (qube, image) = match self.inner.declared(&self.name) {
            Some((qube, image)) => (Box::new(qube), image.or(restart.image)),
            None => (restart.qube, restart.image),
        };
        // A failure is logged; the person starts it again then.
        let _ = self.start(qube, image, Life::Declared).await;
    }
}

/// Where the files of one qube are in the runtime folder.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) base: PathBuf,
}

impl Places {
    pub(super) fn new(runtime_dir: &std::path::Path, name: &QubeName) -> Self {
        Self {
            base: runtime_dir.join("qubes").join(name.as_str()),
        }
    }

    /// The folder of sockets that the qube sees.
    pub(super) fn vchan(&self) -> PathBuf {
        self.base.join("vchan")
    }

    /// dom0's folder beside it.
    pub(super) fn own(&self) -> PathBuf {
        self.base.join("own")
    }

    /// What the qube writes to its root.
    pub(super) fn overlay(&self) -> PathBuf {
        self.base.join("overlay")
    }

    /// What it was started from, for a daemon that starts again.
    pub(super) fn record(&self) -> PathBuf {
        self.base.join("run.json")
    }
}
