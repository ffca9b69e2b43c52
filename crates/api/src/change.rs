//! Plans, applies and generations as clients ask for and read them.
//!
//! The daemon sends all it knows as JSON, which `--json` prints as it came; the types here name
//! what a client needs of it and pass over the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What to plan for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanRequest {
    /// Description to read instead of the configured one. Only for root and the daemon's own user.
    pub system: Option<String>,
    /// Restart running qubes whose changes need it, instead of leaving them until they start next.
    pub restart: bool,
    /// Build templates anew instead of keeping the locked images.
    pub update_templates: bool,
    /// Keep volumes that are no longer declared, instead of destroying them.
    pub keep_volumes: bool,
}

/// What to apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
#[serde(default)]
pub struct RollbackRequest {
    /// Generation; none means the one before the current.
    pub generation: Option<u64>,
    /// Restart running qubes whose changes need it.
    pub restart: bool,
    /// Message kept with the new generation; empty means none but the number.
    pub message: String,
    /// Destroy the volumes that the old generation does not declare, instead of keeping them.
    pub allow_destroy: bool,
    /// Only show the plan.
    pub dry_run: bool,
}

/// What to collect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// It as text, without colour.
    pub text: String,
    /// Names this plan; see [`ApplyRequest::expect`].
    pub fingerprint: String,
    /// Volumes (`qube:volume`) that are destroyed; not empty means that leave is needed.
    pub destroys: Vec<String>,
    /// How many steps it has; 0 means that there is nothing to do.
    pub steps: u64,
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

impl ApplyOutcome {
    /// The name that travels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Partly => "partly",
        }
    }
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyReport {
    /// How it ended.
    pub outcome: ApplyOutcome,
    /// The current generation now.
    pub generation: Option<u64>,
    /// What failed, outermost first; empty unless undone or partly done.
    pub failures: Vec<String>,
    /// Wall time in milliseconds.
    pub took_ms: u64,
    /// What was planned, as text without colour; filled for a dry run.
    #[serde(default)]
    pub text: String,
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
    /// How many qubes it declares.
    pub qubes: u32,
    /// The generation that it is a rollback to.
    pub rollback_of: Option<u64>,
    /// Whether it is in force.
    pub current: bool,
    /// Whether the daemon came up with it.
    pub booted: bool,
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
}

/// One difference between declared and real that an apply repairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The qube or template.
    pub subject: String,
    /// One sentence: what is different.
    pub text: String,
    /// One sentence: what the next apply does about it.
    pub remedy: String,
}

/// A running qube whose newest values take effect when it starts next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRestart {
    /// Which.
    pub qube: String,
    /// Properties that differ.
    pub properties: Vec<String>,
}

/// An apply that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applying {
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
    /// What the last apply that did not end in order left; one sentence each.
    pub warnings: Vec<String>,
    /// Name of the hypervisor backend.
    pub hypervisor: String,
    /// What a person should know about that backend; one sentence each.
    pub notices: Vec<String>,
    /// What is declared and changes nothing on that backend: names of qubes by property, as
    /// `volumes.private.size`.
    #[serde(default)]
    pub without_effect: BTreeMap<String, Vec<String>>,
    /// The call policy.
    #[serde(default)]
    pub policy: crate::policy::PolicyStatus,
}

/// What was collected, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Generations removed.
    pub generations: Vec<u64>,
    /// Images removed: digest and size in MiB.
    pub images: Vec<(String, u64)>,
    /// Volumes destroyed.
    pub volumes: Vec<String>,
    /// Kept although old, and why.
    pub kept: Vec<String>,
    /// Space freed in MiB.
    pub freed: u64,
}
