//! Every call that policy can tell apart on a machine: all qubes, the services that rules name and
//! one that they do not, all targets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::request::Request;
use crate::rule::Rule;
use crate::view::SystemView;

/// A service and an argument, standing for all that rules treat alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// With its `+`.
    pub(crate) argument: String,
    shown: String,
}

/// As people read it: `qubes.OpenURL`, `qubes.OpenURL+mail`, `any other service`.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What is called where any service will do.
const UNNAMED: &str = "unnamed.Service";

/// A word that begins with `start` and is none of `taken`.
fn fresh(start: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut word = start.to_owned();
    while taken(&word) {
        word.push('x');
    }
    word
}

/// The services that rules of any of `policies` name, with each argument that they name and one
/// that they do not, and last a service that is named nowhere.
pub(crate) fn services(policies: &[&[Rule]]) -> Vec<Service> {
    let mut named: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for rule in policies.iter().copied().flatten() {
        if let Some(service) = &rule.service {
            let arguments = named.entry(service).or_default();
            arguments.extend(rule.argument.as_deref());
        }
    }
    let mut services = Vec::new();
    for (name, arguments) in &named {
        let other = match arguments.contains("+") {
            false => "+".to_owned(),
            true => fresh("+other", |word| arguments.contains(word)),
        };
        services.push(Service {
            name: (*name).to_owned(),
            argument: other,
            shown: match arguments.is_empty() {
                true => (*name).to_owned(),
                false => format!("{name} with any other argument"),
            },
        });
        services.extend(arguments.iter().map(|argument| Service {
            name: (*name).to_owned(),
            argument: (*argument).to_owned(),
            shown: match *argument {
                "+" => format!("{name} without argument"),
                argument => format!("{name}{argument}"),
            },
        }));
    }
    services.push(Service {
        name: fresh(UNNAMED, |word| named.contains_key(word)),
        argument: "+".to_owned(),
        shown: "any other service".to_owned(),
    });
    services
}

/// What can be asked for on any of `views`: qubes, dom0, nothing, disposables.
pub(crate) fn targets(views: &[&SystemView]) -> Vec<String> {
    let mut found: BTreeSet<String> = ["@default", "@dispvm"].map(str::to_owned).into();
    for qube in views.iter().flat_map(|view| view.qubes()) {
        found.insert(qube.name.to_string());
        if qube.template_for_dispvms {
            found.insert(format!("@dispvm:{}", qube.name));
        }
    }
    found.into_iter().collect()
}

/// Who can call on any of `views`: everyone but dom0, which no policy limits.
pub(crate) fn callers(views: &[&SystemView]) -> Vec<String> {
    let names = views.iter().flat_map(|view| view.qubes());
    let names: BTreeSet<String> = names
        .map(|qube| qube.name.to_string())
        .filter(|name| name != crate::token::DOM0)
        .collect();
    names.into_iter().collect()
}

impl Service {
    pub(crate) fn request<'a>(&'a self, source: &'a str, target: &'a str) -> Request<'a> {
        Request {
            service: &self.name,
            argument: &self.argument,
            source,
            target,
            requested_source: "",
        }
    }

    /// Whether a rule speaks of this service and argument.
    pub(crate) fn is_named_by(&self, rule: &Rule) -> bool {
        let is =
            |own: &Option<Box<str>>, asked: &str| own.as_deref().is_none_or(|own| own == asked);
        is(&rule.service, &self.name) && is(&rule.argument, &self.argument)
    }
}
