//! Why each rule does or does not match a call, for people. The index is not used here: this is the
//! list as it stands, tried in order.

use crate::decision::DenyReason;
use crate::engine::{Engine, incomparable};
use crate::request::{Call, Party, Request, Wanted};
use crate::rule::Rule;
use crate::token::{QubeRef, SourceToken, TargetToken};
use crate::view::{OwnBase, QubeIndex, SystemView};

/// How a rule and a call compare: the first column that does not match, from the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The rule is for another service.
    OtherService,
    /// It is for another argument.
    OtherArgument,
    /// It is for other callers.
    OtherSource,
    /// It is for other targets. A prompt for this call may still offer what the rule names.
    OtherTarget,
    /// All columns match.
    Matches,
    /// Its target cannot be compared with the call, which is denied.
    Incomparable(DenyReason),
}

impl Fit {
    /// Whether the rule decides the call if none before it does.
    pub fn decides(self) -> bool {
        matches!(self, Self::Matches | Self::Incomparable(_))
    }
}

impl Engine {
    /// How each rule compares with a call, in order; the first that [decides](Fit::decides) is the
    /// one that [`Engine::decide`] follows. Fails where no rule is looked at.
    pub fn fits<'a>(
        &'a self,
        request: &Request<'a>,
        view: &'a SystemView,
    ) -> Result<impl Iterator<Item = (&'a Rule, Fit)>, DenyReason> {
        if self.errors().is_some() {
            return Err(DenyReason::BrokenPolicy);
        }
        let call = Call::resolve(request, view)?;
        let fit = move |rule: &'a Rule| (rule, fit(rule, &call, view));
        Ok(self.rules().iter().map(fit))
    }
}

/// Whether `rule` would decide a call if it stood alone.
pub(crate) fn takes(rule: &Rule, request: &Request<'_>, view: &SystemView) -> bool {
    Call::resolve(request, view).is_ok_and(|call| fit(rule, &call, view).decides())
}

fn fit(rule: &Rule, call: &Call<'_>, view: &SystemView) -> Fit {
    let is = |own: &Option<Box<str>>, asked: &str| own.as_deref().is_none_or(|own| own == asked);
    if !is(&rule.service, call.service) {
        Fit::OtherService
    } else if !is(&rule.argument, call.argument) {
        Fit::OtherArgument
    } else if !matches_source(&rule.source, &call.source, view) {
        Fit::OtherSource
    } else if let Some(reason) = incomparable(&rule.target, call, view) {
        Fit::Incomparable(reason)
    } else if !matches_target(&rule.target, call, view) {
        Fit::OtherTarget
    } else {
        Fit::Matches
    }
}

fn is_qube(named: &QubeRef, index: QubeIndex, view: &SystemView) -> bool {
    view.find_ref(named) == Some(index)
}

fn is_of(index: QubeIndex, class: &str, view: &SystemView) -> bool {
    *view.get(index).class == *class
}

fn matches_source(token: &SourceToken, source: &Party<'_>, view: &SystemView) -> bool {
    match token {
        SourceToken::Wildcard => true,
        SourceToken::AnyVm => !source.is_dom0(),
        SourceToken::AdminVm => source.is_dom0(),
        SourceToken::Qube(qube) if qube.is_dom0() => source.is_dom0(),
        SourceToken::Qube(qube) => match source.index {
            Some(index) => is_qube(qube, index, view),
            None => qube.as_str() == source.word,
        },
        SourceToken::Type(class) => source.index.is_some_and(|index| is_of(index, class, view)),
        SourceToken::Tag(tag) => source
            .index
            .is_some_and(|index| view.get(index).has_tag(tag)),
        SourceToken::Disposable(_) => false,
    }
}

/// Whether a target matches that can be compared.
fn matches_target(token: &TargetToken, call: &Call<'_>, view: &SystemView) -> bool {
    let qube = match call.wanted {
        Wanted::Qube(_, index) => Some(index),
        _ => None,
    };
    match token {
        TargetToken::Wildcard => true,
        TargetToken::AnyVm => !call.wanted.is_dom0(),
        TargetToken::AdminVm => call.wanted.is_dom0(),
        TargetToken::Qube(named) if named.is_dom0() => call.wanted.is_dom0(),
        TargetToken::Default => call.wanted == Wanted::Default,
        TargetToken::Dispvm => call.wanted == Wanted::Dispvm,
        TargetToken::Qube(named) => qube.is_some_and(|index| is_qube(named, index, view)),
        TargetToken::Type(class) => qube.is_some_and(|index| is_of(index, class, view)),
        TargetToken::Tag(tag) => qube.is_some_and(|index| view.get(index).has_tag(tag)),
        TargetToken::DispvmOf(named) => match call.wanted {
            Wanted::DispvmOf(base) => is_qube(named, base, view),
            // The caller's own base counts by the word its entry has.
            Wanted::Dispvm => match call.source.own_base(view) {
                OwnBase::Is(word, _) => word == named.as_str(),
                OwnBase::None | OwnBase::Malformed => false,
            },
            _ => false,
        },
        TargetToken::DispvmTag(tag) => {
            let base = match call.wanted {
                Wanted::DispvmOf(base) => Some(base),
                Wanted::Dispvm => match call.source.own_base(view) {
                    OwnBase::Is(_, base) => base,
                    OwnBase::None | OwnBase::Malformed => None,
                },
                _ => None,
            };
            base.map(|base| view.get(base))
                .is_some_and(|base| base.template_for_dispvms && base.has_tag(tag))
        }
    }
}
