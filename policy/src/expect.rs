//! Expectations about policy: `work -> vault qubes.Filecopy is ask`, one a line.

use std::fmt;

use bulkhead_model::qube::PolicyText;

use crate::decision::Decision;
use crate::engine::Engine;
use crate::error::nearest;
use crate::parse::{column_of, lines};
use crate::request::Request;
use crate::rule::{Origin, Rule};
use crate::token::RequestToken;
use crate::view::SystemView;

/// Most expectations of one description; each is a decision, and all of them take a tenth of a second.
pub const EXPECTATIONS_MAX: usize = 100_000;

/// What is expected of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// It is allowed, to wherever it asked for or to this place.
    Allow(Option<String>),
    /// The person is asked.
    Ask,
    /// It is refused.
    Deny,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow(None) => f.write_str("allow"),
            Self::Allow(Some(place)) => write!(f, "allow to {place}"),
            Self::Ask => f.write_str("ask"),
            Self::Deny => f.write_str("deny"),
        }
    }
}

/// One line of expectations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Where it is written.
    pub origin: Origin,
    /// Who calls.
    pub source: String,
    /// Who is asked for.
    pub target: String,
    /// The service, with `+` and its argument if it has one.
    pub service: String,
    /// What must be decided.
    pub expected: Expected,
    /// Where source, target and destination stand, in characters from 1.
    columns: [u32; 3],
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            target,
            service,
            expected,
            ..
        } = self;
        write!(f, "{source} -> {target} {service} is {expected}")
    }
}

/// A line that expects nothing that can be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectationError {
    /// File and line.
    pub origin: Origin,
    /// First and last column of what is wrong, in characters from 1; the last is not part of it.
    pub columns: std::ops::Range<u32>,
    /// What is wrong, as one lower-case sentence.
    pub message: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for ExpectationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}",
            self.origin, self.columns.start, self.message
        )
    }
}

impl std::error::Error for ExpectationError {}

/// What became of an expectation.
#[derive(Debug, Clone)]
pub struct Checked<'a> {
    /// What was expected.
    pub expectation: &'a Expectation,
    /// What is decided.
    pub got: Decision,
    /// The rule that spoke.
    pub rule: Option<&'a Rule>,
}

const FORM: &str = "write `SOURCE -> TARGET SERVICE is ask`, or `is deny`, `is allow`, \
                    `is allow to PLACE`; the service may have an argument: `SERVICE+ARGUMENT`";

struct Word<'a> {
    text: &'a str,
    columns: std::ops::Range<u32>,
}

fn words(line: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
        let from = rest.get(start..).unwrap_or_default();
        let end = from.find(char::is_whitespace).unwrap_or(from.len());
        let text = from.get(..end).unwrap_or_default();
        let at = line.len() - from.len();
        let first = column_of(line, at);
        let length = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        found.push(Word {
            text,
            columns: first..first.saturating_add(length),
        });
        rest = from.get(end..).unwrap_or_default();
    }
    found
}

/// Reads texts of expectations. Lines that start with `#` and empty ones say nothing. On failure
/// every error of every text is returned.
pub fn expectations(texts: &[PolicyText]) -> Result<Vec<Expectation>, Vec<ExpectationError>> {
    let mut read = Vec::new();
    let mut errors = Vec::new();
    for text in texts {
        let file = text.origin.as_str().into();
        for (offset, line) in (0..).zip(lines(&text.text)) {
            let origin = Origin {
                file: std::sync::Arc::clone(&file),
                line: text.first_line.saturating_add(offset),
            };
            let words = words(line);
            match words.first() {
                None => {}
                Some(first) if first.text.starts_with('#') => {}
                Some(_) => match line_of(&words, &origin) {
                    Ok(expectation) => read.push(expectation),
                    Err(error) => errors.push(error),
                },
            }
            if read.len() > EXPECTATIONS_MAX {
                errors.push(ExpectationError {
                    origin,
                    columns: 1..1,
                    message: format!("there are more than {EXPECTATIONS_MAX} expectations"),
                    remedy: "keep those that say something of their own".into(),
                });
                return Err(errors);
            }
        }
    }
    if errors.is_empty() {
        Ok(read)
    } else {
        Err(errors)
    }
}

fn line_of(words: &[Word<'_>], origin: &Origin) -> Result<Expectation, ExpectationError> {
    let wrong = |word: Option<&Word<'_>>, message: String, remedy: String| {
        let end = words.last().map_or(1, |word| word.columns.end);
        ExpectationError {
            origin: origin.clone(),
            columns: word.map_or(end..end + 1, |word| word.columns.clone()),
            message,
            remedy,
        }
    };
    let text = |at: usize| words.get(at).map(|word| word.text);
    let form = |at: usize, message: &str| wrong(words.get(at), message.to_owned(), FORM.to_owned());
    if text(1) != Some("->") {
        return Err(form(1, "`->` is expected behind the source"));
    }
    let (Some(source), Some(target), Some(service)) = (text(0), text(2), text(3)) else {
        return Err(form(words.len(), "the line ends too early"));
    };
    if text(4) != Some("is") {
        return Err(form(4, "`is` is expected behind the service"));
    }
    let Some(outcome) = text(5) else {
        return Err(form(5, "the line ends too early"));
    };
    let (expected, used) = match (outcome, text(6), text(7)) {
        ("allow", Some("to"), Some(place)) => (Expected::Allow(Some(place.to_owned())), 8),
        ("allow", _, _) => (Expected::Allow(None), 6),
        ("ask", _, _) => (Expected::Ask, 6),
        ("deny", _, _) => (Expected::Deny, 6),
        _ => {
            let message = format!("`{outcome}` is no decision");
            let remedy = match nearest(outcome, &["allow", "ask", "deny"]) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write `allow`, `ask` or `deny`".to_owned(),
            };
            return Err(wrong(words.get(5), message, remedy));
        }
    };
    if let Some(more) = words.get(used) {
        let message = format!("`{}` is too much", more.text);
        return Err(wrong(Some(more), message, FORM.to_owned()));
    }
    let service_fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '+');
    if let Some(found) = service.chars().find(|c| !service_fits(*c)) {
        let message = format!("service `{service}` contains `{found}`");
        let remedy = "use letters, digits, `-`, `.` and `_`, and `+` before an argument";
        return Err(wrong(words.get(3), message, remedy.to_owned()));
    }
    if RequestToken::parse(target).is_none() {
        let message = format!("no call can ask for `{target}`");
        let remedy = "use a qube's name, `@default`, `@adminvm`, `@dispvm` or `@dispvm:BASE`";
        return Err(wrong(words.get(2), message, remedy.to_owned()));
    }
    let column = |at: usize| words.get(at).map_or(1, |word| word.columns.start);
    Ok(Expectation {
        origin: origin.clone(),
        source: source.to_owned(),
        target: target.to_owned(),
        service: service.to_owned(),
        expected,
        columns: [column(0), column(2), column(7)],
    })
}

impl Expectation {
    /// Names in it that are not on this machine: a slip there would expect nothing.
    pub fn unknown(&self, view: &SystemView) -> Vec<ExpectationError> {
        let place = match &self.expected {
            Expected::Allow(Some(place)) => Some(place),
            _ => None,
        };
        let words = [Some(&self.source), Some(&self.target), place];
        let mut errors = Vec::new();
        for (word, column) in words.into_iter().zip(self.columns) {
            let Some(word) = word else { continue };
            let name = word.strip_prefix("@dispvm:").unwrap_or(word);
            if name.starts_with('@') || view.find(name).is_some() {
                continue;
            }
            let known: Vec<&str> = view.qubes().iter().map(|qube| &*qube.name).collect();
            let length = u32::try_from(word.chars().count()).unwrap_or(u32::MAX);
            errors.push(ExpectationError {
                origin: self.origin.clone(),
                columns: column..column.saturating_add(length),
                message: format!("there is no qube `{name}`"),
                remedy: match nearest(name, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "name a declared qube".to_owned(),
                },
            });
        }
        errors
    }

    /// Decides the call.
    pub fn check<'a>(&'a self, engine: &'a Engine, view: &SystemView) -> Checked<'a> {
        let source = match self.source.as_str() {
            "@adminvm" => "dom0",
            name => name,
        };
        let got = engine.decide(&Request::new(&self.service, source, &self.target), view);
        let rule = got.number().and_then(|number| engine.rules().get(number));
        Checked {
            expectation: self,
            got,
            rule,
        }
    }
}

impl Checked<'_> {
    /// Whether it is as expected.
    pub fn is_met(&self) -> bool {
        match (&self.expectation.expected, &self.got) {
            (Expected::Allow(None), Decision::Allow(_))
            | (Expected::Ask, Decision::Ask(_))
            | (Expected::Deny, Decision::Deny(_)) => true,
            (Expected::Allow(Some(place)), Decision::Allow(allow)) => {
                allow.named == *place || allow.target.is_shown_as(place)
            }
            _ => false,
        }
    }

    /// The rule that spoke, as `file:line: rule`, or that none did.
    pub fn by(&self) -> String {
        match self.rule {
            Some(rule) => format!("by {}: {rule}", rule.origin),
            None => "no rule spoke".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
