//! Desired minus observed: the steps that lead from one to the other. Pure.
//!
//! [`build::plan`] makes a [`Plan`]; [`render`] prints it the way `terraform plan` taught people to
//! read. Nothing here reads a file or a clock.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bulkhead_model::diff::{EntryDiff, PropertyDiff, RuleDiff};
use bulkhead_model::name::QubeName;
use bulkhead_model::property::QubeProperty;
use bulkhead_model::qube::{Mib, Qube, TemplateSource};
use serde::{Deserialize, Serialize};

pub mod build;
mod graph;
pub mod lag;
pub mod render;

use crate::machine::LiveChange;
use crate::storage::{ImageDigest, VolumeId};

/// Names a step within its plan: its place in [`Plan::steps`], from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub u32);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The image that a start uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageRef {
    /// No template: the qube has a root of its own.
    None,
    /// The image that the lock of this apply gives the template; known once it is ensured.
    Template(QubeName),
    /// Exactly this one.
    Exact(ImageDigest),
}

/// What one step does. Each may be repeated without doing anything twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Make sure the template's image is in the store, and lock the template to it.
    EnsureTemplate {
        /// Template.
        template: QubeName,
        /// Where its root comes from.
        source: TemplateSource,
        /// The image it is locked to already.
        locked: Option<ImageDigest>,
        /// Whether it is made from what the source is now, and not from what was kept of it.
        #[serde(default)]
        anew: bool,
    },
    /// Create an empty volume.
    CreateVolume {
        /// Which.
        volume: VolumeId,
        /// Its size.
        size: Mib,
    },
    /// Undo of [`Action::CreateVolume`].
    DiscardVolume {
        /// Which.
        volume: VolumeId,
    },
    /// Change a volume's size.
    ResizeVolume {
        /// Which.
        volume: VolumeId,
        /// Size before.
        from: Mib,
        /// Size after.
        to: Mib,
    },
    /// Set a volume aside. [`Action::PurgeVolume`] destroys it once the apply is past undoing.
    RetireVolume {
        /// Which.
        volume: VolumeId,
        /// Its size.
        size: Mib,
    },
    /// Undo of [`Action::RetireVolume`].
    RestoreVolume {
        /// Which.
        volume: VolumeId,
    },
    /// Destroy a volume that was set aside. After the generation switch only.
    PurgeVolume {
        /// Which.
        volume: VolumeId,
    },
    /// Put the new description in force: policy, labels, tags, restart rules.
    Declare,
    /// Undo of [`Action::Declare`].
    DeclarePrevious,
    /// Change a running qube.
    LiveUpdate {
        /// Which.
        qube: QubeName,
        /// Value before.
        from: LiveChange,
        /// Value after.
        to: LiveChange,
    },
    /// Start a qube.
    StartQube {
        /// What is started, whole.
        spec: Arc<Qube>,
        /// The image of its root.
        image: ImageRef,
    },
    /// Stop a qube.
    StopQube {
        /// Which.
        qube: QubeName,
        /// Seconds until it is killed.
        timeout: u32,
    },
    /// Record the new generation and make it the current one. From here on there is no undo, only
    /// rollback.
    SwitchGeneration,
}

/// How a step is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inverse {
    /// By doing this.
    Action(Action),
    /// Not at all, and nobody would notice; says why.
    Harmless(Cow<'static, str>),
    /// Not at all. Only steps after the generation switch may say so.
    Never,
}

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// When the apply is done.
    Now,
    /// When the qube starts next.
    NextStart,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub id: StepId,
    /// Steps that must be done before. Each has a smaller id.
    pub after: Vec<StepId>,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
    /// Why, as a clause for people.
    pub reason: Cow<'static, str>,
    /// How it is taken back.
    pub inverse: Inverse,
    /// When it takes effect.
    pub effect: Effect,
    /// Whether data of a person is gone for good once the apply is done.
    pub destroys_data: bool,
}

/// Added, changed or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// `+`
    Add,
    /// `~`
    Change,
    /// `-`
    Remove,
}

/// One property of a qube that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyChange {
    /// Which, from what, to what.
    #[serde(flatten)]
    pub diff: PropertyDiff<QubeProperty>,
    /// When the change takes effect.
    pub effect: Effect,
}

/// What happens to one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum VolumeChange {
    /// Created empty.
    Create {
        /// Name.
        volume: String,
        /// Size.
        size: Mib,
    },
    /// Exists from an earlier qube of that name, and is used as it is.
    Adopt {
        /// Name.
        volume: String,
        /// Size.
        size: Mib,
    },
    /// Grows.
    Grow {
        /// Name.
        volume: String,
        /// Size before.
        from: Mib,
        /// Size after.
        to: Mib,
    },
    /// Destroyed with its data.
    Destroy {
        /// Name.
        volume: String,
        /// Size.
        size: Mib,
    },
    /// No longer declared, and kept.
    Keep {
        /// Name.
        volume: String,
        /// Size.
        size: Mib,
    },
}

/// What happens to the running qube.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunChange {
    /// Nothing.
    None,
    /// It starts.
    Start,
    /// It stops.
    Stop,
    /// It stops and starts.
    Restart,
    /// It goes on with old values until it starts next.
    Pending,
}

/// Everything that happens to one qube, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QubeChange {
    /// Which.
    pub qube: QubeName,
    /// `+`, `~` or `-`.
    pub kind: ChangeKind,
    /// Its properties, in the order of the description's types.
    pub properties: Vec<PropertyChange>,
    /// Its volumes.
    pub volumes: Vec<VolumeChange>,
    /// Whether it starts, stops or waits for a restart.
    pub run: RunChange,
    /// Why it starts or stops; empty where `run` is none.
    pub reason: Cow<'static, str>,
}

/// What happens to one template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateChange {
    /// Which.
    pub template: QubeName,
    /// `+`, `~` or `-`.
    pub kind: ChangeKind,
    /// One line: what is fetched, built, rebuilt or forgotten.
    pub text: String,
}

/// Steps and what they mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The generation that the plan starts from; none on a machine that has none yet.
    pub base: Option<u64>,
    /// Templates that change.
    pub templates: Vec<TemplateChange>,
    /// Qubes that change, by name.
    pub qubes: Vec<QubeChange>,
    /// Labels that change.
    pub labels: Vec<EntryDiff<String, String>>,
    /// Qubes of other machines that come, go or change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<EntryDiff<QubeName, String>>,
    /// What changes of what dom0 does for qubes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dom0: Vec<PropertyDiff<String>>,
    /// Rules of the call policy that come and go.
    pub policy: Vec<RuleDiff>,
    /// Lines of what policy must decide that come and go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_tests: Vec<RuleDiff>,
    /// Steps; each stands after everything it depends on.
    pub steps: Vec<Step>,
    /// What a person should know though nothing is done about it, one sentence each.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Volumes that are destroyed with their data. An apply needs leave for that.
    pub fn destroys(&self) -> Vec<&VolumeId> {
        self.steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::RetireVolume { volume, .. } => Some(volume),
                _ => None,
            })
            .collect()
    }

    /// Whether it has steps and yet names nothing that comes, goes or changes.
    fn changes_nothing_shown(&self) -> bool {
        self.base.is_some()
            && self.templates.is_empty()
            && self.qubes.is_empty()
            && self.labels.is_empty()
            && self.remotes.is_empty()
            && self.dom0.is_empty()
            && self.policy.is_empty()
            && self.policy_tests.is_empty()
    }

    /// Whether the apply makes a new generation (a mere repair does not).
    pub fn makes_generation(&self) -> bool {
        self.steps
            .iter()
            .any(|step| step.action == Action::SwitchGeneration)
    }
}

#[cfg(test)]
pub(crate) mod sim;
#[cfg(test)]
mod tests;
