//! The tree of a RON document.

use std::borrow::Cow;

use super::Span;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node<'s> {
    pub(crate) span: Span,
    pub(crate) value: Value<'s>,
}

/// A word: the name of a field, a struct or a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word<'s> {
    pub(crate) span: Span,
    pub(crate) text: &'s str,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field<'s> {
    pub(crate) name: Word<'s>,
    pub(crate) value: Node<'s>,
}

/// What it holds takes no more room than it has to: a qube is some thirty nodes, and those of a whole
/// file are there at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'s> {
    /// `()`
    Unit,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Char(char),
    Text(Cow<'s, str>),
    Bytes,
    /// `1..2`, in any of its forms.
    Range,
    None,
    Some(Box<Node<'s>>),
    List(Box<[Node<'s>]>),
    Map(Box<[(Node<'s>, Node<'s>)]>),
    Tuple {
        name: Option<Box<Word<'s>>>,
        items: Box<[Node<'s>]>,
    },
    Struct {
        name: Option<Box<Word<'s>>>,
        fields: Box<[Field<'s>]>,
    },
    /// A lone word, as a unit variant.
    Word(&'s str),
    /// Something that was not RON and has been reported.
    Broken,
}

impl Value<'_> {
    /// What this is, for messages of the form "expected a text, found …".
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Unit => "`()`",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "a number",
            Self::Float(_) => "a number with a fraction",
            Self::Char(_) => "a character",
            Self::Text(_) => "a text",
            Self::Bytes => "a byte string",
            Self::Range => "a range",
            Self::None => "`None`",
            Self::Some(_) => "`Some(…)`",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Tuple { name: None, .. } => "a tuple",
            Self::Struct { name: None, .. } => "a struct",
            Self::Tuple { .. } | Self::Struct { .. } => "a variant with values",
            Self::Word(_) => "a word",
            Self::Broken => "something that is not RON",
        }
    }
}
