//! Policy rules that came, went or moved. Order matters: the first match decides.

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::{Rule, RuleDiff};
use crate::qube::PolicyText;

/// The rules that differ. Comments, blank lines and spacing do not count, nor does it count in
/// which file or line a rule stands as long as the order is the same.
pub(super) fn rules(old: &[PolicyText], new: &[PolicyText]) -> Vec<RuleDiff> {
    let (old, new) = (lines(old), lines(new));
    let old_texts: Vec<&str> = old.iter().map(|rule| rule.text.as_str()).collect();
    let new_texts: Vec<&str> = new.iter().map(|rule| rule.text.as_str()).collect();
    let mut found = Vec::new();
    for op in capture_diff_slices(Algorithm::Myers, &old_texts, &new_texts) {
        if matches!(op, DiffOp::Equal { .. }) {
            continue;
        }
        let removed = old.get(op.old_range()).unwrap_or_default();
        let added = new.get(op.new_range()).unwrap_or_default();
        found.extend(removed.iter().cloned().map(RuleDiff::Removed));
        found.extend(added.iter().cloned().map(RuleDiff::Added));
    }
    found
}

fn lines(policy: &[PolicyText]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for source in policy {
        for (line, number) in source.text.lines().zip(u64::from(source.first_line)..) {
            let mut text = String::with_capacity(line.len());
            for word in line.split_ascii_whitespace() {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(word);
            }
            if !text.is_empty() && !text.starts_with('#') {
                let place = format!("{}:{number}", source.origin);
                rules.push(Rule { text, place });
            }
        }
    }
    rules
}
