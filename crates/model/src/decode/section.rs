//! Structs of options. The one place where an option is defined is a [`section!`]: the field, how
//! it is read, what is suggested for a misspelling and its row in the documentation all follow.

use super::{Decoder, Suggester};
use crate::diagnostic::Problem;
use crate::syntax::tree::{Field, Node, Value, Word};

/// What is said about one option.
#[derive(Debug, Clone)]
pub(crate) struct OptionRow {
    pub(crate) name: &'static str,
    pub(crate) type_name: String,
    pub(crate) default: &'static str,
    pub(crate) since: &'static str,
    /// Lines of its doc comment.
    pub(crate) meaning: &'static [&'static str],
    /// The options inside.
    pub(crate) nested: Option<(&'static str, Vec<OptionRow>)>,
}

/// A struct of options; all may be absent.
pub(crate) trait Section: Default {
    /// The struct's name, which may be written before its bracket.
    const NAME: &'static str;

    /// The names of its options.
    const KEYS: &'static [&'static str];

    /// Every option.
    fn rows() -> Vec<OptionRow>;

    /// Reads an option; false when there is none of this name.
    fn read(&mut self, name: &str, field: &Field<'_>, decoder: &mut Decoder<'_>) -> bool;

    /// Where an option was written before.
    fn written(&self, name: &str) -> Option<crate::diagnostic::At>;

    /// Notes that something inside could not be read, so that nobody reports it as missing.
    fn set_incomplete(&mut self);
}

/// Without the `r#` of a field that is named like a word of Rust.
pub(crate) const fn option_name(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// Reads a struct of options, going on after every problem.
pub(crate) fn decode_section<T: Section>(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<T> {
    let (name, fields) = match &node.value {
        Value::Struct { name, fields } => (name.as_deref(), &fields[..]),
        Value::Unit => (None, &[][..]),
        Value::Tuple { name, items } if items.is_empty() => (name.as_deref(), &[][..]),
        Value::Map(_) => {
            let problem = Problem::error(
                decoder.at(node.span),
                "expected options in `()`, found a map",
            );
            decoder.push(
                problem.help("options are written `(name: value)`, without quotes around the name"),
            );
            return None;
        }
        _ => {
            decoder.wrong(node, "options in `()`");
            return None;
        }
    };
    if let Some(name) = name.filter(|name| name.text != T::NAME) {
        let message = format!("expected `{}`, found `{}`", T::NAME, name.text);
        let problem = Problem::error(decoder.at(name.span), message);
        decoder.push(problem.help("the name before `(` may be left out"));
    }
    Some(decode_fields(fields, decoder))
}

/// Reads the fields of a struct.
pub(crate) fn decode_fields<T: Section>(fields: &[Field<'_>], decoder: &mut Decoder<'_>) -> T {
    let mut section = T::default();
    for field in fields {
        if let Some(first) = section.written(field.name.text) {
            let message = format!("`{}` is written twice", field.name.text);
            let problem = Problem::error(decoder.at(field.name.span), message);
            decoder.push(problem.related(first, "first written here"));
        } else if !section.read(field.name.text, field, decoder) {
            unknown::<T>(field.name, decoder);
            section.set_incomplete();
        }
    }
    section
}

fn unknown<T: Section>(name: Word<'_>, decoder: &mut Decoder<'_>) {
    let mut message = format!("unknown field `{}`", name.text);
    if let Some(near) = Suggester::default().nearest(name.text, T::KEYS.iter().copied()) {
        message.push_str(&format!(", did you mean `{near}`?"));
    }
    let problem = Problem::error(decoder.at(name.span), message);
    decoder.push(problem.help(format!("known here: {}", T::KEYS.join(", "))));
}

/// Defines a struct of options: per option its doc comment (the documented meaning), name, type,
/// documented default and the version that brought it.
macro_rules! section {
    (
        $(#[$about:meta])*
        pub(crate) struct $name:ident as $written:literal {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $type:ty = $default:literal, $since:literal;
            )*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default)]
        pub(crate) struct $name {
            $(
                $(#[doc = $doc])*
                pub(crate) $field: Option<$crate::decode::Located<$type>>,
            )*
            /// Whether something inside could not be read.
            pub(crate) incomplete: bool,
        }

        impl $crate::decode::Section for $name {
            const NAME: &'static str = $written;

            const KEYS: &'static [&'static str] =
                &[$($crate::decode::option_name(stringify!($field))),*];

            fn rows() -> Vec<$crate::decode::OptionRow> {
                vec![$($crate::decode::OptionRow {
                    name: $crate::decode::option_name(stringify!($field)),
                    type_name: <$type as $crate::decode::Decode>::type_name(),
                    default: $default,
                    since: $since,
                    meaning: &[$($doc),*],
                    nested: <$type as $crate::decode::Decode>::nested(),
                }),*]
            }

            fn read(
                &mut self,
                name: &str,
                field: &$crate::syntax::tree::Field<'_>,
                decoder: &mut $crate::decode::Decoder<'_>,
            ) -> bool {
                $(
                    if name == const { $crate::decode::option_name(stringify!($field)) } {
                        let value = $crate::decode::Decode::decode(&field.value, decoder);
                        self.incomplete |= value.is_none();
                        self.$field = value;
                        return true;
                    }
                )*
                false
            }

            fn written(&self, name: &str) -> Option<$crate::diagnostic::At> {
                $(
                    if name == const { $crate::decode::option_name(stringify!($field)) } {
                        return self.$field.as_ref().map(|value| value.at);
                    }
                )*
                None
            }

            fn set_incomplete(&mut self) {
                self.incomplete = true;
            }
        }

        impl $crate::decode::Decode for $name {
            fn type_name() -> String {
                "options".to_owned()
            }

            fn decode(
                node: &$crate::syntax::tree::Node<'_>,
                decoder: &mut $crate::decode::Decoder<'_>,
            ) -> Option<Self> {
                $crate::decode::decode_section(node, decoder)
            }

            fn broken() -> Option<Self> {
                Some(Self { incomplete: true, ..Self::default() })
            }

            fn nested() -> Option<(&'static str, Vec<$crate::decode::OptionRow>)> {
                Some((".", <Self as $crate::decode::Section>::rows()))
            }
        }
    };
}

pub(crate) use section;
