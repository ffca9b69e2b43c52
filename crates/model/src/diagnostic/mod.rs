//! What is wrong with a description: a value that can be shown, sent and tested.
//!
//! A [`Diagnostic`] carries the lines it points at, so that whoever shows it needs no file.

mod collect;
mod text;

use serde::{Deserialize, Serialize};

pub(crate) use collect::{At, FileId, Problem, Problems, SourceMap};
pub use text::Color;

/// How many diagnostics one check reports; the rest are counted.
pub const DIAGNOSTICS_MAX: usize = 1000;

/// Longest part of a source line that a diagnostic carries, in bytes.
pub const EXCERPT_BYTES_MAX: usize = 512;

/// Everything found in one check, in the order of files and lines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Diagnostics {
    /// At most [`DIAGNOSTICS_MAX`]; errors are kept before warnings.
    pub list: Vec<Diagnostic>,
    /// How many more there were.
    pub omitted: usize,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The description is refused.
    Error,
    /// The description is accepted; it may not mean what was intended.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, as one lower-case sentence.
    pub message: String,
    /// Where; none when a file could not be read at all.
    pub place: Option<Place>,
    /// Other places that explain it.
    pub related: Vec<Related>,
    /// What would be right.
    pub help: Vec<String>,
    /// What else is good to know.
    pub notes: Vec<String>,
}

/// Another place and what it has to do with the problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Related {
    /// Where.
    pub place: Place,
    /// What is there.
    pub label: String,
}

/// A stretch of one line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column of the first character, from 1, in characters.
    pub column: u32,
    /// Column behind the last character on that line.
    pub end_column: u32,
    /// Bytes of the file that are meant, `start..end`; may go on beyond the line.
    pub span: (u32, u32),
    /// The line, or [`EXCERPT_BYTES_MAX`] bytes of it around the place.
    pub excerpt: String,
    /// Column of the first character of `excerpt`.
    pub excerpt_column: u32,
}

impl Diagnostics {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many errors are in the list.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many warnings are in the list.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// Adds what others found; what is beyond [`DIAGNOSTICS_MAX`] is counted.
    pub(crate) fn extend(&mut self, found: Vec<Diagnostic>) {
        let room = DIAGNOSTICS_MAX.saturating_sub(self.list.len());
        self.omitted += found.len().saturating_sub(room);
        self.list.extend(found.into_iter().take(room));
    }

    fn count(&self, severity: Severity) -> usize {
        let same = |diagnostic: &&Diagnostic| diagnostic.severity == severity;
        self.list.iter().filter(same).count()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Place {
    /// The place of a span of `text`.
    pub(crate) fn of(file: &str, text: &str, span: crate::syntax::Span) -> Self {
        let before = text.get(..span.start as usize).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let newlines = before.bytes().filter(|byte| *byte == b'\n').count();
        let line = u32::try_from(newlines + 1).unwrap_or(u32::MAX);
        collect::place(file.to_owned(), text, span, line, start)
    }

    /// A place in a text that is not part of a loaded description, as a policy file: line and
    /// columns count from 1.
    pub fn in_text(
        file: impl Into<String>,
        text: &str,
        line: u32,
        columns: std::ops::Range<u32>,
    ) -> Self {
        let index = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
        let before: usize = text.split_inclusive('\n').take(index).map(str::len).sum();
        let content = text.get(before..).unwrap_or_default();
        let content = content.split('\n').next().unwrap_or_default();
        let byte = |column: u32| {
            let skipped = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
            let within: usize = content.chars().take(skipped).map(char::len_utf8).sum();
            before + within
        };
        let span = crate::syntax::Span::new(byte(columns.start), byte(columns.end));
        collect::place(file.into(), text, span, line, before)
    }
}

#[cfg(test)]
mod tests;
