//! What goes to the person.

pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod time;

use std::io::{self, Write};

use crate::failure::Failure;

/// Writes to standard output, all at once.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::output(&error))
}

/// As [`print()`], with a newline behind it.
pub(crate) fn print_line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Writes to standard error. There is nobody to tell if that fails.
pub(crate) fn note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints a JSON text of the daemon, indented.
pub(crate) fn print_json_text(json: &str) -> Result<(), Failure> {
    let value: serde_json::Value = bulkhead_api::from_json(json)?;
    print_json(&value)
}

/// Prints a value as indented JSON.
pub(crate) fn print_json<T: serde::Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new("cannot write JSON").because(&error))?;
    print_line(&text)
}
