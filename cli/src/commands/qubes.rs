//! `ls`, `info`, and what is done to qubes.

use bulkhead_api::ApiError;
use bulkhead_api::from_json;
use bulkhead_api::qube::{QubeInfo, QubeRow, QubeState};

use super::Session;
use crate::args;
use crate::client::Client;
use crate::error::{CommandError, Exit};
use crate::output::Paint;
use crate::progress::waiting;
use crate::text::{self, Cell, Table};

pub(super) async fn ls(mut session: Session, args: args::Ls) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let mut rows = client.proxy.list().await?;
    if args.running {
        rows.retain(|row| !matches!(row.state, QubeState::Stopped | QubeState::Failed));
    }
    if args.json {
        session.out.json(&rows)?;
    } else {
        let paint = session.out.paint;
        session.out.text(&table(&rows, paint))?;
    }
    Ok(Exit::Done)
}

fn table(rows: &[QubeRow], paint: Paint) -> String {
    let heading = ["NAME", "STATE", "LABEL", "TEMPLATE", "NETVM", "MEMORY"];
    let mut table = Table::new(&heading);
    for row in rows {
        let state = match row.state {
            QubeState::Running => Some("32"),
            QubeState::Failed => Some("31"),
            QubeState::Paused | QubeState::Starting | QubeState::Stopping => Some("33"),
            QubeState::Stopped => None,
        };
        let state = state.filter(|_| paint.0);
        let memory = match row.memory {
            0 => "-".to_owned(),
            mib => format!("{mib} MiB"),
        };
        table.row(vec![
            Cell::from(&row.name),
            Cell::from(row.state.as_str()).dyed(state.map(|code| format!("\u{1b}[{code}m"))),
            Cell::from(&row.label).dyed(paint.label(&row.color)),
            Cell::from(or_dash(&row.template)),
            Cell::from(or_dash(&row.netvm)),
            Cell::from(memory).right(),
        ]);
    }
    table.render(paint.0)
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

pub(super) async fn info(mut session: Session, args: args::Info) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let json = client.proxy.info(&args.qube).await?;
    if args.json {
        session.out.raw_json(&json)?;
        return Ok(Exit::Done);
    }
    let info: QubeInfo = from_json(&json)?;
    let text = describe(&info);
    session.out.text(&text)?;
    Ok(Exit::Done)
}

fn describe(info: &QubeInfo) -> String {
    let row = &info.row;
    let mut lines = vec![
        ("name", row.name.clone()),
        ("state", row.state.as_str().to_owned()),
        ("kind", row.kind.replace('_', " ")),
        ("label", row.label.clone()),
        ("template", or_dash(&row.template).to_owned()),
        ("netvm", or_dash(&row.netvm).to_owned()),
    ];
    if row.domid != 0 {
        lines.push(("domain", row.domid.to_string()));
    }
    if row.memory != 0 {
        lines.push(("memory", format!("{} MiB", row.memory)));
    }
    if let Some(uuid) = &info.uuid {
        lines.push(("uuid", uuid.clone()));
    }
    if let Some(started) = info.started {
        lines.push(("started", format!("{} UTC", text::time(started))));
    }
    if let Some(version) = info.agent_version {
        lines.push(("agent", format!("qrexec {version}")));
    }
    if info.restart_needed {
        let pending = "some changes are felt at its next start".to_owned();
        lines.push(("pending", pending));
    }
    let mut out = String::new();
    for (name, value) in lines {
        out.push_str(&format!("{name:<10}{}\n", text::plain(&value)));
    }
    if let serde_json::Value::Object(declared) = &info.declared {
        out.push_str("declared\n");
        for (name, value) in declared {
            if !is_nothing(value) && name != "name" {
                let value = match value {
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                out.push_str(&format!("  {name:<18}{}\n", text::plain(&value)));
            }
        }
    }
    out
}

fn is_nothing(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::String(text) => text.is_empty(),
        serde_json::Value::Array(items) => items.is_empty(),
        serde_json::Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// What is done to each of some qubes. Timeouts in seconds; 0 means the qube's own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    Start,
    Stop(u32),
    Kill,
    Pause,
    Unpause,
    Restart(u32),
}

impl Verb {
    fn doing(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Stop(_) => "stopping",
            Self::Kill => "killing",
            Self::Pause => "pausing",
            Self::Unpause => "unpausing",
            Self::Restart(_) => "restarting",
        }
    }

    async fn perform(self, client: &Client, qube: &str) -> Result<(), ApiError> {
        let proxy = &client.proxy;
        match self {
            Self::Start => proxy.start(qube).await,
            Self::Stop(timeout) => proxy.stop(qube, timeout).await,
            Self::Kill => proxy.kill(qube).await,
            Self::Pause => proxy.pause(qube).await,
            Self::Unpause => proxy.unpause(qube).await,
            Self::Restart(timeout) => proxy.restart(qube, timeout).await,
        }
    }
}

/// Does it to each; one that fails stops nobody else, and all failures are shown.
pub(super) async fn each(
    session: Session,
    qubes: Vec<String>,
    verb: Verb,
) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let mut failed: Option<CommandError> = None;
    for qube in &qubes {
        let what = format!("{} {qube}", verb.doing());
        if let Err(error) = waiting(&what, verb.perform(&client, qube)).await {
            let error = CommandError::from(error);
            if let Some(earlier) = failed.replace(error) {
                earlier.show();
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(Exit::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, state: QubeState, netvm: &str, memory: u64) -> QubeRow {
        QubeRow {
            name: name.into(),
            state,
            kind: "app".into(),
            label: "blue".into(),
            color: "0x3465a4".into(),
            template: "debian".into(),
            netvm: netvm.into(),
            memory,
            domid: u32::from(memory > 0),
        }
    }

    #[test]
    fn lists_qubes() {
        let rows = [
            row("sys-firewall", QubeState::Running, "sys-net", 400),
            row("vault", QubeState::Stopped, "", 0),
            row("work", QubeState::Paused, "sys-firewall", 4000),
        ];
        insta::assert_snapshot!(table(&rows, Paint(false)), @r"
        NAME          STATE    LABEL  TEMPLATE  NETVM           MEMORY
        sys-firewall  running  blue   debian    sys-net        400 MiB
        vault         stopped  blue   debian    -                    -
        work          paused   blue   debian    sys-firewall  4000 MiB
        ");
        assert!(table(&rows, Paint(true)).contains("\u{1b}[38;2;52;101;164mblue\u{1b}[0m"));
    }

    #[test]
    fn lists_nothing() {
        insta::assert_snapshot!(
            table(&[], Paint(false)),
            @"NAME  STATE  LABEL  TEMPLATE  NETVM  MEMORY"
        );
    }

    #[test]
    fn describes_a_qube() {
        let info = QubeInfo {
            row: row("work", QubeState::Running, "sys-firewall", 400),
            uuid: Some("0b4d".into()),
            started: Some(1_709_251_199),
            restart_needed: true,
            agent_version: Some(4),
            declared: serde_json::json!({
                "name": "work", "vcpus": 2, "kernel": null, "kernelopts": "",
                "tags": ["x"], "default_user": "user\u{1b}[2J"
            }),
        };
        insta::assert_snapshot!(describe(&info), @r#"
        name      work
        state     running
        kind      app
        label     blue
        template  debian
        netvm     sys-firewall
        domain    1
        memory    400 MiB
        uuid      0b4d
        started   2024-02-29 23:59:59 UTC
        agent     qrexec 4
        pending   some changes are felt at its next start
        declared
          default_user      user_[2J
          tags              ["x"]
          vcpus             2
        "#);
    }
}
