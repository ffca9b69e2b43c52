//! Policy text to rules. Every fault of every line is found, not only the first.

use std::sync::Arc;

use bulkhead_model::qube::PolicyText;

use crate::error::{PolicyError, PolicyErrorKind, parameters_of};
use crate::rule::{Action, Origin, Rule};
use crate::token::{RedirectToken, SourceToken, TargetToken, TokenError};

/// Directives the format has and this engine refuses.
const DIRECTIVES: [&str; 4] = [
    "!include",
    "!include-dir",
    "!include-service",
    "!compat-4.0",
];

/// Reads all texts in order into one list of rules.
pub(crate) fn parse(texts: &[PolicyText]) -> Result<Vec<Rule>, Vec<PolicyError>> {
    let mut rules = Vec::new();
    let mut errors = Vec::new();
    for text in texts {
        let file: Arc<str> = text.origin.as_str().into();
        for (offset, content) in lines(&text.text).enumerate() {
            let line = text
                .first_line
                .saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
            let origin = Origin {
                file: Arc::clone(&file),
                line,
            };
            let mut faults = Vec::new();
            rules.extend(parse_line(content, &origin, &mut faults));
            errors.extend(faults.into_iter().map(|fault| PolicyError {
                column: column_of(content, fault.at),
                origin: origin.clone(),
                kind: fault.kind,
            }));
        }
    }
    if errors.is_empty() {
        Ok(rules)
    } else {
        Err(errors)
    }
}

/// Lines end in LF, CR LF or a lone CR, as where the format comes from.
fn lines(text: &str) -> impl Iterator<Item = &str> {
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
#[derive(Clone, Copy)]
struct Field<'a> {
    word: &'a str,
    at: usize,
}

struct Fault {
    at: usize,
    kind: PolicyErrorKind,
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

fn column_of(line: &str, at: usize) -> u32 {
    let before = line.get(..at).map_or(0, |before| before.chars().count());
    u32::try_from(before + 1).unwrap_or(u32::MAX)
}

fn parse_line(line: &str, origin: &Origin, faults: &mut Vec<Fault>) -> Option<Rule> {
    let mut words = fields(line);
    let first = words.next().filter(|field| !field.word.starts_with('#'))?;
    if first.word.starts_with('!') {
        let word = first.word.to_owned();
        faults.push(Fault {
            at: first.at,
            kind: if DIRECTIVES.contains(&first.word) {
                PolicyErrorKind::UnsupportedDirective(word)
            } else {
                PolicyErrorKind::UnknownDirective(word)
            },
        });
        return None;
    }
    let (Some(argument), Some(source), Some(target), Some(action)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        faults.push(Fault {
            at: first.at,
            kind: PolicyErrorKind::MissingFields(fields(line).count()),
        });
        return None;
    };
    let params: Vec<Field<'_>> = words.collect();

    let before = faults.len();
    let (service, argument) = parse_service(first, argument, faults);
    let source = note(faults, source.at, SourceToken::parse(source.word));
    let target_at = target.at;
    let target = note(faults, target.at, TargetToken::parse(target.word));
    let action = parse_action(action, &params, faults);
    if let (Some(TargetToken::Default), Some(Action::Allow { target: None, .. })) =
        (&target, &action)
    {
        faults.push(Fault {
            at: target_at,
            kind: PolicyErrorKind::AllowDefaultWithoutTarget,
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
                kind: error.into(),
            });
            None
        }
    }
}

type Names = (Option<Box<str>>, Option<Box<str>>);

fn parse_service(service: Field<'_>, argument: Field<'_>, faults: &mut Vec<Fault>) -> Names {
    let in_service = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let mut fault = |at, kind| faults.push(Fault { at, kind });
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
                kind: PolicyErrorKind::UnknownAction(other.to_owned()),
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
        let mut fault = |kind| faults.push(Fault { at, kind });
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
        if value.contains(',') {
            fault(PolicyErrorKind::ParameterWithComma(field.word.to_owned()));
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
            // An empty `user=` means the default user, as if it were not there.
            "user" => params.user = (!value.is_empty()).then(|| value.into()),
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
