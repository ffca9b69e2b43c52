//! Whole descriptions through the door that everyone uses: what merges how, what is refused where,
//! and what keeps its meaning.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

mod dom0;
mod imports;
mod layers;
mod meaning;
mod refusals;
mod rules;

use std::path::Path;

use bulkhead_model::diagnostic::{Color, Diagnostics};
use bulkhead_model::load::{Loaded, load};
use bulkhead_model::source::MemoryReader;
use serde_json::Value;

type Files<'a> = [(&'a str, &'a str)];

fn try_load(files: &Files<'_>) -> Result<Loaded, Diagnostics> {
    load(
        Path::new("system.ron"),
        &MemoryReader::new(files.iter().copied()),
    )
}

#[track_caller]
fn loaded(files: &Files<'_>) -> Loaded {
    try_load(files).unwrap_or_else(|found| panic!("{}", found.render(Color::Never)))
}

/// A system with an image `debian` and what else is written.
fn system(rest: &str) -> String {
    format!("(templates: {{\"debian\": (source: Host)}}, {rest})")
}

/// A qube of the only file, as JSON: every property under its name.
#[track_caller]
fn qube(rest: &str, name: &str) -> Value {
    let loaded = loaded(&[("system.ron", &system(rest))]);
    serde_json::to_value(&loaded.description.qubes[name]).unwrap()
}

/// What is wrong: place, what stands there, message, and each help and related place.
#[track_caller]
fn refused(files: &Files<'_>) -> Vec<String> {
    let found = try_load(files).expect_err("accepted");
    let shown = |error: &bulkhead_model::diagnostic::Diagnostic| {
        let mut line = error.message.clone();
        if let Some(place) = &error.place {
            let text = files.iter().find(|(name, _)| *name == place.file);
            let text = text.map_or("", |(_, text)| text);
            let (start, end) = (place.span.0 as usize, place.span.1 as usize);
            line = format!("{line} @ {}", &text[start..end]);
        }
        for related in &error.related {
            line = format!("{line} | {} at {}", related.label, related.place);
        }
        for help in &error.help {
            line = format!("{line} ? {help}");
        }
        line
    };
    found.list.iter().map(shown).collect()
}

/// The same for one file.
#[track_caller]
fn refused_in(text: &str) -> Vec<String> {
    refused(&[("system.ron", text)])
}
