//! `ask`: calls that wait for the person.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use bulkhead_api::call::{Answer, Ask};
use bulkhead_api::from_json;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::Session;
use crate::args::{self, AskChoice, AskCommand};
use crate::client::Client;
use crate::error::{CommandError, Exit};
use crate::text::{self, Cell, Table, plain};

pub(super) async fn ask(session: Session, args: args::Ask) -> Result<Exit, CommandError> {
    match args.command {
        Some(AskCommand::List(json)) => list(session, json.json).await,
        Some(AskCommand::Answer(given)) => answer(session, given).await,
        None => interactive(session).await,
    }
}

async fn list(mut session: Session, as_json: bool) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let json = client.proxy.asks().await?;
    if as_json {
        session.out.raw_json(&json)?;
        return Ok(Exit::Done);
    }
    let asks: Vec<Ask> = from_json(&json)?;
    let bold = session.out.paint.0;
    let shown = if asks.is_empty() {
        "no call waits".to_owned()
    } else {
        table(&asks).render(bold)
    };
    session.out.text(&shown)?;
    Ok(Exit::Done)
}

fn table(asks: &[Ask]) -> Table {
    let mut table = Table::new(&["ID", "ASKED", "SOURCE", "TARGET", "SERVICE"]);
    for ask in asks {
        table.row(vec![
            Cell::from(ask.id.to_string()).right(),
            Cell::from(text::time(ask.asked)),
            Cell::from(&ask.source),
            Cell::from(ask.default_target.as_ref().unwrap_or(&ask.requested_target)),
            Cell::from(service(ask)),
        ]);
    }
    table
}

fn service(ask: &Ask) -> String {
    if ask.argument.is_empty() {
        ask.service.clone()
    } else {
        format!("{}+{}", ask.service, ask.argument)
    }
}

async fn answer(session: Session, given: args::AskAnswer) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let answer = match given.answer {
        AskChoice::Allow => Answer::Allow,
        AskChoice::Deny => Answer::Deny,
    };
    let target = given.target.unwrap_or_default();
    client.proxy.answer(given.id, answer, &target).await?;
    Ok(Exit::Done)
}

/// Shows calls one after the other, as they come, until the end of input.
async fn interactive(session: Session) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let mut added = client.proxy.receive_ask_added().await?;
    let mut removed = client.proxy.receive_ask_removed().await?;
    client.proxy.subscribe(&["asks"]).await?;
    let asks: Vec<Ask> = from_json(&client.proxy.asks().await?)?;
    let mut waiting: BTreeMap<u64, Ask> = asks.into_iter().map(|ask| (ask.id, ask)).collect();
    let mut lines = lines();
    let mut shown = None;
    say("calls that wait are shown here as they come; end with Ctrl-D\n");
    loop {
        if shown.is_none()
            && let Some(ask) = waiting.values().next()
        {
            shown = Some(ask.id);
            say(&question(ask));
        }
        tokio::select! {
            line = lines.recv() => match line {
                None => return Ok(Exit::Done),
                Some(line) => {
                    let Some(ask) = shown.and_then(|id| waiting.get(&id)) else { continue };
                    if reply(&client, ask, line.trim()).await? {
                        waiting.remove(&ask.id.clone());
                        shown = None;
                    } else {
                        say(PROMPT);
                    }
                }
            },
            Some(signal) = added.next() => {
                let ask: Ask = from_json(signal.args()?.ask_json())?;
                waiting.insert(ask.id, ask);
            }
            Some(signal) = removed.next() => {
                let signal = signal.args()?;
                waiting.remove(signal.id());
                if shown == Some(*signal.id()) {
                    say(&format!("\ncall {} no longer waits: {}\n", signal.id(), plain(signal.outcome())));
                    shown = None;
                }
            }
            () = client.connection.closed() => {
                return Err(CommandError::new("bulkheadd has ended"));
            }
        }
    }
}

const PROMPT: &str = "allow, deny, or a number or name to allow with that target? ";

fn question(ask: &Ask) -> String {
    let mut out = format!(
        "\ncall {}: {} ({}) asks for {}\n  requested target: {}\n  rule: {}\n",
        ask.id,
        plain(&ask.source),
        plain(&ask.source_label),
        plain(&service(ask)),
        plain(&ask.requested_target),
        plain(&ask.rule),
    );
    for (index, target) in ask.targets.iter().enumerate() {
        let chosen = ask.default_target.as_ref() == Some(target);
        let mark = if chosen { "*" } else { " " };
        out.push_str(&format!("  {mark} {}  {}\n", index + 1, plain(target)));
    }
    out.push_str(PROMPT);
    out
}

/// What a line means.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Allow(String),
    Deny,
    Unclear,
}

fn read_reply(ask: &Ask, line: &str) -> Reply {
    match line {
        "a" | "allow" | "y" | "yes" => match &ask.default_target {
            Some(target) => Reply::Allow(target.clone()),
            // A person who has to choose must not choose by accident.
            None => Reply::Unclear,
        },
        "d" | "deny" | "n" | "no" => Reply::Deny,
        other => {
            let number = other.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
            let by_number = number.and_then(|index| ask.targets.get(index));
            let by_name = ask.targets.iter().find(|target| *target == other);
            match by_name.or(by_number) {
                Some(target) => Reply::Allow(target.clone()),
                None => Reply::Unclear,
            }
        }
    }
}

/// Sends the answer; false if the line was none.
async fn reply(client: &Client, ask: &Ask, line: &str) -> Result<bool, CommandError> {
    let sent = match read_reply(ask, line) {
        Reply::Allow(target) => client.proxy.answer(ask.id, Answer::Allow, &target).await,
        Reply::Deny => client.proxy.answer(ask.id, Answer::Deny, "").await,
        Reply::Unclear => return Ok(false),
    };
    if let Err(error) = sent {
        // Somebody else may have been faster; the next call is shown all the same.
        CommandError::from(error).show();
    }
    Ok(true)
}

fn say(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{text}");
    let _ = stderr.flush();
}

/// Lines of standard input. A thread, since a terminal cannot be waited for otherwise.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(default_target: Option<&str>) -> Ask {
        Ask {
            id: 7,
            source: "work".into(),
            source_label: "blue".into(),
            service: "qubes.Filecopy".into(),
            argument: String::new(),
            requested_target: "@default".into(),
            targets: vec!["personal".into(), "vault".into()],
            default_target: default_target.map(Into::into),
            asked: 1_709_251_199,
            rule: "system.ron:40".into(),
        }
    }

    #[test]
    fn asks_so_that_one_can_answer() {
        insta::assert_snapshot!(question(&example(Some("vault"))), @r"

        call 7: work (blue) asks for qubes.Filecopy
          requested target: @default
          rule: system.ron:40
            1  personal
          * 2  vault
        allow, deny, or a number or name to allow with that target?
        ");
    }

    #[test]
    fn understands_answers() {
        let with = example(Some("vault"));
        let without = example(None);
        assert_eq!(read_reply(&with, "allow"), Reply::Allow("vault".into()));
        assert_eq!(read_reply(&without, "allow"), Reply::Unclear);
        assert_eq!(read_reply(&without, "1"), Reply::Allow("personal".into()));
        assert_eq!(read_reply(&without, "vault"), Reply::Allow("vault".into()));
        assert_eq!(read_reply(&with, "deny"), Reply::Deny);
        for unclear in ["", "0", "3", "sys-net", "Allow "] {
            assert_eq!(read_reply(&with, unclear), Reply::Unclear, "`{unclear}`");
        }
    }

    #[test]
    fn lists_what_waits() {
        insta::assert_snapshot!(table(&[example(None)]).render(false), @r"
        ID  ASKED                SOURCE  TARGET    SERVICE
         7  2024-02-29 23:59:59  work    @default  qubes.Filecopy
        ");
    }
}
