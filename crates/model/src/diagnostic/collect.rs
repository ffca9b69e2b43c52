//! Gathering problems while a description is read, and turning them into diagnostics.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{
    DIAGNOSTICS_MAX, Diagnostic, Diagnostics, EXCERPT_BYTES_MAX, Place, Related, Severity,
};
use crate::syntax::Span;

/// A file of the description, by the order in which it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct FileId(pub(crate) u32);

/// A stretch of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct At {
    pub(crate) file: FileId,
    pub(crate) span: Span,
}

/// The files that were read.
#[derive(Debug, Default)]
pub(crate) struct SourceMap {
    files: Vec<SourceFile>,
}

#[derive(Debug)]
struct SourceFile {
    name: String,
    text: String,
}

impl SourceMap {
    pub(crate) fn add(&mut self, name: String, text: String) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(SourceFile { name, text });
        id
    }

    fn file(&self, id: FileId) -> Option<&SourceFile> {
        self.files.get(id.0 as usize)
    }

    pub(crate) fn text(&self, id: FileId) -> &str {
        self.file(id).map_or("", |file| &file.text)
    }

    pub(crate) fn name(&self, id: FileId) -> &str {
        self.file(id).map_or("", |file| &file.name)
    }
}

/// A problem that still points by offset.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    severity: Severity,
    at: Option<At>,
    message: String,
    related: Vec<(At, String)>,
    help: Vec<String>,
    notes: Vec<String>,
    /// The qube that inherits the value that is wrong.
    heir: Option<String>,
}

impl Problem {
    pub(crate) fn error(at: impl Into<Option<At>>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            at: at.into(),
            message: message.into(),
            related: Vec::new(),
            help: Vec::new(),
            notes: Vec::new(),
            heir: None,
        }
    }

    pub(crate) fn warning(at: impl Into<Option<At>>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(at, message)
        }
    }

    pub(crate) fn related(mut self, at: At, label: impl Into<String>) -> Self {
        self.related.push((at, label.into()));
        self
    }

    /// A value that `qube`, described at `at`, has from a profile or the defaults. The same
    /// problem of other heirs is told with the first one's.
    pub(crate) fn inherited(mut self, at: At, qube: &str) -> Self {
        self.heir = Some(qube.to_owned());
        self.related(at, format!("inherited by `{qube}`"))
    }

    /// Told for every heir: each is named by itself.
    pub(crate) fn of_each(mut self) -> Self {
        self.heir = None;
        self
    }

    /// What is the same in this problem of every heir.
    fn shared(&self) -> Option<(At, String)> {
        let name = format!("`{}`", self.heir.as_ref()?);
        Some((self.at?, self.message.replace(&name, "``")))
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// Problems found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    omitted: usize,
    errors: usize,
    /// Heirs of each inherited problem beside the first.
    heirs: HashMap<(At, String), Vec<String>>,
}

impl Problems {
    pub(crate) fn push(&mut self, problem: Problem) {
        if let Some((shared, heir)) = problem.shared().zip(problem.heir.clone()) {
            match self.heirs.entry(shared) {
                Entry::Occupied(mut more) => return more.get_mut().push(heir),
                Entry::Vacant(first) => first.insert(Vec::new()),
            };
        }
        let error = problem.severity == Severity::Error;
        self.errors += usize::from(error);
        if self.list.len() < DIAGNOSTICS_MAX {
            self.list.push(problem);
            return;
        }
        self.omitted += 1;
        // A description that is refused must say why, however many warnings came before.
        if error {
            let warning = |problem: &Problem| problem.severity == Severity::Warning;
            if let Some(place) = self.list.iter_mut().rev().find(|problem| warning(problem)) {
                *place = problem;
            }
        }
    }

    pub(crate) fn omit(&mut self, count: usize) {
        self.omitted += count;
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    pub(crate) fn finish(mut self, sources: &SourceMap) -> Diagnostics {
        self.list
            .sort_by_key(|problem| problem.at.map(|at| (at.file, at.span.start)));
        for problem in &mut self.list {
            let more = problem.shared().and_then(|key| self.heirs.get(&key));
            if let Some(more) = more.filter(|more| !more.is_empty()) {
                problem.notes.push(also_inherited(more));
            }
        }
        let lines = LineIndex::new(sources, &self.list);
        Diagnostics {
            list: self
                .list
                .into_iter()
                .map(|problem| problem.finish(&lines))
                .collect(),
            omitted: self.omitted,
        }
    }
}

impl Problem {
    fn finish(self, lines: &LineIndex<'_>) -> Diagnostic {
        let related = |(at, label)| Related {
            place: lines.place(at),
            label,
        };
        Diagnostic {
            severity: self.severity,
            message: self.message,
            place: self.at.map(|at| lines.place(at)),
            related: self.related.into_iter().map(related).collect(),
            help: self.help,
            notes: self.notes,
        }
    }
}

/// Heirs that are named; nobody reads a list of a thousand.
const HEIRS_NAMED: usize = 5;

fn also_inherited(heirs: &[String]) -> String {
    let named = heirs.iter().take(HEIRS_NAMED);
    let named: Vec<String> = named.map(|heir| format!("`{heir}`")).collect();
    let more = match heirs.len().saturating_sub(HEIRS_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("also inherited by {}{more}", named.join(", "))
}

/// Where the lines of the files start; made once, and only of files with problems.
struct LineIndex<'a> {
    sources: &'a SourceMap,
    starts: Vec<Vec<usize>>,
}

impl<'a> LineIndex<'a> {
    fn new(sources: &'a SourceMap, problems: &[Problem]) -> Self {
        let mut starts = vec![Vec::new(); sources.files.len()];
        for problem in problems {
            for at in problem
                .at
                .iter()
                .chain(problem.related.iter().map(|(at, _)| at))
            {
                if let Some(starts) = starts.get_mut(at.file.0 as usize).filter(|s| s.is_empty()) {
                    let text = sources.text(at.file);
                    starts.push(0);
                    starts.extend(text.match_indices('\n').map(|(offset, _)| offset + 1));
                }
            }
        }
        Self { sources, starts }
    }

    fn place(&self, at: At) -> Place {
        let starts = self
            .starts
            .get(at.file.0 as usize)
            .map_or(&[][..], Vec::as_slice);
        let line = starts.partition_point(|start| *start <= at.span.start as usize);
        let start = line
            .checked_sub(1)
            .and_then(|index| starts.get(index))
            .copied();
        let name = self.sources.name(at.file).to_owned();
        let line = u32::try_from(line.max(1)).unwrap_or(u32::MAX);
        place(
            name,
            self.sources.text(at.file),
            at.span,
            line,
            start.unwrap_or(0),
        )
    }
}

/// The place of `span` in `text`, which starts on `line`, whose first byte is `line_start`.
pub(super) fn place(file: String, text: &str, span: Span, line: u32, line_start: usize) -> Place {
    let content = text.get(line_start..).unwrap_or_default();
    let content = content.split('\n').next().unwrap_or_default();
    let content = content.strip_suffix('\r').unwrap_or(content);
    let inside = |offset: u32| {
        (offset as usize)
            .saturating_sub(line_start)
            .min(content.len())
    };
    let (from, to) = (inside(span.start), inside(span.end));
    let count = |upto: usize| {
        content
            .get(..upto)
            .map_or(upto, |before| before.chars().count())
    };
    let column = |upto: usize| u32::try_from(count(upto) + 1).unwrap_or(u32::MAX);
    // A window around the place, moved outwards to whole characters.
    let half = EXCERPT_BYTES_MAX / 2;
    let (mut low, mut high) = match content.len() > EXCERPT_BYTES_MAX {
        false => (0, content.len()),
        true => (from.saturating_sub(half), (from + half).min(content.len())),
    };
    while !content.is_char_boundary(low) {
        low += 1;
    }
    while !content.is_char_boundary(high) {
        high -= 1;
    }
    Place {
        file,
        line,
        column: column(from),
        end_column: column(to).min(column(high)),
        span: (span.start, span.end),
        excerpt: content.get(low..high).unwrap_or_default().to_owned(),
        excerpt_column: column(low),
    }
}
