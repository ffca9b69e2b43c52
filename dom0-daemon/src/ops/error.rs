//! Why an operation was refused, and what a person can do about it.

use std::path::PathBuf;

use bulkhead_model::diagnostic::Diagnostics;

use crate::db::DatabaseError;
use crate::observe::ObserveError;
use crate::plan::build::{PlanError, PlanProblem};
use crate::storage::StorageError;

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Why an operation was refused.
#[derive(Debug, thiserror::Error)]
pub enum OperationsError {
    /// The description has errors. Nothing was changed.
    #[error("the description `{}` has {count} error{}", .system.display(), plural(*.count))]
    Description {
        /// The description.
        system: PathBuf,
        /// How many.
        count: usize,
        /// All of them with file, line and snippet.
        diagnostics: Box<Diagnostics>,
    },
    /// The policy of a kept generation does not decide what it is expected to.
    #[error("the policy of generation {number} does not meet {count} expectation{}", plural(*.count))]
    Expectations {
        /// The generation.
        number: u64,
        /// How many.
        count: usize,
        /// All of them with file, line and snippet.
        diagnostics: Box<Diagnostics>,
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
    /// Somebody else is about to apply or collects.
    #[error("busy: another change is being prepared")]
    Preparing,
    /// Data would be destroyed and no leave was given.
    #[error("this destroys the data of {}", .0.join(", "))]
    NeedsAllowDestroy(Vec<String>),
    /// The plan is not the one that was shown.
    #[error("the plan is no longer the one that was shown")]
    PlanChanged,
    /// There is no way from what is to what is described.
    #[error("the description cannot be applied: {0}")]
    Plan(PlanError),
    /// No such generation.
    #[error("there is no generation {0}")]
    NoSuchGeneration(u64),
    /// The machine has no generation yet.
    #[error("there is no generation yet")]
    NoGeneration,
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
    /// The state cannot be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// From storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The apply broke off: the daemon has a bug or is ending.
    #[error("the apply broke off: {0}")]
    BrokeOff(String),
}

impl OperationsError {
    /// What a person can do about it; a whole sentence, for a line that starts with `hint:`.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NeedsAllowDestroy(_) => {
                Some("Pass --allow-destroy to destroy it, or --keep-volumes to keep it.".to_owned())
            }
            Self::PlanChanged => Some("Look at the new plan and apply again.".to_owned()),
            Self::Busy { .. } | Self::Preparing => {
                Some("Wait until it is done, then apply again.".to_owned())
            }
            Self::Plan(PlanError(problems)) => problems.first().map(|problem| match problem {
                PlanProblem::Shrink { volume, from, .. } => format!(
                    "Declare `{volume}` with at least {from}; to make it smaller, copy its data to \
                     a new volume."
                ),
                PlanProblem::InUse { volume } => {
                    format!("Stop qube `{}` first, or pass --restart.", volume.qube)
                }
            }),
            Self::NoGeneration => Some("Make one with `bulkhead apply`.".to_owned()),
            Self::NoSuchGeneration(_) => Some("List them with `bulkhead generations`.".to_owned()),
            _ => None,
        }
    }
}
