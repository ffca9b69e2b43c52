//! `policy explain`: rule by rule, why a call is decided as it is.

use std::fmt::Write;

use bulkhead_policy::{Choice, Engine, Fate, Fit, Request, Rule, SystemView};
use serde::Serialize;

use super::eval;
use super::outcome::{self, Outcome};
use super::source::{Policy, Usual};
use crate::args::{ExplainArgs, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::style::Paint;
use crate::output::{print, print_json, style, text};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    source: String,
    service: String,
    /// With its `+`.
    argument: String,
    target: String,
    rules: Vec<Looked>,
    decision: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What a prompt would offer and what rules keep from it; empty unless the person is asked.
    choices: Vec<ChoiceRow>,
    /// Whether it was judged with the qubes that run now; otherwise with none running.
    live: bool,
}

/// A rule that was looked at.
#[derive(Debug, Serialize)]
struct Looked {
    number: usize,
    file: String,
    line: u32,
    rule: String,
    matches: bool,
    /// The first column that does not match.
    failed: Option<&'static str>,
    why: String,
}

#[derive(Debug, Serialize)]
struct ChoiceRow {
    target: String,
    fate: &'static str,
    /// Number of the rule that says so, where it is, and what it says.
    number: usize,
    at: String,
    rule: String,
    /// Numbers of later rules that name it too and are not heard.
    overruled: Vec<usize>,
}

pub(super) fn explain(global: &Global, args: &ExplainArgs) -> Result<Exit, Failure> {
    let policy = Policy::find(global, &args.from, Usual::Description)?;
    let rows = eval::rows(global);
    let view = eval::view(&policy.description, rows.as_deref().unwrap_or_default())?;
    let request = Request::new(&args.service, &args.source, &args.target);
    let decision = policy.engine.decide(&request, &view);
    let exit = outcome::exit(&decision);
    let looked = looked(&policy.engine, &request, &view);
    let choices = policy.engine.choices(&request, &view);
    if args.json {
        let reason = outcome::reason(&decision);
        print_json(&Report {
            source: args.source.clone(),
            service: request.service.to_owned(),
            argument: request.argument.to_owned(),
            target: args.target.clone(),
            rules: looked.into_iter().map(|(row, _)| row).collect(),
            choices: choices
                .iter()
                .filter_map(|choice| row(choice, &policy.engine))
                .collect(),
            decision: Outcome::of(decision, &policy.engine),
            reason,
            live: rows.is_some(),
        })?;
        return Ok(exit);
    }
    let paint = style::stdout();
    let mut out = String::new();
    for (row, fit) in &looked {
        push_rule(&mut out, row, *fit, paint);
    }
    if looked.is_empty() {
        out.push_str("No rule is looked at.\n");
    }
    let _ = writeln!(
        out,
        "\n{}",
        paint.strong(&text::line(&decision.to_string()))
    );
    push_choices(&mut out, &choices, &policy.engine, paint);
    let how = outcome::judged(rows.is_some());
    let _ = writeln!(out, "Judged by {} {how}.", policy.name);
    print(&out)?;
    Ok(exit)
}

/// The rules up to the one that decides.
fn looked(engine: &Engine, request: &Request<'_>, view: &SystemView) -> Vec<(Looked, Fit)> {
    let Ok(fits) = engine.fits(request, view) else {
        return Vec::new();
    };
    let mut looked = Vec::new();
    for (number, (rule, fit)) in (1..).zip(fits) {
        let row = Looked {
            number,
            file: rule.origin.file.to_string(),
            line: rule.origin.line,
            rule: rule.to_string(),
            matches: fit.decides(),
            failed: fit.failed(),
            why: fit.why(rule, request, view),
        };
        looked.push((row, fit));
        if fit.decides() {
            break;
        }
    }
    looked
}

fn push_rule(out: &mut String, row: &Looked, fit: Fit, paint: Paint) {
    let Looked {
        number,
        file,
        line,
        rule,
        why,
        ..
    } = row;
    let mark = if fit.decides() { "=>" } else { "  " };
    let head = text::line(&format!("{mark} {number:>3}  {file}:{line}: {rule}"));
    let why = text::line(&format!("         {why}"));
    if fit.decides() {
        let _ = writeln!(out, "{}\n{why}", paint.strong(&head));
    } else {
        let _ = writeln!(out, "{head}\n{}", paint.dim(&why));
    }
}

fn rule_of(number: usize, engine: &Engine) -> Option<&Rule> {
    engine.rules().get(number)
}

fn push_choices(out: &mut String, choices: &[Choice], engine: &Engine, paint: Paint) {
    if choices.is_empty() {
        return;
    }
    out.push_str("\nThe prompt offers:\n");
    for choice in choices.iter().filter(|choice| choice.fate == Fate::Offered) {
        push_choice(out, choice, "offered", engine, paint);
    }
    if choices.iter().all(|choice| choice.fate == Fate::Offered) {
        return;
    }
    out.push_str("It does not offer:\n");
    for choice in choices.iter().filter(|choice| choice.fate != Fate::Offered) {
        let why = match choice.fate {
            Fate::Offered => continue,
            Fate::Removed => "removed",
            Fate::Caller => "it is the caller; named",
            Fate::Internal => "it is internal; named",
            Fate::NotRunning => "it does not run, and `autostart=no`; named",
        };
        push_choice(out, choice, why, engine, paint);
    }
}

fn push_choice(out: &mut String, choice: &Choice, why: &str, engine: &Engine, paint: Paint) {
    let target = text::line(&choice.target.to_string());
    let rule = rule_of(choice.by, engine);
    let by = rule.map(|rule| format!("{why} by {} at {}", choice.by + 1, rule.origin));
    let _ = write!(out, "  {target}: {}", by.unwrap_or_default());
    if !choice.overruled.is_empty() {
        let numbers: Vec<String> = choice
            .overruled
            .iter()
            .map(|n| (n + 1).to_string())
            .collect();
        let later = format!("; not heard: {}", numbers.join(", "));
        out.push_str(&paint.dim(&later));
    }
    out.push('\n');
}

fn row(choice: &Choice, engine: &Engine) -> Option<ChoiceRow> {
    let rule = rule_of(choice.by, engine)?;
    Some(ChoiceRow {
        target: choice.target.to_string(),
        fate: choice.fate.word(),
        number: choice.by + 1,
        at: rule.origin.to_string(),
        rule: rule.to_string(),
        overruled: choice.overruled.iter().map(|number| number + 1).collect(),
    })
}
