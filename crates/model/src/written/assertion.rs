//! Assertions: which qubes, and what must be true of them.

use crate::decode::{
    Decode, Decoder, Located, Maybe, OptionRow, Section, Size, Suggester, Whole, section,
};
use crate::diagnostic::Problem;
use crate::qube::{QubeKind, RestartRule, VirtMode};
use crate::syntax::tree::{Node, Value};
use crate::written::qube::VCPUS_MAX;

section! {
    /// A rule over the description.
    pub(crate) struct Assertion as "Assertion" {
        /// What must hold, in words; shown when it does not.
        name: String = "must be given", "0.1";
        /// Which qubes it is about: a condition as in `must`.
        r#where: Condition = "every qube", "0.1";
        /// What must be true of each: options that must all fit, or `Not(…)`, `Any([…])`,
        /// `All([…])` of conditions.
        must: Condition = "must be given", "0.1";
    }
}

section! {
    /// What is asked of a qube; everything that is given must fit. Where several values are
    /// given in a list, one of them must fit.
    pub(crate) struct Selector as "Qube" {
        /// Its name, as a pattern with `*` and `?`.
        name: OneOrMany<String> = "any", "0.1";
        /// Its kind.
        kind: OneOrMany<QubeKind> = "any", "0.1";
        /// Its label.
        label: OneOrMany<String> = "any", "0.1";
        /// A tag that it has.
        tag: OneOrMany<String> = "any", "0.1";
        /// Its template, as a pattern, or `None`.
        template: OneOrMany<Maybe<String>> = "any", "0.1";
        /// Its netvm, as a pattern, or `None`.
        netvm: OneOrMany<Maybe<String>> = "any", "0.1";
        /// A qube that all its network passes through, as a pattern.
        network_through: OneOrMany<String> = "any", "0.1";
        /// Whether it provides network.
        provides_network: bool = "any", "0.1";
        /// Whether it starts with the machine.
        autostart: bool = "any", "0.1";
        /// Whether it has devices assigned.
        has_devices: bool = "any", "0.1";
        /// A service that is on, as a pattern.
        service: OneOrMany<String> = "any", "0.1";
        /// A feature that is set and not empty, as a pattern.
        feature: OneOrMany<String> = "any", "0.1";
        /// Its virtualisation mode.
        virt_mode: OneOrMany<VirtMode> = "any", "0.1";
        /// Its restart rule.
        restart: OneOrMany<RestartRule> = "any", "0.1";
        /// Its template for disposables, as a pattern, or `None`.
        default_dispvm: OneOrMany<Maybe<String>> = "any", "0.1";
        /// Its audio qube, as a pattern, or `None`.
        audiovm: OneOrMany<Maybe<String>> = "any", "0.1";
        /// Its GUI qube, as a pattern, or `None`.
        guivm: OneOrMany<Maybe<String>> = "any", "0.1";
        /// Its managing disposable template, as a pattern, or `None`.
        management_dispvm: OneOrMany<Maybe<String>> = "any", "0.1";
        /// Upper bound of its memory at most.
        memory_at_most: Size = "any", "0.1";
        /// Upper bound of its virtual processors.
        vcpus_at_most: Whole<1, VCPUS_MAX> = "any", "0.1";
    }
}

/// A condition on a qube.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    Fits(Box<Selector>),
    Not(Box<Located<Condition>>),
    Any(Vec<Located<Condition>>),
    All(Vec<Located<Condition>>),
}

impl Decode for Condition {
    fn type_name() -> String {
        "condition".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Value::Tuple {
            name: Some(name),
            items,
        } = &node.value
        else {
            return Selector::decode(node, decoder).map(|selector| Self::Fits(Box::new(selector)));
        };
        let list = |decoder: &mut Decoder<'_>| match &items[..] {
            [list] => Vec::decode(list, decoder),
            _ => {
                let message = format!("`{}` holds one list of conditions", name.text);
                decoder.push(Problem::error(decoder.at(node.span), message));
                None
            }
        };
        match (name.text, &items[..]) {
            ("Not", [inner]) => {
                Located::decode(inner, decoder).map(|inner| Self::Not(Box::new(inner)))
            }
            ("Any", _) => list(decoder).map(Self::Any),
            ("All", _) => list(decoder).map(Self::All),
            ("Qube", []) => Some(Self::Fits(Box::default())),
            (word, _) => {
                let mut message = format!("`{word}` is no condition");
                if word == "Not" {
                    "`Not` holds one condition".clone_into(&mut message);
                } else if let Some(near) = Suggester::default().nearest(word, ["Not", "Any", "All"])
                {
                    message.push_str(&format!(", did you mean `{near}`?"));
                }
                let problem = Problem::error(decoder.at(node.span), message);
                decoder.push(
                    problem.help(
                        "`(netvm: None)`, `Not(…)`, `Any([…])` and `All([…])` are conditions",
                    ),
                );
                None
            }
        }
    }

    fn nested() -> Option<(&'static str, Vec<OptionRow>)> {
        Some((".", Selector::rows()))
    }
}

/// One value, or a list of which one fits.
#[derive(Debug, Clone)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

impl<T: Decode> Decode for OneOrMany<T> {
    fn type_name() -> String {
        format!("{}, or a list of such", T::type_name())
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match node.value {
            Value::List(_) => Vec::decode(node, decoder).map(Self),
            _ => T::decode(node, decoder).map(|value| Self(vec![value])),
        }
    }
}
