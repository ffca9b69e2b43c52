//! `generations`, `diff` and `gc`.

use bulkhead_api::change::{DiffReply, GcReport, GcRequest, GenerationInfo};
use bulkhead_api::{from_json, to_json};

use super::Session;
use crate::args;
use crate::error::{CommandError, Exit};
use crate::progress::waiting;
use crate::text::{self, Cell, Table, plain};

pub(super) async fn generations(
    mut session: Session,
    args: args::Json,
) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let json = client.proxy.generations().await?;
    if args.json {
        session.out.raw_json(&json)?;
        return Ok(Exit::Done);
    }
    let generations: Vec<GenerationInfo> = from_json(&json)?;
    let bold = session.out.paint.0;
    session.out.text(&table(&generations).render(bold))?;
    Ok(Exit::Done)
}

fn table(generations: &[GenerationInfo]) -> Table {
    let mut table = Table::new(&["", "NUMBER", "CREATED", "BY", "QUBES", "MESSAGE"]);
    for generation in generations {
        let mark = match (generation.current, generation.booted) {
            (true, _) => "*",
            (false, true) => "b",
            (false, false) => "",
        };
        let message = match generation.rollback_of {
            Some(number) if generation.message.is_empty() => format!("rollback to {number}"),
            _ => generation.message.clone(),
        };
        table.row(vec![
            Cell::from(mark),
            Cell::from(generation.number.to_string()).right(),
            Cell::from(text::time(generation.created)),
            Cell::from(&generation.who),
            Cell::from(generation.qubes.to_string()).right(),
            Cell::from(message),
        ]);
    }
    table
}

pub(super) async fn diff(mut session: Session, args: args::Diff) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let (from, to) = (args.from.unwrap_or(0), args.to.unwrap_or(0));
    let json = client.proxy.diff(from, to).await?;
    if args.json {
        session.out.raw_json(&json)?;
        return Ok(Exit::Done);
    }
    let reply: DiffReply = from_json(&json)?;
    if reply.text.trim().is_empty() {
        let same = format!("generations {} and {} are the same", reply.from, reply.to);
        session.out.text(&same)?;
    } else {
        let colored = session.out.paint.plan(&text::plain_lines(&reply.text));
        session.out.text(&colored)?;
    }
    Ok(Exit::Done)
}

pub(super) async fn gc(mut session: Session, args: args::Gc) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let request = to_json(&GcRequest {
        keep: args.keep,
        generations: args.generations,
        orphan_volumes: args.orphan_volumes,
        dry_run: args.dry_run,
    })?;
    let json = waiting("collecting", client.proxy.gc(&request)).await?;
    if args.json {
        session.out.raw_json(&json)?;
        return Ok(Exit::Done);
    }
    let report: GcReport = from_json(&json)?;
    session.out.text(&describe(&report, args.dry_run))?;
    Ok(Exit::Done)
}

fn describe(report: &GcReport, dry_run: bool) -> String {
    let mut out = String::new();
    let verb = if dry_run { "would remove" } else { "removed" };
    for number in &report.generations {
        out.push_str(&format!("{verb} generation {number}\n"));
    }
    for (digest, size) in &report.images {
        let digest = plain(digest.get(..12).unwrap_or(digest));
        out.push_str(&format!("{verb} image {digest}, {size} MiB\n"));
    }
    for volume in &report.volumes {
        out.push_str(&format!("{verb} volume {}\n", plain(volume)));
    }
    for kept in &report.kept {
        out.push_str(&format!("kept {}\n", plain(kept)));
    }
    let nothing = report.generations.is_empty() && report.images.is_empty();
    if nothing && report.volumes.is_empty() {
        out.push_str("nothing to collect\n");
    } else {
        let verb = if dry_run { "would free" } else { "freed" };
        out.push_str(&format!("{verb} {} MiB\n", report.freed));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(number: u64, message: &str, rollback_of: Option<u64>) -> GenerationInfo {
        GenerationInfo {
            number,
            created: 1_709_251_199 + number,
            who: "root".into(),
            message: message.into(),
            qubes: 6,
            rollback_of,
            current: number == 3,
            booted: number == 1,
        }
    }

    #[test]
    fn lists_generations() {
        let all = [
            generation(1, "first", None),
            generation(2, "add vault", None),
            generation(3, "", Some(1)),
        ];
        insta::assert_snapshot!(table(&all).render(false), @r"
           NUMBER  CREATED              BY    QUBES  MESSAGE
        b       1  2024-03-01 00:00:00  root      6  first
                2  2024-03-01 00:00:01  root      6  add vault
        *       3  2024-03-01 00:00:02  root      6  rollback to 1
        ");
    }

    #[test]
    fn says_what_was_collected() {
        let report = GcReport {
            generations: vec![1, 2],
            images: vec![("0123456789abcdef".into(), 440)],
            volumes: vec!["old:private".into()],
            kept: vec!["generation 3: it is the current one".into()],
            freed: 2440,
        };
        insta::assert_snapshot!(describe(&report, true), @r"
        would remove generation 1
        would remove generation 2
        would remove image 0123456789ab, 440 MiB
        would remove volume old:private
        kept generation 3: it is the current one
        would free 2440 MiB
        ");
        insta::assert_snapshot!(describe(&GcReport::default(), false), @"nothing to collect");
    }
}
