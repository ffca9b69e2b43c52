//! `bulkhead plan`, `apply` and `rollback`.

use std::future::Future;
use std::time::Duration;

use bulkhead_api::change::{ApplyOutcome, ApplyReport, ApplyRequest, PlanRequest, RollbackRequest};
use bulkhead_api::client::{Incoming, Signals};
use bulkhead_api::event::Topic;
use bulkhead_api::{ApiError, from_json, to_json};
use serde::Deserialize;

use super::confirm::{Grave, confirm};
use crate::args::{ApplyArgs, PlanArgs, PlanOptions, RollbackArgs};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{note, print, print_json_text, print_line, style, time};
use crate::progress::{ApplyProgress, waiting};

/// The reply to a plan, as far as it is read here.
#[derive(Debug, Deserialize)]
struct ShownPlan {
    text: String,
    fingerprint: String,
    #[serde(default)]
    destroys: Vec<String>,
    plan: PlanBody,
}

/// The steps and what they mean, as far as they are read here.
#[derive(Debug, Deserialize)]
struct PlanBody {
    steps: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    qubes: Vec<QubePart>,
}

#[derive(Debug, Deserialize)]
struct QubePart {
    qube: String,
    run: String,
}

impl PlanBody {
    /// Qubes that are running and will be stopped, if only for a while.
    fn stops(&self) -> Vec<String> {
        (self.qubes.iter())
            .filter(|part| matches!(part.run.as_str(), "stop" | "restart"))
            .map(|part| part.qube.clone())
            .collect()
    }
}

pub(crate) async fn plan(client: Client, args: PlanArgs) -> Result<Exit, Failure> {
    let reply = ask_for_plan(&client, &request(&args.options)?).await?;
    if args.json {
        print_json_text(&reply)?;
    } else {
        let plan: ShownPlan = from_json(&reply)?;
        show(&plan.text, plan.plan.steps.is_empty())?;
    }
    Ok(Exit::Done)
}

fn request(options: &PlanOptions) -> Result<PlanRequest, Failure> {
    let system = match &options.system {
        None => None,
        // The daemon has another working folder.
        Some(path) => {
            let shown = path.display();
            let path = std::path::absolute(path)
                .map_err(|error| Failure::io(format!("cannot find `{shown}`"), &error))?;
            let path = path.into_os_string().into_string();
            Some(path.map_err(|_| Failure::new(format!("`{shown}` is not UTF-8")))?)
        }
    };
    Ok(PlanRequest {
        system,
        restart: options.restart,
        update_templates: options.update_templates,
        keep_volumes: options.keep_volumes,
    })
}

async fn ask_for_plan(client: &Client, request: &PlanRequest) -> Result<String, Failure> {
    let request = to_json(request)?;
    Ok(waiting("Planning", client.proxy.plan(&request)).await?)
}

fn show(text: &str, nothing: bool) -> Result<(), Failure> {
    if text.trim().is_empty() && nothing {
        return print_line("Nothing to do: the machine is what its description says.");
    }
    let text = crate::output::text::block(text);
    let text = style::stdout().marked(text.trim_end());
    print_line(&text)
}

pub(crate) async fn apply(client: Client, args: ApplyArgs) -> Result<Exit, Failure> {
    let request = request(&args.options)?;
    let reply = ask_for_plan(&client, &request).await?;
    let plan: ShownPlan = from_json(&reply)?;
    if !args.json {
        show(&plan.text, plan.plan.steps.is_empty())?;
    }
    let destroys = !plan.destroys.is_empty() && !args.allow_destroy;
    if !plan.plan.steps.is_empty() && !args.yes && !destroys {
        if args.json && super::confirm::can_ask() {
            note(&style::stderr().marked(&plan.text));
        }
        let grave = Grave {
            stops: plan.plan.stops(),
            destroys: plan.destroys,
        };
        confirm("Apply this?", &grave)?;
    }
    // The daemon refuses a plan that destroys without leave, in its own words.
    let request = to_json(&ApplyRequest {
        plan: request,
        allow_destroy: args.allow_destroy,
        message: args.message,
        expect: Some(plan.fingerprint),
    })?;
    let report = follow(&client, client.proxy.apply(&request)).await?;
    finish(&report, args.json, "Applied")
}

pub(crate) async fn rollback(client: Client, args: RollbackArgs) -> Result<Exit, Failure> {
    let mut request = RollbackRequest {
        generation: args.generation,
        restart: args.restart,
        message: args.message,
        allow_destroy: args.allow_destroy,
        dry_run: true,
    };
    let reply = waiting("Planning", client.proxy.rollback(&to_json(&request)?)).await?;
    let dry: DryRun = from_json(&reply)?;
    if args.dry_run && args.json {
        print_json_text(&reply)?;
        return Ok(Exit::Done);
    }
    if !args.json {
        show(&dry.text, dry.plan.steps.is_empty())?;
    }
    if args.dry_run {
        return Ok(Exit::Done);
    }
    if !args.yes && !dry.plan.steps.is_empty() {
        if args.json && super::confirm::can_ask() {
            note(&style::stderr().marked(&dry.text));
        }
        let grave = Grave {
            stops: dry.plan.stops(),
            destroys: dry.destroys,
        };
        confirm("Go back to this?", &grave)?;
    }
    request.dry_run = false;
    let request = to_json(&request)?;
    let report = follow(&client, client.proxy.rollback(&request)).await?;
    finish(&report, args.json, "Went back")
}

/// The report of a rollback that only shows its plan.
#[derive(Debug, Deserialize)]
struct DryRun {
    #[serde(default)]
    text: String,
    #[serde(default)]
    destroys: Vec<String>,
    plan: PlanBody,
}

/// Shows how far a change is until it is over.
async fn follow(
    client: &Client,
    change: impl Future<Output = Result<String, ApiError>>,
) -> Result<String, Failure> {
    let mut events = Signals::subscribe(client, &[Topic::Changes]).await?;
    let mut progress = ApplyProgress::new();
    let mut change = std::pin::pin!(change);
    let outcome = loop {
        tokio::select! {
            // Events first: those sent before the reply are shown before it.
            biased;
            event = events.next() => match event {
                Ok(Incoming::Event(event)) => progress.show(&event),
                Ok(Incoming::Lost) => {}
                Err(failure) => break Err(failure.into()),
            },
            outcome = &mut change => break outcome.map_err(Failure::from),
        }
    };
    progress.end();
    outcome
}

/// Tells how a change ended.
fn finish(reply: &str, json: bool, done: &str) -> Result<Exit, Failure> {
    let report: ApplyReport = from_json(reply)?;
    if json {
        print_json_text(reply)?;
    }
    let took = time::span(Duration::from_millis(report.took_ms));
    let exit = match report.outcome {
        ApplyOutcome::Nothing | ApplyOutcome::Done => Exit::Done,
        ApplyOutcome::Undone => Exit::Refused,
        ApplyOutcome::Partly => Exit::Partly,
    };
    if exit == Exit::Done {
        if !json && report.outcome == ApplyOutcome::Done {
            let line = match report.generation {
                Some(number) => format!("{done} in {took}. This is generation {number}\n"),
                None => format!("{done} in {took}.\n"),
            };
            print(&line)?;
        }
        return Ok(exit);
    }
    let failure = if exit == Exit::Partly {
        Failure::new("the change is only partly done: a step failed, and so did undoing it")
            .hint("See what is left with `bulkhead status`, then run `bulkhead apply` again.")
    } else {
        Failure::new("the change failed and was undone; nothing is different from before")
    };
    let failure = report.failures.into_iter().fold(failure, Failure::cause);
    Err(failure.exit(exit))
}
