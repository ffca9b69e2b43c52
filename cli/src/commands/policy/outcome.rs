//! What is printed for a call.

use bulkhead_policy::{Action, Decision, Engine, ErrorClass, PolicyError};
use serde::Serialize;

use crate::exit::Exit;

/// How a command about one call ends.
pub(super) fn exit(decision: &Decision) -> Exit {
    match decision {
        Decision::Allow(_) => Exit::Done,
        Decision::Ask(_) => Exit::Asks,
        Decision::Deny(_) => Exit::Refused,
    }
}

/// Why a call is denied, if it is.
pub(super) fn reason(decision: &Decision) -> Option<String> {
    match decision {
        Decision::Deny(deny) => Some(deny.reason.to_string()),
        Decision::Allow(_) | Decision::Ask(_) => None,
    }
}

/// Which qubes a call is judged with; `live` if a daemon told which run.
pub(super) fn judged(live: bool) -> &'static str {
    if live {
        "with the qubes that run now"
    } else {
        "with nothing running: no daemon answers"
    }
}

/// One answer.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(in crate::commands) enum Outcome {
    Allow {
        target: String,
        user: Option<String>,
        notify: bool,
        autostart: bool,
        /// For a remote qube: who is called instead, and by what service.
        #[serde(skip_serializing_if = "Option::is_none")]
        relay: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        rule: String,
    },
    Ask {
        targets: Vec<String>,
        default_target: Option<String>,
        user: Option<String>,
        notify: bool,
        autostart: bool,
        rule: String,
    },
    Deny {
        notify: bool,
        rule: Option<String>,
    },
    SyntaxError {
        file: String,
        line: u32,
    },
    LoadDenied,
    Error {
        /// What is wrong with the line; none where policy and machine contradict each other.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
}

impl Outcome {
    /// For a line that asks nothing that can be answered.
    pub(in crate::commands) fn malformed(message: impl Into<String>) -> Self {
        Self::Error {
            message: Some(message.into()),
        }
    }

    /// For a policy that cannot be loaded: its first error ends the loading.
    pub(in crate::commands) fn of_errors(errors: &[PolicyError]) -> Self {
        match errors.first() {
            Some(error) => match error.kind.class() {
                ErrorClass::Syntax => Self::SyntaxError {
                    file: error.origin.file.to_string(),
                    line: error.origin.line,
                },
                ErrorClass::Refused => Self::LoadDenied,
                ErrorClass::Fault => Self::Error { message: None },
            },
            None => Self::LoadDenied,
        }
    }

    pub(in crate::commands) fn of(decision: Decision, engine: &Engine) -> Self {
        let rule = decision
            .number()
            .and_then(|number| engine.rules().get(number));
        let action = rule.map(|rule| &rule.action);
        // As the rule has it: an empty one, or one that a remote qube ignores.
        let user = action.and_then(Action::user).map(str::to_owned);
        match decision {
            Decision::Allow(allow) => Self::Allow {
                relay: (allow.relayed_service.is_some()).then(|| allow.target.to_string()),
                target: allow.named,
                user,
                notify: allow.notify,
                autostart: allow.autostart,
                service: allow.relayed_service,
                rule: allow.rule.to_string(),
            },
            Decision::Ask(ask) => {
                // `target=` is the only choice, in its own words.
                let only = action.and_then(Action::redirect).map(ToString::to_string);
                let word = |target: &bulkhead_policy::Destination| match (target, &only) {
                    (bulkhead_policy::Destination::Dom0, _) | (_, None) => target.to_string(),
                    (_, Some(only)) => only.clone(),
                };
                Self::Ask {
                    targets: ask.targets.iter().map(word).collect(),
                    default_target: ask.default_target.as_ref().map(word),
                    user,
                    notify: ask.notify,
                    autostart: ask.autostart,
                    rule: ask.rule.to_string(),
                }
            }
            Decision::Deny(deny) if deny.reason.is_fault() => Self::Error { message: None },
            Decision::Deny(deny) => Self::Deny {
                notify: deny.notify,
                // What ended before the rules were looked at names none.
                rule: deny.rule.map(|rule| rule.to_string()),
            },
        }
    }
}
