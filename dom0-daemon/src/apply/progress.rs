//! What an apply tells while it runs.

use serde::{Deserialize, Serialize};

use crate::journal::{ApplyId, End};
use crate::plan::StepId;

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

impl From<End> for ApplyOutcome {
    fn from(end: End) -> Self {
        match end {
            End::Done => Self::Done,
            End::Undone => Self::Undone,
            End::Partly => Self::Partly,
        }
    }
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
