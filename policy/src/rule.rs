//! One rule, as parsed.

use std::fmt;
use std::sync::Arc;

use crate::token::{RedirectToken, SourceToken, TargetToken};

/// Where a rule or an error stands. Cloning does not copy the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The file as the description names it.
    pub file: Arc<str>,
    /// Line, counted from 1; 0 for what concerns or follows the file as a whole.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// What a rule says to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect the call.
    Allow {
        /// `target=`: connect here instead.
        target: Option<RedirectToken>,
        /// `user=`: run as this user; none or empty means the target's default user.
        user: Option<Arc<str>>,
        /// `notify=`: tell the person.
        notify: bool,
        /// `autostart=`: start a target that does not run.
        autostart: bool,
    },
    /// Let the person decide.
    Ask {
        /// `target=`: the only choice offered.
        target: Option<RedirectToken>,
        /// `default_target=`: the choice preselected, if it is among them.
        default_target: Option<RedirectToken>,
        /// `user=`: run as this user; none or empty means the target's default user.
        user: Option<Arc<str>>,
        /// `notify=`: tell the person.
        notify: bool,
        /// `autostart=`: offer targets that do not run.
        autostart: bool,
    },
    /// Refuse the call.
    Deny {
        /// `notify=`: tell the person.
        notify: bool,
    },
}

impl Action {
    /// `user=` of an allow or ask, as written.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Allow { user, .. } | Self::Ask { user, .. } => user.as_deref(),
            Self::Deny { .. } => None,
        }
    }

    /// `target=` of an allow or ask.
    pub fn redirect(&self) -> Option<&RedirectToken> {
        match self {
            Self::Allow { target, .. } | Self::Ask { target, .. } => target.as_ref(),
            Self::Deny { .. } => None,
        }
    }
}

/// One line of policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it was read.
    pub origin: Origin,
    /// Service name; none is `*`.
    pub service: Option<Box<str>>,
    /// Argument with its `+`; none is `*`.
    pub argument: Option<Box<str>>,
    /// Who calls.
    pub source: SourceToken,
    /// Who was asked for.
    pub target: TargetToken,
    /// What to do.
    pub action: Action,
}

/// The rule in canonical form: single blanks, parameters in a fixed order, defaults left out.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = self.service.as_deref().unwrap_or("*");
        let argument = self.argument.as_deref().unwrap_or("*");
        write!(f, "{service} {argument} {} {} ", self.source, self.target)?;
        let (redirect, preselected, user, notify, autostart) = match &self.action {
            Action::Deny { notify } => {
                f.write_str("deny")?;
                return f.write_str(if *notify { "" } else { " notify=no" });
            }
            Action::Allow {
                target,
                user,
                notify,
                autostart,
            } => {
                f.write_str("allow")?;
                (target, &None, user, *notify, *autostart)
            }
            Action::Ask {
                target,
                default_target,
                user,
                notify,
                autostart,
            } => {
                f.write_str("ask")?;
                (target, default_target, user, *notify, *autostart)
            }
        };
        if let Some(redirect) = redirect {
            write!(f, " target={redirect}")?;
        }
        if let Some(preselected) = preselected {
            write!(f, " default_target={preselected}")?;
        }
        if let Some(user) = user {
            write!(f, " user={user}")?;
        }
        f.write_str(if notify { " notify=yes" } else { "" })?;
        f.write_str(if autostart { "" } else { " autostart=no" })
    }
}
