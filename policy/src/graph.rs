//! Who may call whom: what policy allows and asks about on a described machine, as a graph.

mod dot;
mod svg;

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_model::qube::Description;

use crate::decision::{Decision, Destination};
use crate::engine::Engine;
use crate::space;
use crate::view::SystemView;

/// Most edges that are drawn: nobody can read more, and no viewer is slowed down by these.
pub const EDGES_MAX: usize = 2_000;

/// Most calls that are decided for one graph; see [`crate::CALLS_MAX`].
const CALLS_MAX: usize = crate::simulate::CALLS_MAX;

/// Why there is no graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// It would have too many edges.
    #[error("the graph has more than {EDGES_MAX} edges")]
    TooManyEdges,
    /// There is too much to decide.
    #[error("{0} calls would have to be decided, and at most {CALLS_MAX} are")]
    TooManyCalls(usize),
}

/// A place that calls or is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A qube.
    Qube(String),
    /// A new disposable of a base.
    Disposable(String),
    /// dom0.
    Dom0,
    /// What an ask rule offers and nothing on the machine is.
    Nothing(String),
}

impl Node {
    fn of(destination: &Destination) -> Self {
        match destination {
            Destination::Dom0 => Self::Dom0,
            Destination::Qube { name, .. } => Self::Qube(name.to_string()),
            Destination::NewDisposable { base, .. } => Self::Disposable(base.to_string()),
            Destination::Nothing { text } => Self::Nothing(text.to_string()),
        }
    }

    /// The name of the qube whose label it has.
    fn labelled(&self) -> Option<&str> {
        match self {
            Self::Qube(name) | Self::Disposable(name) => Some(name),
            Self::Dom0 | Self::Nothing(_) => None,
        }
    }

    /// What is written on it.
    fn shown(&self) -> String {
        match self {
            Self::Qube(name) | Self::Nothing(name) => name.clone(),
            Self::Disposable(base) => format!("new {base}"),
            Self::Dom0 => "dom0".to_owned(),
        }
    }
}

/// How a call comes to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Unasked.
    Allow,
    /// If the person agrees.
    Ask,
}

/// Calls from one place to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Who calls.
    pub from: Node,
    /// Who is called.
    pub to: Node,
    /// How.
    pub how: How,
    /// The services, in words.
    pub services: Vec<String>,
}

/// Who may call whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// The calls, sorted by caller.
    pub edges: Vec<Edge>,
    /// The one service that it is about; none for all.
    pub service: Option<String>,
    /// Qubes that take part in no call.
    pub alone: Vec<String>,
    /// Colour of the label of each qube, `#rrggbb`.
    colours: BTreeMap<String, String>,
}

type Found = BTreeMap<(Node, Node, How), BTreeSet<String>>;

impl Graph {
    /// What `engine` allows and asks about on the machine of `view`. With `only`, for one service.
    pub fn new(
        engine: &Engine,
        description: &Description,
        view: &SystemView,
        only: Option<&str>,
    ) -> Result<Self, GraphError> {
        let found = find(engine, view, only)?;
        if found.len() > EDGES_MAX {
            return Err(GraphError::TooManyEdges);
        }
        let taking_part: BTreeSet<&str> = (found.keys())
            .flat_map(|(from, to, _)| [from, to])
            .filter_map(Node::labelled)
            .collect();
        let all = description.qubes.keys().map(|name| name.as_str());
        let alone = all.filter(|name| !taking_part.contains(name));
        let alone = alone.map(str::to_owned).collect();
        let colours = (description.qubes.values())
            .map(|qube| (qube.name.to_string(), colour(description, &qube.label)))
            .collect();
        let edges = (found.into_iter())
            .map(|((from, to, how), services)| Edge {
                from,
                to,
                how,
                services: services.into_iter().collect(),
            })
            .collect();
        Ok(Self {
            edges,
            service: only.map(str::to_owned),
            alone,
            colours,
        })
    }

    fn colour(&self, node: &Node) -> &str {
        let colour = node.labelled().and_then(|name| self.colours.get(name));
        colour.map_or("#555753", String::as_str)
    }
}

/// `0xRRGGBB` of a label as `#rrggbb`.
fn colour(description: &Description, label: &str) -> String {
    let colour = description.labels.get(label).map(|label| &*label.color);
    let digits = colour.and_then(|colour| colour.strip_prefix("0x"));
    let fits = |digits: &&str| digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    format!("#{}", digits.filter(fits).unwrap_or("555753"))
}

fn find(engine: &Engine, view: &SystemView, only: Option<&str>) -> Result<Found, GraphError> {
    let mut services = space::services(&[engine.rules()]);
    if let Some(only) = only {
        // One that no rule names is treated as any other.
        match services.iter().any(|service| service.name == only) {
            true => services.retain(|service| service.name == only),
            false => services.retain(|service| {
                !engine
                    .rules()
                    .iter()
                    .any(|rule| rule.service.as_deref() == Some(&service.name))
            }),
        }
    }
    let (callers, targets) = (space::callers(&[view]), space::targets(&[view]));
    let calls = services.len() * callers.len() * targets.len();
    if calls > CALLS_MAX {
        return Err(GraphError::TooManyCalls(calls));
    }
    let mut found = Found::new();
    for service in &services {
        for source in &callers {
            let from = Node::Qube(source.clone());
            let mut add = |to, how| {
                let services = found.entry((from.clone(), to, how)).or_default();
                services.insert(service.to_string());
            };
            // What a prompt offers does not depend on the target, but for the rule.
            let mut asked = BTreeSet::new();
            for target in &targets {
                match engine.decide(&service.request(source, target), view) {
                    Decision::Allow(allow) => {
                        let relayed = allow.relayed_service.is_some();
                        let to = match relayed {
                            true => Node::Qube(allow.named),
                            false => Node::of(&allow.target),
                        };
                        add(to, How::Allow);
                    }
                    Decision::Ask(ask) if asked.insert(ask.number) => {
                        for target in &*ask.targets {
                            add(Node::of(target), How::Ask);
                        }
                    }
                    Decision::Ask(_) | Decision::Deny(_) => {}
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
