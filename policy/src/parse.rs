//! One line of policy text to a rule or a directive. Every fault of the line is found, not only
//! the first.

use std::sync::Arc;

use crate::error::{PolicyErrorKind, parameters_of};
use crate::rule::{Action, Origin, Rule};
use crate::token::{RedirectToken, SourceToken, TargetToken, TokenError};

/// Service and argument, as rules have them: none is `*`.
pub(crate) type Names = (Option<Box<str>>, Option<Box<str>>);

/// What the lines of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// Rules and directives of format 5.0.
    Whole,
    /// The older form, where one file is for one service: lines begin with the source.
    Service(Names),
}

/// What a line that is neither empty nor a comment says.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    Rule(Rule),
    Include(&'a str),
    IncludeDir(&'a str),
    IncludeService(Names, &'a str),
    Compat40,
}

/// A line and the byte at which what it says begins.
#[derive(Debug)]
pub(crate) struct At<T> {
    pub(crate) at: usize,
    pub(crate) what: T,
}

pub(crate) type Fault = At<PolicyErrorKind>;

/// Lines end in LF, CR LF or a lone CR, as where the format comes from.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let (line, after) = text.split_at(end);
        let after = after
            .strip_prefix("\r\n")
            .or_else(|| after.strip_prefix(['\n', '\r']));
        rest = after;
        Some(line)
    })
}

/// Blanks of the format: Unicode white space and the four ASCII information separators.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// A word and the byte offset at which it starts in its line.
#[derive(Debug, Clone, Copy)]
struct Field<'a> {
    word: &'a str,
    at: usize,
}

fn fields(line: &str) -> impl Iterator<Item = Field<'_>> {
    line.split(is_blank)
        .scan(0, |next, word| {
            let at = *next;
            // Past the word and the one blank that ended it.
            let blank = line
                .get(at + word.len()..)
                .and_then(|rest| rest.chars().next())
                .map_or(0, char::len_utf8);
            *next = at + word.len() + blank;
            Some(Field { word, at })
        })
        .filter(|field| !field.word.is_empty())
}

pub(crate) fn column_of(line: &str, at: usize) -> u32 {
    let before = line.get(..at).map_or(0, |before| before.chars().count());
    u32::try_from(before + 1).unwrap_or(u32::MAX)
}

/// Reads a line; none if it is empty, a comment or wrong.
///
/// A line in the older form must have gone through [`modern`].
pub(crate) fn parse_line<'a>(
    line: &'a str,
    form: &Form,
    origin: &Origin,
    faults: &mut Vec<Fault>,
) -> Option<At<Line<'a>>> {
    let mut words = fields(line);
    let first = words.next().filter(|field| !field.word.starts_with('#'))?;
    let starts_service_line = matches!(form, Form::Service(_)) && line.starts_with(is_blank);
    let what = if first.word.starts_with('!') && !starts_service_line {
        parse_directive(first, &words.collect::<Vec<_>>(), form, faults)
    } else {
        parse_rule(line, form, origin, faults).map(Line::Rule)
    };
    Some(At {
        at: first.at,
        what: what?,
    })
}

/// A line of the older form in the words of this one; none if it is empty or a comment. Every
/// byte stays where it was.
pub(crate) fn modern(line: &str) -> Option<(usize, String)> {
    let start = line.len() - line.trim_start_matches(is_blank).len();
    let line = line.trim_matches(is_blank);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let line = line.replace("$include:", "!include ");
    Some((start, line.replace('$', "@").replace(',', " ")))
}

fn parse_directive<'a>(
    first: Field<'a>,
    words: &[Field<'a>],
    form: &Form,
    faults: &mut Vec<Fault>,
) -> Option<Line<'a>> {
    let mut fault = |at, what| {
        faults.push(Fault { at, what });
        None
    };
    let word = || first.word.to_owned();
    if let Form::Service(names) = form {
        return match (first.word, words) {
            ("!include", [path]) => Some(Line::IncludeService(names.clone(), path.word)),
            ("!include", _) => fault(
                first.at,
                PolicyErrorKind::DirectiveWords(word(), words.len()),
            ),
            _ => fault(first.at, PolicyErrorKind::NotInServiceFile(word())),
        };
    }
    match (first.word, words) {
        ("!include", [path]) => Some(Line::Include(path.word)),
        ("!include-dir", [path]) => Some(Line::IncludeDir(path.word)),
        ("!include-service", [service, argument, path]) => {
            let before = faults.len();
            let names = parse_service(*service, *argument, faults);
            (faults.len() == before).then_some(Line::IncludeService(names, path.word))
        }
        ("!compat-4.0", []) => Some(Line::Compat40),
        ("!include" | "!include-dir" | "!include-service" | "!compat-4.0", _) => fault(
            first.at,
            PolicyErrorKind::DirectiveWords(word(), words.len()),
        ),
        _ => fault(first.at, PolicyErrorKind::UnknownDirective(word())),
    }
}

fn parse_rule(line: &str, form: &Form, origin: &Origin, faults: &mut Vec<Fault>) -> Option<Rule> {
    let mut words = fields(line);
    let before = faults.len();
    let missing = |faults: &mut Vec<Fault>| {
        let found = fields(line).count();
        faults.push(Fault {
            at: fields(line).next().map_or(0, |first| first.at),
            what: match form {
                Form::Whole => PolicyErrorKind::MissingFields(found),
                Form::Service(_) => PolicyErrorKind::MissingServiceFields(found),
            },
        });
        None
    };
    let named = match form {
        Form::Service(_) => None,
        Form::Whole => match (words.next(), words.next()) {
            (Some(service), Some(argument)) => Some((service, argument)),
            _ => return missing(faults),
        },
    };
    let (Some(source), Some(target), Some(action)) = (words.next(), words.next(), words.next())
    else {
        return missing(faults);
    };
    let (service, argument) = match (named, form) {
        (Some((service, argument)), _) => parse_service(service, argument, faults),
        (None, Form::Service(names)) => names.clone(),
        (None, Form::Whole) => (None, None),
    };
    let params: Vec<Field<'_>> = words.collect();

    let source = note(faults, source.at, SourceToken::parse(source.word));
    let target_at = target.at;
    let target = note(faults, target.at, TargetToken::parse(target.word));
    let action = parse_action(action, &params, faults);
    if let (Some(TargetToken::Default), Some(Action::Allow { target: None, .. })) =
        (&target, &action)
    {
        faults.push(Fault {
            at: target_at,
            what: PolicyErrorKind::AllowDefaultWithoutTarget,
        });
    }
    if faults.len() > before {
        return None;
    }
    Some(Rule {
        origin: origin.clone(),
        service,
        argument,
        source: source?,
        target: target?,
        action: action?,
    })
}

fn note<T>(
    faults: &mut Vec<Fault>,
    at: usize,
    result: Result<T, impl Into<PolicyErrorKind>>,
) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            faults.push(Fault {
                at,
                what: error.into(),
            });
            None
        }
    }
}

fn parse_service(service: Field<'_>, argument: Field<'_>, faults: &mut Vec<Fault>) -> Names {
    let in_service = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let mut fault = |at, what| faults.push(Fault { at, what });
    let any_service = service.word == "*";
    if let (false, Some(found)) = (any_service, service.word.chars().find(|c| !in_service(*c))) {
        let word = service.word.to_owned();
        fault(
            service.at,
            PolicyErrorKind::ServiceCharacter { word, found },
        );
    }
    if argument.word == "*" {
        return ((!any_service).then(|| service.word.into()), None);
    }
    let word = argument.word.to_owned();
    let bad = word.chars().find(|c| !in_service(*c) && *c != '+');
    if let Some(found) = bad {
        fault(
            argument.at,
            PolicyErrorKind::ArgumentCharacter { word, found },
        );
    } else if !word.starts_with('+') {
        fault(argument.at, PolicyErrorKind::ArgumentWithoutPlus(word));
    } else if any_service {
        fault(argument.at, PolicyErrorKind::ArgumentOfAnyService(word));
    }
    (Some(service.word.into()), Some(argument.word.into()))
}

/// The parameters of one rule while they are read.
#[derive(Default)]
struct Params {
    target: Option<RedirectToken>,
    default_target: Option<RedirectToken>,
    user: Option<Arc<str>>,
    notify: Option<bool>,
    autostart: Option<bool>,
}

fn parse_action(action: Field<'_>, words: &[Field<'_>], faults: &mut Vec<Fault>) -> Option<Action> {
    let name = match action.word {
        "allow" => "allow",
        "ask" => "ask",
        "deny" => "deny",
        other => {
            faults.push(Fault {
                at: action.at,
                what: PolicyErrorKind::UnknownAction(other.to_owned()),
            });
            return None;
        }
    };
    let params = parse_params(name, words, faults);
    let autostart = params.autostart.unwrap_or(true);
    Some(match name {
        "allow" => Action::Allow {
            target: params.target,
            user: params.user,
            notify: params.notify.unwrap_or(false),
            autostart,
        },
        "ask" => Action::Ask {
            target: params.target,
            default_target: params.default_target,
            user: params.user,
            notify: params.notify.unwrap_or(false),
            autostart,
        },
        _ => Action::Deny {
            notify: params.notify.unwrap_or(true),
        },
    })
}

fn parse_params(action: &'static str, words: &[Field<'_>], faults: &mut Vec<Fault>) -> Params {
    let mut params = Params::default();
    let mut seen: Vec<&str> = Vec::new();
    for field in words {
        let at = field.at;
        let mut fault = |kind| faults.push(Fault { at, what: kind });
        let Some((name, value)) = field.word.split_once('=') else {
            fault(PolicyErrorKind::ParameterWithoutValue(
                field.word.to_owned(),
            ));
            // The rest of a trailing comment would only repeat this.
            if field.word.starts_with('#') {
                break;
            }
            continue;
        };
        if seen.contains(&name) {
            fault(PolicyErrorKind::RepeatedParameter(name.to_owned()));
            continue;
        }
        seen.push(name);
        if !parameters_of(action).contains(&name) {
            let name = name.to_owned();
            fault(PolicyErrorKind::UnknownParameter { action, name });
            continue;
        }
        let redirect = |column| match value {
            "" => Err(TokenError::Empty(field.word.to_owned())),
            value => RedirectToken::parse(value, column),
        };
        match name {
            "target" => params.target = note(faults, at, redirect("`target=`")),
            "default_target" => {
                params.default_target = note(faults, at, redirect("`default_target=`"));
            }
            "user" => params.user = Some(value.into()),
            "notify" => params.notify = note(faults, at, yes_or_no(name, value)),
            _ => params.autostart = note(faults, at, yes_or_no(name, value)),
        }
    }
    params
}

fn yes_or_no(name: &str, value: &str) -> Result<bool, PolicyErrorKind> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(PolicyErrorKind::NotYesOrNo {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
    }
}
