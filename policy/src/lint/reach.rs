//! Rules that are wider than they look, and rules that can never connect a call.

use std::collections::BTreeSet;

use super::{Findings, LintKind};
use crate::decision::{Decision, DenyReason};
use crate::engine::Engine;
use crate::explain::takes;
use crate::request::Request;
use crate::rule::{Action, Rule};
use crate::space::{self, Service};
use crate::token::{RedirectToken, SourceToken, TargetToken};
use crate::view::SystemView;

/// Callers that one rule is tried with: enough to meet each kind of qube.
const CALLERS_MAX: usize = 64;

/// Rules that a finding names, so that it stays a line.
const OVERTAKERS_SHOWN_MAX: usize = 4;

/// What can be said of a rule by itself.
pub(super) fn check(rule: &Rule, findings: &mut Findings<'_>) {
    if let SourceToken::Disposable(word) = &rule.source {
        let message = format!("no caller is ever `{word}`");
        let remedy = "name disposables by tag, as `@tag:NAME`, or by class, as `@type:DispVM`";
        findings.warn(LintKind::NeverCalls, message, remedy);
    }
    let verb = match &rule.action {
        Action::Deny { .. } => return,
        Action::Allow { .. } => "allows",
        Action::Ask { .. } => "asks about",
    };
    let redirected = rule.action.redirect().is_some();
    if rule.target == TargetToken::Wildcard && !redirected {
        let message = format!("rule {verb} calls to dom0: target `*` includes it");
        let remedy = "write `@anyvm` for every qube but dom0";
        findings.warn(LintKind::WildcardDom0, message, remedy);
    } else if rule.service.is_none() && reaches_dom0(rule) {
        let message = format!("rule {verb} every service of dom0");
        let remedy = "name the services that dom0 is to offer";
        findings.warn(LintKind::WildcardDom0, message, remedy);
    }
    if let Action::Allow { .. } = rule.action {
        anyvm_allow(rule, redirected, findings);
    }
}

fn reaches_dom0(rule: &Rule) -> bool {
    match (rule.action.redirect(), &rule.target) {
        (Some(RedirectToken::AdminVm), _) | (None, TargetToken::AdminVm) => true,
        (Some(RedirectToken::Qube(qube)), _) | (None, TargetToken::Qube(qube)) => qube.is_dom0(),
        _ => false,
    }
}

fn anyvm_allow(rule: &Rule, redirected: bool, findings: &mut Findings<'_>) {
    let from_all = matches!(rule.source, SourceToken::AnyVm | SourceToken::Wildcard);
    let to_all = matches!(rule.target, TargetToken::AnyVm | TargetToken::Wildcard) && !redirected;
    match (from_all, to_all) {
        (true, true) => findings.warn(
            LintKind::AnyvmAllow,
            "every qube may call every other, and nobody is asked",
            "name sources or targets, or let it `ask`",
        ),
        (false, true) => findings.warn(
            LintKind::AnyvmAllow,
            format!("`{}` may call every qube, and nobody is asked", rule.source),
            "name the targets, or let it `ask`",
        ),
        (true, false) => findings.note(
            LintKind::AnyvmAllow,
            "every qube may make this call, and nobody is asked",
            "nothing, if the service may hear from any qube; otherwise name the sources",
        ),
        (false, false) => {}
    }
}

/// What rules are tried with.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    engine: &'a Engine,
    view: &'a SystemView,
    services: Vec<Service>,
    callers: Vec<String>,
    targets: Vec<String>,
}

impl<'a> Trial<'a> {
    pub(super) fn new(engine: &'a Engine, view: &'a SystemView) -> Self {
        Self {
            services: space::services(&[engine.rules()]),
            callers: space::callers(&[view]),
            targets: space::targets(&[view]),
            engine,
            view,
        }
    }
}

/// What becomes of the calls that a rule is for on this machine, tried with some of them.
pub(super) fn outcomes(
    trial: &Trial<'_>,
    number: usize,
    rule: &Rule,
    prompts_need_it: bool,
    findings: &mut Findings<'_>,
) {
    if let Action::Ask {
        target: Some(RedirectToken::Dispvm),
        ..
    } = &rule.action
    {
        let message = "what the prompt offers can never be chosen: `@dispvm` has no base there";
        let remedy = "write `target=@dispvm:BASE`";
        return findings.warn(LintKind::NeverConnects, message, remedy);
    }
    if never_runs(rule) {
        let message = "rule never connects: a new disposable does not run, and `autostart=no`";
        return findings.warn(LintKind::NeverConnects, message, "remove `autostart=no`");
    }
    let Some(seen) = Seen::of(trial, number, rule) else {
        return;
    };
    if !seen.speaks && !seen.overtaken_by.is_empty() {
        if !prompts_need_it {
            overtaken(trial, &seen.overtaken_by, findings);
        }
        return;
    }
    if matches!(rule.action, Action::Deny { .. }) {
        return;
    }
    if let (false, Some(reason)) = (seen.connects, seen.denied) {
        let message = format!("rule matches calls and denies each: {reason}");
        findings.warn(LintKind::NeverConnects, message, remedy_of(reason));
    }
    if let (
        true,
        false,
        Action::Ask {
            default_target: Some(token),
            ..
        },
    ) = (seen.asks, seen.preselects, &rule.action)
    {
        let message = format!("`{token}` is never among the choices, so nothing is preselected");
        let remedy = "add a rule that asks about it or allows it, or change `default_target=`";
        findings.warn(LintKind::NeverPreselected, message, remedy);
    }
}

/// Earlier rules leave no call of this machine to the rule; another machine may have some.
fn overtaken(trial: &Trial<'_>, by: &BTreeSet<usize>, findings: &mut Findings<'_>) {
    let rules = by.iter().filter_map(|at| trial.engine.rules().get(*at));
    let mut places: Vec<String> = rules.map(|rule| rule.origin.to_string()).collect();
    let others = places.len().saturating_sub(OVERTAKERS_SHOWN_MAX);
    places.truncate(OVERTAKERS_SHOWN_MAX);
    let mut places = places.join(", ");
    if others > 0 {
        places.push_str(&format!(" and {others} more"));
    }
    let take = if by.len() == 1 { "takes" } else { "take" };
    let message = format!("rule is never reached on this machine: {places} {take} every call");
    let remedy = "put it before them if it is to be an exception, or remove it";
    findings.note(LintKind::Shadowed, message, remedy);
}

fn never_runs(rule: &Rule) -> bool {
    use RedirectToken as R;
    use TargetToken as T;
    let autostart = match rule.action {
        Action::Allow { autostart, .. } => autostart,
        _ => return false,
    };
    let disposable = match (rule.action.redirect(), &rule.target) {
        (Some(redirect), _) => matches!(redirect, R::Dispvm | R::DispvmOf(_)),
        (None, target) => matches!(target, T::Dispvm | T::DispvmOf(_) | T::DispvmTag(_)),
    };
    !autostart && disposable
}

fn remedy_of(reason: DenyReason) -> &'static str {
    match reason {
        DenyReason::Loopback => "name another target: no qube calls itself",
        DenyReason::NoDisposableBase => "give the callers a `default_dispvm`",
        DenyReason::NoDestination | DenyReason::ChoiceUnknown => "name a qube that exists",
        DenyReason::NoChoice => "add a rule that asks about or allows a target for these callers",
        _ => "name a target that these callers can have",
    }
}

/// What the calls that were tried came to.
#[derive(Default)]
struct Seen {
    /// The rule decides a call, other than one of a qube to itself.
    speaks: bool,
    /// Rules that decide calls which this one matches too.
    overtaken_by: BTreeSet<usize>,
    connects: bool,
    asks: bool,
    preselects: bool,
    denied: Option<DenyReason>,
}

impl Seen {
    /// None if there were more calls than are tried: then nothing is known.
    fn of(trial: &Trial<'_>, number: usize, rule: &Rule) -> Option<Self> {
        // What no other rule names leaves most calls to this one.
        let unnamed = match rule.service.as_deref() {
            None => trial.services.last(),
            Some(name) => trial.services.iter().find(|service| service.name == name),
        }?;
        let service = rule.service.as_deref().unwrap_or(&unnamed.name);
        let argument = rule.argument.as_deref().unwrap_or(&unnamed.argument);
        let Trial {
            engine,
            view,
            callers,
            targets,
            ..
        } = trial;
        let fitting: Vec<&String> = (callers.iter())
            .filter(|caller| may_call(rule, caller, view))
            .collect();
        if fitting.len() > CALLERS_MAX {
            return None;
        }
        let mut seen = Self::default();
        for source in fitting {
            for target in targets {
                let request = Request {
                    service,
                    argument,
                    source,
                    target,
                    requested_source: "",
                };
                let decision = engine.decide(&request, view);
                match decision.number() {
                    Some(by) if by == number => {
                        seen.speaks |= source != target;
                        seen.note(&decision);
                    }
                    Some(by) if by < number && !seen.speaks && takes(rule, &request, view) => {
                        seen.overtaken_by.insert(by);
                    }
                    _ => {}
                }
            }
        }
        Some(seen)
    }

    fn note(&mut self, decision: &Decision) {
        match decision {
            Decision::Allow(_) => self.connects = true,
            Decision::Ask(ask) => {
                self.connects = true;
                self.asks = true;
                self.preselects |= ask.default_target.is_some();
            }
            Decision::Deny(deny) => self.denied = Some(deny.reason),
        }
    }
}

/// Whether a caller fits the source of a rule.
fn may_call(rule: &Rule, caller: &str, view: &SystemView) -> bool {
    let Some(index) = view.find(caller) else {
        return false;
    };
    let qube = view.get(index);
    match &rule.source {
        SourceToken::Wildcard | SourceToken::AnyVm => true,
        SourceToken::AdminVm | SourceToken::Disposable(_) => false,
        SourceToken::Qube(named) => view.find_ref(named) == Some(index),
        SourceToken::Type(class) => *qube.class == **class,
        SourceToken::Tag(tag) => qube.has_tag(tag),
    }
}
