//! Which rules take every call of a later one.

use crate::rule::{Action, Rule};
use crate::token::{SourceToken, TargetToken};

/// Class of dom0, which `@anyvm` leaves out.
const ADMIN_CLASS: &str = "AdminVM";

/// The rules of a policy.
#[derive(Debug)]
pub(super) struct Covers<'a> {
    rules: &'a [Rule],
    /// Numbers of the rules for each service, with those for any, in order.
    by_service: std::collections::HashMap<Option<&'a str>, Vec<usize>>,
}

impl<'a> Covers<'a> {
    pub(super) fn new(rules: &'a [Rule]) -> Self {
        let mut by_service: std::collections::HashMap<_, Vec<usize>> = Default::default();
        for (number, rule) in rules.iter().enumerate() {
            by_service
                .entry(rule.service.as_deref())
                .or_default()
                .push(number);
        }
        Self { rules, by_service }
    }

    /// A rule before `number` that takes all of its calls, if prompts do not need it either.
    pub(super) fn earlier(&self, number: usize) -> Option<&'a Rule> {
        let rule = self.rules.get(number)?;
        let own = self.by_service.get(&rule.service.as_deref());
        let any = self
            .by_service
            .get(&None)
            .filter(|_| rule.service.is_some());
        let candidates = own.into_iter().chain(any).flatten();
        let mut found: Vec<usize> = candidates.copied().filter(|at| *at < number).collect();
        found.sort_unstable();
        let earlier = found.into_iter().filter_map(|at| self.rules.get(at));
        let mut covering = earlier
            .filter(|earlier| takes_all(earlier, rule))
            .peekable();
        covering.peek()?;
        if self.may_be_asked(rule) {
            covering.find(|earlier| names_all(earlier, rule))
        } else {
            covering.next()
        }
    }

    /// Whether a rule that asks could look at `rule` for choices.
    pub(super) fn may_be_asked(&self, rule: &Rule) -> bool {
        let overlap = |one: &Option<Box<str>>, other: &Option<Box<str>>| {
            one.is_none() || other.is_none() || one == other
        };
        self.rules.iter().any(|asking| {
            matches!(asking.action, Action::Ask { target: None, .. })
                && overlap(&asking.service, &rule.service)
                && overlap(&asking.argument, &rule.argument)
        })
    }
}

/// Whether every call that `later` matches is matched by `earlier`.
fn takes_all(earlier: &Rule, later: &Rule) -> bool {
    let wider =
        |wide: &Option<Box<str>>, narrow: &Option<Box<str>>| wide.is_none() || wide == narrow;
    wider(&earlier.service, &later.service)
        && wider(&earlier.argument, &later.argument)
        && source_takes(&earlier.source, &later.source)
        && target_takes(&earlier.target, &later.target)
}

fn source_takes(wide: &SourceToken, narrow: &SourceToken) -> bool {
    use SourceToken as S;
    match (wide, narrow) {
        // Such a rule has no calls at all, which is another finding.
        (_, S::Disposable(_)) | (S::Disposable(_), _) => false,
        (S::Wildcard, _) => true,
        (S::AnyVm, S::AnyVm | S::Tag(_)) => true,
        (S::AnyVm, S::Qube(qube)) => !qube.is_dom0(),
        (S::AnyVm, S::Type(class)) => **class != *ADMIN_CLASS,
        (S::AdminVm, S::Qube(qube)) | (S::Qube(qube), S::AdminVm) => qube.is_dom0(),
        (S::Qube(one), S::Qube(other)) => one == other || (one.is_dom0() && other.is_dom0()),
        (wide, narrow) => wide == narrow,
    }
}

fn target_takes(wide: &TargetToken, narrow: &TargetToken) -> bool {
    use TargetToken as T;
    match (wide, narrow) {
        (T::Wildcard, _) => true,
        (T::AnyVm, T::Wildcard | T::AdminVm) => false,
        (T::AnyVm, T::Qube(qube)) => !qube.is_dom0(),
        (T::AnyVm, T::Type(class)) => **class != *ADMIN_CLASS,
        (T::AnyVm, _) => true,
        (T::AdminVm, T::Qube(qube)) | (T::Qube(qube), T::AdminVm) => qube.is_dom0(),
        (T::Qube(one), T::Qube(other)) => one == other || (one.is_dom0() && other.is_dom0()),
        (wide, narrow) => wide == narrow,
    }
}

/// Whether every choice that `later` names is named by `earlier`, so that `later` is not heard.
fn names_all(earlier: &Rule, later: &Rule) -> bool {
    if earlier.action.redirect().is_some() || later.action.redirect().is_some() {
        return earlier.action.redirect() == later.action.redirect();
    }
    match (&earlier.target, &later.target) {
        // `@adminvm` is a choice of its own, which only its own word names.
        (wide, TargetToken::AdminVm) => *wide == TargetToken::AdminVm,
        (TargetToken::AdminVm, narrow) => *narrow == TargetToken::AdminVm,
        // A base that does not exist ends a prompt, so it matters that it is named.
        (wide, TargetToken::DispvmOf(_)) => *wide == later.target,
        (wide, narrow) => target_takes(wide, narrow),
    }
}
