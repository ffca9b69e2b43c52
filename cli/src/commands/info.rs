//! `bulkhead info`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bulkhead_api::from_json;
use bulkhead_api::qube::{QubeInfo, Revision, TemplateRoot};
use serde_json::Value;

use crate::args::InfoArgs;
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::style::{self, Paint};
use crate::output::text::line;
use crate::output::{print, print_json_text, time};

pub(crate) async fn info(client: Client, args: InfoArgs) -> Result<Exit, Failure> {
    let reply = client.proxy.info(&args.qube).await?;
    if args.json {
        print_json_text(&reply)?;
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        print(&tell(&from_json(&reply)?, now, style::stdout()))?;
    }
    Ok(Exit::Done)
}

/// Column at which values start.
const INDENT: usize = 24;

fn tell(info: &QubeInfo, now: u64, paint: Paint) -> String {
    let row = &info.row;
    let mut out = format!("{}\n", paint.label(&row.color, &line(&row.name)));
    let mut say = |name: &str, value: &str| {
        let width = INDENT.saturating_sub(name.len() + 3).max(1);
        out.push_str(&format!("  {name}:{:width$}{}\n", "", line(value)));
    };
    say("state", row.state.as_str());
    if info.restart_needed {
        say("restart", "needed for what was changed since it started");
    }
    if let Some(started) = info.started {
        let up = Duration::from_secs(now.saturating_sub(started));
        say(
            "started",
            &format!("{} UTC ({} ago)", time::utc(started), time::span(up)),
        );
    }
    if row.domid != 0 {
        say("domain", &row.domid.to_string());
    }
    if row.memory != 0 {
        say("memory now", &format!("{} MiB", row.memory));
    }
    if let Some(uuid) = &info.uuid {
        say("uuid", uuid);
    }
    if let Some(version) = info.agent_version {
        say("agent", &format!("qrexec {version}"));
    }
    if let Some(root) = &info.template_root {
        say("root", &told(root, row.domid != 0));
    }
    if !info.revisions.is_empty() {
        let of = |one: &Revision| format!("{} ({} UTC)", one.number, time::utc(one.made));
        let all: Vec<String> = info.revisions.iter().rev().map(of).collect();
        say("revisions", &all.join(", "));
    }
    if !info.without_effect.is_empty() {
        say("without effect", &info.without_effect.join(", "));
    }
    if let Value::Object(declared) = &info.declared {
        out.push_str(&format!("{}\n", paint.strong("declared")));
        for (name, value) in declared {
            if name == "name" || is_empty(value) {
                continue;
            }
            let shown = line(&with_unit(name, value));
            let name = line(name);
            let width = INDENT.saturating_sub(name.len() + 3).max(1);
            out.push_str(&format!("  {name}:{:width$}{shown}\n", ""));
        }
    }
    out
}

/// What a qube that is based on a template qube runs on, and starts from next.
fn told(root: &TemplateRoot, runs: bool) -> String {
    let of = |revision: Option<u64>| match revision {
        Some(number) => format!("revision {number} of {}", root.template),
        None => format!("the image of {}", root.template),
    };
    match (root.outdated, root.revision, root.newest) {
        (true, None, Some(newest)) => {
            format!("older than {}; restart it to use that", of(Some(newest)))
        }
        (true, older, Some(newest)) => {
            format!("{}; restart it to use revision {newest}", of(older))
        }
        (_, now, newest) => of(if runs { now } else { newest }),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// The same, with the unit of options that are measured in one.
fn with_unit(name: &str, value: &Value) -> String {
    match (name, value) {
        ("initial" | "maximum" | "size", Value::Number(mib)) => format!("{mib} MiB"),
        ("shutdown_timeout", Value::Number(seconds)) => format!("{seconds} s"),
        _ => short(value),
    }
}

/// A value on one line, without the noise of JSON.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(short).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            let entry = |(name, value): (&String, &Value)| match value {
                Value::Object(_) => format!("{name} ({})", short(value)),
                _ => format!("{name} {}", with_unit(name, value)),
            };
            map.iter().map(entry).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_api::qube::{QubeRow, QubeState};
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_is_on_a_line_of_its_own() {
        let info = QubeInfo {
            row: QubeRow {
                name: "work".into(),
                state: QubeState::Running,
                kind: "app".into(),
                label: "blue".into(),
                color: "0x3465a4".into(),
                template: "host".into(),
                netvm: "sys-firewall".into(),
                memory: 400,
                domid: 3,
            },
            uuid: Some("f0e1".into()),
            started: Some(1_709_210_096),
            restart_needed: true,
            agent_version: Some(4),
            without_effect: vec!["volumes.private.size".into()],
            template_root: Some(TemplateRoot {
                template: "tools".into(),
                revision: Some(3),
                newest: Some(5),
                outdated: true,
            }),
            revisions: Vec::new(),
            declared: json!({
                "name": "work",
                "netvm": "sys-firewall",
                "autostart": false,
                "kernel": null,
                "tags": ["mail", "web"],
                "memory": {"initial": 256, "maximum": 1024},
                "shutdown_timeout": 60,
                "volumes": {"private": {"size": 2048}},
            }),
        };
        insta::assert_snapshot!(tell(&info, 1_709_210_396, Paint::NEVER), @r"
        work
          state:                running
          restart:              needed for what was changed since it started
          started:              2024-02-29 12:34:56 UTC (5 min 0 s ago)
          domain:               3
          memory now:           400 MiB
          uuid:                 f0e1
          agent:                qrexec 4
          root:                 revision 3 of tools; restart it to use revision 5
          without effect:       volumes.private.size
        declared
          autostart:            no
          memory:               initial 256 MiB, maximum 1024 MiB
          netvm:                sys-firewall
          shutdown_timeout:     60 s
          tags:                 mail, web
          volumes:              private (size 2048 MiB)
        ");
    }

    #[test]
    fn where_a_root_comes_from_is_said_in_a_line() {
        let root = |revision, newest, outdated| TemplateRoot {
            template: "tools".into(),
            revision,
            newest,
            outdated,
        };
        let lines = [
            told(&root(None, None, false), true),
            told(&root(None, None, false), false),
            told(&root(Some(2), Some(2), false), true),
            told(&root(None, Some(2), false), false),
            told(&root(None, Some(1), true), true),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r"
        the image of tools
        the image of tools
        revision 2 of tools
        revision 2 of tools
        older than revision 1 of tools; restart it to use that
        ");
    }
}
