//! Assertions: rules over the description that must hold before anything is planned.

mod evaluate;

use crate::decode::Located;
use crate::diagnostic::{Problem, Problems};
use crate::load::SourceUnit;
use crate::resolve::{Resolved, ResolvedQube};
use crate::written::Assertion;

use evaluate::{Mismatch, View, mismatch};

pub(crate) fn check(units: &[SourceUnit], resolved: &Resolved, problems: &mut Problems) {
    let assertions = units
        .iter()
        .filter_map(|unit| unit.options.assertions.as_ref());
    for assertion in assertions.flat_map(|assertions| &assertions.value) {
        check_one(assertion, resolved, problems);
    }
}

fn check_one(assertion: &Located<Assertion>, resolved: &Resolved, problems: &mut Problems) {
    let rule = &assertion.value;
    if rule.incomplete {
        return;
    }
    let Some(name) = &rule.name else {
        let problem = Problem::error(assertion.at, "this assertion has no name");
        return problems.push(problem.help("add `name`: what must hold, in words"));
    };
    let Some(must) = &rule.must else {
        let problem = Problem::error(
            assertion.at,
            format!("assertion `{}` says nothing", name.value),
        );
        return problems.push(problem.help("add `must`, for example `must: (netvm: None)`"));
    };
    let mut about = 0_usize;
    for qube in resolved.qubes.values().filter(|qube| !qube.incomplete) {
        let view = View { qube, resolved };
        let selected = rule
            .r#where
            .as_ref()
            .is_none_or(|condition| mismatch(&condition.value, &view).is_none());
        about += usize::from(selected);
        if selected && let Some(found) = mismatch(&must.value, &view) {
            problems.push(failed(&name.value, must, qube, found));
        }
    }
    // One that could not be resolved may well be meant.
    let all_known = resolved.complete && resolved.qubes.values().all(|qube| !qube.incomplete);
    if about == 0 && all_known {
        let message = format!("assertion `{}` is about no qube", name.value);
        let at = rule
            .r#where
            .as_ref()
            .map_or(name.at, |condition| condition.at);
        problems.push(Problem::warning(at, message));
    }
}

fn failed(
    name: &str,
    must: &Located<crate::written::Condition>,
    qube: &ResolvedQube,
    found: Mismatch,
) -> Problem {
    let of = &qube.qube.name;
    let message = format!(
        "qube `{of}` breaks the assertion `{name}`: {}",
        found.message
    );
    let at = found
        .property
        .map_or(qube.places.name(), |property| qube.places.of(property));
    let problem = match found.property {
        Some(property) => qube.places.error(of, property, message).of_each(),
        None => Problem::error(at, message),
    };
    problem.related(found.rule.unwrap_or(must.at), "required here")
}

#[cfg(test)]
mod tests;
