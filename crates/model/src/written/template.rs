//! Template images.

use crate::decode::{Decode, Decoder, OptionRow, Section, Suggester, section};
use crate::diagnostic::Problem;
use crate::syntax::tree::{Node, Value};

section! {
    /// A template image.
    pub(crate) struct TemplateOptions as "Template" {
        /// Where its root comes from: `Host` (this machine's own root, read-only; embedded
        /// hypervisor only), `Debian(suite: "trixie", packages: ["git"])` (a tree built by
        /// mmdebstrap), `Folder("path")` (a folder that holds a root tree, relative to this
        /// file), or `Image("path")` (a folder that holds a disk image of a root with its kernel, or
        /// a kernel alone, which is a unikernel; Xen only).
        source: Source = "must be given", "0.1";
        /// Its label.
        label: String = "black", "0.1";
    }
}

section! {
    /// A Debian tree.
    pub(crate) struct DebianOptions as "Debian" {
        /// Name of the suite.
        suite: String = "must be given", "0.1";
        /// Packages beyond the minimal set.
        packages: Vec<String> = "none", "0.1";
    }
}

/// Where a template's root comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Host,
    Debian(DebianOptions),
    Folder(String),
    Image(String),
}

const SHAPE: &str = "`Host`, `Debian(suite: \"…\")`, `Folder(\"…\")` or `Image(\"…\")` is expected";

impl Decode for Source {
    fn type_name() -> String {
        "Host, Debian(…), Folder(…) or Image(…)".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let word = match &node.value {
            Value::Word("Host") => return Some(Self::Host),
            Value::Tuple {
                name: Some(name),
                items,
            } if matches!(name.text, "Folder" | "Image") => {
                let of = if name.text == "Folder" {
                    Self::Folder
                } else {
                    Self::Image
                };
                return match &items[..] {
                    [path] => String::decode(path, decoder).map(of),
                    _ => {
                        let message = format!("`{}` holds one path", name.text);
                        decoder.push(Problem::error(decoder.at(node.span), message));
                        None
                    }
                };
            }
            Value::Struct {
                name: Some(name), ..
            } if name.text == "Debian" => {
                let options = DebianOptions::decode(node, decoder)?;
                if options.suite.is_none() && !options.incomplete {
                    let problem = Problem::error(decoder.at(node.span), "`Debian` names no suite");
                    decoder.push(problem.help("add `suite: \"trixie\"`"));
                }
                return Some(Self::Debian(options));
            }
            Value::Word(word) => word,
            Value::Tuple {
                name: Some(name), ..
            }
            | Value::Struct {
                name: Some(name), ..
            } => name.text,
            _ => {
                decoder.wrong(node, "a template source");
                return None;
            }
        };
        let known = ["Host", "Debian", "Folder", "Image"];
        let mut message = match known.contains(&word) {
            true => format!("`{word}` is written otherwise"),
            false => format!("`{word}` is no template source"),
        };
        let near = Suggester::default().nearest(word, known);
        if let Some(near) = near.filter(|near| *near != word) {
            message.push_str(&format!(", did you mean `{near}`?"));
        }
        decoder.push(Problem::error(decoder.at(node.span), message).help(SHAPE));
        None
    }

    fn nested() -> Option<(&'static str, Vec<OptionRow>)> {
        Some((".Debian.", DebianOptions::rows()))
    }
}
