//! Writing the managed fragment: what `bulkhead set` and the manager window change.
//!
//! Only text goes in and out. Comments and everything that is not changed stay.

use crate::diagnostic::Diagnostics;
use crate::format::format;
use crate::name::QubeName;
use crate::property::QubeProperty;
use crate::syntax::tree::{Node, Value};
use crate::syntax::{self, Span};

/// Why a managed fragment was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ManagedError {
    /// The fragment or the new value is not RON.
    #[error("the changed fragment is not a description")]
    Syntax(Diagnostics),
    /// Something in the fragment is not of the form in which it can be changed.
    #[error("`{0}` in the managed fragment is not of a form that tools write")]
    Shape(&'static str),
}

/// The fragment `text` (empty if there is none yet) with one property of one qube set to
/// `value`, which is written as in a description (`None`, `"sys-vpn"`, `(initial: 800)`).
///
/// The result is formatted, and its syntax and values are checked by themselves; whether the
/// description still holds together is for [`load`](crate::load::load) to say.
pub fn set(
    text: &str,
    qube: &QubeName,
    property: QubeProperty,
    value: &str,
) -> Result<String, ManagedError> {
    let text = if text.trim().is_empty() { "()" } else { text };
    let (tree, errors) = syntax::parse(text);
    if !errors.list.is_empty() {
        return Err(refused(text));
    }
    // Parsed by itself first, so that it cannot close a bracket and go on.
    if !syntax::parse(value).1.list.is_empty() {
        return Err(refused(value));
    }
    let changed = edit(text, &tree, qube, property, value)?;
    let found = crate::load::check_file(FRAGMENT, &changed);
    if found.errors() > 0 {
        return Err(ManagedError::Syntax(found));
    }
    format(FRAGMENT, &changed).map_err(ManagedError::Syntax)
}

/// What errors call the fragment.
const FRAGMENT: &str = "managed fragment";

fn refused(text: &str) -> ManagedError {
    ManagedError::Syntax(crate::load::check_file(FRAGMENT, text))
}

fn edit(
    text: &str,
    tree: &Node<'_>,
    qube: &QubeName,
    property: QubeProperty,
    value: &str,
) -> Result<String, ManagedError> {
    let entry = format!("({property}: {value},)");
    let Some(qubes) = field(tree, "qubes", "System")? else {
        let added = format!("qubes: {{\"{qube}\": {entry},}},");
        return insert_last(text, tree, &added);
    };
    let Value::Map(entries) = &qubes.value else {
        return Err(ManagedError::Shape("qubes"));
    };
    let named = |key: &Node<'_>| matches!(&key.value, Value::Text(name) if name == qube.as_str());
    let Some((_, options)) = entries.iter().find(|(key, _)| named(key)) else {
        return insert_last(text, qubes, &format!("\"{qube}\": {entry},"));
    };
    match field(options, property.name(), "qubes")? {
        Some(old) => Ok(splice(text, old.span, value)),
        None => insert_last(text, options, &format!("{property}: {value},")),
    }
}

/// The value of a field of a struct; `what` names the struct for the error.
fn field<'t, 's>(
    node: &'t Node<'s>,
    name: &str,
    what: &'static str,
) -> Result<Option<&'t Node<'s>>, ManagedError> {
    match &node.value {
        Value::Struct { fields, .. } => {
            let found = fields.iter().find(|field| field.name.text == name);
            Ok(found.map(|field| &field.value))
        }
        Value::Unit => Ok(None),
        _ => Err(ManagedError::Shape(what)),
    }
}

/// Adds an element before the closing bracket, on a line of its own: the line before may end in
/// a comment.
fn insert_last(text: &str, group: &Node<'_>, added: &str) -> Result<String, ManagedError> {
    let last = match &group.value {
        Value::Struct { fields, .. } => fields.last().map(|field| field.value.span),
        Value::Map(entries) => entries.last().map(|(_, value)| value.span),
        _ => None,
    };
    let close = Span {
        start: group.span.end.saturating_sub(1),
        end: group.span.end.saturating_sub(1),
    };
    let before = text.get(..close.start as usize).unwrap_or_default();
    let own_line = before.trim_end_matches(' ').ends_with('\n');
    let start = if own_line { "" } else { "\n" };
    let changed = splice(text, close, &format!("{start}{added}\n"));
    // The comma behind what was last may be missing.
    let Some(last) = last.filter(|last| !comma_follows(text, *last, close)) else {
        return Ok(changed);
    };
    Ok(splice(&changed, last.after(), ","))
}

/// Whether a comma stands between two places, outside of comments.
fn comma_follows(text: &str, from: Span, to: Span) -> bool {
    let tokens = syntax::lexer::tokenize(
        Span {
            start: from.end,
            end: to.start,
        }
        .text(text),
        &mut syntax::SyntaxErrors::default(),
    );
    tokens
        .iter()
        .any(|token| token.kind == syntax::lexer::TokenKind::Comma)
}

fn splice(text: &str, span: Span, new: &str) -> String {
    let before = text.get(..span.start as usize).unwrap_or_default();
    let behind = text.get(span.end as usize..).unwrap_or_default();
    format!("{before}{new}{behind}")
}

#[cfg(test)]
mod tests;
