//! A plan as text, the way `terraform plan` taught people to read: `+` comes, `~` changes, `-` goes.

use std::fmt::{self, Write};

use bulkhead_model::diff::{EntryDiff, RuleDiff};
use bulkhead_model::property::PropertyValue;

use super::{
    Action, ChangeKind, Effect, Plan, PropertyChange, QubeChange, RunChange, VolumeChange,
};

/// Whether text carries terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Off,
    /// ANSI colours: green comes, yellow changes, red goes.
    On,
}

/// Prints `plan`.
pub fn render(plan: &Plan, colour: Colour) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = Page {
        out: &mut text,
        colour,
    }
    .plan(plan);
    text
}

struct Page<'a> {
    out: &'a mut String,
    colour: Colour,
}

impl ChangeKind {
    fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Change => '~',
            Self::Remove => '-',
        }
    }
}

impl Page<'_> {
    fn plan(&mut self, plan: &Plan) -> fmt::Result {
        if plan.is_empty() {
            writeln!(self.out, "Nothing to do: the machine is as described.")?;
            return self.notes(plan);
        }
        match plan.base {
            Some(base) if plan.makes_generation() => {
                writeln!(self.out, "From generation {base} to a new one:\n")?;
            }
            Some(base) => writeln!(self.out, "Back to what generation {base} declares:\n")?,
            None => writeln!(self.out, "The first generation:\n")?,
        }
        for label in &plan.labels {
            self.entry("label", label)?;
        }
        for change in &plan.templates {
            let head = format!("template {}", change.template);
            self.line(2, change.kind, &format!("{head}  {}", change.text))?;
        }
        if !plan.labels.is_empty() || !plan.templates.is_empty() {
            writeln!(self.out)?;
        }
        for change in &plan.qubes {
            self.qube(change)?;
            writeln!(self.out)?;
        }
        for remote in &plan.remotes {
            self.entry("remote qube", remote)?;
        }
        if !plan.remotes.is_empty() {
            writeln!(self.out)?;
        }
        if !plan.dom0.is_empty() {
            let changes: Vec<String> = plan.dom0.iter().map(ToString::to_string).collect();
            let text = format!("dom0  {}", changes.join(", "));
            self.line(2, ChangeKind::Change, &text)?;
            writeln!(self.out)?;
        }
        self.rules("policy", &plan.policy)?;
        self.rules("policy tests", &plan.policy_tests)?;
        if plan.changes_nothing_shown() {
            let text = "Only where or how something is written differs; what it means does not.";
            writeln!(self.out, "{text}\n")?;
        }
        self.summary(plan)?;
        self.notes(plan)
    }

    fn rules(&mut self, head: &str, rules: &[RuleDiff]) -> fmt::Result {
        if rules.is_empty() {
            return Ok(());
        }
        self.line(2, ChangeKind::Change, head)?;
        for rule in rules {
            match rule {
                RuleDiff::Added(rule) => self.line(6, ChangeKind::Add, &rule.text)?,
                RuleDiff::Removed(rule) => self.line(6, ChangeKind::Remove, &rule.text)?,
            }
        }
        writeln!(self.out)
    }

    fn entry<N: fmt::Display>(&mut self, what: &str, entry: &EntryDiff<N, String>) -> fmt::Result {
        let (kind, name) = match entry {
            EntryDiff::Added { name } => (ChangeKind::Add, name),
            EntryDiff::Removed { name } => (ChangeKind::Remove, name),
            EntryDiff::Changed { name, properties } => {
                let properties: Vec<String> = properties.iter().map(ToString::to_string).collect();
                let text = format!("{what} {name}  {}", properties.join(", "));
                return self.line(2, ChangeKind::Change, &text);
            }
        };
        self.line(2, kind, &format!("{what} {name}"))
    }

    fn qube(&mut self, change: &QubeChange) -> fmt::Result {
        let run = match change.run {
            RunChange::None => String::new(),
            RunChange::Start => format!("  starts ({})", change.reason),
            RunChange::Stop => format!("  stops ({})", change.reason),
            RunChange::Restart => format!("  restarts ({})", change.reason),
            RunChange::Pending => format!("  waits for its next start ({})", change.reason),
        };
        self.line(2, change.kind, &format!("qube {}{run}", change.qube))?;
        let names = change
            .properties
            .iter()
            .map(|p| property_name(p).chars().count());
        let width = names.max().unwrap_or(0);
        for property in &change.properties {
            self.property(property, change.kind, width)?;
        }
        for volume in &change.volumes {
            self.volume(volume)?;
        }
        Ok(())
    }

    fn property(&mut self, change: &PropertyChange, kind: ChangeKind, width: usize) -> fmt::Result {
        let name = property_name(change);
        let later = match change.effect {
            Effect::Now => "",
            Effect::NextStart => "  (at next start)",
        };
        if kind == ChangeKind::Add {
            let text = format!("{name:width$} = {}", change.diff.new);
            return self.line(6, ChangeKind::Add, &text);
        }
        let diff = &change.diff;
        let (sign, value) = match (&diff.old, &diff.new, &diff.key) {
            (PropertyValue::None, new, Some(_)) => (ChangeKind::Add, new.to_string()),
            (old, PropertyValue::None, Some(_)) => (ChangeKind::Remove, old.to_string()),
            (old, new, _) => (ChangeKind::Change, format!("{old} -> {new}")),
        };
        self.line(6, sign, &format!("{name:width$} = {value}{later}"))
    }

    fn volume(&mut self, change: &VolumeChange) -> fmt::Result {
        let (kind, text) = match change {
            VolumeChange::Create { volume, size } => {
                (ChangeKind::Add, format!("volume {volume}  {size}"))
            }
            VolumeChange::Adopt { volume, size } => (
                ChangeKind::Change,
                format!("volume {volume}  {size}, kept from an earlier qube of this name"),
            ),
            VolumeChange::Grow { volume, from, to } => (
                ChangeKind::Change,
                format!("volume {volume}  {from} -> {to}"),
            ),
            VolumeChange::Destroy { volume, size } => (
                ChangeKind::Remove,
                format!("volume {volume}  {size}, DESTROYS ITS DATA, needs --allow-destroy"),
            ),
            VolumeChange::Keep { volume, size } => (
                ChangeKind::Change,
                format!("volume {volume}  {size}, kept though no longer declared"),
            ),
        };
        self.line(6, kind, &text)
    }

    fn summary(&mut self, plan: &Plan) -> fmt::Result {
        let count = |kind| {
            plan.qubes
                .iter()
                .filter(|q| q.kind == kind && q.changes())
                .count()
        };
        write!(
            self.out,
            "Plan: {} to add, {} to change, {} to remove",
            count(ChangeKind::Add),
            count(ChangeKind::Change),
            count(ChangeKind::Remove)
        )?;
        let runs = |run| plan.qubes.iter().filter(|q| q.run == run).count();
        let counts = [
            (runs(RunChange::Start), "to start"),
            (runs(RunChange::Stop), "to stop"),
            (runs(RunChange::Restart), "to restart"),
            (runs(RunChange::Pending), "to change at next start"),
        ];
        let told = counts.iter().filter(|(count, _)| *count > 0);
        for (place, (count, what)) in told.enumerate() {
            let sign = if place == 0 { ';' } else { ',' };
            write!(self.out, "{sign} {count} {what}")?;
        }
        writeln!(self.out, ".")?;
        let destroys = plan.destroys();
        if !destroys.is_empty() {
            let names: Vec<String> = destroys.iter().map(ToString::to_string).collect();
            self.alarm(&format!(
                "Destroys the data of {}: needs --allow-destroy, or --keep-volumes to keep it.",
                names.join(", ")
            ))?;
        }
        Ok(())
    }

    fn notes(&mut self, plan: &Plan) -> fmt::Result {
        for note in &plan.notes {
            writeln!(self.out, "Note: {note}")?;
        }
        Ok(())
    }

    fn line(&mut self, indent: usize, kind: ChangeKind, text: &str) -> fmt::Result {
        let (on, off) = self.ansi(match kind {
            ChangeKind::Add => "32",
            ChangeKind::Change => "33",
            ChangeKind::Remove => "31",
        });
        writeln!(self.out, "{:indent$}{on}{}{off} {text}", "", kind.sign())
    }

    fn alarm(&mut self, text: &str) -> fmt::Result {
        let (on, off) = self.ansi("1;31");
        writeln!(self.out, "{on}{text}{off}")
    }

    fn ansi(&self, code: &str) -> (String, &'static str) {
        match self.colour {
            Colour::Off => (String::new(), ""),
            Colour::On => (format!("\x1b[{code}m"), "\x1b[0m"),
        }
    }
}

fn property_name(change: &PropertyChange) -> String {
    match &change.diff.key {
        Some(key) => format!("{}.{key}", change.diff.property.name()),
        None => change.diff.property.name().to_owned(),
    }
}

impl QubeChange {
    /// Whether it is more than a start or a stop.
    fn changes(&self) -> bool {
        self.kind != ChangeKind::Change || !self.properties.is_empty() || !self.volumes.is_empty()
    }
}

impl Action {
    /// What a step does, for people: an imperative with its object.
    pub fn describe(&self) -> String {
        match self {
            Self::EnsureTemplate { template, .. } => format!("prepare template {template}"),
            Self::CreateVolume { volume, size } => format!("create volume {volume} ({size})"),
            Self::DiscardVolume { volume } => format!("discard new volume {volume}"),
            Self::ResizeVolume { volume, from, to } => {
                format!("resize volume {volume} from {from} to {to}")
            }
            Self::RetireVolume { volume, .. } => format!("set volume {volume} aside"),
            Self::RestoreVolume { volume } => format!("bring volume {volume} back"),
            Self::PurgeVolume { volume } => format!("destroy volume {volume}"),
            Self::Declare => "declare the new description".to_owned(),
            Self::DeclarePrevious => "declare the previous description".to_owned(),
            Self::LiveUpdate { qube, to, .. } => {
                format!("change {} of {qube} while it runs", to.property().name())
            }
            Self::StartQube { spec, .. } => format!("start {}", spec.name),
            Self::StopQube { qube, .. } => format!("stop {qube}"),
            Self::SwitchGeneration => "switch to the new generation".to_owned(),
        }
    }
}
