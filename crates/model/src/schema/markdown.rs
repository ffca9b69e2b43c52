//! The options as a page of the book.

use std::fmt::Write;

use super::options;

const HEAD: &str = "\
# Options of the description

Every option of `system.ron`, with its type, what counts when it is absent, and the version that
brought it. `<name>` stands for a name you choose, `[]` for each entry of a list. A size is a number
of MiB or a text such as `\"2 GiB\"`. Where a type says *or None*, a bare value is enough: `Some(…)`
may be written around it and need not be.

This page is generated from the program; `bulkhead schema` prints the same table.
";

/// `docs/options.md`.
pub fn markdown() -> String {
    let mut out = HEAD.to_owned();
    let mut section = String::new();
    for option in options() {
        let (parent, _) = option.path.rsplit_once('.').unwrap_or_default();
        if section != parent || out.len() == HEAD.len() {
            let title = if parent.is_empty() {
                "At the top of a file"
            } else {
                parent
            };
            let title = if parent.is_empty() {
                title.to_owned()
            } else {
                format!("`{title}`")
            };
            let _ = write!(out, "\n## {title}\n");
            parent.clone_into(&mut section);
        }
        let name = option
            .path
            .strip_prefix(parent)
            .unwrap_or(&option.path)
            .trim_start_matches('.');
        let _ = write!(
            out,
            "\n### `{name}`\n\n{}\n\n- Type: {}\n- Default: {}\n- Since: {}\n",
            option.meaning, option.type_name, option.default, option.since
        );
    }
    out
}
