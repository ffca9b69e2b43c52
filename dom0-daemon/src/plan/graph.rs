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
        let index: BTreeMap<Key<'a>, usize> = self
            .nodes
            .keys()
            .enumerate()
            .map(|(i, key)| (*key, i))
            .collect();
        let mut waits: Vec<usize> = Vec::with_capacity(self.nodes.len());
        let mut unlocks: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        let mut nodes: Vec<Option<(Node<'a>, Vec<usize>)>> = Vec::with_capacity(self.nodes.len());
        for (place, (_, node)) in self.nodes.into_iter().enumerate() {
            let mut after: Vec<usize> = node
                .after
                .iter()
                .filter_map(|key| index.get(key).copied())
                .collect();
            after.sort_unstable();
            after.dedup();
            for before in &after {
                if let Some(list) = unlocks.get_mut(*before) {
                    list.push(place);
                }
            }
            waits.push(after.len());
            nodes.push(Some((node, after)));
        }
        let ready = waits.iter().enumerate().filter(|(_, n)| **n == 0);
        let mut ready: BinaryHeap<Reverse<usize>> = ready.map(|(i, _)| Reverse(i)).collect();
        let mut numbers: Vec<Option<StepId>> = vec![None; nodes.len()];
        let mut steps: Vec<Step> = Vec::with_capacity(nodes.len());
        while let Some(Reverse(place)) = ready.pop() {
            let Some((node, after)) = nodes.get_mut(place).and_then(Option::take) else {
                continue;
            };
            let id = StepId(u32::try_from(steps.len()).unwrap_or(u32::MAX));
            let mut after: Vec<StepId> = after
                .iter()
                .filter_map(|i| numbers.get(*i).copied().flatten())
                .collect();
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
            if let Some(number) = numbers.get_mut(place) {
                *number = Some(id);
            }
            for next in unlocks.get(place).into_iter().flatten() {
                if let Some(count) = waits.get_mut(*next) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(Reverse(*next));
                    }
                }
            }
        }
        let stuck = nodes.iter().flatten().count();
        (steps, stuck)
    }
}
