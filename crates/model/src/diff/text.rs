//! A diff as a person reads it: `+` added, `-` removed, `~` changed.

use std::fmt;

use super::{DescriptionDiff, EntryDiff, PropertyDiff, RuleDiff};

impl fmt::Display for DescriptionDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        section(f, "label", &self.labels)?;
        section(f, "template", &self.templates)?;
        section(f, "qube", &self.qubes)?;
        section(f, "remote qube", &self.remotes)?;
        if !self.dom0.is_empty() {
            writeln!(f, "~ dom0")?;
            for property in &self.dom0 {
                writeln!(f, "    {property}")?;
            }
        }
        rules(f, "policy", &self.policy)?;
        rules(f, "policy test", &self.policy_tests)
    }
}

fn rules(f: &mut fmt::Formatter<'_>, what: &str, rules: &[RuleDiff]) -> fmt::Result {
    for rule in rules {
        match rule {
            RuleDiff::Added(rule) => writeln!(f, "+ {what} {}  ({})", rule.text, rule.place)?,
            RuleDiff::Removed(rule) => writeln!(f, "- {what} {}  ({})", rule.text, rule.place)?,
        }
    }
    Ok(())
}

fn section<N: fmt::Display, P: AsRef<str>>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    entries: &[EntryDiff<N, P>],
) -> fmt::Result {
    for entry in entries {
        match entry {
            EntryDiff::Added { name } => writeln!(f, "+ {what} {name}")?,
            EntryDiff::Removed { name } => writeln!(f, "- {what} {name}")?,
            EntryDiff::Changed { name, properties } => {
                writeln!(f, "~ {what} {name}")?;
                for property in properties {
                    writeln!(f, "    {property}")?;
                }
            }
        }
    }
    Ok(())
}

impl<P: AsRef<str>> fmt::Display for PropertyDiff<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.path(), self.old, self.new)
    }
}
