//! `policy lint`.

use bulkhead_policy::{Finding, LintSeverity};
use serde::Serialize;

use super::source::{Policy, Usual};
use crate::args::{Global, LintArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{print, print_json, print_line, style, text};

/// A finding, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Row {
    severity: &'static str,
    kind: &'static str,
    file: String,
    line: u32,
    rule: String,
    message: String,
    remedy: String,
}

pub(super) fn lint(global: &Global, args: &LintArgs) -> Result<Exit, Failure> {
    let policy = Policy::find(global, &args.from, Usual::Description)?;
    let found = bulkhead_policy::lint(&policy.engine, &policy.description, &policy.view()?);
    let warnings = found
        .iter()
        .filter(|finding| finding.severity == LintSeverity::Warning);
    let warnings = warnings.count();
    if args.json {
        print_json(&found.iter().map(row).collect::<Vec<_>>())?;
    } else {
        for finding in &found {
            print(&shown(finding))?;
        }
        print_line(&match (warnings, found.len() - warnings) {
            (0, 0) => format!(
                "Nothing to say about {} rules.",
                policy.engine.rules().len()
            ),
            (warnings, notes) => {
                format!("{}, {}", count(warnings, "warning"), count(notes, "note"))
            }
        })?;
    }
    Ok(if warnings == 0 {
        Exit::Done
    } else {
        Exit::Refused
    })
}

fn row(finding: &Finding) -> Row {
    Row {
        severity: finding.severity.word(),
        kind: finding.kind.word(),
        file: finding.origin.file.to_string(),
        line: finding.origin.line,
        rule: finding.rule.clone(),
        message: finding.message.clone(),
        remedy: finding.remedy.clone(),
    }
}

fn shown(finding: &Finding) -> String {
    let whole = text::block(&finding.to_string());
    let severity = finding.severity.word();
    let paint = style::stdout();
    let painted = match finding.severity {
        LintSeverity::Warning => paint.warning(severity),
        LintSeverity::Note => paint.strong(severity),
    };
    let rest = whole.strip_prefix(severity).unwrap_or(&whole);
    format!("{painted}{rest}\n")
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}
