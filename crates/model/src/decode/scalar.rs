//! Values without parts.

use super::{Decode, Decoder, OptionRow, Suggester};
use crate::diagnostic::Problem;
use crate::name::QubeName;
use crate::qube::{Mib, QubeKind, RestartRule, VirtMode};
use crate::syntax::tree::{Node, Value};

/// Largest size that can be written: 1 PiB. Above it is a slip, and sums stay far from overflow.
pub(crate) const SIZE_MAX: Mib = Mib(1 << 30);

impl Decode for bool {
    fn type_name() -> String {
        "true or false".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                decoder.wrong(node, "true or false");
                None
            }
        }
    }
}

impl Decode for String {
    fn type_name() -> String {
        "text".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        text(node, decoder).map(str::to_owned)
    }
}

fn text<'n>(node: &'n Node<'_>, decoder: &mut Decoder<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) => Some(text),
        Value::Word(word) => {
            let at = decoder.at(node.span);
            let problem = Problem::error(at, format!("expected a text, found the word `{word}`"));
            decoder.push(problem.help(format!("write it as a text: \"{word}\"")));
            None
        }
        _ => {
            decoder.wrong(node, "a text");
            None
        }
    }
}

impl Decode for QubeName {
    fn type_name() -> String {
        "qube name".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match Self::new(text(node, decoder)?) {
            Ok(name) => Some(name),
            Err(error) => {
                let at = decoder.at(node.span);
                decoder.push(Problem::error(at, error.to_string()));
                None
            }
        }
    }
}

/// A whole number from `MIN` to `MAX`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole<const MIN: u32, const MAX: u32>(pub(crate) u32);

impl<const MIN: u32, const MAX: u32> Decode for Whole<MIN, MAX> {
    fn type_name() -> String {
        format!("number from {MIN} to {MAX}")
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Value::Integer(number) = node.value else {
            decoder.wrong(node, &format!("a {}", Self::type_name()));
            return None;
        };
        let fits = u32::try_from(number)
            .ok()
            .filter(|n| (MIN..=MAX).contains(n));
        if fits.is_none() {
            let problem =
                Problem::error(decoder.at(node.span), format!("{number} is out of range"));
            decoder.push(problem.help(format!("from {MIN} to {MAX} is allowed")));
        }
        fits.map(Self)
    }
}

/// A size in memory or on disk, above zero: a number of MiB, or a text with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) Mib);

impl Decode for Size {
    fn type_name() -> String {
        "size".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mib = match &node.value {
            Value::Integer(number) => Some(*number),
            Value::Text(text) => parse_size(text),
            _ => {
                decoder.wrong(node, "a size");
                return None;
            }
        };
        let problem = match mib.map(u64::try_from) {
            Some(Ok(mib)) if (1..=SIZE_MAX.0).contains(&mib) => return Some(Self(Mib(mib))),
            Some(_) => Problem::error(decoder.at(node.span), "this size is out of range")
                .help(format!("from 1 MiB to {SIZE_MAX} is allowed")),
            None => Problem::error(decoder.at(node.span), "this is not a size")
                .help("write a number of MiB, or a text such as \"400 MiB\", \"2 GiB\", \"1 TiB\""),
        };
        decoder.push(problem);
        None
    }
}

/// `2 GiB` or `2GiB` in MiB.
fn parse_size(text: &str) -> Option<i128> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: i128 = number.parse().ok()?;
    let factor = match unit.trim_start_matches(' ') {
        "MiB" => 1,
        "GiB" => 1024,
        "TiB" => 1024 * 1024,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A value, or `None` for nothing. A bare value is enough; `Some(…)` is accepted too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maybe<T> {
    Nothing,
    Just(T),
}

impl<T> Maybe<T> {
    pub(crate) fn just(&self) -> Option<&T> {
        match self {
            Self::Nothing => None,
            Self::Just(value) => Some(value),
        }
    }
}

impl<T: Decode> Decode for Maybe<T> {
    fn type_name() -> String {
        format!("{} or None", T::type_name())
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::None => Some(Self::Nothing),
            Value::Some(inner) => T::decode(inner, decoder).map(Self::Just),
            _ => T::decode(node, decoder).map(Self::Just),
        }
    }

    fn nested() -> Option<(&'static str, Vec<OptionRow>)> {
        T::nested()
    }
}

/// A value that is one of a few words.
trait Choice: Copy + 'static {
    /// The words and what they mean.
    fn choices() -> Vec<(&'static str, Self)>;
}

/// Reads one of the words of a choice.
fn decode_choice<T: Choice>(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<T> {
    let choices = T::choices();
    let words = || choices.iter().map(|(word, _)| *word);
    let word = match &node.value {
        Value::Word(word) => *word,
        Value::Text(text) if words().any(|word| word == text) => {
            let problem = Problem::error(decoder.at(node.span), "expected a word, found a text");
            decoder.push(problem.help(format!("write it without quotes: {text}")));
            return None;
        }
        _ => {
            decoder.wrong(node, &format!("one of {}", joined(words())));
            return None;
        }
    };
    if let Some((_, value)) = choices.iter().find(|(known, _)| *known == word) {
        return Some(*value);
    }
    let mut message = format!("`{word}` is not known here");
    if let Some(near) = Suggester::default().nearest(word, words()) {
        message.push_str(&format!(", did you mean `{near}`?"));
    }
    let problem = Problem::error(decoder.at(node.span), message);
    decoder.push(problem.help(format!("one of {} is expected", joined(words()))));
    None
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

macro_rules! choice {
    ($($type:ty),*) => {$(
        impl Choice for $type {
            fn choices() -> Vec<(&'static str, Self)> {
                Self::ALL.iter().map(|choice| (choice.name(), *choice)).collect()
            }
        }

        impl Decode for $type {
            fn type_name() -> String {
                format!("one of {}", joined(Self::ALL.iter().map(|choice| choice.name())))
            }

            fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
                decode_choice(node, decoder)
            }
        }
    )*};
}

choice!(QubeKind, VirtMode, RestartRule);
