//! `policy list`.

use serde::Serialize;

use super::source::{Policy, Usual};
use crate::args::{Global, PolicyListArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::{Align, Table};
use crate::output::{print, print_json, style};

/// A rule, as `--json` prints it.
#[derive(Debug, Serialize)]
struct RuleRow {
    number: usize,
    file: String,
    line: u32,
    rule: String,
}

/// A source, as `--json` prints it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct SourceRow {
    file: String,
    /// Where it begins.
    line: u32,
    rules: usize,
    /// Number of its first rule.
    first: usize,
}

pub(super) fn list(global: &Global, args: &PolicyListArgs) -> Result<Exit, Failure> {
    let policy = Policy::find(global, &args.from, Usual::Generation)?;
    if args.effective {
        let rows = rules(&policy);
        if args.json {
            print_json(&rows)?;
        } else {
            let mut table = Table::new(&[
                ("#", Align::Right),
                ("WHERE", Align::Left),
                ("RULE", Align::Left),
            ]);
            for row in rows {
                let place = place(&row.file, row.line);
                table.row(vec![
                    row.number.to_string().into(),
                    place.into(),
                    row.rule.into(),
                ]);
            }
            print(&table.render(style::stdout()))?;
        }
        return Ok(Exit::Done);
    }
    let rows = sources(&policy);
    if args.json {
        print_json(&rows)?;
    } else {
        let mut table = Table::new(&[
            ("SOURCE", Align::Left),
            ("RULES", Align::Right),
            ("NUMBERS", Align::Left),
        ]);
        for row in rows {
            let numbers = match row.rules {
                0 => String::new(),
                1 => row.first.to_string(),
                more => format!("{} to {}", row.first, row.first + more - 1),
            };
            let cells = [place(&row.file, row.line), row.rules.to_string(), numbers];
            table.row(cells.map(Into::into).into());
        }
        print(&table.render(style::stdout()))?;
    }
    Ok(Exit::Done)
}

/// A line of a file; a file as a whole has none.
fn place(file: &str, line: u32) -> String {
    match line {
        0 => file.to_owned(),
        line => format!("{file}:{line}"),
    }
}

fn rules(policy: &Policy) -> Vec<RuleRow> {
    let numbered = (1..).zip(policy.engine.rules());
    numbered
        .map(|(number, rule)| RuleRow {
            number,
            file: rule.origin.file.to_string(),
            line: rule.origin.line,
            rule: rule.to_string(),
        })
        .collect()
}

/// Runs of rules from one file: an inline text is one, and so is each stretch of a file between
/// what it includes.
fn sources(policy: &Policy) -> Vec<SourceRow> {
    let mut rows: Vec<SourceRow> = Vec::new();
    for (number, rule) in (1..).zip(policy.engine.rules()) {
        match rows.last_mut() {
            Some(last) if last.file == *rule.origin.file => last.rules += 1,
            _ => rows.push(SourceRow {
                file: rule.origin.file.to_string(),
                line: rule.origin.line,
                rules: 1,
                first: number,
            }),
        }
    }
    rows
}
