//! Reading the root file, what it imports, the managed fragment and the policy files.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use super::policy::{Texts, Written};
use super::{FILES_MAX, TOTAL_BYTES_MAX, managed_path};
use crate::decode::{Decode, Decoder, Located};
use crate::diagnostic::{At, FileId, Problem, Problems, SourceMap};
use crate::qube::{PolicyFolder, PolicyText};
use crate::source::{MemoryReader, SourceError, SourceReader, is_pattern};
use crate::syntax;
use crate::written::{LiveOptions, PolicyEntry, SystemOptions, TestEntry};

/// Where the Qubes tools keep policy.
const QUBES_RUNTIME: &str = "/run/qubes/policy.d";
const QUBES_FOLDER: &str = "/etc/qubes/policy.d";
const QUBES_LEGACY: &str = "/etc/qubes-rpc/policy";

/// Most `Live` entries of one description: each is a policy of its own, with its own limits.
pub const LIVE_FOLDERS_MAX: usize = 16;

/// One file of the description.
#[derive(Debug)]
pub(crate) struct SourceUnit {
    /// What is written in it.
    pub(crate) options: SystemOptions,
    /// The folder from which its paths count.
    pub(crate) folder: PathBuf,
    /// Whether tools write it.
    pub(crate) managed: bool,
    path: PathBuf,
}

#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// In the order in which their policy counts: the root, its imports as they are named, the
    /// managed fragment.
    pub(super) units: Vec<SourceUnit>,
    pub(super) files: Vec<PathBuf>,
    /// Whether everything could be read; if not, a name that is unknown may well exist.
    pub(super) complete: bool,
    bytes: usize,
}

pub(super) fn gather(
    root: &Path,
    reader: &dyn SourceReader,
    sources: &mut SourceMap,
    problems: &mut Problems,
) -> Gathered {
    let mut gather = Gather {
        reader,
        sources,
        problems,
        seen: HashSet::new(),
        gathered: Gathered {
            complete: true,
            ..Gathered::default()
        },
    };
    let root = normal(root);
    let managed = managed_path(&root);
    gather.seen.extend([root.clone(), managed.clone()]);
    // The last in, the first out: imports of a file come before those that follow it.
    let mut waiting = vec![(root, None)];
    while let Some((path, from)) = waiting.pop() {
        let Some(unit) = gather.unit(&path, from) else {
            gather.gathered.complete = false;
            continue;
        };
        let imports = gather.imports(&unit);
        waiting.extend(imports.into_iter().rev());
        gather.gathered.units.push(unit);
    }
    gather.managed(&managed);
    gather.gathered
}

/// Reads one file without following its imports.
pub(super) fn read_alone(name: &str, text: &str, sources: &mut SourceMap, problems: &mut Problems) {
    let reader = MemoryReader::default();
    let mut gather = Gather {
        reader: &reader,
        sources,
        problems,
        seen: HashSet::new(),
        gathered: Gathered::default(),
    };
    gather.decode(Path::new(name), text.to_owned());
}

struct Gather<'a> {
    reader: &'a dyn SourceReader,
    sources: &'a mut SourceMap,
    problems: &'a mut Problems,
    seen: HashSet<PathBuf>,
    gathered: Gathered,
}

impl Gather<'_> {
    fn unit(&mut self, path: &Path, from: Option<At>) -> Option<SourceUnit> {
        match self.gathered.read(path, self.reader) {
            Ok(text) => self.decode(path, text),
            Err(error) => {
                self.problems.push(unreadable(&error, from));
                None
            }
        }
    }

    fn decode(&mut self, path: &Path, text: String) -> Option<SourceUnit> {
        let file = self.sources.add(path.display().to_string(), text);
        let (tree, errors) = syntax::parse(self.sources.text(file));
        if !errors.list.is_empty() {
            self.gathered.complete = false;
        }
        self.problems.omit(errors.omitted);
        for error in errors.list {
            self.problems.push(syntax_problem(file, error));
        }
        let options = SystemOptions::decode(&tree, &mut Decoder::new(file, self.problems));
        if options.as_ref().is_none_or(|options| options.incomplete) {
            self.gathered.complete = false;
        }
        Some(SourceUnit {
            options: options?,
            folder: path.parent().map(Path::to_owned).unwrap_or_default(),
            managed: false,
            path: path.to_owned(),
        })
    }

    fn managed(&mut self, path: &Path) {
        let text = match self.gathered.read(path, self.reader) {
            Ok(text) => text,
            // No tool has written anything yet.
            Err(SourceError::Missing(_)) => return,
            Err(error) => {
                self.gathered.complete = false;
                return self.problems.push(unreadable(&error, None));
            }
        };
        let Some(mut unit) = self.decode(path, text) else {
            return;
        };
        unit.managed = true;
        if let Some(imports) = &unit.options.imports {
            let problem = Problem::error(imports.at, "the managed fragment imports nothing");
            self.problems
                .push(problem.help("import from a file that is written by hand"));
        }
        self.gathered.units.push(unit);
    }

    /// The files that a file imports and nobody imported before.
    fn imports(&mut self, unit: &SourceUnit) -> Vec<(PathBuf, Option<At>)> {
        let mut found = Vec::new();
        let Some(imports) = &unit.options.imports else {
            return found;
        };
        for import in &imports.value {
            for path in files(self.reader, &unit.folder, import, self.problems) {
                if self.seen.len() > FILES_MAX {
                    let message = format!("more than {FILES_MAX} files are imported");
                    self.problems.push(Problem::error(import.at, message));
                    self.gathered.complete = false;
                    return found;
                }
                if self.seen.insert(path.clone()) {
                    found.push((path, Some(import.at)));
                }
            }
        }
        found
    }
}

impl Gathered {
    fn read(&mut self, path: &Path, reader: &dyn SourceReader) -> Result<String, SourceError> {
        let text = reader.read(path)?;
        self.bytes += text.len();
        if self.bytes > TOTAL_BYTES_MAX {
            return Err(SourceError::TooMuch(path.to_owned()));
        }
        self.files.push(path.to_owned());
        Ok(text)
    }

    /// The policy of all files, in order.
    pub(super) fn policy(
        &mut self,
        root: &Path,
        reader: &dyn SourceReader,
        sources: &SourceMap,
        problems: &mut Problems,
    ) -> Texts {
        let root = normal(root);
        let mut texts = Texts::default();
        let units = std::mem::take(&mut self.units);
        for unit in &units {
            let own = origin(&root, &unit.path);
            for entry in unit.options.policy.iter().flat_map(|policy| &policy.value) {
                match entry {
                    PolicyEntry::Rules(rules) => texts.push_inline(&own, rules, sources),
                    PolicyEntry::Rule(rule) => texts.push(
                        PolicyText {
                            origin: own.clone(),
                            first_line: line_of(sources.text(rule.at.file), rule.at.span.start),
                            text: rule.line.clone(),
                        },
                        Some(Written {
                            at: rule.at,
                            words: rule.words.clone(),
                        }),
                    ),
                    PolicyEntry::Live(options) => {
                        if texts.folders.len() == LIVE_FOLDERS_MAX {
                            let message = format!("more than {LIVE_FOLDERS_MAX} `Live` entries");
                            problems.push(Problem::error(options.at, message));
                        }
                        texts.folders.push(PolicyFolder {
                            origin: own.clone(),
                            line: line_of(sources.text(options.at.file), options.at.span.start),
                            after: texts.texts.len(),
                            shown_from: root.parent().map(Path::to_owned).unwrap_or_default(),
                            ..live_folders(&options.value, &unit.folder)
                        });
                    }
                    PolicyEntry::File(pattern) => {
                        self.push_files(&root, unit, pattern, reader, problems, &mut texts);
                    }
                }
            }
        }
        self.units = units;
        texts
    }

    /// The expectations of all files, in order.
    pub(super) fn tests(
        &mut self,
        root: &Path,
        reader: &dyn SourceReader,
        sources: &SourceMap,
        problems: &mut Problems,
    ) -> Texts {
        let root = normal(root);
        let mut texts = Texts::default();
        let units = std::mem::take(&mut self.units);
        for unit in &units {
            let own = origin(&root, &unit.path);
            for entry in unit
                .options
                .policy_tests
                .iter()
                .flat_map(|tests| &tests.value)
            {
                match entry {
                    TestEntry::Lines(lines) => texts.push_inline(&own, lines, sources),
                    TestEntry::File(pattern) => {
                        self.push_files(&root, unit, pattern, reader, problems, &mut texts);
                    }
                }
            }
        }
        self.units = units;
        texts
    }

    fn push_files(
        &mut self,
        root: &Path,
        unit: &SourceUnit,
        pattern: &Located<String>,
        reader: &dyn SourceReader,
        problems: &mut Problems,
        texts: &mut Texts,
    ) {
        for path in files(reader, &unit.folder, pattern, problems) {
            match self.read(&path, reader) {
                Ok(text) => {
                    let text = PolicyText {
                        origin: origin(root, &path),
                        first_line: 1,
                        text,
                    };
                    texts.push(text, None);
                }
                Err(error) => problems.push(unreadable(&error, Some(pattern.at))),
            }
        }
    }
}

impl Texts {
    fn push_inline(&mut self, origin: &str, text: &Located<String>, sources: &SourceMap) {
        let at = text.at;
        let text = PolicyText {
            origin: origin.to_owned(),
            first_line: line_of(sources.text(at.file), at.span.start),
            text: text.value.clone(),
        };
        let words = Vec::new();
        self.push(text, Some(Written { at, words }));
    }
}

/// A file as it is named from the folder of the root on: what is shown and logged stays the same
/// when the folder moves.
fn origin(root: &Path, path: &Path) -> String {
    let folder = root.parent().unwrap_or(Path::new(""));
    path.strip_prefix(folder)
        .unwrap_or(path)
        .display()
        .to_string()
}

/// The folders of a `Live` entry in a file of `from`.
fn live_folders(options: &LiveOptions, from: &Path) -> PolicyFolder {
    let path = |text: &str| normal(&from.join(text));
    let given = |option: &Option<Located<String>>| option.as_ref().map(|text| path(&text.value));
    let folder = given(&options.folder);
    let (runtime, legacy) = match &folder {
        None => (Some(path(QUBES_RUNTIME)), path(QUBES_LEGACY)),
        Some(folder) => (None, folder.join("compat")),
    };
    let runtime = given(&options.runtime).or(runtime);
    let folder = folder.unwrap_or_else(|| path(QUBES_FOLDER));
    PolicyFolder {
        origin: String::new(),
        line: 0,
        after: 0,
        folders: runtime.into_iter().chain([folder]).collect(),
        legacy: given(&options.legacy).unwrap_or(legacy),
        shown_from: PathBuf::new(),
    }
}

/// The files that a path or pattern names; a pattern that names none is worth a warning, since
/// what it was to bring is missing.
fn files(
    reader: &dyn SourceReader,
    folder: &Path,
    pattern: &Located<String>,
    problems: &mut Problems,
) -> Vec<PathBuf> {
    if !is_pattern(&pattern.value) {
        return vec![normal(&folder.join(&pattern.value))];
    }
    let folder = normal(folder);
    match reader.glob(&folder, &pattern.value) {
        Ok(paths) => {
            if paths.is_empty() {
                let message = format!("no file matches `{}`", pattern.value);
                let folder = if folder.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    &folder
                };
                let note = format!("looked in `{}`", folder.display());
                problems.push(Problem::warning(pattern.at, message).note(note));
            }
            paths.iter().map(|path| normal(path)).collect()
        }
        Err(error) => {
            problems.push(unreadable(&error, Some(pattern.at)));
            Vec::new()
        }
    }
}

/// Without `.` and with `..` taken back, so that a file has one name however it was reached.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(normal.components().next_back(), Some(Component::Normal(_))) =>
            {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

fn unreadable(error: &SourceError, from: Option<At>) -> Problem {
    let problem = Problem::error(from, error.to_string());
    match std::error::Error::source(error) {
        Some(cause) => problem.note(cause.to_string()),
        None => problem,
    }
}

pub(crate) fn syntax_problem(file: FileId, error: syntax::SyntaxError) -> Problem {
    let at = |span| At { file, span };
    let mut problem = Problem::error(at(error.span), error.message);
    if let Some(help) = error.help {
        problem = problem.help(help);
    }
    if let Some((span, what)) = error.related {
        problem = problem.related(at(span), what);
    }
    problem
}

/// The line of the first character of a text, from 1.
fn line_of(source: &str, offset: u32) -> u32 {
    let before = source.get(..offset as usize).unwrap_or_default();
    let newlines = before.bytes().filter(|byte| *byte == b'\n').count();
    u32::try_from(newlines + 1).unwrap_or(u32::MAX)
}
