//! Plans, applies and generations as clients see them.

use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// What happens to one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It does not exist yet (`+`).
    Create,
    /// It differs (`~`).
    Update,
    /// It is no longer declared (`-`).
    Destroy,
}

/// When a change is felt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// At once.
    Now,
    /// When the qube is started the next time.
    NextStart,
}

/// One property that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The property, as in the description (`netvm`).
    pub name: String,
    /// Its value before; none where there was none.
    pub before: Option<String>,
    /// Its value after; none where there will be none.
    pub after: Option<String>,
    /// When it is felt.
    pub effect: Effect,
}

/// What a plan does to one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What kind of thing: `qube`, `template`, `label`, `policy`, `volume`.
    pub what: String,
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub action: Action,
    /// The properties that change.
    pub fields: Vec<Field>,
    /// Whether it is restarted, and why.
    pub restarts: Option<String>,
    /// What data is destroyed.
    pub destroys: Vec<String>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its number in the plan.
    pub id: u64,
    /// What it does, as a short imperative sentence.
    pub title: String,
    /// Why it is there.
    pub reason: String,
    /// What undoes it; none where nothing needs to.
    pub inverse: Option<String>,
    /// When it is felt.
    pub effect: Effect,
    /// Steps that must be done before.
    pub after: Vec<u64>,
    /// Whether it destroys data.
    pub destroys: bool,
}

/// What would be done, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Names this plan: an apply that carries it does exactly this or nothing.
    pub digest: String,
    /// Generation it starts from; none on an empty machine.
    pub from: Option<u64>,
    /// What changes, by thing.
    pub changes: Vec<Change>,
    /// The steps, in an order that keeps all dependencies.
    pub steps: Vec<Step>,
    /// The plan as people read it, without colour.
    pub text: String,
    /// Whether it destroys data, so that `--allow-destroy` is needed.
    pub needs_allow_destroy: bool,
    /// Things that are allowed but that a person should know.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// A request to apply the declared system, or with `generation` an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyRequest {
    /// Why, kept with the generation.
    pub message: String,
    /// Whether data may be destroyed.
    pub allow_destroy: bool,
    /// Only if the plan is still this one.
    pub plan: Option<String>,
}

/// Something happened to a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which step.
    pub step: u64,
    /// How many steps there are.
    pub total: u64,
    /// What it does.
    pub title: String,
    /// What happened.
    pub state: StepState,
}

/// Where a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It began.
    Started,
    /// It is done.
    Done,
    /// It failed, and why.
    Failed(String),
    /// It was undone.
    Undone,
}

/// How an apply ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyOutcome {
    /// The generation that is current now; none on a machine that never had one.
    pub generation: Option<u64>,
    /// How many steps were done.
    pub steps: u64,
    /// How many qubes will feel something only at their next start.
    pub restart_needed: Vec<String>,
    /// Why it failed; none if it did not.
    pub error: Option<ApiError>,
}

/// One line of `bulkhead generations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRow {
    /// Its number.
    pub number: u64,
    /// Seconds since the epoch at which it was made.
    pub created: u64,
    /// Who made it.
    pub author: String,
    /// Why.
    pub message: String,
    /// Whether it is the current one.
    pub current: bool,
    /// Whether it was current when the daemon started.
    pub booted: bool,
    /// How many qubes it has.
    pub qubes: u64,
}

/// What differs between two generations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// The older side.
    pub from: String,
    /// The newer side.
    pub to: String,
    /// What changes, by thing.
    pub changes: Vec<Change>,
    /// The difference as people read it, without colour.
    pub text: String,
}

/// One way in which what runs differs from what is declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The qube, or `machine`.
    pub subject: String,
    /// What differs.
    pub what: String,
    /// What would be right.
    pub remedy: String,
}

/// How the machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The current generation; none before the first apply.
    pub generation: Option<u64>,
    /// Name of the hypervisor backend.
    pub hypervisor: String,
    /// What the person should know about that backend.
    pub notice: Option<String>,
    /// How many qubes run.
    pub running: u64,
    /// How many are declared.
    pub declared: u64,
    /// Where what runs differs from the current generation.
    pub drift: Vec<Drift>,
    /// Qubes that a changed description reaches only at their next start.
    pub restart_needed: Vec<String>,
    /// Whether the description on disk differs from the current generation; the reason where it
    /// cannot be read.
    pub pending: Option<String>,
    /// Calls that wait for the person.
    pub asks: u64,
    /// Whether an apply runs.
    pub applying: bool,
}

/// What a collection removed, or would remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Generations that are gone.
    pub generations: Vec<u64>,
    /// Template images that are gone.
    pub templates: Vec<String>,
    /// Bytes that are free again.
    pub freed: u64,
    /// What was kept although old, and why.
    pub kept: Vec<String>,
}
