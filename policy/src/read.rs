//! Files and texts to one list of rules: which are read, in which order, and what directives
//! insert. Every error of every file is found.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_model::qube::PolicyText;

use crate::error::{PolicyError, PolicyErrorKind};
use crate::folders::{FolderError, Layout, PolicyFolders, normal};
use crate::parse::{self, Form, Line, Names, column_of};
use crate::rule::{Action, Origin, Rule};
use crate::token::{SourceToken, TargetToken};

/// Deepest nesting of includes: each level is a few frames of stack.
pub const INCLUDE_DEPTH_MAX: usize = 256;

/// Most text of one policy, in bytes; what is included twice counts twice.
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most rules of one policy, which bounds the memory of the engine.
pub const RULES_MAX: usize = 200_000;

/// Most files of one policy: files that include one another twice grow as powers of two.
pub const FILES_MAX: usize = 10_000;

/// Suffix of policy files.
const SUFFIX: &str = ".policy";

/// Files of the older form that package managers and editors leave behind.
const LEFT_BEHIND: [&str; 3] = [".rpmsave", ".rpmnew", ".swp"];

/// What was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) rules: Vec<Rule>,
    /// The files that were included, each as often as it was.
    pub(crate) included: Vec<PathBuf>,
}

/// Reads the policy files of `layout`.
pub(crate) fn folders(
    folders: &dyn PolicyFolders,
    layout: &Layout,
) -> Result<Read, Vec<PolicyError>> {
    let mut reader = Reader::new(folders, layout.shown_from.clone(), layout.legacy.clone());
    let mut files: Vec<(String, &Path)> = Vec::new();
    for folder in &layout.folders {
        let origin = reader.whole(folder);
        for name in reader.policy_files(folder, &origin) {
            if !files.iter().any(|(seen, _)| *seen == name) {
                files.push((name, folder));
            }
        }
    }
    files.sort();
    for (name, folder) in files {
        let path = folder.join(name);
        let origin = reader.whole(&path);
        reader.base = folder.to_owned();
        reader.file(&path, &Form::Whole, &Asked::of_file(origin));
    }
    reader.finish()
}

/// Reads texts, whose origins count from `from`.
pub(crate) fn texts(
    texts: &[PolicyText],
    folders: &dyn PolicyFolders,
    from: &Path,
) -> Result<Read, Vec<PolicyError>> {
    let mut reader = Reader::new(folders, normal(from), PathBuf::new());
    for text in texts {
        let path = from.join(&text.origin);
        reader.base = path.parent().map(normal).unwrap_or_default();
        reader.legacy = reader.base.join("compat");
        reader.open.push((normal(&path), Form::Whole));
        reader.text(
            &text.origin.as_str().into(),
            text.first_line,
            &text.text,
            &Form::Whole,
        );
        reader.open.pop();
    }
    reader.finish()
}

/// Who asked for a file, for errors about the file.
struct Asked<'a> {
    origin: Origin,
    column: u32,
    /// The path as written; none for a file that nobody included.
    included: Option<&'a str>,
}

impl Asked<'_> {
    fn of_file(origin: Origin) -> Self {
        Self {
            origin,
            column: 1,
            included: None,
        }
    }
}

struct Reader<'a> {
    folders: &'a dyn PolicyFolders,
    shown_from: PathBuf,
    /// Relative paths count from here: the folder of the file that was not included by another.
    base: PathBuf,
    legacy: PathBuf,
    rules: Vec<Rule>,
    errors: Vec<PolicyError>,
    /// The files that are being read, the outermost first.
    open: Vec<(PathBuf, Form)>,
    included: Vec<PathBuf>,
    bytes: usize,
    /// A limit was met; nothing more is read.
    full: bool,
}

impl<'a> Reader<'a> {
    fn new(folders: &'a dyn PolicyFolders, shown_from: PathBuf, legacy: PathBuf) -> Self {
        Self {
            folders,
            shown_from,
            base: PathBuf::new(),
            legacy,
            rules: Vec::new(),
            errors: Vec::new(),
            open: Vec::new(),
            included: Vec::new(),
            bytes: 0,
            full: false,
        }
    }

    fn finish(self) -> Result<Read, Vec<PolicyError>> {
        if self.errors.is_empty() {
            Ok(Read {
                rules: self.rules,
                included: self.included,
            })
        } else {
            Err(self.errors)
        }
    }

    fn shown(&self, path: &Path) -> Arc<str> {
        let shown = path.strip_prefix(&self.shown_from).unwrap_or(path);
        shown.to_string_lossy().into()
    }

    /// A file as a whole, or what it implies.
    fn whole(&self, path: &Path) -> Origin {
        Origin {
            file: self.shown(path),
            line: 0,
        }
    }

    fn error(&mut self, origin: &Origin, column: u32, kind: PolicyErrorKind) {
        self.errors.push(PolicyError {
            origin: origin.clone(),
            column,
            kind,
        });
    }

    /// The policy files of a folder, sorted by name. One with a bad name is an error; the others
    /// are still read, for their errors.
    fn policy_files(&mut self, folder: &Path, origin: &Origin) -> Vec<String> {
        match self.folders.files(folder) {
            Ok(names) => self.chosen(names, folder),
            Err(FolderError::NotThere) => {
                let shown = self.shown(folder).to_string();
                self.error(origin, 1, PolicyErrorKind::NoFolder(shown));
                Vec::new()
            }
            Err(FolderError::Io(error)) => {
                self.unreadable(&Asked::of_file(origin.clone()), folder, &error);
                Vec::new()
            }
        }
    }

    fn chosen(&mut self, mut names: Vec<String>, folder: &Path) -> Vec<String> {
        names.retain(|name| name.ends_with(SUFFIX) && !name.starts_with('.'));
        names.sort();
        let fits = |c: &char| matches!(c, '0'..='9' | 'a'..='z' | '_' | '.' | '-');
        for name in &names {
            if let Some(found) = name.chars().find(|c| !fits(c)) {
                let origin = self.whole(&folder.join(name));
                self.error(&origin, 1, PolicyErrorKind::FileName { found });
            }
        }
        names
    }

    fn unreadable(&mut self, asked: &Asked<'_>, path: &Path, error: &std::io::Error) {
        let kind = PolicyErrorKind::Unreadable {
            path: self.shown(path).to_string(),
            reason: error.to_string(),
        };
        self.error(&asked.origin, asked.column, kind);
    }

    /// Reads a file at this point of the list.
    fn file(&mut self, path: &Path, form: &Form, asked: &Asked<'_>) {
        let path = normal(path);
        if self.full {
            return;
        }
        let word = || asked.included.unwrap_or_default().to_owned();
        let open = (path, form.clone());
        if self.open.contains(&open) {
            return self.error(
                &asked.origin,
                asked.column,
                PolicyErrorKind::IncludesItself(word()),
            );
        }
        if self.open.len() > INCLUDE_DEPTH_MAX {
            return self.error(
                &asked.origin,
                asked.column,
                PolicyErrorKind::TooDeep(word()),
            );
        }
        let (path, _) = &open;
        let bytes = match self.folders.read(path) {
            Ok(bytes) => bytes,
            Err(FolderError::NotThere) => {
                return self.error(
                    &asked.origin,
                    asked.column,
                    PolicyErrorKind::NoFile(self.shown(path).to_string()),
                );
            }
            Err(FolderError::Io(error)) => return self.unreadable(asked, path, &error),
        };
        if self.included.len() >= FILES_MAX || self.bytes + bytes.len() > TEXT_BYTES_MAX {
            return self.too_much(&asked.origin, asked.column);
        }
        self.bytes += bytes.len();
        self.included.push(path.clone());
        let name = self.shown(path);
        match std::str::from_utf8(&bytes) {
            Ok(text) => {
                self.open.push(open);
                self.text(&name, 1, text, form);
                self.open.pop();
            }
            Err(error) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let lines = before.iter().filter(|byte| **byte == b'\n').count();
                let origin = Origin {
                    file: name,
                    line: u32::try_from(lines + 1).unwrap_or(u32::MAX),
                };
                self.error(&origin, 1, PolicyErrorKind::NotText);
            }
        }
    }

    fn too_much(&mut self, origin: &Origin, column: u32) {
        self.full = true;
        self.error(origin, column, PolicyErrorKind::TooMuch);
    }

    fn text(&mut self, file: &Arc<str>, first_line: u32, text: &str, form: &Form) {
        for (offset, content) in (0..).zip(parse::lines(text)) {
            if self.full {
                return;
            }
            let origin = Origin {
                file: Arc::clone(file),
                line: first_line.saturating_add(offset),
            };
            match form {
                Form::Whole => self.line(content, content, 0, form, &origin),
                Form::Service(_) => {
                    if let Some((start, line)) = parse::modern(content) {
                        self.line(&line, content, start, form, &origin);
                    }
                }
            }
        }
    }

    /// Reads `line`, which begins at byte `start` of `content`.
    fn line(&mut self, line: &str, content: &str, start: usize, form: &Form, origin: &Origin) {
        let mut faults = Vec::new();
        let parsed = parse::parse_line(line, form, origin, &mut faults);
        for fault in faults {
            self.error(origin, column_of(content, start + fault.at), fault.what);
        }
        let Some(parsed) = parsed else { return };
        let column = column_of(content, start + parsed.at);
        let asked = |path| Asked {
            origin: origin.clone(),
            column,
            included: Some(path),
        };
        match parsed.what {
            Line::Rule(rule) => self.rule(rule, column),
            Line::Include(path) => self.include(path, &Form::Whole, &asked(path)),
            Line::IncludeService(names, path) => {
                self.include(path, &Form::Service(names), &asked(path));
            }
            Line::IncludeDir(path) => self.include_dir(path, origin, column),
            Line::Compat40 => self.compat(&asked("!compat-4.0")),
        }
    }

    fn rule(&mut self, rule: Rule, column: u32) {
        if self.rules.len() >= RULES_MAX {
            self.too_much(&rule.origin, column);
        } else {
            self.rules.push(rule);
        }
    }

    /// A path as included; none, with an error, if it can be none.
    fn resolve(&mut self, path: &str, origin: &Origin, column: u32) -> Option<PathBuf> {
        if path.contains('\0') {
            self.error(origin, column, PolicyErrorKind::PathWithNul);
            return None;
        }
        Some(normal(&self.base.join(path)))
    }

    fn include(&mut self, path: &str, form: &Form, asked: &Asked<'_>) {
        if let Some(path) = self.resolve(path, &asked.origin, asked.column) {
            self.file(&path, form, asked);
        }
    }

    fn include_dir(&mut self, path: &str, origin: &Origin, column: u32) {
        let Some(folder) = self.resolve(path, origin, column) else {
            return;
        };
        let names = match self.folders.files(&folder) {
            Ok(names) => self.chosen(names, &folder),
            Err(FolderError::NotThere) => {
                let shown = self.shown(&folder).to_string();
                return self.error(origin, column, PolicyErrorKind::NotAFolder(shown));
            }
            Err(FolderError::Io(error)) => {
                let asked = Asked {
                    origin: origin.clone(),
                    column,
                    included: None,
                };
                return self.unreadable(&asked, &folder, &error);
            }
        };
        for name in names {
            let asked = Asked {
                origin: origin.clone(),
                column,
                included: Some(path),
            };
            self.file(&folder.join(name), &Form::Whole, &asked);
        }
    }

    /// Reads the files of the older form, sorted by service and then by argument, with the file
    /// for any argument last.
    fn compat(&mut self, asked: &Asked<'_>) {
        let legacy = self.legacy.clone();
        let names = match self.folders.files(&legacy) {
            Ok(names) => names,
            Err(FolderError::NotThere) => {
                let shown = self.shown(&legacy).to_string();
                return self.error(
                    &asked.origin,
                    asked.column,
                    PolicyErrorKind::NoFolder(shown),
                );
            }
            Err(FolderError::Io(error)) => return self.unreadable(asked, &legacy, &error),
        };
        let base = std::mem::replace(&mut self.base, legacy.clone());
        for file in service_files(names) {
            let path = legacy.join(&file.name);
            let names = (Some(file.service), file.argument);
            self.file(&path, &Form::Service(names.clone()), asked);
            if names.1.is_some() {
                self.implied(&path, names);
            }
        }
        self.base = base;
    }

    /// What a file for one argument does not list was denied there, and is here.
    fn implied(&mut self, path: &Path, (service, argument): Names) {
        for target in [TargetToken::AnyVm, TargetToken::AdminVm] {
            let rule = Rule {
                origin: self.whole(path),
                service: service.clone(),
                argument: argument.clone(),
                source: SourceToken::AnyVm,
                target,
                action: Action::Deny { notify: true },
            };
            self.rule(rule, 1);
        }
    }
}

/// A file for one service, in the order in which they are read: the file for any argument is the
/// last of its service.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ServiceFile {
    service: Box<str>,
    any_argument: bool,
    argument: Option<Box<str>>,
    name: String,
}

/// Whether a file of this name holds policy of the older form.
pub(crate) fn is_service_file(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    !name.starts_with('.')
        && name.chars().all(fits)
        && !LEFT_BEHIND.iter().any(|suffix| name.ends_with(suffix))
}

/// The files for services among `names`.
fn service_files(names: Vec<String>) -> Vec<ServiceFile> {
    let mut files: Vec<ServiceFile> = (names.into_iter().filter(|name| is_service_file(name)))
        .map(|name| {
            let plus = name.find('+').unwrap_or(name.len());
            let (service, argument) = name.split_at(plus);
            ServiceFile {
                service: service.into(),
                any_argument: argument.is_empty(),
                argument: (!argument.is_empty()).then(|| argument.into()),
                name,
            }
        })
        .collect();
    files.sort();
    files
}
