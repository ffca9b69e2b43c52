//! How a failure travels: a kind (the D-Bus error name), a message, its causes, and hints.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};
use zbus::message::{Header, Message};
use zbus::names::ErrorName;

/// Prefix of every D-Bus error name of ours.
const PREFIX: &str = "org.bulkhead.Error.";

/// Longest chain of causes that is kept: deeper ones say nothing to a person.
const CAUSES_MAX: usize = 16;

/// What kind of failure: decides the exit code of the command and what a client may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request makes no sense: a malformed name, an empty command.
    Invalid,
    /// What it names does not exist.
    NotFound,
    /// It exists but is in a state that does not allow this (stopped, already running).
    WrongState,
    /// Something else holds what this needs: another apply, a qube in transition. Retry later.
    Busy,
    /// The description does not pass its checks; the causes are the diagnostics.
    Description,
    /// The change destroys data and nobody has allowed that.
    NeedsAllowDestroy,
    /// The plan is not the one that was confirmed.
    PlanChanged,
    /// Policy says no.
    Denied,
    /// The caller may not do this.
    AccessDenied,
    /// A limit was reached.
    Limit,
    /// Some steps failed and some changes could not be undone.
    PartlyApplied,
    /// An apply failed and everything it had done was undone.
    Undone,
    /// This backend or machine cannot do it.
    Unsupported,
    /// It took longer than allowed.
    Timeout,
    /// The machine refused: disk full, missing program, kernel error.
    Host,
    /// No daemon answers. Made by the client alone.
    Unreachable,
    /// A bug.
    Internal,
}

impl ErrorKind {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 17] = [
        Self::Invalid,
        Self::NotFound,
        Self::WrongState,
        Self::Busy,
        Self::Description,
        Self::NeedsAllowDestroy,
        Self::PlanChanged,
        Self::Denied,
        Self::AccessDenied,
        Self::Limit,
        Self::PartlyApplied,
        Self::Undone,
        Self::Unsupported,
        Self::Timeout,
        Self::Host,
        Self::Unreachable,
        Self::Internal,
    ];

    /// The D-Bus error name.
    pub fn dbus_name(self) -> &'static str {
        match self {
            Self::Invalid => "org.bulkhead.Error.Invalid",
            Self::NotFound => "org.bulkhead.Error.NotFound",
            Self::WrongState => "org.bulkhead.Error.WrongState",
            Self::Busy => "org.bulkhead.Error.Busy",
            Self::Description => "org.bulkhead.Error.Description",
            Self::NeedsAllowDestroy => "org.bulkhead.Error.NeedsAllowDestroy",
            Self::PlanChanged => "org.bulkhead.Error.PlanChanged",
            Self::Denied => "org.bulkhead.Error.Denied",
            Self::AccessDenied => "org.bulkhead.Error.AccessDenied",
            Self::Limit => "org.bulkhead.Error.Limit",
            Self::PartlyApplied => "org.bulkhead.Error.PartlyApplied",
            Self::Undone => "org.bulkhead.Error.Undone",
            Self::Unsupported => "org.bulkhead.Error.Unsupported",
            Self::Timeout => "org.bulkhead.Error.Timeout",
            Self::Host => "org.bulkhead.Error.Host",
            Self::Unreachable => "org.bulkhead.Error.Unreachable",
            Self::Internal => "org.bulkhead.Error.Internal",
        }
    }

    /// The kind of a D-Bus error name; unknown names of ours count as bugs, others are not ours.
    fn from_dbus_name(name: &str) -> Option<Self> {
        if !name.starts_with(PREFIX) {
            return None;
        }
        let known = Self::ALL.into_iter().find(|kind| kind.dbus_name() == name);
        Some(known.unwrap_or(Self::Internal))
    }
}

/// A failure as it is told to a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// One sentence: what did not happen. May have more lines where it shows source text.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What would help.
    pub hints: Vec<String>,
}

impl ApiError {
    /// A failure without causes or hints.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// A failure that takes its message and causes from an error and its sources.
    pub fn from_error(kind: ErrorKind, error: &(dyn StdError + 'static)) -> Self {
        let mut made = Self::new(kind, error.to_string());
        if let Some(source) = error.source() {
            made = made.because(source);
        }
        made
    }

    /// Adds an error and its sources to the causes.
    #[must_use]
    pub fn because(mut self, error: &(dyn StdError + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if self.causes.len() >= CAUSES_MAX {
                break;
            }
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds a cause that is no error.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for ApiError {}

impl zbus::DBusError for ApiError {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.kind.dbus_name()).build(&(
            self.message.as_str(),
            &self.causes,
            &self.hints,
        ))
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_static_str_unchecked(self.kind.dbus_name())
    }

    fn description(&self) -> Option<&str> {
        Some(&self.message)
    }
}

impl From<zbus::Error> for ApiError {
    fn from(error: zbus::Error) -> Self {
        if let zbus::Error::MethodError(name, description, reply) = &error
            && let Some(kind) = ErrorKind::from_dbus_name(name.as_str())
        {
            let body = reply.body();
            return match body.deserialize::<(String, Vec<String>, Vec<String>)>() {
                Ok((message, causes, hints)) => Self {
                    kind,
                    message,
                    causes,
                    hints,
                },
                Err(_) => Self::new(kind, description.clone().unwrap_or_default()),
            };
        }
        match &error {
            zbus::Error::InputOutput(source) => Self::new(
                ErrorKind::Unreachable,
                "the connection to bulkheadd was lost",
            )
            .because(source.as_ref()),
            _ => Self::new(ErrorKind::Internal, "bulkheadd gave an unexpected answer")
                .because(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::DBusError;

    fn call() -> Message {
        Message::method_call(crate::PATH, "Start")
            .build(&())
            .unwrap()
    }

    #[test]
    fn survives_the_wire_with_every_kind() {
        for kind in ErrorKind::ALL {
            let sent = ApiError {
                kind,
                message: "qube `work` is not declared".into(),
                causes: vec!["first".into(), "second".into()],
                hints: vec!["add it".into()],
            };
            let call = call();
            let reply = sent.create_reply(&call.header()).unwrap();
            let received = ApiError::from(zbus::Error::from(reply));
            assert_eq!(received, sent);
        }
    }

    #[test]
    fn all_lists_every_kind_once_and_names_follow_the_prefix() {
        let mut names: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.dbus_name()).collect();
        assert!(names.iter().all(|name| name.starts_with(PREFIX)));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn a_foreign_error_is_not_taken_for_ours() {
        let call = call();
        let reply = Message::error(&call.header(), "org.example.Oops")
            .build(&("it broke"))
            .unwrap();
        let received = ApiError::from(zbus::Error::from(reply));
        assert_eq!(received.kind, ErrorKind::Internal);
        assert!(
            received
                .causes
                .iter()
                .any(|cause| cause.contains("it broke"))
        );
    }

    #[test]
    fn the_chain_of_causes_is_bounded() {
        #[derive(Debug)]
        struct Deep(usize);
        impl fmt::Display for Deep {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "level {}", self.0)
            }
        }
        // Endless on purpose: each level has itself as its source.
        impl StdError for Deep {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(self)
            }
        }
        let error = ApiError::new(ErrorKind::Host, "top").because(&Deep(1));
        assert_eq!(error.causes.len(), CAUSES_MAX);
    }
}
