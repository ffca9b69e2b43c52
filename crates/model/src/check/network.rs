//! Network that comes from itself.

use std::collections::HashMap;

use crate::diagnostic::Problems;
use crate::name::QubeName;
use crate::property::QubeProperty;
use crate::resolve::Resolved;

/// How many qubes of a cycle are pointed at; the message names them all the same.
const RELATED_MAX: usize = 6;

pub(super) fn check(resolved: &Resolved, problems: &mut Problems) {
    // Which walk saw a qube: each has one netvm, so each is walked over once.
    let mut seen: HashMap<&QubeName, usize> = HashMap::with_capacity(resolved.qubes.len());
    for (walk, start) in resolved.qubes.keys().enumerate() {
        let mut path = Vec::new();
        let mut at = Some(start);
        while let Some(name) = at {
            match seen.get(name) {
                None => {
                    seen.insert(name, walk);
                    path.push(name);
                }
                Some(earlier) => {
                    if *earlier == walk {
                        let from = path.iter().position(|other| *other == name);
                        report(path.split_off(from.unwrap_or(0)), resolved, problems);
                    }
                    break;
                }
            }
            at = resolved
                .qubes
                .get(name)
                .and_then(|qube| qube.qube.netvm.as_ref());
        }
    }
}

fn report(cycle: Vec<&QubeName>, resolved: &Resolved, problems: &mut Problems) {
    let mut qubes: Vec<_> = cycle
        .iter()
        .filter_map(|name| resolved.qubes.get(*name))
        .collect();
    // Starts at the place that comes first, whatever the names are.
    let first = |qube: &&crate::resolve::ResolvedQube| qube.places.of(QubeProperty::Netvm);
    let start = (0..qubes.len()).min_by_key(|index| qubes.get(*index).map(first));
    qubes.rotate_left(start.unwrap_or(0));
    let Some((head, rest)) = qubes.split_first() else {
        return;
    };
    let name = &head.qube.name;
    let message = match rest {
        [] => format!("`{name}` is its own netvm"),
        _ => {
            let mut names: Vec<_> = qubes.iter().map(|qube| qube.qube.name.as_str()).collect();
            names.push(name.as_str());
            format!(
                "the network of `{name}` comes from itself: {}",
                names.join(" -> ")
            )
        }
    };
    let mut problem = head.places.error(name, QubeProperty::Netvm, message);
    for next in rest.iter().take(RELATED_MAX) {
        let name = &next.qube.name;
        problem = problem.related(
            next.places.of(QubeProperty::Netvm),
            format!("netvm of `{name}`"),
        );
    }
    problems.push(problem.help(
        "one of them has no netvm: the qube that holds the network device says `netvm: None`",
    ));
}
