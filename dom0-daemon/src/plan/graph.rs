//! Steps by what they do, ordered by what must come before.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

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
    /// Where each is in the lists below.
    places: HashMap<Key<'a>, usize>,
    keys: Vec<Key<'a>>,
    /// What each waits for.
    after: Vec<Vec<Key<'a>>>,
    /// Without their numbers, and without what they wait for.
    steps: Vec<Step>,
}

impl<'a> Graph<'a> {
    /// Adds a step that is not there yet.
    pub(super) fn insert(&mut self, key: Key<'a>, node: Node<'a>) {
        let known = self.places.insert(key, self.steps.len());
        debug_assert!(known.is_none(), "two steps are about {key:?}");
        self.keys.push(key);
        self.after.push(node.after);
        self.steps.push(Step {
            id: StepId(u32::MAX),
            after: Vec::new(),
            action: node.action,
            reason: node.reason,
            inverse: node.inverse,
            effect: node.effect,
            destroys_data: node.destroys_data,
        });
    }

    pub(super) fn contains(&self, key: &Key<'a>) -> bool {
        self.places.contains_key(key)
    }

    /// What there are steps about, in the order in which they came.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key<'a>> {
        self.keys.iter().copied()
    }

    pub(super) fn add_dependency(&mut self, key: &Key<'a>, after: Key<'a>) {
        let place = self.places.get(key);
        if let Some(list) = place.and_then(|place| self.after.get_mut(*place)) {
            list.push(after);
        }
    }

    /// Numbers the steps so that each stands after everything it depends on. The second value is
    /// how many could not be placed because they wait for each other; always 0 for a graph that
    /// [`super::build`] makes, which a property test holds it to.
    pub(super) fn into_steps(mut self) -> (Vec<Step>, usize) {
        let order = self.order();
        let afters = self.afters(&order);
        let numbers = numbers(&afters);
        let number = |rank: &usize| numbers.get(*rank).copied().flatten();
        for (rank, (place, after)) in order.iter().zip(&afters).enumerate() {
            if let (Some(id), Some(step)) = (number(&rank), self.steps.get_mut(*place)) {
                step.id = id;
                step.after = after.iter().filter_map(number).collect();
                step.after.sort_unstable();
            }
        }
        // Those without a number are last.
        self.steps.sort_by_cached_key(|step| step.id);
        let numbered = numbers.iter().flatten().count();
        let stuck = self.steps.len() - numbered;
        self.steps.truncate(numbered);
        (self.steps, stuck)
    }

    /// The places of all steps in the order of their keys.
    fn order(&self) -> Vec<usize> {
        let mut keys: Vec<_> = self.keys.iter().zip(0..).collect();
        keys.sort();
        keys.into_iter().map(|(_, place)| place).collect()
    }

    /// Which steps each one waits for, all by their rank in the order of keys.
    fn afters(&self, order: &[usize]) -> Vec<Vec<usize>> {
        let mut ranks = vec![0; order.len()];
        for (rank, place) in order.iter().enumerate() {
            if let Some(at) = ranks.get_mut(*place) {
                *at = rank;
            }
        }
        let rank = |key: &Key<'a>| ranks.get(*self.places.get(key)?).copied();
        let waits = |place: &usize| {
            let found = self.after.get(*place).into_iter().flatten();
            let mut after: Vec<usize> = found.filter_map(rank).collect();
            after.sort_unstable();
            after.dedup();
            after
        };
        order.iter().map(waits).collect()
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
