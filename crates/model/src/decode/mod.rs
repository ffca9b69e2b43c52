//! Tree to written form: what a value may be, and what is said when it is not.

pub(crate) mod scalar;
mod section;
mod suggest;
mod table;

pub(crate) use scalar::{Maybe, Size, Whole};
pub(crate) use section::{OptionRow, Section, decode_section, option_name, section};
pub(crate) use suggest::Suggester;
pub(crate) use table::Table;

use crate::diagnostic::{At, FileId, Problem, Problems};
use crate::syntax::Span;
use crate::syntax::tree::{Node, Value};

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) at: At,
}

/// Reads one file's tree; problems go where they are gathered.
#[derive(Debug)]
pub(crate) struct Decoder<'p> {
    file: FileId,
    problems: &'p mut Problems,
}

impl<'p> Decoder<'p> {
    pub(crate) fn new(file: FileId, problems: &'p mut Problems) -> Self {
        Self { file, problems }
    }

    pub(crate) fn at(&self, span: Span) -> At {
        At {
            file: self.file,
            span,
        }
    }

    pub(crate) fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Reports that `node` is something else than `expected`, unless it was reported as broken.
    pub(crate) fn wrong(&mut self, node: &Node<'_>, expected: &str) {
        if node.value != Value::Broken {
            let found = node.value.describe();
            let problem = Problem::error(
                self.at(node.span),
                format!("expected {expected}, found {found}"),
            );
            self.push(problem);
        }
    }
}

/// Something that can be read from a value.
pub(crate) trait Decode: Sized {
    /// What it is called in messages and in the table of options.
    fn type_name() -> String;

    /// Reads it. None means that it was reported.
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self>;

    /// What stands in for one that could not be read, where others may refer to it by name.
    fn broken() -> Option<Self> {
        None
    }

    /// The options inside, and what stands between this one's path and theirs.
    fn nested() -> Option<(&'static str, Vec<OptionRow>)> {
        None
    }
}

impl<T: Decode> Decode for Located<T> {
    fn type_name() -> String {
        T::type_name()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let value = T::decode(node, decoder)?;
        let at = decoder.at(node.span);
        Some(Self { value, at })
    }

    fn nested() -> Option<(&'static str, Vec<OptionRow>)> {
        T::nested()
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn type_name() -> String {
        format!("list of {}", T::type_name())
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            decoder.wrong(node, &format!("a {}", Self::type_name()));
            return None;
        };
        // What cannot be read is left out: it was reported, and the rest is still checked.
        Some(
            items
                .iter()
                .filter_map(|item| T::decode(item, decoder))
                .collect(),
        )
    }

    fn nested() -> Option<(&'static str, Vec<OptionRow>)> {
        T::nested().map(|(_, rows)| ("[].", rows))
    }
}

#[cfg(test)]
mod tests;
