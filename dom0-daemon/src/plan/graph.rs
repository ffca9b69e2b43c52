//! Steps by what they do, ordered by what must come before.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bulkhead_model::name::QubeName;

use super::{Action, Effect, Inverse, Step, StepId};
use crate::machine::LiveProperty;

/// What a step is about. At most one step of each; the order is the order among independent steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key<'a> {
    Ensure(&'a QubeName),
    Volume(&'a QubeName, &'a str),
    Declare,
    Live(&'a QubeName, LiveProperty),
    Stop(&'a QubeName),
    Start(&'a QubeName),
    Retire(&'a QubeName, &'a str),
    Switch,
    Purge(&'a QubeName, &'a str),
}

/// A step without its number.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) action: Action,
    pub(super) reason: Cow<'static, str>,
    pub(super) inverse: Inverse,
    pub(super) effect: Effect,
    pub(super) destroys_data: bool,
    /// What must come before; what is not in the graph counts as done.
    pub(super) after: Vec<Key<'a>>,
}

/// Steps under construction.
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    nodes: BTreeMap<Key<'a>, Node<'a>>,
}

impl<'a> Graph<'a> {
    pub(super) fn insert(&mut self, key: Key<'a>, node: Node<'a>) {
        self.nodes.insert(key, node);
    }

    pub(super) fn contains(&self, key: &Key<'a>) -> bool {
        self.nodes.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key<'a>> {
        self.nodes.keys().copied()
    }

    pub(super) fn add_dependency(&mut self, key: &Key<'a>, after: Key<'a>) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.after.push(after);
        }
    }

    /// Numbers the steps so that each stands after everything it depends on. The second value is
    /// how many could not be placed because they wait for each other; always 0 for a graph that
    /// [`super::build`] makes, which a property test holds it to.
    pub(super) fn into_steps(self) -> (Vec<Step>, usize) {
        let afters = self.afters();
        let numbers = numbers(&afters);
        let mut steps: Vec<Step> = Vec::with_capacity(afters.len());
        let number = |place: &usize| numbers.get(*place).copied().flatten();
        for ((place, node), after) in self.nodes.into_values().enumerate().zip(&afters) {
            let Some(id) = number(&place) else {
                continue;
            };
            let mut after: Vec<StepId> = after.iter().filter_map(number).collect();
            after.sort_unstable();
            steps.push(Step {
                id,
                after,
                action: node.action,
                reason: node.reason,
                inverse: node.inverse,
                effect: node.effect,
                destroys_data: node.destroys_data,
            });
        }
        steps.sort_unstable_by_key(|step| step.id);
        let stuck = afters.len() - steps.len();
        (steps, stuck)
    }

    /// Which nodes each one waits for, all by their place in the order of keys.
    fn afters(&self) -> Vec<Vec<usize>> {
        let keys: Vec<&Key<'a>> = self.nodes.keys().collect();
        let places = |node: &Node<'a>| {
            let found = (node.after.iter()).filter_map(|key| keys.binary_search(&key).ok());
            let mut after: Vec<usize> = found.collect();
            after.sort_unstable();
            after.dedup();
            after
        };
        self.nodes.values().map(places).collect()
    }
}

/// The number of each step: the first in the order of keys of those that wait for none comes next.
fn numbers(afters: &[Vec<usize>]) -> Vec<Option<StepId>> {
    let mut waits: Vec<usize> = afters.iter().map(Vec::len).collect();
    let edges = (afters.iter().enumerate())
        .flat_map(|(place, after)| after.iter().map(move |before| (*before, place)));
    let mut unlocks: Vec<(usize, usize)> = edges.collect();
    unlocks.sort_unstable();
    let ready = waits.iter().enumerate().filter(|(_, n)| **n == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = ready.map(|(place, _)| Reverse(place)).collect();
    let mut numbers = vec![None; afters.len()];
    let mut next_id = 0_u32;
    while let Some(Reverse(place)) = ready.pop() {
        if let Some(number) = numbers.get_mut(place) {
            *number = Some(StepId(next_id));
            next_id += 1;
        }
        let first = unlocks.partition_point(|(before, _)| *before < place);
        let unlocked = unlocks.iter().skip(first);
        for (_, next) in unlocked.take_while(|(before, _)| *before == place) {
            if let Some(count) = waits.get_mut(*next) {
                *count -= 1;
                if *count == 0 {
                    ready.push(Reverse(*next));
                }
            }
        }
    }
    numbers
}
