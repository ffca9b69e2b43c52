//! Decisions in words.

use std::fmt;

use crate::decision::{Decision, Destination};

/// `allow to vault as user u`, `ask: vault, work; vault is preselected`, `deny: no rule matches`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow(allow) => {
                write!(f, "allow to {}", allow.named)?;
                if let Some(user) = &allow.user {
                    write!(f, " as user {user}")?;
                }
                match &allow.relayed_service {
                    Some(service) => write!(f, " through {} by {service}", allow.target),
                    None => Ok(()),
                }
            }
            Self::Ask(ask) => {
                let names: Vec<String> = ask.targets.iter().map(Destination::to_string).collect();
                write!(f, "ask: {}", names.join(", "))?;
                match &ask.default_target {
                    Some(preselected) => write!(f, "; {preselected} is preselected"),
                    None => Ok(()),
                }
            }
            Self::Deny(deny) => write!(f, "deny: {}", deny.reason),
        }
    }
}

impl Decision {
    /// `allow`, `ask` or `deny`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Allow(_) => "allow",
            Self::Ask(_) => "ask",
            Self::Deny(_) => "deny",
        }
    }

    /// Whether two decisions, perhaps of two policies about two machines, let the same happen. By
    /// which rule, and why a call is denied, does not count.
    pub fn lets_the_same_happen(&self, other: &Self) -> bool {
        let shown = |target: &Destination| target.to_string();
        match (self, other) {
            (Self::Deny(one), Self::Deny(two)) => one.notify == two.notify,
            (Self::Allow(one), Self::Allow(two)) => {
                one.named == two.named
                    && shown(&one.target) == shown(&two.target)
                    && one.user == two.user
                    && (one.notify, one.autostart) == (two.notify, two.autostart)
                    && one.relayed_service == two.relayed_service
            }
            (Self::Ask(one), Self::Ask(two)) => {
                one.targets.len() == two.targets.len()
                    && (one.targets.iter().zip(&*two.targets)).all(|(a, b)| shown(a) == shown(b))
                    && one.default_target.as_ref().map(shown)
                        == two.default_target.as_ref().map(shown)
                    && one.user == two.user
                    && (one.notify, one.autostart) == (two.notify, two.autostart)
            }
            _ => false,
        }
    }
}
