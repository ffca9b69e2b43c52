//! What in a policy can hardly be meant: rules that never speak, names that nothing has, rules
//! wider than they look.
//!
//! A finding is never a guess about taste. A rule is called unreachable only if an earlier one
//! takes every call that it could take, on any machine that can be described, and prompts do not need
//! it either. Where several rules together take every call of this machine, that is a note: another
//! machine may have calls left.

mod cover;
mod names;
mod reach;

use std::collections::BTreeSet;
use std::fmt;

use bulkhead_model::qube::Description;

use crate::engine::Engine;
use crate::rule::{Origin, Rule};
use crate::view::SystemView;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LintSeverity {
    /// Worth knowing; may well be meant.
    Note,
    /// Can hardly be meant.
    Warning,
}

impl LintSeverity {
    /// `note` or `warning`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
        }
    }
}

/// What kind of finding it is; the name is stable, for tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LintKind {
    /// An earlier rule takes every call, or several do on this machine.
    Shadowed,
    /// No qube has this name.
    UnknownQube,
    /// No qube has this tag.
    UnknownTag,
    /// No qube is of this class.
    UnknownClass,
    /// A service that is known by nearly this name.
    UnknownService,
    /// A disposable of something that is no template for disposables.
    NotADisposableTemplate,
    /// An allow for everyone, or to everyone.
    AnyvmAllow,
    /// A `*` that lets calls reach dom0.
    WildcardDom0,
    /// No caller is ever what the source says.
    NeverCalls,
    /// The rule speaks and can never connect a call.
    NeverConnects,
    /// The choice that is to be preselected is never offered.
    NeverPreselected,
}

impl LintKind {
    /// The name that JSON has.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shadowed => "shadowed",
            Self::UnknownQube => "unknown-qube",
            Self::UnknownTag => "unknown-tag",
            Self::UnknownClass => "unknown-class",
            Self::UnknownService => "unknown-service",
            Self::NotADisposableTemplate => "not-a-disposable-template",
            Self::AnyvmAllow => "anyvm-allow",
            Self::WildcardDom0 => "wildcard-dom0",
            Self::NeverCalls => "never-calls",
            Self::NeverConnects => "never-connects",
            Self::NeverPreselected => "never-preselected",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: LintSeverity,
    /// What kind it is.
    pub kind: LintKind,
    /// Where the rule is.
    pub origin: Origin,
    /// The rule.
    pub rule: String,
    /// What is found, as one lower-case sentence.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = self.severity.word();
        writeln!(f, "{severity}: {}", self.message)?;
        writeln!(f, "  --> {}: {}", self.origin, self.rule)?;
        writeln!(f, "  = help: {}", self.remedy)
    }
}

/// Where findings are put.
struct Findings<'a> {
    list: Vec<Finding>,
    rule: &'a Rule,
}

impl Findings<'_> {
    fn add(
        &mut self,
        severity: LintSeverity,
        kind: LintKind,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.list.push(Finding {
            severity,
            kind,
            origin: self.rule.origin.clone(),
            rule: self.rule.to_string(),
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    fn warn(&mut self, kind: LintKind, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(LintSeverity::Warning, kind, message, remedy);
    }

    fn note(&mut self, kind: LintKind, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(LintSeverity::Note, kind, message, remedy);
    }
}

/// Everything found in the policy of a description, rule by rule.
pub fn lint(engine: &Engine, description: &Description, view: &SystemView) -> Vec<Finding> {
    let names = names::Names::new(description, view);
    let covers = cover::Covers::new(engine.rules());
    let trial = reach::Trial::new(engine, view);
    let mut all: Vec<Finding> = Vec::new();
    let mut services = BTreeSet::new();
    for (number, rule) in engine.rules().iter().enumerate() {
        let mut findings = Findings {
            list: Vec::new(),
            rule,
        };
        names.check(rule, &mut findings);
        reach::check(rule, &mut findings);
        match covers.earlier(number) {
            Some(earlier) => shadowed(earlier, rule, &mut findings),
            // What never speaks need not be judged by what it says.
            None => {
                let prompts_need_it = covers.may_be_asked(rule);
                reach::outcomes(&trial, number, rule, prompts_need_it, &mut findings);
            }
        }
        // Of a service that is somebody's own it is enough to hear once.
        let is_new = |finding: &Finding| {
            (finding.severity, finding.kind) != (LintSeverity::Note, LintKind::UnknownService)
                || services.insert(finding.message.clone())
        };
        all.extend(findings.list.into_iter().filter(is_new));
    }
    all
}

fn shadowed(earlier: &Rule, rule: &Rule, findings: &mut Findings<'_>) {
    let remedy = if std::mem::discriminant(&earlier.action) == std::mem::discriminant(&rule.action)
    {
        "remove it, or make the earlier rule narrower"
    } else {
        "put it before that rule if it is to be an exception, or remove it"
    };
    let message = format!(
        "rule is never reached: {} takes every call: {earlier}",
        earlier.origin
    );
    findings.warn(LintKind::Shadowed, message, remedy);
}

#[cfg(test)]
mod tests;
