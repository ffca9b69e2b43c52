//! Why the runtime could not do what a client asked.

use bulkhead_model::name::QubeName;

use crate::link::LinkError;
use crate::machine::MachineError;

/// Why the runtime could not do what a client asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// From the machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Its agent did not say hello in time.
    #[error("the agent of qube `{name}` did not connect within {seconds} seconds")]
    AgentTimeout {
        /// The qube.
        name: QubeName,
        /// How long was waited.
        seconds: u64,
    },
    /// It runs, and has none to call.
    #[error("qube `{0}` has no agent that could be called")]
    NoAgent(QubeName),
    /// It ended while somebody waited for its agent.
    #[error("qube `{0}` ended while it was starting")]
    Ended(QubeName),
    /// All its ports are in use.
    #[error("qube `{0}` has no free port for another connection")]
    NoFreePort(QubeName),
    /// Its relay cannot take messages.
    #[error("qube `{0}` cannot be reached through its relay")]
    Unreachable(QubeName, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// No such question is open.
    #[error("there is no open question {0}")]
    NoSuchAsk(u64),
    /// The answer names no target.
    #[error("question {0} has no default target, so one must be named")]
    TargetMissing(u64),
    /// The answer names a target that was not offered.
    #[error("`{target}` is not among the targets of question {ask}")]
    NotATarget {
        /// The question.
        ask: u64,
        /// What was named.
        target: String,
    },
    /// Disposables cannot be made of it.
    #[error("qube `{0}` is no disposable template")]
    NotADisposableTemplate(QubeName),
    /// Nothing says of what.
    #[error("no disposable template is named, and there is not exactly one to choose")]
    WhichDisposableTemplate,
    /// All names are taken.
    #[error("there are too many disposables")]
    TooManyDisposables,
    /// A service name or command that cannot be used.
    #[error("{what} cannot be used: {why}")]
    Unusable {
        /// What it is.
        what: &'static str,
        /// Why.
        why: &'static str,
    },
}

impl RuntimeError {
    pub(crate) fn link(name: &QubeName, error: LinkError) -> Self {
        Self::Unreachable(name.clone(), Box::new(error))
    }
}
