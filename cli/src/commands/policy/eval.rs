//! `policy eval`: what the described policy decides about one call.

use bulkhead_api::qube::QubeRow;
use bulkhead_model::qube::Description;
use bulkhead_policy::{Decision, QubeView, Request, SystemView};
use serde::Serialize;
use uuid::Uuid;

use super::outcome::{self, Outcome};
use super::source::Policy;
use crate::args::{EvalArgs, Global};
use crate::client::{Client, runtime, socket};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{print_json, print_line};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    outcome: Outcome,
    /// Why it is denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Whether it was judged with the qubes that run now; otherwise with none running.
    live: bool,
}

pub(super) fn eval(global: &Global, args: &EvalArgs) -> Result<Exit, Failure> {
    let (Some(source), Some(service), Some(target)) = (&args.source, &args.service, &args.target)
    else {
        return Err(Failure::new("a call has a source, a service and a target").exit(Exit::Usage));
    };
    let policy = Policy::of_description(args.system.as_deref())?;
    let engine = &policy.engine;
    let rows = rows(global);
    let view = view(&policy.description, rows.as_deref().unwrap_or_default())?;
    let decision = engine.decide(&Request::new(service, source, target), &view);
    let exit = outcome::exit(&decision);
    let reason = outcome::reason(&decision);
    if args.json {
        print_json(&Report {
            outcome: Outcome::of(decision, engine),
            reason,
            live: rows.is_some(),
        })?;
        return Ok(exit);
    }
    print_line(&told(&decision))?;
    if let Some(rule) = decision.number().and_then(|at| engine.rules().get(at)) {
        print_line(&format!("  by {}: {rule}", rule.origin))?;
    }
    print_line(&format!(
        "  judged by {} {}",
        policy.name,
        outcome::judged(rows.is_some())
    ))?;
    Ok(exit)
}

/// The decision in one line.
fn told(decision: &Decision) -> String {
    match decision {
        Decision::Allow(allow) => {
            let user = allow.user.as_ref().map(|user| format!(" as user {user}"));
            let user = user.unwrap_or_default();
            match &allow.relayed_service {
                Some(service) => format!("allow: {service} in {}", allow.target),
                None => format!("allow: in {}{user}", allow.target),
            }
        }
        Decision::Ask(ask) => {
            let targets: Vec<String> = ask.targets.iter().map(ToString::to_string).collect();
            let preselected = ask.default_target.as_ref();
            let preselected = preselected.map(|target| format!("; {target} is preselected"));
            format!(
                "ask: {}{}",
                targets.join(", "),
                preselected.unwrap_or_default()
            )
        }
        Decision::Deny(deny) => format!("deny: {}", deny.reason),
    }
}

/// What the daemon lists; none if none answers.
pub(super) fn rows(global: &Global) -> Option<Vec<QubeRow>> {
    let list = async {
        let client = Client::connect(&socket(global)).await?;
        client.proxy.list().await.map_err(Failure::from)
    };
    runtime().ok()?.block_on(list).ok()
}

/// The declared qubes, remote ones too, running as `rows` say, and the disposables that run.
pub(super) fn view(description: &Description, rows: &[QubeRow]) -> Result<SystemView, Failure> {
    let runs = |row: &QubeRow| row.state.has_domain();
    let mut number = 0;
    let mut uuid = || {
        // Only told apart from one another: no rule can know them.
        number += 1;
        Uuid::from_u128(u128::MAX - number)
    };
    let mut qubes = Vec::new();
    for qube in description.qubes.values() {
        let running = rows
            .iter()
            .any(|row| row.name == qube.name.as_str() && runs(row));
        qubes.push(QubeView::declared(qube, uuid(), running));
    }
    let remotes = description.remotes.values();
    qubes.extend(remotes.map(|remote| QubeView::remote(remote, uuid())));
    for row in rows.iter().filter(|row| runs(row)) {
        if !qubes.iter().any(|qube| *qube.name == *row.name) {
            qubes.push(QubeView {
                running: true,
                ..QubeView::new(&row.name, uuid(), "DispVM")
            });
        }
    }
    SystemView::new(qubes).map_err(|error| {
        Failure::new("the description and the qubes that run do not fit together").because(&error)
    })
}
