//! `plan`, `apply` and `rollback`.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::pin;

use bulkhead_api::change::{
    ApplyOutcome, ApplyReport, ApplyRequest, PlanReply, PlanRequest, RollbackRequest,
};
use bulkhead_api::{ApiError, from_json, to_json};
use futures_util::StreamExt;
use zbus::{Message, MessageStream};

use super::Session;
use crate::args;
use crate::client::Client;
use crate::error::{CommandError, Exit};
use crate::output::{confirm, interactive};
use crate::progress::{Steps, waiting};
use crate::text;

const NOTHING: &str = "Nothing to do: the machine is as described.";

fn request(planning: &args::Planning) -> Result<PlanRequest, CommandError> {
    let system = match &planning.system {
        Some(path) => Some(absolute(path)?),
        None => None,
    };
    Ok(PlanRequest {
        system,
        restart: planning.restart,
        update_templates: planning.update_templates,
        keep_volumes: planning.keep_volumes,
    })
}

/// The daemon has another working folder.
fn absolute(path: &Path) -> Result<String, CommandError> {
    let failed = || CommandError::new(format!("`{}` cannot be named to bulkheadd", path.display()));
    let whole = std::path::absolute(path).map_err(|error| failed().because(&error))?;
    whole
        .into_os_string()
        .into_string()
        .map_err(|_| failed().hint("its path must be UTF-8"))
}

pub(super) async fn plan(mut session: Session, args: args::Plan) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let request = to_json(&request(&args.planning)?)?;
    let json = waiting("planning", client.proxy.plan(&request)).await?;
    if args.json {
        session.out.raw_json(&json)?;
        return Ok(Exit::Done);
    }
    let reply: PlanReply = from_json(&json)?;
    show_plan(&mut session, &reply.text, reply.steps)?;
    Ok(Exit::Done)
}

fn show_plan(session: &mut Session, text: &str, steps: u64) -> Result<(), CommandError> {
    if steps == 0 && text.trim().is_empty() {
        return session.out.text(NOTHING);
    }
    let colored = session.out.paint.plan(&text::plain_lines(text));
    session.out.text(&colored)
}

pub(super) async fn apply(mut session: Session, args: args::Apply) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let planning = request(&args.planning)?;
    let mut expect = None;
    if !args.json {
        let json = to_json(&planning)?;
        let json = waiting("planning", client.proxy.plan(&json)).await?;
        let plan: PlanReply = from_json(&json)?;
        show_plan(&mut session, &plan.text, plan.steps)?;
        if plan.steps == 0 {
            return Ok(Exit::Done);
        }
        if !plan.destroys.is_empty() && !args.allow_destroy {
            let what = text::plain(&plan.destroys.join(", "));
            return Err(
                CommandError::new(format!("this destroys the data of {what}"))
                    .hint("pass --allow-destroy to destroy it, or --keep-volumes to keep it"),
            );
        }
        if !args.yes && interactive() && !confirm("Apply this?")? {
            return Err(CommandError::new("nothing was applied"));
        }
        expect = Some(plan.fingerprint);
    }
    let request = ApplyRequest {
        plan: planning,
        allow_destroy: args.allow_destroy,
        message: args.message,
        expect,
    };
    let request = to_json(&request)?;
    let work = client.proxy.apply(&request);
    let json = followed(&client, args.json, work).await?;
    finish(session, &json, args.json, "applied")
}

pub(super) async fn rollback(
    mut session: Session,
    args: args::Rollback,
) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let mut request = RollbackRequest {
        generation: args.generation,
        restart: args.restart,
        allow_destroy: args.allow_destroy,
        dry_run: true,
    };
    if args.dry_run || !args.json {
        let json = to_json(&request)?;
        let json = waiting("planning", client.proxy.rollback(&json)).await?;
        if args.json {
            session.out.raw_json(&json)?;
            return Ok(Exit::Done);
        }
        let report: ApplyReport = from_json(&json)?;
        show_plan(&mut session, &report.text, 1)?;
        if args.dry_run {
            return Ok(Exit::Done);
        }
        if !args.yes && interactive() && !confirm("Go back to this?")? {
            return Err(CommandError::new("nothing was applied"));
        }
    }
    request.dry_run = false;
    let request = to_json(&request)?;
    let work = client.proxy.rollback(&request);
    let json = followed(&client, args.json, work).await?;
    finish(session, &json, args.json, "rolled back")
}

/// Says how it ended.
fn finish(
    mut session: Session,
    json: &str,
    as_json: bool,
    done: &str,
) -> Result<Exit, CommandError> {
    let report: ApplyReport = from_json(json)?;
    if as_json {
        session.out.raw_json(json)?;
    }
    match report.outcome {
        ApplyOutcome::Nothing | ApplyOutcome::Done if as_json => Ok(Exit::Done),
        ApplyOutcome::Nothing => {
            session.out.text(NOTHING)?;
            Ok(Exit::Done)
        }
        ApplyOutcome::Done => {
            let took = text::duration(report.took_ms);
            let line = match report.generation {
                Some(number) => format!("{done} in {took}; now at generation {number}"),
                None => format!("{done} in {took}"),
            };
            let mut line = line;
            if let Some(first) = line.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            session.out.text(&line)?;
            Ok(Exit::Done)
        }
        ApplyOutcome::Undone => Err(failure(&report, as_json, Exit::Refused)),
        ApplyOutcome::Partly => Err(failure(&report, as_json, Exit::Partly)),
    }
}

fn failure(report: &ApplyReport, as_json: bool, exit: Exit) -> CommandError {
    let mut error = if exit == Exit::Partly {
        CommandError::new("a step failed, and not everything could be undone")
            .hint("`bulkhead status` shows what is left; the next apply repairs it")
    } else {
        CommandError::new("a step failed; everything was undone")
    };
    error.causes.clone_from(&report.failures);
    error.silent = as_json;
    error.exit(exit)
}

/// Waits for an apply and shows how far it is.
async fn followed(
    client: &Client,
    quiet: bool,
    work: impl Future<Output = Result<String, ApiError>>,
) -> Result<String, CommandError> {
    let mut signals = MessageStream::from(&client.connection);
    client.proxy.subscribe(&["changes"]).await?;
    let mut shown = Shown {
        steps: Steps::new(quiet),
        texts: HashMap::new(),
    };
    let mut work = pin!(work);
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
    loop {
        tokio::select! {
            // Signals are sent before the reply: none of them is lost to it.
            biased;
            Some(Ok(message)) = signals.next() => shown.note(&message),
            done = &mut work => return Ok(done?),
            _ = tick.tick() => shown.steps.tick(),
        }
    }
}

/// What is on the screen of a running apply.
#[derive(Debug)]
struct Shown {
    steps: Steps,
    texts: HashMap<u32, String>,
}

impl Shown {
    fn note(&mut self, message: &Message) {
        let header = message.header();
        let Some(member) = header.member() else {
            return;
        };
        let body = message.body();
        // What does not decode comes from another version: the result will say what happened.
        match member.as_str() {
            "ApplyStarted" => {
                if let Ok((_, _, steps)) = body.deserialize::<(u64, String, u32)>() {
                    self.steps.total(steps);
                }
            }
            "StepStarted" => {
                if let Ok((_, step, text)) = body.deserialize::<(u64, u32, String)>() {
                    self.steps.started(&text);
                    self.texts.insert(step, text);
                }
            }
            "StepProgress" => {
                if let Ok((_, _, text)) = body.deserialize::<(u64, u32, String)>() {
                    self.steps.started(&text);
                }
            }
            "StepFinished" => {
                if let Ok((_, step, error)) = body.deserialize::<(u64, u32, String)>() {
                    let text = self.texts.remove(&step).unwrap_or_default();
                    self.steps.finished(&text, &error);
                }
            }
            "Undoing" => {
                if let Ok((_, because)) = body.deserialize::<(u64, String)>() {
                    self.steps.undoing(&because);
                }
            }
            _ => {}
        }
    }
}
