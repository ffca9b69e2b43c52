//! `policy simulate`.

use bulkhead_policy::{Comparison, Side, Verdict, compare};
use serde::Serialize;

use super::source::Policy;
use crate::args::{Global, SimulateArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{print, print_json, print_line, style, text};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    from: &'a str,
    to: &'a str,
    /// How many calls were compared.
    calls: usize,
    /// How many of them are decided otherwise.
    differing: usize,
    changes: Vec<Row<'a>>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    service: &'a str,
    sources: &'a [String],
    targets: &'a [String],
    before: Said<'a>,
    after: Said<'a>,
}

#[derive(Debug, Serialize)]
struct Said<'a> {
    kind: &'static str,
    decision: &'a str,
    /// Where the rule is that spoke.
    at: Option<String>,
    rule: Option<&'a str>,
}

pub(super) fn simulate(global: &Global, args: &SimulateArgs) -> Result<Exit, Failure> {
    let from = match args.from.as_deref() {
        None => Policy::of_generation(global, 0).map_err(|failure| {
            failure.hint("With --from FILE it compares with a description, without a daemon.")
        })?,
        Some(word) => match word.parse() {
            Ok(number) => Policy::of_generation(global, number)?,
            Err(_) => Policy::of_description(Some(word.as_ref()))?,
        },
    };
    let to = match args.generation.as_str() {
        "next" => Policy::of_description(args.system.as_deref())?,
        word => match (word.parse(), &args.system) {
            (Ok(number), None) => Policy::of_generation(global, number)?,
            (Ok(_), Some(_)) => {
                let message =
                    "--system names what `--generation next` is, and another is asked for";
                return Err(Failure::new(message).exit(Exit::Usage));
            }
            (Err(_), _) => {
                let message = format!("`{word}` is no generation");
                let failure = Failure::new(message).exit(Exit::Usage);
                return Err(failure.hint("Write its number, or `next`."));
            }
        },
    };
    let (old_view, new_view) = (from.view()?, to.view()?);
    let old = Side {
        engine: &from.engine,
        view: &old_view,
    };
    let new = Side {
        engine: &to.engine,
        view: &new_view,
    };
    let found = compare(old, new, args.service.as_deref()).map_err(|error| {
        let failure = Failure::new("the policies cannot be compared").because(&error);
        failure.hint("Compare one service with `--service SERVICE`.")
    })?;
    if args.json {
        print_json(&report(&from.name, &to.name, &found))?;
    } else {
        print_line(&format!("From {} to {}:", from.name, to.name))?;
        print(&style::stdout().marked(&text::block(&found.to_string())))?;
    }
    Ok(match found.differing {
        0 => Exit::Done,
        _ => Exit::Changes,
    })
}

fn report<'a>(from: &'a str, to: &'a str, found: &'a Comparison) -> Report<'a> {
    let rows = found.changes.iter().map(|change| Row {
        service: &change.service,
        sources: &change.sources,
        targets: &change.targets,
        before: said(&change.before),
        after: said(&change.after),
    });
    Report {
        from,
        to,
        calls: found.calls,
        differing: found.differing,
        changes: rows.collect(),
    }
}

fn said(verdict: &Verdict) -> Said<'_> {
    Said {
        kind: verdict.word,
        decision: &verdict.decision,
        at: verdict.rule.as_ref().map(|(origin, _)| origin.to_string()),
        rule: verdict.rule.as_ref().map(|(_, rule)| rule.as_str()),
    }
}
