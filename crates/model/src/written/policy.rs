//! Entries of `policy`.

use crate::decode::{Decode, Decoder, Located};
use crate::diagnostic::Problem;
use crate::syntax::tree::{Node, Value};

/// Rules, or the files that hold them.
#[derive(Debug, Clone)]
pub(crate) enum PolicyEntry {
    Rules(Located<String>),
    File(Located<String>),
}

impl Decode for PolicyEntry {
    fn type_name() -> String {
        "text or File(…)".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(_) => Located::decode(node, decoder).map(Self::Rules),
            Value::Tuple {
                name: Some(name),
                items,
            } if name.text == "File" => match items.as_slice() {
                [path] => Located::decode(path, decoder).map(Self::File),
                _ => {
                    decoder.push(Problem::error(
                        decoder.at(node.span),
                        "`File` holds one path or pattern",
                    ));
                    None
                }
            },
            Value::Broken => None,
            other => {
                let message = format!("expected policy rules, found {}", other.describe());
                let problem = Problem::error(decoder.at(node.span), message);
                decoder.push(problem.help("write rules as a text, or `File(\"policy/*.policy\")`"));
                None
            }
        }
    }
}
