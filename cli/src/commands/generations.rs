//! `bulkhead generations`, `diff` and `gc`.

use bulkhead_api::change::{DiffReply, GcReport, GcRequest, GenerationInfo};
use bulkhead_api::{from_json, to_json};

use super::confirm::{Grave, confirm};
use crate::args::{DiffArgs, GcArgs, Json};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::{Align, Cell, Look, Table};
use crate::output::{print, print_json_text, print_line, style, text, time};
use crate::progress::waiting;

pub(crate) async fn list(client: Client, args: Json) -> Result<Exit, Failure> {
    let reply = client.proxy.generations().await?;
    if args.json {
        print_json_text(&reply)?;
        return Ok(Exit::Done);
    }
    let generations: Vec<GenerationInfo> = from_json(&reply)?;
    if generations.is_empty() {
        print_line("There is no generation yet: `bulkhead apply` makes the first.")?;
    } else {
        print(&table(&generations).render(style::stdout()))?;
    }
    Ok(Exit::Done)
}

fn table(generations: &[GenerationInfo]) -> Table {
    let mut table = Table::new(&[
        ("", Align::Left),
        ("GENERATION", Align::Right),
        ("MADE (UTC)", Align::Left),
        ("BY", Align::Left),
        ("QUBES", Align::Right),
        ("MESSAGE", Align::Left),
    ]);
    for info in generations {
        let mark = if info.current { "*" } else { "" };
        table.row(vec![
            Cell::new(mark, Look::Added),
            info.number.to_string().into(),
            time::utc(info.created).into(),
            info.who.as_str().into(),
            info.qubes.to_string().into(),
            message(info).into(),
        ]);
    }
    table
}

fn message(info: &GenerationInfo) -> String {
    let mut message = info.message.clone();
    if let Some(number) = info.rollback_of {
        let what = format!("rollback to {number}");
        message = match message.as_str() {
            "" => what,
            text => format!("{text} ({what})"),
        };
    }
    if info.booted && !info.current {
        message.push_str(" [came up with this one]");
    }
    message.trim_start().to_owned()
}

pub(crate) async fn diff(client: Client, args: DiffArgs) -> Result<Exit, Failure> {
    let (from, to) = (args.from.unwrap_or(0), args.to.unwrap_or(0));
    let reply = client.proxy.diff(from, to).await?;
    if args.json {
        print_json_text(&reply)?;
        return Ok(Exit::Done);
    }
    let diff: DiffReply = from_json(&reply)?;
    if diff.text.trim().is_empty() {
        let (from, to) = (diff.from, diff.to);
        print_line(&format!(
            "Generations {from} and {to} describe the same machine."
        ))?;
    } else {
        let shown = text::block(&diff.text);
        print_line(&style::stdout().marked(shown.trim_end()))?;
    }
    Ok(Exit::Done)
}

pub(crate) async fn gc(client: Client, args: GcArgs) -> Result<Exit, Failure> {
    let mut request = GcRequest {
        keep: args.keep,
        generations: args.generation,
        orphan_volumes: args.orphan_volumes,
        dry_run: true,
    };
    if !args.dry_run && !args.yes {
        let reply = client.proxy.gc(&to_json(&request)?).await?;
        let report: GcReport = from_json(&reply)?;
        let nothing = is_empty(&report);
        if !nothing && !args.json {
            print(&tell(&report, "would remove"))?;
        }
        if !nothing {
            let grave = Grave {
                destroys: report.volumes,
                stops: Vec::new(),
            };
            confirm("Remove this?", &grave)?;
        }
    }
    request.dry_run = args.dry_run;
    let request = to_json(&request)?;
    let reply = waiting("Removing", client.proxy.gc(&request)).await?;
    if args.json {
        print_json_text(&reply)?;
    } else {
        let done = if args.dry_run {
            "would remove"
        } else {
            "removed"
        };
        print(&tell(&from_json(&reply)?, done))?;
    }
    Ok(Exit::Done)
}

fn is_empty(report: &GcReport) -> bool {
    report.generations.is_empty() && report.images.is_empty() && report.volumes.is_empty()
}

fn tell(report: &GcReport, done: &str) -> String {
    let mut out = String::new();
    for number in &report.generations {
        out.push_str(&format!("{done} generation {number}\n"));
    }
    for (digest, size) in &report.images {
        out.push_str(&format!(
            "{done} image {} ({size} MiB)\n",
            text::line(digest)
        ));
    }
    for volume in &report.volumes {
        out.push_str(&format!("{done} volume {}\n", text::line(volume)));
    }
    for kept in &report.kept {
        out.push_str(&format!("kept {}\n", text::line(kept)));
    }
    if is_empty(report) {
        out.push_str("Nothing to remove.\n");
    } else {
        out.push_str(&format!("{} MiB in all.\n", report.freed));
    }
    out
}
