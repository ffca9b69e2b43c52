//! Policy whose folders are read while the machine runs.
//!
//! Each entry of folders is read as a whole and keeps the rules of its last reading that had no
//! error; the engine is made of those and of the texts of the description, in their one order. An
//! entry that was never read without error makes the engine deny every call.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_model::qube::{Description, PolicyFolder, PolicyText};

use crate::engine::Engine;
use crate::error::{PolicyError, PolicyErrorKind};
use crate::folders::{FolderError, Layout, PolicyFolders};
use crate::read::{self, RULES_MAX};
use crate::rule::{Origin, Rule};

/// One reading of the folders of one entry.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The rules, or everything that is wrong.
    pub rules: Result<Arc<[Rule]>, Vec<PolicyError>>,
    /// Files and folders that were asked for, also in vain: a change of any of these may change
    /// the outcome.
    pub looked_at: BTreeSet<PathBuf>,
    /// How many files were read.
    pub files: usize,
}

/// Reads the folders of `entry`.
pub fn read_live(entry: &PolicyFolder, folders: &dyn PolicyFolders) -> Reading {
    let layout = Layout {
        folders: entry.folders.clone(),
        legacy: entry.legacy.clone(),
        shown_from: entry.shown_from.clone(),
    };
    let recorder = Recorder {
        folders,
        looked_at: RefCell::default(),
    };
    let rules = read::folders(&recorder, &layout);
    Reading {
        files: rules.as_ref().map_or(0, |read| read.included.len()),
        rules: rules.map(|read| read.rules.into()),
        looked_at: recorder.looked_at.into_inner(),
    }
}

/// Notes what is asked for.
#[derive(Debug)]
struct Recorder<'a> {
    folders: &'a dyn PolicyFolders,
    looked_at: RefCell<BTreeSet<PathBuf>>,
}

impl PolicyFolders for Recorder<'_> {
    fn read(&self, path: &Path) -> Result<Arc<[u8]>, FolderError> {
        self.looked_at.borrow_mut().insert(path.to_owned());
        self.folders.read(path)
    }

    fn files(&self, folder: &Path) -> Result<Vec<String>, FolderError> {
        self.looked_at.borrow_mut().insert(folder.to_owned());
        self.folders.files(folder)
    }
}

/// One entry and what was last read.
#[derive(Debug, Clone)]
pub struct LiveEntry {
    /// The entry.
    pub folder: PolicyFolder,
    /// The rules in force; none if no reading was without error.
    good: Option<Arc<[Rule]>>,
    /// What is wrong with the last reading; empty if nothing is.
    errors: Vec<PolicyError>,
    /// How many files the last reading without error had.
    files: usize,
}

impl LiveEntry {
    /// The rules in force; none if no reading was without error.
    pub fn rules(&self) -> Option<&Arc<[Rule]>> {
        self.good.as_ref()
    }

    /// What is wrong with the last reading; empty if nothing is.
    pub fn errors(&self) -> &[PolicyError] {
        &self.errors
    }

    /// How many files the rules in force are from.
    pub fn files(&self) -> usize {
        self.files
    }

    /// The rules in force as texts that parse to them again, each with its place.
    pub fn texts(&self) -> Vec<PolicyText> {
        let rules = self.good.iter().flat_map(|rules| rules.iter());
        rules.map(crate::load::alone).collect()
    }
}

/// What a reading changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveChange {
    /// Rules and errors are as they were.
    Nothing,
    /// Other rules are in force, and nothing is wrong.
    Rules,
    /// What was wrong is mended; the rules are as they were.
    Mended,
    /// Something is wrong, or something else than before; the rules are as they were.
    Errors,
}

/// All rules of a machine in their order: texts that do not change, and folders that may.
#[derive(Debug, Clone)]
pub struct LivePolicy {
    /// The rules before each entry and, last, after all of them.
    between: Vec<Vec<Rule>>,
    entries: Vec<LiveEntry>,
}

impl LivePolicy {
    /// The policy of a description, whose folders are still to be read. On failure every error in
    /// every text is returned.
    pub fn new(description: &Description) -> Result<Self, Vec<PolicyError>> {
        let folders = &description.policy_folders;
        let mut between = Vec::with_capacity(folders.len() + 1);
        let mut errors = Vec::new();
        let mut texts = description.policy.as_slice();
        let mut taken = 0;
        let ends = folders.iter().map(|folder| folder.after);
        for end in ends.chain([description.policy.len()]) {
            let count = end.saturating_sub(taken).min(texts.len());
            let (now, later) = texts.split_at_checked(count).unwrap_or((texts, &[]));
            texts = later;
            taken += now.len();
            match Engine::parse(now) {
                Ok(engine) => between.push(engine.rules().to_vec()),
                Err(found) => errors.extend(found),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let entries = folders.iter().map(|folder| LiveEntry {
            folder: folder.clone(),
            good: None,
            errors: Vec::new(),
            files: 0,
        });
        Ok(Self {
            between,
            entries: entries.collect(),
        })
    }

    /// The policy of a description with its folders as they are now. On failure every error in
    /// every text is returned; what is wrong with folders is in [`LivePolicy::errors`].
    pub fn read(
        description: &Description,
        folders: &dyn PolicyFolders,
    ) -> Result<Self, Vec<PolicyError>> {
        let mut policy = Self::new(description)?;
        for (number, entry) in description.policy_folders.iter().enumerate() {
            policy.take(number, read_live(entry, folders));
        }
        Ok(policy)
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[LiveEntry] {
        &self.entries
    }

    /// Takes over the rules of those entries of `before` that name the same folders.
    pub fn inherit(&mut self, before: &Self) {
        for entry in &mut self.entries {
            let same = (before.entries.iter()).find(|old| old.folder.reads_as(&entry.folder));
            if let Some(old) = same.filter(|_| entry.good.is_none()) {
                entry.good.clone_from(&old.good);
                entry.files = old.files;
            }
        }
    }

    /// Takes over rules that were kept as [`LiveEntry::texts`] for the same folders. False, and
    /// nothing changes, if there is no such entry or the texts do not parse.
    pub fn recall(&mut self, folder: &PolicyFolder, texts: &[PolicyText]) -> bool {
        let Ok(engine) = Engine::parse(texts) else {
            return false;
        };
        let mut entries = self.entries.iter_mut();
        let entry = entries.find(|entry| entry.folder.reads_as(folder) && entry.good.is_none());
        entry.is_some_and(|entry| {
            entry.good = Some(engine.rules().into());
            true
        })
    }

    /// Takes in a reading of entry `number`. One with errors changes no rule.
    pub fn take(&mut self, number: usize, reading: Reading) -> LiveChange {
        let others = self.rules_beside(number);
        let Some(entry) = self.entries.get_mut(number) else {
            return LiveChange::Nothing;
        };
        let rules = reading.rules.and_then(|rules| {
            if others + rules.len() > RULES_MAX {
                let file = entry.folder.origin.as_str().into();
                return Err(vec![PolicyError {
                    origin: Origin {
                        file,
                        line: entry.folder.line,
                    },
                    column: 1,
                    kind: PolicyErrorKind::TooMuch,
                }]);
            }
            Ok(rules)
        });
        match rules {
            Ok(rules) => {
                let mended = !std::mem::take(&mut entry.errors).is_empty();
                let same = entry.good.as_ref() == Some(&rules);
                entry.good = Some(rules);
                entry.files = reading.files;
                match (same, mended) {
                    (true, false) => LiveChange::Nothing,
                    (true, true) => LiveChange::Mended,
                    (false, _) => LiveChange::Rules,
                }
            }
            Err(errors) if errors == entry.errors => LiveChange::Nothing,
            Err(errors) => {
                entry.errors = errors;
                LiveChange::Errors
            }
        }
    }

    fn rules_beside(&self, number: usize) -> usize {
        let texts: usize = self.between.iter().map(Vec::len).sum();
        let others = self.entries.iter().enumerate();
        let others = others.filter(|(other, _)| *other != number);
        texts
            + others
                .filter_map(|(_, entry)| entry.good.as_ref())
                .map(|rules| rules.len())
                .sum::<usize>()
    }

    /// What is wrong now, in the order of the entries.
    pub fn errors(&self) -> impl Iterator<Item = &PolicyError> {
        self.entries.iter().flat_map(|entry| &entry.errors)
    }

    /// Whether every call is denied, since an entry was never read without error.
    pub fn denies_all(&self) -> bool {
        self.entries.iter().any(|entry| entry.good.is_none())
    }

    /// How many rules there are in all.
    pub fn rules(&self) -> usize {
        self.rules_beside(usize::MAX)
    }

    /// An engine of the rules in force.
    pub fn engine(&self) -> Engine {
        if self.denies_all() {
            return Engine::broken(self.errors().cloned().collect());
        }
        let mut rules = Vec::new();
        let mut entries = self.entries.iter();
        for texts in &self.between {
            rules.extend_from_slice(texts);
            let entry = entries.next().and_then(|entry| entry.good.as_ref());
            rules.extend(entry.into_iter().flat_map(|rules| rules.iter().cloned()));
        }
        Engine::of_rules(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folders::MemoryFolders;

    fn folder(path: &str, after: usize) -> PolicyFolder {
        PolicyFolder {
            origin: "system.ron".into(),
            line: 7,
            after,
            folders: vec![format!("/m/{path}").into()],
            legacy: format!("/m/{path}/compat").into(),
            shown_from: "/m".into(),
        }
    }

    fn description(folders: Vec<PolicyFolder>) -> Description {
        let text = |text: &str| PolicyText {
            origin: "system.ron".into(),
            first_line: 1,
            text: text.into(),
        };
        Description {
            policy: vec![text("a.A * * * deny"), text("a.Z * * * deny")],
            policy_folders: folders,
            ..Description::default()
        }
    }

    fn disk(files: &[(&str, &str)]) -> MemoryFolders {
        let mut disk = MemoryFolders::default();
        for (path, text) in files {
            assert!(disk.add(format!("/m/{path}"), text.as_bytes()));
        }
        disk
    }

    fn read(policy: &mut LivePolicy, disk: &MemoryFolders) -> Vec<LiveChange> {
        let entries: Vec<PolicyFolder> =
            (policy.entries().iter().map(|e| e.folder.clone())).collect();
        let changes = entries.iter().enumerate();
        changes
            .map(|(number, entry)| policy.take(number, read_live(entry, disk)))
            .collect()
    }

    fn rules(policy: &LivePolicy) -> String {
        let engine = policy.engine();
        let lines = engine.rules().iter();
        let lines: Vec<String> = lines.map(|r| format!("{}: {r}", r.origin)).collect();
        lines.join("\n")
    }

    #[test]
    fn texts_and_folders_are_tried_in_one_order() {
        let folders = vec![folder("one", 0), folder("two", 1), folder("three", 2)];
        let mut policy = LivePolicy::new(&description(folders)).unwrap();
        assert!(policy.denies_all() && policy.engine().errors().is_some());
        let disk = disk(&[
            ("one/1.policy", "a.One * * * deny"),
            ("two/2.policy", "!include include/more\na.Two * * * deny"),
            ("two/include/more", "\na.More * * * deny"),
            ("three/3.policy", "a.Three * * * deny"),
        ]);
        assert_eq!(read(&mut policy, &disk), [LiveChange::Rules; 3]);
        insta::assert_snapshot!(rules(&policy), @r"
        one/1.policy:1: a.One * * * deny
        system.ron:1: a.A * * * deny
        two/include/more:2: a.More * * * deny
        two/2.policy:2: a.Two * * * deny
        system.ron:1: a.Z * * * deny
        three/3.policy:1: a.Three * * * deny
        ");
        assert_eq!(read(&mut policy, &disk), [LiveChange::Nothing; 3]);
    }

    #[test]
    fn a_reading_with_errors_keeps_the_last_good_rules_until_it_is_mended() {
        let mut policy = LivePolicy::new(&description(vec![folder("d", 1)])).unwrap();
        let good = disk(&[("d/1.policy", "a.B * * * deny")]);
        let bad = disk(&[
            ("d/1.policy", "a.B * * * dney"),
            ("d/2.policy", "a.C * * * deny"),
        ]);
        assert_eq!(read(&mut policy, &bad), [LiveChange::Errors]);
        assert!(policy.denies_all(), "nothing good was ever read");
        assert_eq!(read(&mut policy, &good), [LiveChange::Rules]);
        let before = rules(&policy);
        assert_eq!(read(&mut policy, &bad), [LiveChange::Errors]);
        assert_eq!(read(&mut policy, &bad), [LiveChange::Nothing]);
        assert_eq!(
            read(&mut policy, &MemoryFolders::default()),
            [LiveChange::Errors]
        );
        assert_eq!(rules(&policy), before);
        insta::assert_snapshot!(policy.errors().map(ToString::to_string).collect::<String>(), @"d: folder `d` does not exist");
        assert_eq!(read(&mut policy, &good), [LiveChange::Mended]);
        assert_eq!(policy.errors().count(), 0);
    }

    #[test]
    fn what_is_kept_parses_to_the_same_rules_with_their_places() {
        let mut policy = LivePolicy::new(&description(vec![folder("d", 1)])).unwrap();
        let disk = disk(&[
            (
                "d/1.policy",
                "# x\n!compat-4.0\na.B * @tag:x @default ask,\n",
            ),
            ("d/compat/a.S+x", "$anyvm work allow,user=u\n"),
        ]);
        assert_eq!(read(&mut policy, &disk), [LiveChange::Errors]);
        let disk = self::disk(&[
            (
                "d/1.policy",
                "# x\n!compat-4.0\na.B * @tag:x @default ask\n",
            ),
            ("d/compat/a.S+x", "$anyvm work allow,user=u\n"),
        ]);
        read(&mut policy, &disk);
        let kept = policy.entries()[0].texts();
        let mut later = LivePolicy::new(&description(vec![folder("d", 1)])).unwrap();
        assert!(!later.recall(&folder("other", 1), &kept));
        assert!(later.recall(&folder("d", 0), &kept));
        assert_eq!(rules(&later), rules(&policy));
        let mut newer = LivePolicy::new(&description(vec![folder("d", 2)])).unwrap();
        newer.inherit(&policy);
        assert!(!newer.denies_all());
    }

    #[test]
    fn everything_that_was_looked_for_is_told() {
        let disk = disk(&[("d/1.policy", "!include include/none\n!include-dir /m/e\n")]);
        let reading = read_live(&folder("d", 0), &disk);
        assert_eq!(reading.rules.unwrap_err().len(), 2);
        let paths: Vec<_> = (reading.looked_at.iter().map(|p| p.display().to_string())).collect();
        assert_eq!(
            paths,
            ["/m/d", "/m/d/1.policy", "/m/d/include/none", "/m/e"]
        );
    }

    #[test]
    fn one_rule_too_many_in_all_is_refused() {
        let folders = vec![folder("a", 0), folder("b", 0)];
        let mut policy = LivePolicy::new(&description(folders)).unwrap();
        let half = "a.B * * * deny\n".repeat(RULES_MAX / 2);
        let less = "a.B * * * deny\n".repeat(RULES_MAX / 2 - 2);
        let fits = disk(&[("a/1.policy", &half), ("b/1.policy", &less)]);
        assert_eq!(read(&mut policy, &fits), [LiveChange::Rules; 2]);
        let more = format!("{less}a.C * * * deny\n");
        let too_many = disk(&[("a/1.policy", &half), ("b/1.policy", &more)]);
        assert_eq!(
            read(&mut policy, &too_many),
            [LiveChange::Nothing, LiveChange::Errors]
        );
    }
}
