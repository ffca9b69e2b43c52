//! Requests and replies. All of them are what `--json` prints.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bulkhead_model::diff::DescriptionDiff;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::Description;
use serde::{Deserialize, Serialize};

pub use crate::apply::{ApplyOutcome, Applying, Progress};
pub use crate::generation::GenerationInfo;
pub use crate::journal::ApplyId;
use crate::plan::Plan;
use crate::storage::{ImageDigest, VolumeInfo};

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
    /// Message kept with the generation; empty where [`GenerationInfo::rollback_of`] says enough.
    pub message: String,
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
    /// As data: the difference of the descriptions.
    pub changes: DescriptionDiff,
    /// Templates whose image is another.
    pub images: Vec<ImageChange>,
}

/// A template whose image is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageChange {
    /// Which.
    pub template: QubeName,
    /// Image before.
    pub from: Option<ImageDigest>,
    /// Image after.
    pub to: ImageDigest,
}
