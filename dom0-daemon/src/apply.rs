//! Runs a plan: journaled, concurrent where the DAG allows, undone when a step fails.
//!
//! ```text
//!            every step done                     generation switched
//!  forward ------------------> (switch) ------------------------------> done
//!     |                                                                  ^ |
//!     | a step fails                       a volume cannot be destroyed  | v
//!     v                                                                partly
//!  undoing --> undone, or partly where an undo fails
//! ```
//!
//! After a crash: an apply that was going forward goes on forward, since every step may be repeated
//! and most of its work may be done; if a step then fails it is undone like any other. One that was
//! being undone is undone to the end. Once the generation is switched there is only forward.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bulkhead_wire::causes::chain;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use crate::fault::{self, Point};
use crate::generation::Candidate;
use crate::journal::{ApplyId, End, Journal, StepState, Unfinished};
use crate::lock::{Lock, Locked};
use crate::machine::{Declared, Machine};
use crate::observe::Current;
use crate::plan::{Action, Inverse, Plan, Step, StepId};
use crate::storage::Storage;

mod progress;
mod step;

pub use progress::{ApplyOutcome, Applying, Progress};

/// Steps that run at the same time. Most wait for a process or a disk; more would only make them
/// wait for each other.
const PARALLEL: usize = 8;

/// What an apply acts on, and whom it tells.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) journal: Journal,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) progress: broadcast::Sender<Progress>,
    pub(crate) applying: watch::Sender<Option<Applying>>,
    /// Seconds since 1970, UTC.
    pub(crate) now: fn() -> u64,
}

impl Env {
    fn tell(&self, event: Progress) {
        // Nobody may be listening.
        let _ = self.progress.send(event);
    }
}

/// One apply under way.
pub(crate) struct Run {
    env: Arc<Env>,
    id: ApplyId,
    candidate: Candidate,
    base: Option<Current>,
    lock: Lock,
    plan: Plan,
    states: BTreeMap<StepId, StepState>,
    switched: Option<u64>,
    failures: Vec<String>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) id: ApplyId,
    pub(crate) end: End,
    /// The generation that it made or left in force.
    pub(crate) generation: Option<u64>,
    pub(crate) failures: Vec<String>,
    pub(crate) plan: Plan,
}

/// What a step leaves behind.
#[derive(Debug)]
enum Left {
    Nothing,
    Locked(Box<Locked>),
    Switched(u64),
}

impl Run {
    /// Begins an apply.
    pub(crate) async fn begin(
        env: Arc<Env>,
        candidate: Candidate,
        base: Option<Current>,
        lock: Lock,
        plan: Plan,
    ) -> Result<Self, crate::db::DatabaseError> {
        let id = env
            .journal
            .begin(&candidate, &lock, &plan, (env.now)())
            .await?;
        Ok(Self {
            env,
            id,
            candidate,
            base,
            lock,
            plan,
            states: BTreeMap::new(),
            switched: None,
            failures: Vec::new(),
        })
    }

    /// Runs it to its end.
    pub(crate) async fn run(mut self) -> Ended {
        self.announce();
        self.forward().await;
        self.conclude().await
    }

    /// Goes on where a killed daemon left.
    pub(crate) async fn resume(env: Arc<Env>, left: Unfinished, base: Option<Current>) -> Ended {
        let mut run = Self {
            env,
            id: left.id,
            candidate: left.candidate,
            base,
            lock: left.lock,
            plan: left.plan,
            states: left.states,
            switched: None,
            failures: left.undoing.iter().cloned().collect(),
        };
        run.take_results(&left.results);
        run.announce();
        if left.undoing.is_none() {
            // What was declared was in memory, and went with the daemon.
            let declared = run
                .plan
                .steps
                .iter()
                .any(|step| step.action == Action::Declare && run.is(step.id, StepState::Done));
            if declared && let Err(error) = run.env.machine.declare(run.declared()).await {
                run.failures.push(chain(&error));
            }
            if run.failures.is_empty() {
                run.forward().await;
            }
        }
        run.conclude().await
    }

    fn take_results(&mut self, results: &BTreeMap<StepId, String>) {
        for step in &self.plan.steps {
            let Some(result) = results.get(&step.id) else {
                continue;
            };
            match &step.action {
                Action::EnsureTemplate {
                    template, source, ..
                } => {
                    if let Ok(digest) = result.parse() {
                        let locked = Locked {
                            source: source.clone(),
                            digest,
                        };
                        self.lock.0.insert(template.clone(), locked);
                    }
                }
                Action::SwitchGeneration => self.switched = result.parse().ok(),
                _ => {}
            }
        }
    }

    fn is(&self, step: StepId, state: StepState) -> bool {
        self.states.get(&step) == Some(&state)
    }

    fn announce(&self) {
        let steps = u32::try_from(self.plan.steps.len()).unwrap_or(u32::MAX);
        let done = self
            .states
            .values()
            .filter(|state| **state == StepState::Done)
            .count();
        self.env.applying.send_replace(Some(Applying {
            apply: self.id,
            who: self.candidate.who.clone(),
            since: (self.env.now)(),
            done: u32::try_from(done).unwrap_or(u32::MAX),
            steps,
        }));
        self.env.tell(Progress::ApplyStarted {
            apply: self.id,
            who: self.candidate.who.clone(),
            steps,
        });
    }

    fn declared(&self) -> Declared {
        Declared {
            generation: self.switched,
            description: Arc::clone(&self.candidate.description),
            images: Arc::new(self.lock.images()),
        }
    }

    fn declared_before(&self) -> Declared {
        self.base
            .as_ref()
            .map_or_else(nothing_declared, Current::declared)
    }

    /// Does every step that is not done yet; stops at the first failure.
    async fn forward(&mut self) {
        let mut waits: BTreeMap<StepId, usize> = BTreeMap::new();
        let mut unlocks: BTreeMap<StepId, Vec<StepId>> = BTreeMap::new();
        let mut ready: BTreeSet<StepId> = BTreeSet::new();
        for step in self
            .plan
            .steps
            .iter()
            .filter(|step| !self.is(step.id, StepState::Done))
        {
            let open: Vec<StepId> = step
                .after
                .iter()
                .copied()
                .filter(|id| !self.is(*id, StepState::Done))
                .collect();
            for before in &open {
                unlocks.entry(*before).or_default().push(step.id);
            }
            if open.is_empty() {
                ready.insert(step.id);
            }
            waits.insert(step.id, open.len());
        }
        let mut running: JoinSet<(StepId, Result<Left, String>)> = JoinSet::new();
        loop {
            while self.failures.is_empty() && running.len() < PARALLEL {
                let Some(id) = ready.pop_first() else { break };
                self.spawn(id, &mut running);
            }
            let (id, result) = match running.join_next().await {
                None => break,
                Some(Ok(result)) => result,
                Some(Err(error)) => {
                    self.failures.push(format!("a step broke off: {error}"));
                    continue;
                }
            };
            if self.finished(id, result) {
                for next in unlocks.remove(&id).unwrap_or_default() {
                    if let Some(count) = waits.get_mut(&next) {
                        *count = count.saturating_sub(1);
                        if *count == 0 {
                            ready.insert(next);
                        }
                    }
                }
            }
        }
    }

    fn spawn(&mut self, id: StepId, running: &mut JoinSet<(StepId, Result<Left, String>)>) {
        let Some(step) = self.step(id).cloned() else {
            return;
        };
        self.states.insert(id, StepState::Started);
        let job = step::Job {
            env: Arc::clone(&self.env),
            apply: self.id,
            step: id,
            image: step::image(&step.action, &self.lock),
            declared: match &step.action {
                Action::Declare => Some(self.declared()),
                Action::DeclarePrevious => Some(self.declared_before()),
                _ => None,
            },
        };
        let switch = (step.action == Action::SwitchGeneration)
            .then(|| (self.candidate.clone(), self.lock.clone()));
        running.spawn(async move { (id, job.forward(&step.action, switch).await) });
    }

    /// Notes how a step ended. Whether others may go on because of it.
    fn finished(&mut self, id: StepId, result: Result<Left, String>) -> bool {
        let text = self
            .step(id)
            .map(|step| step.action.describe())
            .unwrap_or_default();
        match result {
            Ok(left) => {
                self.states.insert(id, StepState::Done);
                let locked = match (left, self.step(id).map(|step| &step.action)) {
                    (Left::Locked(locked), Some(Action::EnsureTemplate { template, .. })) => {
                        Some((template.clone(), *locked))
                    }
                    (Left::Switched(number), _) => {
                        self.switched = Some(number);
                        None
                    }
                    _ => None,
                };
                self.lock.0.extend(locked);
                self.env.applying.send_modify(|applying| {
                    if let Some(applying) = applying {
                        applying.done += 1;
                    }
                });
                true
            }
            Err(error) => {
                self.states.insert(id, StepState::Failed);
                self.failures.push(format!("could not {text}: {error}"));
                false
            }
        }
    }

    fn step(&self, id: StepId) -> Option<&Step> {
        self.plan.steps.get(usize::try_from(id.0).ok()?)
    }

    /// Undoes where that is needed, and records the end.
    async fn conclude(mut self) -> Ended {
        let switches = self.plan.makes_generation();
        let end = if self.failures.is_empty() {
            End::Done
        } else if switches && self.switched.is_some() {
            // In force already: what is left is data that should be gone and is not.
            End::Partly
        } else {
            self.undo().await
        };
        if self.switched.is_some()
            && let Err(error) = self.env.machine.declare(self.declared()).await
        {
            self.failures.push(chain(&error));
        }
        let failure = (!self.failures.is_empty()).then(|| self.failures.join("; "));
        if let Err(error) = self
            .env
            .journal
            .finish(self.id, end, failure, (self.env.now)())
            .await
        {
            // The next start of the daemon finds it open and repeats what is done, which is nothing.
            self.failures.push(chain(&error));
        }
        let generation = self.switched.or(self.base.as_ref().map(|base| base.number));
        self.env.applying.send_replace(None);
        self.env.tell(Progress::ApplyFinished {
            apply: self.id,
            outcome: end.into(),
            generation,
        });
        Ended {
            id: self.id,
            end,
            generation,
            failures: self.failures,
            plan: self.plan,
        }
    }

    /// Undoes everything that was begun, last first. What cannot be undone is left, and the rest
    /// undone all the same: the next apply sees what there is.
    async fn undo(&mut self) -> End {
        let because = self.failures.first().cloned().unwrap_or_default();
        tracing::warn!(apply = self.id.0, because, "undoing an apply");
        self.env.tell(Progress::Undoing {
            apply: self.id,
            because: because.clone(),
        });
        if let Err(error) = self.env.journal.turn_back(self.id, because).await {
            // A full disk is no reason to leave things half done.
            self.failures.push(chain(&error));
        }
        let mut end = End::Undone;
        for step in self.plan.steps.iter().rev() {
            let begun = !matches!(
                self.states.get(&step.id),
                None | Some(StepState::Undone | StepState::Stuck)
            );
            let Inverse::Action(inverse) = &step.inverse else {
                continue;
            };
            if !begun {
                continue;
            }
            let job = step::Job {
                env: Arc::clone(&self.env),
                apply: self.id,
                step: step.id,
                image: step::image(inverse, &self.lock),
                declared: (*inverse == Action::DeclarePrevious).then(|| self.declared_before()),
            };
            if let Err(error) = job.back(inverse).await {
                self.failures
                    .push(format!("could not {}: {error}", inverse.describe()));
                end = End::Partly;
            }
        }
        if self.states.values().any(|state| *state == StepState::Stuck) {
            end = End::Partly;
        }
        end
    }
}

impl Current {
    /// It, as the machine is told.
    pub(crate) fn declared(&self) -> Declared {
        Declared {
            generation: Some(self.number),
            description: Arc::clone(&self.description),
            images: Arc::new(self.lock.images()),
        }
    }
}

/// What a machine is told that has no generation yet.
pub(crate) fn nothing_declared() -> Declared {
    Declared {
        generation: None,
        description: Arc::default(),
        images: Arc::default(),
    }
}
