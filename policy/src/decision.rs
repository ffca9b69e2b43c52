//! What the engine answers.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::rule::{Origin, Rule};

/// The answer to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Connect it.
    Allow(Allow),
    /// Ask the person, then [`Ask::answer`].
    Ask(Ask),
    /// Refuse it.
    Deny(Deny),
}

impl Decision {
    /// Number of that rule among [`Engine::rules`]; none when no rule spoke.
    ///
    /// [`Engine::rules`]: crate::Engine::rules
    pub fn number(&self) -> Option<usize> {
        match self {
            Self::Allow(allow) => Some(allow.number),
            Self::Ask(ask) => Some(ask.number),
            Self::Deny(deny) => deny.number,
        }
    }

    /// The rule that spoke; none when no rule did.
    pub fn rule(&self) -> Option<&Origin> {
        match self {
            Self::Allow(allow) => Some(&allow.rule),
            Self::Ask(ask) => Some(&ask.rule),
            Self::Deny(deny) => deny.rule.as_ref(),
        }
    }
}

/// Where a call goes. Display is the form that people and the Qubes tools read: `dom0`, a name, or
/// `@dispvm:BASE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// dom0.
    Dom0,
    /// A qube. Connect by UUID: the name may have been given to another since.
    Qube {
        /// Its name.
        name: Arc<str>,
        /// Its identity.
        uuid: Uuid,
    },
    /// A disposable that is to be made of a base.
    NewDisposable {
        /// Name of the base.
        base: Arc<str>,
        /// Identity of the base.
        uuid: Uuid,
    },
    /// What an ask rule's `target=` says and nothing on this machine is. Choosing it is refused.
    Nothing {
        /// The text of the rule.
        text: Arc<str>,
    },
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dom0 => f.write_str("dom0"),
            Self::Qube { name, .. } => f.write_str(name),
            Self::NewDisposable { base, .. } => write!(f, "@dispvm:{base}"),
            Self::Nothing { text } => f.write_str(text),
        }
    }
}

impl Destination {
    /// Whether it displays as `text`.
    pub fn is_shown_as(&self, text: &str) -> bool {
        match self {
            Self::Dom0 => text == "dom0",
            Self::Qube { name, .. } => **name == *text,
            Self::NewDisposable { base, .. } => text.strip_prefix("@dispvm:") == Some(base),
            Self::Nothing { text: own } => **own == *text,
        }
    }
}

/// A call that is to be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// The rule that spoke.
    pub rule: Origin,
    /// Number of that rule among [`Engine::rules`].
    ///
    /// [`Engine::rules`]: crate::Engine::rules
    pub number: usize,
    /// Who is shown as the caller: the qube itself, or the remote one that it relays for.
    pub source: Arc<str>,
    /// Where it goes; for a remote qube its relay.
    pub target: Destination,
    /// The destination in the words of the rule's `target=` or else of the request, with `@dispvm`
    /// and `@adminvm` made concrete; for a remote qube the qube itself.
    pub named: String,
    /// User to run as; none means the target's default user.
    pub user: Option<Arc<str>>,
    /// Tell the person.
    pub notify: bool,
    /// Start the target if it does not run.
    pub autostart: bool,
    /// What the caller asked for, `@default` if that means nothing here.
    pub requested_target: String,
    /// For a remote qube: the `service+argument` to call in the relay instead.
    pub relayed_service: Option<String>,
}

/// A call that the person decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The rule that spoke.
    pub rule: Origin,
    /// Number of that rule among [`Engine::rules`].
    ///
    /// [`Engine::rules`]: crate::Engine::rules
    pub number: usize,
    /// Who is shown as the caller.
    pub source: Arc<str>,
    /// The qube that shows the prompt; none if the source names none.
    pub guivm: Option<Arc<str>>,
    /// What may be chosen, sorted by their Display; never empty.
    pub targets: Arc<[Destination]>,
    /// The one of them that is preselected.
    pub default_target: Option<Destination>,
    /// User to run as; none means the target's default user.
    pub user: Option<Arc<str>>,
    /// Tell the person.
    pub notify: bool,
    /// Start the target if it does not run.
    pub autostart: bool,
    /// What the caller asked for, `@default` if that means nothing here.
    pub requested_target: String,
    /// Identity of the shown caller.
    pub(crate) source_uuid: Option<Uuid>,
    /// Identity of the qube that is connected.
    pub(crate) caller_uuid: Option<Uuid>,
    pub(crate) service: String,
    pub(crate) argument: String,
    /// All rules of the engine that asks.
    pub(crate) rules: Kin,
}

/// A call that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deny {
    /// The rule that spoke; none when no rule did.
    pub rule: Option<Origin>,
    /// Number of that rule among [`Engine::rules`].
    ///
    /// [`Engine::rules`]: crate::Engine::rules
    pub number: Option<usize>,
    /// Tell the person.
    pub notify: bool,
    /// Why.
    pub reason: DenyReason,
}

impl Deny {
    /// A refusal for which no rule spoke; the person is told.
    pub(crate) fn without_rule(reason: DenyReason) -> Self {
        Self {
            rule: None,
            number: None,
            notify: true,
            reason,
        }
    }
}

/// The rule, where one spoke, and why.
impl fmt::Display for Deny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "{rule}: {}", self.reason),
            None => write!(f, "{}", self.reason),
        }
    }
}

/// Why a call is refused; Display is for logs and for the person, never for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DenyReason {
    /// The policy did not parse.
    #[error("the policy has errors, so every call is refused")]
    BrokenPolicy,
    /// The calling qube is not among those known.
    #[error("the calling qube is unknown")]
    UnknownSource,
    /// The target is a keyword that only rules may use.
    #[error("the target is a word that a call cannot use")]
    ForbiddenTarget,
    /// `@dispvm:BASE` of something that is no disposable template.
    #[error("the requested base is not a disposable template")]
    NotADisposableTemplate,
    /// The claimed source does not exist.
    #[error("the claimed source is unknown")]
    ClaimUnknown,
    /// The claimed source is a qube of this machine.
    #[error("the claimed source is not a remote qube")]
    ClaimNotRemote,
    /// The caller is not the relay of the claimed source.
    #[error("the caller is not the relay of the claimed source")]
    ClaimNotRelay,
    /// No rule matches.
    #[error("no rule matches")]
    NoRule,
    /// A deny rule matches.
    #[error("a rule denies it")]
    Rule,
    /// Allowed, but neither the caller nor the rule names a target that exists.
    #[error("the rule allows it, but no existing target is named")]
    NoDestination,
    /// Allowed to a new disposable, but the caller has no base for it.
    #[error("the rule allows a disposable, but the caller has no default disposable template")]
    NoDisposableBase,
    /// The target does not run and the rule does not start it.
    #[error("the target does not run and the rule does not start it")]
    WouldAutostart,
    /// A qube called itself.
    #[error("a qube cannot call itself")]
    Loopback,
    /// The remote qube has no relay.
    #[error("the remote qube has no relay")]
    NoRelay,
    /// The remote qube has no transport service.
    #[error("the remote qube has no transport service")]
    NoTransport,
    /// The relay of the remote qube does not exist.
    #[error("the relay of the remote qube does not exist")]
    RelayUnknown,
    /// The base of a disposable does not exist.
    #[error("the base of the disposable does not exist")]
    BaseUnknown,
    /// The caller's default base is a word that is no name.
    #[error("the caller's default disposable template has no name that a template can have")]
    BaseMalformed,
    /// The rule is about a base, the call about a disposable of none.
    #[error("the rule names a disposable template, but the caller has no default one")]
    BaseIncomparable,
    /// A caller in no list, for which no choices can be worked out.
    #[error("the calling qube is unknown, so it has no choices")]
    SourceIncomparable,
    /// The only choice of an ask rule does not exist.
    #[error("the target that the rule offers does not exist")]
    ChoiceUnknown,
    /// An ask rule matched, but nothing may be chosen.
    #[error("the rule asks, but there is no target to choose")]
    NoChoice,
    /// The person said no.
    #[error("the person refused it")]
    Refused,
    /// The answer names something that was not offered.
    #[error("the answer is not one of the choices")]
    NotAChoice,
    /// The chosen qube or the caller went away, or its name now means another qube.
    #[error("the chosen target does not exist any more")]
    Gone,
}

impl DenyReason {
    /// Whether rule and machine contradict each other, so that the policy has no answer. The Qubes
    /// engine ends with an internal error there.
    pub fn is_fault(self) -> bool {
        matches!(
            self,
            Self::RelayUnknown
                | Self::BaseUnknown
                | Self::BaseIncomparable
                | Self::SourceIncomparable
                | Self::ChoiceUnknown
        )
    }
}

/// Rules that something came from. They are no part of what it is: all are equal, and print as
/// nothing.
#[derive(Clone)]
pub(crate) struct Kin(pub(crate) Arc<[Rule]>);

impl fmt::Debug for Kin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl PartialEq for Kin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Kin {}
