//! Maps whose keys are names.

use std::collections::HashMap;
use std::hash::Hash;

use super::{Decode, Decoder, Located, OptionRow};
use crate::diagnostic::Problem;
use crate::syntax::tree::{Node, Value};

/// The entries of a map in their order; keys are unique.
#[derive(Debug, Clone)]
pub(crate) struct Table<K, V> {
    pub(crate) entries: Vec<(Located<K>, V)>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
        }
    }
}

impl<K: Decode + Eq + Hash + Clone, V: Decode> Decode for Table<K, V> {
    fn type_name() -> String {
        format!("map of {}", V::type_name())
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            Value::Struct { name: None, .. } | Value::Unit => {
                let message = "expected a map in `{}`, found `()`";
                let problem = Problem::error(decoder.at(node.span), message);
                decoder.push(problem.help("a map is written `{\"name\": value}`"));
                return None;
            }
            _ => {
                decoder.wrong(node, "a map in `{}`");
                return None;
            }
        };
        // Entries are large where they are qubes, so that none is moved for the next.
        let mut table = Self {
            entries: Vec::with_capacity(entries.len()),
        };
        // A lone entry, as most maps of a qube have, is the first of its name without a search.
        let many = entries.len() > 1;
        let room = if many { entries.len() } else { 0 };
        let mut first: HashMap<K, crate::diagnostic::At> = HashMap::with_capacity(room);
        for (key, value) in entries {
            let name = Located::<K>::decode(key, decoder);
            let value = V::decode(value, decoder).or_else(V::broken);
            let Some(name) = name else {
                continue;
            };
            if many && let Some(earlier) = first.insert(name.value.clone(), name.at) {
                let what = decoder.at(key.span);
                let problem = Problem::error(what, "this name is written twice in the same map");
                decoder.push(problem.related(earlier, "first written here"));
                continue;
            }
            let Some(value) = value else {
                continue;
            };
            table.entries.push((name, value));
        }
        Some(table)
    }

    fn nested() -> Option<(&'static str, Vec<OptionRow>)> {
        V::nested().map(|(_, rows)| (".<name>.", rows))
    }
}
