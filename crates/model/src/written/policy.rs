//! Entries of `policy` and `policy_tests`.

use std::ops::Range;

use crate::decode::{Decode, Decoder, Located, OptionRow, Section, Suggester, section};
use crate::diagnostic::{At, Problem};
use crate::syntax::tree::{Node, Value};

section! {
    /// Folders that are read while the machine runs.
    pub(crate) struct LiveOptions as "Live" {
        /// Folder of files that are in force until the next start of the machine; a file in it
        /// hides the file of its name in `folder`.
        runtime: String = "`/run/qubes/policy.d`, or none where `folder` is given", "0.1";
        /// Folder of policy files.
        folder: String = "`/etc/qubes/policy.d`", "0.1";
        /// Folder of the files that `!compat-4.0` reads.
        legacy: String = "`/etc/qubes-rpc/policy`, or `compat` in `folder` where that is given", "0.1";
    }
}

/// Rules, or the files or folders that hold them.
#[derive(Debug, Clone)]
pub(crate) enum PolicyEntry {
    Rules(Located<String>),
    File(Located<String>),
    Rule(TypedRule),
    Live(Located<LiveOptions>),
}

/// A rule as a line of policy text, and where each word of the line was written.
#[derive(Debug, Clone)]
pub(crate) struct TypedRule {
    pub(crate) at: At,
    pub(crate) line: String,
    pub(crate) words: Vec<(Range<u32>, At)>,
}

/// Expectations, or the files that hold them.
#[derive(Debug, Clone)]
pub(crate) enum TestEntry {
    Lines(Located<String>),
    File(Located<String>),
}

section! {
    /// A rule of policy.
    pub(crate) struct RuleOptions as "Rule" {
        /// For `Rule(…)`: the service, or `"*"` for every one.
        service: String = "must be given", "0.1";
        /// For `Rule(…)`: the argument of the service with its `+`; `"+"` is no argument, `"*"` any.
        argument: String = "`\"*\"`", "0.1";
        /// For `Rule(…)`: who calls, in the words of policy format 5.0: a qube, `@anyvm`,
        /// `@tag:NAME` and so on.
        source: String = "must be given", "0.1";
        /// For `Rule(…)`: who is asked for, in the words of policy format 5.0: a qube, `@default`,
        /// `@dispvm` and so on.
        target: String = "must be given", "0.1";
        /// For `Rule(…)`: `Allow`, `Ask` or `Deny`, with parameters in `()` if it has any.
        action: ActionWritten = "must be given", "0.1";
    }
}

section! {
    /// Parameters of an action.
    pub(crate) struct ActionOptions as "Ask" {
        /// Where the call goes instead; with `Ask`, the only choice. Not with `Deny`.
        target: String = "what was asked for", "0.1";
        /// With `Ask`: the choice that is preselected.
        default_target: String = "none", "0.1";
        /// The user that the service runs as. Not with `Deny`.
        user: String = "the default user of the target", "0.1";
        /// Whether the person is told.
        notify: bool = "true with `Deny`, else false", "0.1";
        /// Whether a target that does not run is started. Not with `Deny`.
        autostart: bool = "true", "0.1";
    }
}

/// An action with its parameters.
#[derive(Debug, Clone)]
pub(crate) struct ActionWritten {
    name: &'static str,
    options: ActionOptions,
}

/// Each action: its name here, in policy text, and its parameters.
const ACTIONS: [(&str, &str, &[&str]); 3] = [
    ("Allow", "allow", &["target", "user", "notify", "autostart"]),
    (
        "Ask",
        "ask",
        &["target", "default_target", "user", "notify", "autostart"],
    ),
    ("Deny", "deny", &["notify"]),
];

impl Decode for ActionWritten {
    fn type_name() -> String {
        "Allow, Ask or Deny".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let (word, span, fields) = match &node.value {
            Value::Word(word) => (*word, node.span, &[][..]),
            Value::Tuple {
                name: Some(name),
                items,
            } if items.is_empty() => (name.text, name.span, &[][..]),
            Value::Struct {
                name: Some(name),
                fields,
            } => (name.text, name.span, &fields[..]),
            _ => {
                decoder.wrong(node, "`Allow`, `Ask` or `Deny`");
                return None;
            }
        };
        let Some((_, name, known)) = ACTIONS.iter().find(|(known, ..)| *known == word) else {
            let mut message = format!("`{word}` is no action");
            let actions = ACTIONS.iter().map(|(known, ..)| *known);
            if let Some(near) = Suggester::default().nearest(word, actions) {
                message.push_str(&format!(", did you mean `{near}`?"));
            }
            let problem = Problem::error(decoder.at(span), message);
            decoder.push(problem.help("write `Allow`, `Ask` or `Deny`"));
            return None;
        };
        let mut options = ActionOptions::default();
        for field in fields {
            let own = field.name.text;
            let problem = |message: String| Problem::error(decoder.at(field.name.span), message);
            if !known.contains(&own) {
                let mut message = format!("`{word}` has no `{own}`");
                if let Some(near) = Suggester::default().nearest(own, known.iter().copied()) {
                    message.push_str(&format!(", did you mean `{near}`?"));
                }
                let problem = problem(message).help(format!("it takes {}", known.join(", ")));
                decoder.push(problem);
                options.set_incomplete();
            } else if let Some(first) = options.written(own) {
                let problem = problem(format!("`{own}` is written twice"));
                decoder.push(problem.related(first, "first written here"));
            } else {
                options.read(own, field, decoder);
            }
        }
        Some(Self { name, options })
    }

    fn nested() -> Option<(&'static str, Vec<OptionRow>)> {
        Some((".", ActionOptions::rows()))
    }
}

/// Puts words into a line and notes where each came from.
struct Line<'d, 'p> {
    decoder: &'d mut Decoder<'p>,
    text: String,
    words: Vec<(Range<u32>, At)>,
    wrong: bool,
}

impl Line<'_, '_> {
    fn word(&mut self, prefix: &str, value: &str, at: At) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let column = |text: &str| u32::try_from(text.chars().count() + 1).unwrap_or(u32::MAX);
        let start = column(&self.text);
        self.text.push_str(prefix);
        self.text.push_str(value);
        self.words.push((start..column(&self.text), at));
    }

    /// A value that was written as a text: it is one word of the line, and stays one.
    fn value(&mut self, prefix: &str, value: &Located<String>, what: &str) {
        let blank = |c: char| c.is_whitespace() || c.is_control();
        if value.value.is_empty() || value.value.contains(blank) {
            let message = format!("{what} must be one word");
            self.decoder.push(Problem::error(value.at, message));
            self.wrong = true;
        }
        self.word(prefix, &value.value, value.at);
    }

    /// A column that must be there.
    fn column(&mut self, value: Option<&Located<String>>, what: &str, rule: At) {
        match value {
            Some(value) => self.value("", value, &format!("the {what}")),
            None => {
                let problem = Problem::error(rule, format!("the rule has no {what}"));
                self.decoder
                    .push(problem.help(format!("add `{what}: \"…\"`")));
                self.wrong = true;
            }
        }
    }

    fn action(&mut self, action: &Located<ActionWritten>) {
        let ActionWritten { name, options } = &action.value;
        self.word("", name, action.at);
        let texts = [
            ("target=", &options.target),
            ("default_target=", &options.default_target),
            ("user=", &options.user),
        ];
        for (prefix, value) in texts {
            if let Some(value) = value {
                self.value(
                    prefix,
                    value,
                    &format!("`{}`", prefix.trim_end_matches('=')),
                );
            }
        }
        for (prefix, value) in [
            ("notify=", &options.notify),
            ("autostart=", &options.autostart),
        ] {
            if let Some(value) = value {
                self.word(prefix, if value.value { "yes" } else { "no" }, value.at);
            }
        }
    }
}

/// Whether a character can stand in the name of a service: others would make the line a comment or
/// a directive.
fn in_service(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')
}

impl Decode for TypedRule {
    fn type_name() -> String {
        "Rule(…)".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let options = RuleOptions::decode(node, decoder)?;
        if options.incomplete
            || options
                .action
                .as_ref()
                .is_some_and(|a| a.value.options.incomplete)
        {
            return None;
        }
        let at = decoder.at(node.span);
        let service = options.service.as_ref();
        if let Some(service) = service.filter(|service| service.value != "*")
            && let Some(found) = service.value.chars().find(|c| !in_service(*c))
        {
            let message = format!("service `{}` contains `{found}`", service.value);
            let help = match found {
                '+' => "write the argument as `argument: \"+ARGUMENT\"`",
                _ => "use letters, digits, `-`, `.` and `_`, or `*` for every service",
            };
            decoder.push(Problem::error(service.at, message).help(help));
            return None;
        }
        let mut line = Line {
            decoder,
            text: String::new(),
            words: Vec::new(),
            wrong: false,
        };
        line.column(service, "service", at);
        match &options.argument {
            Some(argument) => line.value("", argument, "the argument"),
            None => line.word("", "*", at),
        }
        line.column(options.source.as_ref(), "source", at);
        line.column(options.target.as_ref(), "target", at);
        match &options.action {
            Some(action) => line.action(action),
            None => {
                let problem = Problem::error(at, "the rule has no action");
                line.decoder
                    .push(problem.help("add `action: Allow`, `action: Ask` or `action: Deny`"));
                line.wrong = true;
            }
        }
        (!line.wrong).then_some(Self {
            at,
            line: line.text,
            words: line.words,
        })
    }
}

/// What holds one text: `Text("…")`, `File("…")`.
fn holds_one<'n, 's>(
    name: &str,
    what: &str,
    items: &'n [Node<'s>],
    node: &Node<'_>,
    decoder: &mut Decoder<'_>,
) -> Option<&'n Node<'s>> {
    match items {
        [one] => Some(one),
        _ => {
            let message = format!("`{name}` holds {what}");
            decoder.push(Problem::error(decoder.at(node.span), message));
            None
        }
    }
}

const PATH: &str = "one path or pattern";

fn unknown_entry(word: &str, known: &[&str], message: &mut String) {
    if let Some(near) = Suggester::default().nearest(word, known.iter().copied()) {
        message.push_str(&format!(", did you mean `{near}`?"));
    }
}

impl Decode for PolicyEntry {
    fn type_name() -> String {
        "text, File(…), Live(…) or Rule(…)".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let name = match &node.value {
            Value::Text(_) => return Located::decode(node, decoder).map(Self::Rules),
            Value::Broken => return None,
            Value::Tuple {
                name: Some(name),
                items,
            } => match name.text {
                "File" => {
                    let path = holds_one("File", PATH, items, node, decoder)?;
                    return Located::decode(path, decoder).map(Self::File);
                }
                "Text" => {
                    let text = holds_one("Text", "one text of rules", items, node, decoder)?;
                    return Located::decode(text, decoder).map(Self::Rules);
                }
                "Rule" if items.is_empty() => {
                    return TypedRule::decode(node, decoder).map(Self::Rule);
                }
                "Live" if items.is_empty() => {
                    return Located::decode(node, decoder).map(Self::Live);
                }
                other => Some(other),
            },
            Value::Struct {
                name: Some(name), ..
            } => match name.text {
                "Rule" => return TypedRule::decode(node, decoder).map(Self::Rule),
                "Live" => return Located::decode(node, decoder).map(Self::Live),
                other => Some(other),
            },
            Value::Word(word) => Some(*word),
            _ => None,
        };
        let mut message = match name {
            Some(name) => format!("expected policy rules, found `{name}`"),
            None => format!("expected policy rules, found {}", node.value.describe()),
        };
        unknown_entry(
            name.unwrap_or_default(),
            &["Rule", "File", "Text", "Live"],
            &mut message,
        );
        decoder.push(Problem::error(decoder.at(node.span), message).help(
            "write rules as a text, as `Rule(service: …)`, `File(\"policy/*.policy\")` or `Live()`",
        ));
        None
    }

    fn nested() -> Option<(&'static str, Vec<OptionRow>)> {
        Some((".", RuleOptions::rows()))
    }
}

impl Decode for TestEntry {
    fn type_name() -> String {
        "text or File(…)".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(_) => Located::decode(node, decoder).map(Self::Lines),
            Value::Tuple {
                name: Some(name),
                items,
            } if name.text == "File" => {
                let path = holds_one("File", PATH, items, node, decoder)?;
                Located::decode(path, decoder).map(Self::File)
            }
            Value::Broken => None,
            other => {
                let message = format!("expected expectations, found {}", other.describe());
                let problem = Problem::error(decoder.at(node.span), message);
                decoder.push(problem.help(
                    "write them as a text, `\"work -> vault qubes.Filecopy is ask\"`, or \
                     `File(\"policy/*.expect\")`",
                ));
                None
            }
        }
    }
}
