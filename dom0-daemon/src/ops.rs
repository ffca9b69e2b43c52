//! Everything a person can ask of the declared system, as the faces of the daemon call it.
//!
//! A face (D-Bus, Admin API) turns a request into one of these calls and the answer into its own
//! form, and has no logic of its own. Every answer is `Serialize`: `--json` is that and no more.
//!
//! Start-up, in this order: claim the folders (`instance`), [`Database::open`], the storage, the
//! runtime (a [`Machine`]) over both, [`Operations::new`], [`Operations::recover`], serve.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::Description;
use serde::{Deserialize, Serialize};

use tokio::sync::broadcast;

use crate::db::{Database, DatabaseError};
use crate::machine::Machine;
use crate::plan::{Plan, StepId};
use crate::storage::{ImageDigest, Storage, VolumeInfo};

/// Progress events kept for a slow receiver: an apply of 1,000 qubes has about 4,000.
const PROGRESS_BACKLOG: usize = 8192;

/// Names one apply in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApplyId(pub u64);

/// What to plan for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanRequest {
    /// Description to read instead of the configured one.
    pub system: Option<PathBuf>,
    /// Restart running qubes whose changes need it, instead of leaving them until they start next.
    pub restart: bool,
    /// Build templates anew instead of keeping the locked images.
    pub update_templates: bool,
    /// Keep volumes that are no longer declared, instead of destroying them.
    pub keep_volumes: bool,
}

/// What to apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApplyRequest {
    /// What to plan for.
    pub plan: PlanRequest,
    /// Leave to destroy volumes with their data.
    pub allow_destroy: bool,
    /// Message kept with the generation.
    pub message: String,
    /// [`PlanReply::fingerprint`] of the plan that the person saw: if the plan is another one by
    /// now, the apply is refused. None: apply whatever the plan is.
    pub expect: Option<String>,
}

/// What to go back to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// Generation; none means the one before the current.
    pub generation: Option<u64>,
    /// Restart running qubes whose changes need it.
    pub restart: bool,
    /// Destroy the volumes that the old generation does not declare, instead of keeping them.
    pub allow_destroy: bool,
    /// Only show the plan: [`ApplyReport::plan`] is filled and nothing is done.
    pub dry_run: bool,
}

/// What to collect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GcRequest {
    /// How many of the newest generations to keep; none means the default.
    pub keep: Option<u32>,
    /// Collect exactly these instead; refused where one is in use.
    pub generations: Vec<u64>,
    /// Destroy volumes that belong to no declared qube, with their data.
    pub orphan_volumes: bool,
    /// Only tell what would go.
    pub dry_run: bool,
}

/// A plan, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReply {
    /// The plan.
    pub plan: Plan,
    /// It as text, without colour.
    pub text: String,
    /// Names this plan; see [`ApplyRequest::expect`].
    pub fingerprint: String,
    /// Volumes (`qube:volume`) that are destroyed; not empty means that `allow_destroy` is needed.
    pub destroys: Vec<String>,
}

/// How an apply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyOutcome {
    /// There was nothing to do.
    Nothing,
    /// Every step is done.
    Done,
    /// A step failed and everything before it was undone.
    Undone,
    /// A step failed, and so did an undo: parts of both remain. The next apply converges.
    Partly,
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyReport {
    /// How it ended.
    pub outcome: ApplyOutcome,
    /// Its name in the journal; none where there was nothing to do.
    pub apply: Option<ApplyId>,
    /// The current generation now.
    pub generation: Option<u64>,
    /// What was planned.
    pub plan: Plan,
    /// What failed, outermost first; empty unless undone or partly done.
    pub failures: Vec<String>,
    /// Wall time in milliseconds.
    pub took_ms: u64,
}

/// What an apply tells while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Progress {
    /// An apply begins.
    ApplyStarted {
        /// Which.
        apply: ApplyId,
        /// Who asked for it.
        who: String,
        /// How many steps it has.
        steps: u32,
    },
    /// A step begins.
    StepStarted {
        /// Which apply.
        apply: ApplyId,
        /// Which step.
        step: StepId,
        /// What it does, for people (`start qube work`).
        text: String,
    },
    /// A long step tells how far it is.
    StepProgress {
        /// Which apply.
        apply: ApplyId,
        /// Which step.
        step: StepId,
        /// A short line.
        text: String,
    },
    /// A step is over.
    StepFinished {
        /// Which apply.
        apply: ApplyId,
        /// Which step.
        step: StepId,
        /// Why it failed; none if it is done.
        error: Option<String>,
    },
    /// Steps are being undone.
    Undoing {
        /// Which apply.
        apply: ApplyId,
        /// Why.
        because: String,
    },
    /// A step was undone.
    StepUndone {
        /// Which apply.
        apply: ApplyId,
        /// Which step.
        step: StepId,
        /// Why it could not be; none if it was.
        error: Option<String>,
    },
    /// The apply is over.
    ApplyFinished {
        /// Which.
        apply: ApplyId,
        /// How.
        outcome: ApplyOutcome,
        /// The current generation now.
        generation: Option<u64>,
    },
}

/// A generation without its description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationInfo {
    /// Its number, from 1; never used again.
    pub number: u64,
    /// When it was made: seconds since 1970, UTC.
    pub created: u64,
    /// Who made it.
    pub who: String,
    /// Why, in that person's words.
    pub message: String,
    /// Digest of description and lock.
    pub digest: String,
    /// How many qubes it declares.
    pub qubes: u32,
    /// The generation that it is a rollback to.
    pub rollback_of: Option<u64>,
    /// Whether it is in force.
    pub current: bool,
    /// Whether the daemon came up with it.
    pub booted: bool,
}

/// A generation, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// About it.
    #[serde(flatten)]
    pub info: GenerationInfo,
    /// The resolved description.
    pub description: Description,
    /// The image of each template.
    pub images: BTreeMap<QubeName, ImageDigest>,
}

/// What kind of difference between declared and real.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// An autostart qube died or never came up.
    NotRunning,
    /// A qube runs that nobody declares, and that is no disposable.
    Undeclared,
    /// A live property has another value than declared.
    Property,
    /// A declared volume is not there.
    VolumeMissing,
    /// A declared volume is smaller than declared.
    VolumeSmaller,
    /// The image of a template is not in the store.
    ImageMissing,
}

/// One difference between declared and real that an apply repairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// What kind.
    pub kind: DriftKind,
    /// The qube or template.
    pub subject: QubeName,
    /// One sentence: what is different.
    pub text: String,
    /// One sentence: what the next apply does about it.
    pub remedy: String,
}

/// A running qube whose newest values take effect when it starts next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRestart {
    /// Which.
    pub qube: QubeName,
    /// Properties that differ.
    pub properties: Vec<String>,
}

/// An apply that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applying {
    /// Which.
    pub apply: ApplyId,
    /// Who started it.
    pub who: String,
    /// When: seconds since 1970, UTC.
    pub since: u64,
    /// Steps done so far.
    pub done: u32,
    /// Steps in all.
    pub steps: u32,
}

/// How the machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The generation in force.
    pub generation: Option<GenerationInfo>,
    /// The apply under way.
    pub applying: Option<Applying>,
    /// Where what runs differs from what is declared.
    pub drift: Vec<Drift>,
    /// Running qubes that wait for a restart.
    pub pending: Vec<PendingRestart>,
    /// Volumes that belong to no declared qube.
    pub orphan_volumes: Vec<VolumeInfo>,
    /// What the last apply that did not end in order left; one sentence each.
    pub warnings: Vec<String>,
}

/// What was collected, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Generations removed.
    pub generations: Vec<u64>,
    /// Images removed: digest and size in MiB.
    pub images: Vec<(ImageDigest, u64)>,
    /// Volumes destroyed.
    pub volumes: Vec<String>,
    /// Kept although old, and why.
    pub kept: Vec<String>,
    /// Space freed in MiB.
    pub freed: u64,
}

/// What is different between two generations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffReply {
    /// From this one.
    pub from: u64,
    /// To this one.
    pub to: u64,
    /// As text, without colour; empty if nothing is.
    pub text: String,
    /// As data: the semantic difference of the descriptions.
    pub changes: serde_json::Value,
}

/// Why an operation was refused.
#[derive(Debug, thiserror::Error)]
pub enum OperationsError {
    /// Not there yet.
    #[error("this is not ready")]
    NotReady,
    /// The description has errors. Nothing was changed.
    #[error("the description `{}` has {count} error(s)", .system.display())]
    Description {
        /// The description.
        system: PathBuf,
        /// How many.
        count: usize,
        /// All of them with file, line and snippet, rendered without colour.
        rendered: String,
    },
    /// Another apply is under way.
    #[error("busy: {who} has been applying since {since}, {done} of {steps} steps are done")]
    Busy {
        /// Who started it.
        who: String,
        /// When: RFC 3339, UTC.
        since: String,
        /// Steps done.
        done: u32,
        /// Steps in all.
        steps: u32,
    },
    /// Data would be destroyed and no leave was given.
    #[error("this destroys the data of {}", .0.join(", "))]
    NeedsAllowDestroy(Vec<String>),
    /// The plan is not the one that was shown.
    #[error("the plan is no longer the one that was shown")]
    PlanChanged,
    /// A volume is declared smaller than before.
    #[error("volume `{volume}` cannot shrink from {from} to {to} MiB")]
    Shrink {
        /// `qube:volume`.
        volume: String,
        /// Its size.
        from: u64,
        /// Declared size.
        to: u64,
    },
    /// No such generation.
    #[error("there is no generation {0}")]
    NoSuchGeneration(u64),
    /// Nothing to go back to.
    #[error("there is no earlier generation to go back to")]
    NothingEarlier,
    /// A generation to collect is needed.
    #[error("generation {number} is in use: {why}")]
    GenerationInUse {
        /// Which.
        number: u64,
        /// By what.
        why: &'static str,
    },
    /// From the database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// From storage.
    #[error(transparent)]
    Storage(#[from] crate::storage::StorageError),
    /// From the machine.
    #[error(transparent)]
    Machine(#[from] crate::machine::MachineError),
}

impl OperationsError {
    /// What a person can do about it; a whole sentence, for a line that starts with `hint:`.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NeedsAllowDestroy(_) => {
                Some("Pass --allow-destroy to destroy it, or --keep-volumes to keep it.".to_owned())
            }
            Self::PlanChanged => Some("Look at the new plan and apply again.".to_owned()),
            Self::Busy { .. } => Some("Wait until it is done, then apply again.".to_owned()),
            Self::Shrink { volume, .. } => Some(format!(
                "Declare `{volume}` at least as large as it is; to make it smaller, copy its data \
                 to a new volume."
            )),
            Self::NoSuchGeneration(_) => Some("List them with `bulkhead generations`.".to_owned()),
            _ => None,
        }
    }
}

/// Where things are.
#[derive(Debug, Clone)]
pub struct OperationsConfig {
    /// The description.
    pub system: PathBuf,
}

/// Everything a person can ask of the declared system. Shared by all faces in an `Arc`.
#[derive(Debug)]
#[expect(dead_code, reason = "filled in together with the operations below")]
pub struct Operations {
    config: OperationsConfig,
    database: Database,
    storage: Arc<dyn Storage>,
    machine: Arc<dyn Machine>,
    progress: broadcast::Sender<Progress>,
}

impl Operations {
    /// Puts the parts together. Does nothing yet: [`Operations::recover`] comes next.
    pub fn new(
        config: OperationsConfig,
        database: Database,
        storage: Arc<dyn Storage>,
        machine: Arc<dyn Machine>,
    ) -> Self {
        let (progress, _) = broadcast::channel(PROGRESS_BACKLOG);
        Self {
            config,
            database,
            storage,
            machine,
            progress,
        }
    }

    /// Call once, before serving: declares the current generation to the machine, then finishes or
    /// undoes an apply that a killed daemon left. Returns what became of it, if there was one.
    pub async fn recover(&self) -> Result<Option<ApplyReport>, OperationsError> {
        Err(OperationsError::NotReady)
    }

    /// Progress of every apply from now on, whoever asked for it. A receiver that lags loses the
    /// oldest events.
    pub fn progress(&self) -> broadcast::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// What an apply would do now.
    pub async fn plan(&self, _request: &PlanRequest) -> Result<PlanReply, OperationsError> {
        Err(OperationsError::NotReady)
    }

    /// Makes the machine what the description says. A step that fails is no error of this call:
    /// the report says what became of it. Refused while another apply runs. Goes on to its end
    /// when the caller goes away.
    pub async fn apply(
        &self,
        _request: &ApplyRequest,
        _who: &str,
    ) -> Result<ApplyReport, OperationsError> {
        Err(OperationsError::NotReady)
    }

    /// How the machine is, and where that is not as declared.
    pub async fn status(&self) -> Result<Status, OperationsError> {
        Err(OperationsError::NotReady)
    }

    /// All generations, oldest first.
    pub async fn generations(&self) -> Result<Vec<GenerationInfo>, OperationsError> {
        Err(OperationsError::NotReady)
    }

    /// One generation; none means the current.
    pub async fn generation(&self, _number: Option<u64>) -> Result<Generation, OperationsError> {
        Err(OperationsError::NotReady)
    }

    /// What is different in `to` from `from`; text without colour is in the reply.
    pub async fn diff(&self, _from: u64, _to: u64) -> Result<DiffReply, OperationsError> {
        Err(OperationsError::NotReady)
    }

    /// Applies the description of an earlier generation as a new one. Needs neither the
    /// description's files nor a network.
    pub async fn rollback(
        &self,
        _request: &RollbackRequest,
        _who: &str,
    ) -> Result<ApplyReport, OperationsError> {
        Err(OperationsError::NotReady)
    }

    /// Removes generations, images and (if asked) volumes that nobody needs.
    pub async fn gc(&self, _request: &GcRequest) -> Result<GcReport, OperationsError> {
        Err(OperationsError::NotReady)
    }
}
