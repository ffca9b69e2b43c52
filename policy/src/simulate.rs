//! Which decisions differ between two policies, each on its machine.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::decision::Decision;
use crate::engine::Engine;
use crate::rule::{Origin, Rule};
use crate::space::{self, Service};
use crate::view::{QubeView, SystemView};

/// Most calls that one comparison decides twice: a few seconds, and a hundred qubes with a
/// thousand services stay below.
pub const CALLS_MAX: usize = 20_000_000;

/// A policy and the machine it is for.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The policy.
    pub engine: &'a Engine,
    /// The machine.
    pub view: &'a SystemView,
}

/// Why two policies were not compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimulateError {
    /// There is too much to compare.
    #[error("{0} calls would have to be decided, and at most {CALLS_MAX} are")]
    TooMany(usize),
}

/// Calls of which the decision differs in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The service, in words.
    pub service: String,
    /// Who calls.
    pub sources: Vec<String>,
    /// Who is asked for.
    pub targets: Vec<String>,
    /// What was decided.
    pub before: Verdict,
    /// What is decided.
    pub after: Verdict,
}

/// A decision in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verdict {
    /// The decision.
    pub decision: String,
    /// `allow`, `ask` or `deny`.
    pub word: &'static str,
    /// The rule that spoke: where it is, and what it says.
    pub rule: Option<(Origin, String)>,
}

/// All that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// In groups, by service.
    pub changes: Vec<Change>,
    /// How many calls were compared, with those that need no comparing.
    pub calls: usize,
    /// How many of them differ.
    pub differing: usize,
}

/// Compares two policies over all qubes, services and targets of both. With `only`, over the
/// arguments of one service.
pub fn compare(
    old: Side<'_>,
    new: Side<'_>,
    only: Option<&str>,
) -> Result<Comparison, SimulateError> {
    let mut services = space::services(&[old.engine.rules(), new.engine.rules()]);
    if let Some(only) = only {
        services.retain(|service| service.name == only);
    }
    let views = [old.view, new.view];
    let (callers, targets) = (space::callers(&views), space::targets(&views));
    let each = callers.len() * targets.len();
    let same_machine = same_machine(old.view, new.view);
    let all = services.len() * each;
    // What the same rules say about the same machine needs no deciding.
    services.retain(|service| !same_machine || !same_rules(service, old, new));
    if services.len() * each > CALLS_MAX {
        return Err(SimulateError::TooMany(services.len() * each));
    }
    let mut groups = Groups::default();
    for service in &services {
        for source in &callers {
            for target in &targets {
                let request = service.request(source, target);
                let before = old.engine.decide(&request, old.view);
                let after = new.engine.decide(&request, new.view);
                if !before.lets_the_same_happen(&after) {
                    let before = verdict(&before, target, old.engine);
                    let after = verdict(&after, target, new.engine);
                    groups.add(service, source, target, (before, after));
                }
            }
        }
    }
    Ok(Comparison {
        differing: groups.count,
        changes: groups.finish(),
        calls: all,
    })
}

fn same_machine(old: &SystemView, new: &SystemView) -> bool {
    let (old, new) = (old.qubes(), new.qubes());
    let nil = |qube: &QubeView| QubeView {
        uuid: uuid::Uuid::nil(),
        ..qube.clone()
    };
    old.len() == new.len() && old.iter().zip(new).all(|(a, b)| nil(a) == nil(b))
}

fn same_rules(service: &Service, old: Side<'_>, new: Side<'_>) -> bool {
    let of = |side: Side<'_>| {
        let rules = side.engine.rules().iter();
        let rules = rules.filter(|rule| service.is_named_by(rule));
        rules.map(Rule::to_string).collect::<Vec<_>>()
    };
    old.engine.errors().is_some() == new.engine.errors().is_some() && of(old) == of(new)
}

fn verdict(decision: &Decision, target: &str, engine: &Engine) -> Verdict {
    let rule = decision
        .number()
        .and_then(|number| engine.rules().get(number));
    let mut shown = decision.to_string();
    // Calls that go where they asked to belong together, wherever that is.
    if let Some(rest) = shown.strip_prefix(&format!("allow to {target}"))
        && (rest.is_empty() || rest.starts_with(' '))
    {
        shown = format!("allow{rest}");
    }
    Verdict {
        decision: shown,
        word: decision.word(),
        rule: rule.map(|rule| (rule.origin.clone(), rule.to_string())),
    }
}

/// Number and words of a service, and a difference.
type Kind = (usize, String, Verdict, Verdict);

/// Differing calls by service and kind of difference; within, the targets of each source.
#[derive(Default)]
struct Groups {
    by_kind: BTreeMap<Kind, BTreeMap<String, Vec<String>>>,
    services: Vec<String>,
    count: usize,
}

impl Groups {
    fn add(
        &mut self,
        service: &Service,
        source: &str,
        target: &str,
        (before, after): (Verdict, Verdict),
    ) {
        let shown = service.to_string();
        if self.services.last() != Some(&shown) {
            self.services.push(shown.clone());
        }
        let kind = (self.services.len(), shown, before, after);
        let of_kind = self.by_kind.entry(kind).or_default();
        of_kind
            .entry(source.to_owned())
            .or_default()
            .push(target.to_owned());
        self.count += 1;
    }

    /// Sources with the same targets become one change.
    fn finish(self) -> Vec<Change> {
        let mut changes = Vec::new();
        for ((_, service, before, after), by_source) in self.by_kind {
            let mut by_targets: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
            for (source, targets) in by_source {
                by_targets.entry(targets).or_default().push(source);
            }
            let mut of_kind: Vec<Change> = (by_targets.into_iter())
                .map(|(targets, sources)| Change {
                    service: service.clone(),
                    sources,
                    targets,
                    before: before.clone(),
                    after: after.clone(),
                })
                .collect();
            of_kind.sort_by(|a, b| a.sources.cmp(&b.sources));
            changes.extend(of_kind);
        }
        changes
    }
}

/// Names that a line shows before it only counts.
const NAMES_SHOWN: usize = 6;

fn names(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_SHOWN).map(String::as_str);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return writeln!(f, "No decision changes, over {} calls.", self.calls);
        }
        let mut service = None;
        for change in &self.changes {
            if service != Some(&change.service) {
                writeln!(f, "{}", change.service)?;
                service = Some(&change.service);
            }
            let mark = match change.after.word {
                "allow" => '+',
                "deny" => '-',
                _ => '~',
            };
            let (sources, targets) = (names(&change.sources), names(&change.targets));
            writeln!(f, "  {mark} {sources} -> {targets}")?;
            writeln!(f, "      was {}", Told(&change.before))?;
            writeln!(f, "      is  {}", Told(&change.after))?;
        }
        let (differing, calls) = (self.differing, self.calls);
        let verb = if differing == 1 { "changes" } else { "change" };
        let mut line = String::new();
        write!(line, "{differing} of {calls} decisions {verb}.")?;
        writeln!(f, "{line}")
    }
}

struct Told<'a>(&'a Verdict);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.decision)?;
        match &self.0.rule {
            Some((origin, rule)) => write!(f, "\n          by {origin}: {rule}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
