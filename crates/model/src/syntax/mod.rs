//! RON as a tree in which every value knows where it stands.
//!
//! `lexer` makes tokens, `parser` makes the [`tree`], `literal` decodes numbers and texts. All go
//! on after an error, so that one run reports everything. What the `ron` crate accepts is
//! accepted here, within [`DEPTH_MAX`]; a property test compares the two.

pub(crate) mod lexer;
mod literal;
mod parser;
pub(crate) mod tree;

pub use parser::DEPTH_MAX;
pub(crate) use parser::parse;

/// A range of bytes in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Span {
    /// First byte.
    pub(crate) start: u32,
    /// One past the last byte.
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        // Files are at most `FILE_BYTES_MAX`, far below 4 GiB.
        let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self {
            start: narrow(start),
            end: narrow(end),
        }
    }

    /// From the start of this one to the end of `other`.
    pub(crate) fn to(self, other: Self) -> Self {
        Self {
            start: self.start,
            end: other.end.max(self.start),
        }
    }

    /// The empty span just behind this one.
    pub(crate) fn after(self) -> Self {
        Self {
            start: self.end,
            end: self.end,
        }
    }

    pub(crate) fn text(self, source: &str) -> &str {
        source
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// Something wrong with the text itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// A second place that explains the first, as the bracket that was never closed.
    pub(crate) related: Option<(Span, &'static str)>,
}

impl SyntaxError {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            help: None,
            related: None,
        }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn related(mut self, span: Span, what: &'static str) -> Self {
        self.related = Some((span, what));
        self
    }
}

/// The first errors of one file; the rest are only counted, so that a file of garbage costs
/// no more memory than a file.
#[derive(Debug, Default)]
pub(crate) struct SyntaxErrors {
    pub(crate) list: Vec<SyntaxError>,
    pub(crate) omitted: usize,
}

/// How many syntax errors of one file are kept: more than anyone reads.
pub(crate) const SYNTAX_ERRORS_MAX: usize = 200;

impl SyntaxErrors {
    fn push(&mut self, error: SyntaxError) {
        if self.list.len() < SYNTAX_ERRORS_MAX {
            self.list.push(error);
        } else {
            self.omitted += 1;
        }
    }

    /// Adds what `more` holds.
    fn extend(&mut self, more: Self) {
        self.omitted += more.omitted;
        more.list.into_iter().for_each(|error| self.push(error));
    }
}

#[cfg(test)]
mod tests;
