//! The table of every option, made from what decodes them.

mod markdown;

use serde::Serialize;

use crate::decode::{OptionRow, Section};
use crate::written::SystemOptions;

pub use markdown::markdown;

/// One option of the description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OptionDoc {
    /// Where it is written: `qubes.<name>.memory.initial`; `[]` stands for each entry of a list.
    pub path: String,
    /// What its value is.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What counts when it is not written.
    pub default: String,
    /// What it means.
    pub meaning: String,
    /// The version that brought it.
    pub since: String,
}

/// Options whose inner options are described elsewhere.
const SAME_AS: [(&str, &str); 3] = [
    ("defaults", "qubes.<name>"),
    ("profiles", "qubes.<name>"),
    ("assertions[].where", "assertions[].must"),
];

/// Every option, in the order in which they are documented.
pub fn options() -> Vec<OptionDoc> {
    let mut found = Vec::new();
    add("", SystemOptions::rows(), &mut found);
    found
}

fn add(prefix: &str, rows: Vec<OptionRow>, found: &mut Vec<OptionDoc>) {
    for row in rows {
        let path = format!("{prefix}{}", row.name);
        let same = SAME_AS.iter().find(|(at, _)| *at == path);
        let type_name = match same {
            Some((_, other)) => format!("{}, as in `{other}`", row.type_name),
            None => row.type_name,
        };
        let words: Vec<&str> = row
            .meaning
            .iter()
            .flat_map(|line| line.split_whitespace())
            .collect();
        found.push(OptionDoc {
            path: path.clone(),
            type_name,
            default: row.default.to_owned(),
            meaning: words.join(" "),
            since: row.since.to_owned(),
        });
        if let (None, Some((infix, rows))) = (same, row.nested) {
            add(&format!("{path}{infix}"), rows, found);
        }
    }
}

#[cfg(test)]
mod tests;
