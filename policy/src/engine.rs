//! Deciding one call.

use std::sync::Arc;

use bulkhead_model::qube::PolicyText;

use crate::ask;
use crate::decision::{Allow, Decision, Deny, DenyReason, Destination};
use crate::error::PolicyError;
use crate::index::{Candidates, Index};
use crate::parse;
use crate::request::{Call, REMOTE_CLASS, Request, Wanted};
use crate::rule::{Action, Origin, Rule};
use crate::token::{RedirectToken, SourceToken, TargetToken};
use crate::view::{QubeIndex, SystemView};

/// A policy, ready to decide. It never changes: a new policy is a new engine.
#[derive(Debug, Clone)]
pub struct Engine {
    rules: Vec<Rule>,
    index: Index,
    /// Why everything is denied, if it is.
    broken: Option<Vec<PolicyError>>,
}

impl Engine {
    /// Parses `texts` in order. On failure every error in every text is returned.
    pub fn parse(texts: &[PolicyText]) -> Result<Self, Vec<PolicyError>> {
        let rules = parse::parse(texts)?;
        Ok(Self {
            index: Index::new(&rules),
            rules,
            broken: None,
        })
    }

    /// An engine for policy that could not be loaded: it denies every call. `errors` is empty
    /// where the text could not even be read.
    pub fn broken(errors: Vec<PolicyError>) -> Self {
        Self {
            rules: Vec::new(),
            index: Index::default(),
            broken: Some(errors),
        }
    }

    /// Parses `texts`; an engine that denies everything if that fails.
    pub fn load(texts: &[PolicyText]) -> Self {
        Self::parse(texts).unwrap_or_else(Self::broken)
    }

    /// The errors because of which everything is denied; none for a policy that parsed.
    pub fn errors(&self) -> Option<&[PolicyError]> {
        self.broken.as_deref()
    }

    /// The rules in the order in which they are tried.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Decides one call against one snapshot of the machine.
    pub fn decide(&self, request: &Request<'_>, view: &SystemView) -> Decision {
        if self.broken.is_some() {
            return deny_without_rule(DenyReason::BrokenPolicy);
        }
        let call = match Call::resolve(request, view) {
            Ok(call) => call,
            Err(reason) => return deny_without_rule(reason),
        };
        match self
            .rules_for(&call, view)
            .find(|rule| matches_target(&rule.target, &call, view))
        {
            Some(rule) => self.apply(rule, &call, view),
            None => deny_without_rule(DenyReason::NoRule),
        }
    }

    /// The rules that match service, argument and source of `call`, in order.
    fn rules_for<'a>(&'a self, call: &'a Call<'a>, view: &'a SystemView) -> Matching<'a> {
        Matching {
            rules: &self.rules,
            candidates: self
                .index
                .candidates(call.service, &view.get(call.source).name),
            call,
            view,
        }
    }

    fn apply(&self, rule: &Rule, call: &Call<'_>, view: &SystemView) -> Decision {
        let outcome = match &rule.action {
            Action::Deny { notify } => Err(Deny {
                rule: Some(rule.origin.clone()),
                notify: *notify,
                reason: DenyReason::Rule,
            }),
            Action::Allow {
                target,
                user,
                notify,
                autostart,
            } => destination(target.as_ref(), call, view)
                .map_err(|reason| deny_by(&rule.origin, reason))
                .and_then(|target| {
                    Grant {
                        rule: &rule.origin,
                        user: user.as_ref(),
                        notify: *notify,
                        autostart: *autostart,
                        source: call.source,
                        caller: call.caller,
                        requested_target: call.requested_target,
                        service: call.service,
                        argument: call.argument,
                    }
                    .to(target, view)
                })
                .map(Decision::Allow),
            Action::Ask { .. } => ask::ask(rule, call, view, || self.rules_for(call, view))
                .map(Decision::Ask)
                .map_err(|reason| deny_by(&rule.origin, reason)),
        };
        outcome.unwrap_or_else(Decision::Deny)
    }
}

/// Iterates over the rules that match all of a call but its target.
#[derive(Debug)]
pub(crate) struct Matching<'a> {
    rules: &'a [Rule],
    candidates: Candidates<'a>,
    call: &'a Call<'a>,
    view: &'a SystemView,
}

impl<'a> Iterator for Matching<'a> {
    type Item = &'a Rule;

    fn next(&mut self) -> Option<&'a Rule> {
        loop {
            let rule = self.rules.get(self.candidates.next()?)?;
            let argument = rule.argument.as_deref();
            if argument.is_none_or(|argument| argument == self.call.argument)
                && matches_source(&rule.source, self.call.source, self.view)
            {
                return Some(rule);
            }
        }
    }
}

fn matches_source(token: &SourceToken, source: QubeIndex, view: &SystemView) -> bool {
    match token {
        SourceToken::Wildcard => true,
        SourceToken::AnyVm => !source.is_dom0(),
        SourceToken::AdminVm => source.is_dom0(),
        SourceToken::Qube(qube) => view.is(source, qube),
        SourceToken::Type(class) => view.get(source).class.as_ref() == class.as_ref(),
        SourceToken::Tag(tag) => view.get(source).has_tag(tag),
        SourceToken::Disposable(_) => false,
    }
}

fn matches_target(token: &TargetToken, call: &Call<'_>, view: &SystemView) -> bool {
    // A base counts as asked for by name, or by `@dispvm` where it is the caller's default.
    let base = || match call.wanted {
        Wanted::DispvmOf(base) => Some(base),
        Wanted::Dispvm => view.disposable_base(call.source),
        Wanted::Default | Wanted::Qube(_) => None,
    };
    let qube = match call.wanted {
        Wanted::Qube(qube) => Some(qube),
        _ => None,
    };
    match token {
        TargetToken::Wildcard => true,
        TargetToken::AnyVm => qube != Some(QubeIndex::DOM0),
        TargetToken::AdminVm => qube == Some(QubeIndex::DOM0),
        TargetToken::Default => call.wanted == Wanted::Default,
        TargetToken::Qube(named) => qube.is_some_and(|qube| view.is(qube, named)),
        TargetToken::Type(class) => {
            qube.is_some_and(|qube| view.get(qube).class.as_ref() == class.as_ref())
        }
        TargetToken::Tag(tag) => qube.is_some_and(|qube| view.get(qube).has_tag(tag)),
        TargetToken::Dispvm => call.wanted == Wanted::Dispvm,
        TargetToken::DispvmOf(named) => base().is_some_and(|base| view.is(base, named)),
        TargetToken::DispvmTag(tag) => base().is_some_and(|base| view.get(base).has_tag(tag)),
    }
}

/// A place on this machine that a call can go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Qube(QubeIndex),
    Disposable(QubeIndex),
}

impl Place {
    pub(crate) fn is_running(self, view: &SystemView) -> bool {
        match self {
            Self::Qube(qube) => view.get(qube).running,
            Self::Disposable(_) => false,
        }
    }

    pub(crate) fn destination(self, view: &SystemView) -> Destination {
        match self {
            Self::Qube(qube) if qube.is_dom0() => Destination::Dom0,
            Self::Qube(qube) => Destination::Qube {
                name: Arc::clone(&view.get(qube).name),
                uuid: view.get(qube).uuid,
            },
            Self::Disposable(base) => Destination::NewDisposable {
                base: Arc::clone(&view.get(base).name),
                uuid: view.get(base).uuid,
            },
        }
    }
}

/// Where an allow rule sends this call.
fn destination(
    redirect: Option<&RedirectToken>,
    call: &Call<'_>,
    view: &SystemView,
) -> Result<Place, DenyReason> {
    let own_disposable = || {
        view.disposable_base(call.source)
            .map(Place::Disposable)
            .ok_or(DenyReason::NoDisposableBase)
    };
    match redirect {
        None => match call.wanted {
            Wanted::Default => Err(DenyReason::NoDestination),
            Wanted::Dispvm => own_disposable(),
            Wanted::DispvmOf(base) => Ok(Place::Disposable(base)),
            Wanted::Qube(qube) => Ok(Place::Qube(qube)),
        },
        Some(RedirectToken::AdminVm) => Ok(Place::Qube(QubeIndex::DOM0)),
        Some(RedirectToken::Dispvm) => own_disposable(),
        Some(RedirectToken::DispvmOf(base)) => view
            .find_ref(base)
            .filter(|base| view.get(*base).template_for_dispvms)
            .map(Place::Disposable)
            .ok_or(DenyReason::NotADisposableTemplate),
        Some(RedirectToken::Qube(qube)) => view
            .find_ref(qube)
            .map(Place::Qube)
            .ok_or(DenyReason::NoDestination),
    }
}

/// What a rule, or a rule and a person, grant to a call.
pub(crate) struct Grant<'a> {
    pub(crate) rule: &'a Origin,
    pub(crate) user: Option<&'a Arc<str>>,
    pub(crate) notify: bool,
    pub(crate) autostart: bool,
    pub(crate) source: QubeIndex,
    pub(crate) caller: QubeIndex,
    pub(crate) requested_target: &'a str,
    pub(crate) service: &'a str,
    pub(crate) argument: &'a str,
}

impl Grant<'_> {
    /// The last checks before a call is connected to `place`.
    pub(crate) fn to(&self, place: Place, view: &SystemView) -> Result<Allow, Deny> {
        if !self.autostart && !place.is_running(view) {
            return Err(Deny {
                notify: self.notify,
                ..deny_by(self.rule, DenyReason::WouldAutostart)
            });
        }
        let refuse = |reason| deny_by(self.rule, reason);
        let mut connected = place;
        let mut relayed_service = None;
        let mut user = self.user;
        if let Place::Qube(qube) = place {
            let remote = view.get(qube);
            if *remote.class == *REMOTE_CLASS {
                let relay = remote.relayvm.as_deref().and_then(|name| view.find(name));
                connected = Place::Qube(relay.ok_or_else(|| refuse(DenyReason::NoRelay))?);
                let transport = remote
                    .transport_rpc
                    .as_deref()
                    .ok_or_else(|| refuse(DenyReason::NoTransport))?;
                relayed_service = Some(format!(
                    "{transport}+{}+{}{}",
                    self.requested_target, self.service, self.argument
                ));
                // The user of a remote qube is the other machine's business.
                user = None;
            }
        }
        // Both the qube that policy speaks of and the one that is really connected.
        let itself = |place| place == Place::Qube(self.source) || place == Place::Qube(self.caller);
        if itself(place) || itself(connected) {
            return Err(refuse(DenyReason::Loopback));
        }
        Ok(Allow {
            rule: self.rule.clone(),
            source: Arc::clone(&view.get(self.source).name),
            target: connected.destination(view),
            user: user.cloned(),
            notify: self.notify,
            autostart: self.autostart,
            requested_target: self.requested_target.to_owned(),
            relayed_service,
        })
    }
}

fn deny_without_rule(reason: DenyReason) -> Decision {
    Decision::Deny(Deny {
        rule: None,
        notify: true,
        reason,
    })
}

pub(crate) fn deny_by(rule: &Origin, reason: DenyReason) -> Deny {
    Deny {
        rule: Some(rule.clone()),
        notify: true,
        reason,
    }
}
