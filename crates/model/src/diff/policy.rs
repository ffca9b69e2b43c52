//! Policy rules that came, went or moved. Order matters: the first match decides.

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::{Rule, RuleDiff};
use crate::qube::{Description, PolicyFolder, PolicyText};

/// The rules that differ. Comments, blank lines and spacing do not count, nor does it count in
/// which file or line a rule stands as long as the order is the same.
///
/// Folders that are read live count as one rule that names them: what they hold is no part of a
/// description.
pub(super) fn rules(old: &Description, new: &Description) -> Vec<RuleDiff> {
    changed(&lines(old), &lines(new))
}

/// The lines of `policy_tests` that differ, compared as rules are.
pub(super) fn expectations(old: &Description, new: &Description) -> Vec<RuleDiff> {
    let lines = |description: &Description| {
        let mut lines = Vec::new();
        for source in &description.policy_tests {
            of_text(source, &mut lines);
        }
        lines
    };
    changed(&lines(old), &lines(new))
}

fn changed(old: &[Rule], new: &[Rule]) -> Vec<RuleDiff> {
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

fn lines(description: &Description) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut folders = description.policy_folders.iter().peekable();
    for (number, source) in description.policy.iter().enumerate() {
        while let Some(folder) = folders.next_if(|folder| folder.after <= number) {
            rules.push(live(folder));
        }
        of_text(source, &mut rules);
    }
    rules.extend(folders.map(live));
    rules
}

fn live(folder: &PolicyFolder) -> Rule {
    let shown = |path: &std::path::Path| {
        let within = path.strip_prefix(&folder.shown_from).unwrap_or(path);
        within.display().to_string()
    };
    let folders: Vec<String> = folder.folders.iter().map(|path| shown(path)).collect();
    Rule {
        text: format!("live {} ({})", folders.join(" "), shown(&folder.legacy)),
        place: format!("{}:{}", folder.origin, folder.line),
    }
}

fn of_text(source: &PolicyText, rules: &mut Vec<Rule>) {
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
