//! `policy test`.

use bulkhead_model::qube::PolicyText;
use bulkhead_policy::{Checked, Expectation, ExpectationError, expectations};
use serde::Serialize;

use super::source::{Policy, Usual};
use crate::args::{Global, TestArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{note, print_json, print_line, style, text};

/// Longest file of expectations, in bytes: a hundred thousand lines.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    expectations: Vec<Row>,
    errors: Vec<ErrorRow>,
}

#[derive(Debug, Serialize)]
struct Row {
    file: String,
    line: u32,
    expectation: String,
    expected: String,
    got: String,
    /// Where the rule is that spoke, and what it says.
    at: Option<String>,
    rule: Option<String>,
    met: bool,
}

#[derive(Debug, Serialize)]
struct ErrorRow {
    file: String,
    line: u32,
    column: u32,
    message: String,
    remedy: String,
}

pub(super) fn test(global: &Global, args: &TestArgs) -> Result<Exit, Failure> {
    let policy = Policy::find(global, &args.from, Usual::Description)?;
    let texts = match args.files.is_empty() {
        true => policy.description.policy_tests.clone(),
        false => args
            .files
            .iter()
            .map(|path| read(path))
            .collect::<Result<_, _>>()?,
    };
    let view = policy.view()?;
    let (read, mut errors) = match expectations(&texts) {
        Ok(read) => (read, Vec::new()),
        Err(errors) => (Vec::new(), errors),
    };
    let mut checked = Vec::new();
    for expectation in &read {
        let unknown = expectation.unknown(&view);
        if unknown.is_empty() {
            checked.push(Expectation::check(expectation, &policy.engine, &view));
        }
        errors.extend(unknown);
    }
    let unmet = checked.iter().filter(|checked| !checked.is_met()).count();
    let ok = errors.is_empty() && unmet == 0;
    if args.json {
        print_json(&Report {
            ok,
            expectations: checked.iter().map(row).collect(),
            errors: errors.iter().map(error_row).collect(),
        })?;
        return Ok(if ok { Exit::Done } else { Exit::Refused });
    }
    for error in &errors {
        note(&shown_error(error));
    }
    for checked in checked.iter().filter(|checked| !checked.is_met()) {
        note(&shown(checked));
    }
    if read.is_empty() && errors.is_empty() {
        let message = format!("{} expects nothing of its policy", policy.name);
        return Err(Failure::new(message)
            .hint("Name files of expectations, here or in `policy_tests` of the description."));
    }
    if ok {
        print_line(&match checked.len() {
            1 => "1 expectation holds.".to_owned(),
            n => format!("{n} expectations hold."),
        })?;
        return Ok(Exit::Done);
    }
    Err(Failure::new(match (errors.len(), unmet) {
        (0, unmet) => format!("{unmet} of {} expectations do not hold", checked.len()),
        (1, _) => "1 line expects nothing that can be checked".to_owned(),
        (wrong, _) => format!("{wrong} lines expect nothing that can be checked"),
    }))
}

fn read(path: &std::path::Path) -> Result<PolicyText, Failure> {
    use std::io::Read as _;
    let shown = path.display();
    let failed = |error| Failure::io(format!("`{shown}` cannot be read"), &error);
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let message = format!("`{shown}` is longer than {FILE_BYTES_MAX} bytes");
        return Err(Failure::new(message));
    }
    Ok(PolicyText {
        origin: shown.to_string(),
        first_line: 1,
        text,
    })
}

fn row(checked: &Checked<'_>) -> Row {
    let expectation = checked.expectation;
    Row {
        file: expectation.origin.file.to_string(),
        line: expectation.origin.line,
        expectation: expectation.to_string(),
        expected: expectation.expected.to_string(),
        got: checked.got.to_string(),
        at: checked.rule.map(|rule| rule.origin.to_string()),
        rule: checked.rule.map(ToString::to_string),
        met: checked.is_met(),
    }
}

fn error_row(error: &ExpectationError) -> ErrorRow {
    ErrorRow {
        file: error.origin.file.to_string(),
        line: error.origin.line,
        column: error.columns.start,
        message: error.message.clone(),
        remedy: error.remedy.clone(),
    }
}

fn shown(checked: &Checked<'_>) -> String {
    let Expectation {
        origin, expected, ..
    } = checked.expectation;
    let head = style::stderr().error("failed:");
    let line = text::line(&checked.expectation.to_string());
    let got = text::line(&checked.got.to_string());
    let by = text::line(&checked.by());
    format!("{head} {line}\n  --> {origin}\n  expected {expected}, got {got}\n  {by}\n\n")
}

fn shown_error(error: &ExpectationError) -> String {
    let head = style::stderr().error("error:");
    let (message, remedy) = (text::line(&error.message), text::line(&error.remedy));
    let (origin, column) = (&error.origin, error.columns.start);
    format!("{head} {message}\n  --> {origin}:{column}\n  = help: {remedy}\n\n")
}
