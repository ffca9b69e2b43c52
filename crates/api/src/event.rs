//! Signals: what a client subscribes to in order to mirror state and never poll.

use serde::{Deserialize, Serialize};

use crate::call::{Ask, AuditRecord};
use crate::change::ApplyOutcome;
use crate::clipboard::ClipboardNews;
use crate::qube::QubeRow;

/// A group of signals that a peer-to-peer client asks for with `Subscribe`.
///
/// A new connection gets none, so that a short command never pays for them. On the system bus all
/// but audit records and the clipboard are sent and clients choose by match rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// `QubeChanged`, `QubeRemoved`.
    Qubes,
    /// `AskAdded`, `AskRemoved`.
    Asks,
    /// `ApplyStarted` to `ApplyFinished`, `GenerationChanged`, `PolicyChanged`.
    Changes,
    /// `AuditRecorded`.
    Audit,
    /// `ClipboardChanged`.
    Clipboard,
}

impl Topic {
    const ALL: [Self; 5] = [
        Self::Qubes,
        Self::Asks,
        Self::Changes,
        Self::Audit,
        Self::Clipboard,
    ];

    /// The name that travels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qubes => "qubes",
            Self::Asks => "asks",
            Self::Changes => "changes",
            Self::Audit => "audit",
            Self::Clipboard => "clipboard",
        }
    }

    /// The topic of a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == text)
    }
}

/// Something changed. Each is one signal of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A qube is new or differs from before.
    QubeChanged(QubeRow),
    /// A qube is gone: a disposable that ended, or one no longer declared.
    QubeRemoved {
        /// Its name.
        name: String,
    },
    /// A call waits for the person.
    AskAdded(Ask),
    /// A call no longer waits: answered, withdrawn or timed out.
    AskRemoved {
        /// Which.
        id: u64,
        /// What became of it: `allowed`, `denied`, `withdrawn`, `expired`.
        outcome: String,
    },
    /// An apply begins.
    ApplyStarted {
        /// Which.
        apply: u64,
        /// Who asked for it.
        who: String,
        /// How many steps it has.
        steps: u32,
    },
    /// A step begins.
    StepStarted {
        /// Of which apply.
        apply: u64,
        /// Which.
        step: u32,
        /// What it does (`start qube work`).
        text: String,
    },
    /// A long step tells how far it is.
    StepProgress {
        /// Of which apply.
        apply: u64,
        /// Which.
        step: u32,
        /// A short line.
        text: String,
    },
    /// A step is over.
    StepFinished {
        /// Of which apply.
        apply: u64,
        /// Which.
        step: u32,
        /// Why it failed; empty if it did not.
        error: String,
    },
    /// Steps are being undone.
    Undoing {
        /// Of which apply.
        apply: u64,
        /// Why.
        because: String,
    },
    /// A step was undone.
    StepUndone {
        /// Of which apply.
        apply: u64,
        /// Which.
        step: u32,
        /// Why it could not be; empty if it was.
        error: String,
    },
    /// An apply ended, well or badly.
    ApplyFinished {
        /// Which.
        apply: u64,
        /// How.
        outcome: ApplyOutcome,
    },
    /// Another generation is the current one.
    GenerationChanged {
        /// Its number.
        number: u64,
    },
    /// Other rules are in force, or what is wrong with them changed.
    PolicyChanged {
        /// Whether nothing is wrong.
        ok: bool,
        /// How many rules are in force.
        rules: u64,
        /// What is wrong, each as `file:line:column: what`.
        errors: Vec<String>,
    },
    /// A decision was recorded.
    AuditRecorded(AuditRecord),
    /// Something was copied, pasted or wiped.
    ClipboardChanged(ClipboardNews),
}

impl Event {
    /// The topic under which it is sent.
    pub fn topic(&self) -> Topic {
        match self {
            Self::QubeChanged(_) | Self::QubeRemoved { .. } => Topic::Qubes,
            Self::AskAdded(_) | Self::AskRemoved { .. } => Topic::Asks,
            Self::ApplyStarted { .. }
            | Self::StepStarted { .. }
            | Self::StepProgress { .. }
            | Self::StepFinished { .. }
            | Self::Undoing { .. }
            | Self::StepUndone { .. }
            | Self::ApplyFinished { .. }
            | Self::GenerationChanged { .. }
            | Self::PolicyChanged { .. } => Topic::Changes,
            Self::AuditRecorded(_) => Topic::Audit,
            Self::ClipboardChanged(_) => Topic::Clipboard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_read_what_they_write() {
        for topic in Topic::ALL {
            assert_eq!(Topic::parse(topic.as_str()), Some(topic));
        }
        assert_eq!(Topic::parse("Qubes"), None);
    }
}
