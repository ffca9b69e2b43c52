//! One layout for every file of a description.
//!
//! Comments, blank lines between entries (one at most) and the choice to write a group on one
//! line or on several stay the author's: a group is on several lines when there is a line break
//! behind its opening bracket, when a comment stands in it, or when it is too wide.

mod layout;
mod print;

use crate::diagnostic::{Diagnostics, Problems, SourceMap};
use crate::load::syntax_problem;
use crate::syntax;

/// Widest line that a group on one line may make, in characters.
pub const WIDTH_MAX: usize = 100;

/// Formats one file; `name` is what its errors call it. A file with errors of syntax is not
/// touched. Formatting what was formatted changes nothing.
pub fn format(name: &str, text: &str) -> Result<String, Diagnostics> {
    let (_, errors) = syntax::parse(text);
    if !errors.list.is_empty() {
        let mut sources = SourceMap::default();
        let mut problems = Problems::default();
        let file = sources.add(name.to_owned(), text.to_owned());
        problems.omit(errors.omitted);
        for error in errors.list {
            problems.push(syntax_problem(file, error));
        }
        return Err(problems.finish(&sources));
    }
    Ok(print::print(&layout::layout(text)))
}

#[cfg(test)]
mod tests;
