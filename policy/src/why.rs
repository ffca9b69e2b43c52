//! Why a rule does not match a call, in words.

use crate::explain::Fit;
use crate::request::Request;
use crate::rule::Rule;
use crate::token::{SourceToken, TargetToken};
use crate::view::SystemView;

impl Fit {
    /// The column that does not match; none if all do.
    pub fn failed(self) -> Option<&'static str> {
        match self {
            Self::OtherService => Some("service"),
            Self::OtherArgument => Some("argument"),
            Self::OtherSource => Some("source"),
            Self::OtherTarget => Some("target"),
            Self::Matches | Self::Incomparable(_) => None,
        }
    }

    /// How `rule` and a call compare, as one clause: this must be their fit.
    pub fn why(self, rule: &Rule, request: &Request<'_>, view: &SystemView) -> String {
        match self {
            Self::Matches => "every column matches".to_owned(),
            Self::Incomparable(reason) => format!("it cannot be compared with the call: {reason}"),
            Self::OtherService => {
                let own = rule.service.as_deref().unwrap_or("*");
                format!("service: it is for `{own}`, not `{}`", request.service)
            }
            Self::OtherArgument => {
                let asked = match request.argument {
                    "+" => "the call has none".to_owned(),
                    argument => format!("not `{argument}`"),
                };
                match rule.argument.as_deref().unwrap_or("*") {
                    "+" => format!("argument: it is for calls without one, {asked}"),
                    own => format!("argument: it is for `{own}`, {asked}"),
                }
            }
            Self::OtherSource => format!("source: {}", other_source(rule, request)),
            Self::OtherTarget => format!("target: {}", other_target(rule, request, view)),
        }
    }
}

fn other_source(rule: &Rule, request: &Request<'_>) -> String {
    let caller = match request.requested_source {
        "" => request.source,
        claimed => claimed,
    };
    match &rule.source {
        SourceToken::AnyVm => format!("`{caller}` is dom0, which `@anyvm` leaves out"),
        SourceToken::Type(class) => format!("`{caller}` is not of class `{class}`"),
        SourceToken::Tag(tag) => format!("`{caller}` has no tag `{tag}`"),
        SourceToken::Disposable(word) => format!("no caller is ever `{word}`"),
        SourceToken::Wildcard | SourceToken::AdminVm | SourceToken::Qube(_) => {
            format!("`{caller}` is not `{}`", rule.source)
        }
    }
}

fn other_target(rule: &Rule, request: &Request<'_>, view: &SystemView) -> String {
    let asked = request.target;
    let shown = match asked {
        "" | "@default" => "no target is named, which".to_owned(),
        name if !name.starts_with('@') && view.find(name).is_none() => {
            format!("`{name}` does not exist, so it counts as `@default`, which")
        }
        name => format!("`{name}`"),
    };
    match &rule.target {
        TargetToken::AnyVm => format!("{shown} is dom0, which `@anyvm` leaves out"),
        TargetToken::Type(class) => format!("{shown} is not of class `{class}`"),
        TargetToken::Tag(tag) => format!("{shown} has no tag `{tag}`"),
        TargetToken::DispvmTag(tag) => {
            format!("{shown} is no new disposable of a base with tag `{tag}`")
        }
        TargetToken::DispvmOf(base) => format!("{shown} is no new disposable of `{base}`"),
        token => format!("{shown} is not `{token}`"),
    }
}
