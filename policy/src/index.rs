//! Which rules can concern a call: those of its service and of its source, in file order.
//!
//! Rules fall in four lists by whether service and source are named or general. A call looks at
//! the four lists that fit it, merged by position, so that its cost does not grow with rules for
//! other services or other qubes.

use std::collections::HashMap;

use crate::rule::Rule;
use crate::token::{DOM0, QubeRef, SourceToken};

/// Position of a rule in file order.
type Position = u32;

#[derive(Debug, Clone, Default)]
struct BySource {
    named: HashMap<Box<str>, Vec<Position>>,
    general: Vec<Position>,
}

impl BySource {
    fn insert(&mut self, source: &SourceToken, position: Position) {
        let list = match source {
            SourceToken::Qube(QubeRef::Name(name)) => self.named.entry(name.clone()).or_default(),
            SourceToken::AdminVm => self.named.entry(DOM0.into()).or_default(),
            // No caller is ever a disposable that does not exist yet.
            SourceToken::Disposable(_) => return,
            _ => &mut self.general,
        };
        list.push(position);
    }

    fn lists(&self, source: &str) -> [&[Position]; 2] {
        [
            self.named.get(source).map_or(&[], Vec::as_slice),
            &self.general,
        ]
    }
}

/// The lists, built once per policy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    named: HashMap<Box<str>, BySource>,
    general: BySource,
}

impl Index {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (position, rule) in (0..).zip(rules) {
            let by_source = match &rule.service {
                Some(service) => index.named.entry(service.clone()).or_default(),
                None => &mut index.general,
            };
            by_source.insert(&rule.source, position);
        }
        index
    }

    /// Positions of the rules whose service and source may match, in file order.
    pub(crate) fn candidates(&self, service: &str, source: &str) -> Candidates<'_> {
        let [named, general] = match self.named.get(service) {
            Some(by_source) => by_source.lists(source),
            None => [&[] as &[Position]; 2],
        };
        let [any_named, any_general] = self.general.lists(source);
        Candidates {
            lists: [named, general, any_named, any_general],
        }
    }
}

/// Merges four ascending lists.
#[derive(Debug, Clone)]
pub(crate) struct Candidates<'a> {
    lists: [&'a [Position]; 4],
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let list = self
            .lists
            .iter_mut()
            .filter(|list| !list.is_empty())
            .min_by_key(|list| list.first().copied())?;
        let (first, rest) = list.split_first()?;
        *list = rest;
        usize::try_from(*first).ok()
    }
}
