//! Groups and entries to text.

use super::WIDTH_MAX;
use super::layout::{Group, Item, Layout, Line, Part};
use crate::syntax::lexer::TokenKind;

const INDENT: usize = 4;

pub(super) fn print(layout: &Layout<'_>) -> String {
    let mut printer = Printer {
        out: String::new(),
        depth: 0,
    };
    printer.lines(&layout.attributes);
    for item in &layout.items {
        printer.item(item, Comma::No);
    }
    printer.lines(&layout.dangling);
    printer.out
}

/// Whether an entry is followed by a comma.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comma {
    Yes,
    No,
}

struct Printer {
    out: String,
    depth: usize,
}

impl Printer {
    fn indent(&mut self) {
        self.out
            .extend(std::iter::repeat_n(' ', self.depth * INDENT));
    }

    /// An empty line, but not at the start of a file or group.
    fn blank(&mut self, wanted: bool) {
        let inside =
            self.out.ends_with("(\n") || self.out.ends_with("[\n") || self.out.ends_with("{\n");
        if wanted && !self.out.is_empty() && !inside {
            self.out.push('\n');
        }
    }

    fn lines(&mut self, lines: &[Line<'_>]) {
        for line in lines {
            self.blank(line.blank_before);
            self.indent();
            self.out.push_str(&line.text);
            self.out.push('\n');
        }
    }

    fn item(&mut self, item: &Item<'_>, comma: Comma) {
        self.lines(&item.lead);
        self.blank(item.blank_before);
        self.indent();
        self.parts(&item.parts);
        if comma == Comma::Yes {
            self.out.push(',');
        }
        for comment in &item.trail {
            self.out.push(' ');
            self.out.push_str(comment);
        }
        self.out.push('\n');
    }

    fn parts(&mut self, parts: &[Part<'_>]) {
        let mut before = None;
        for part in parts {
            if space_between(before, part) {
                self.out.push(' ');
            }
            match part {
                Part::Token(_, text) | Part::Comment(text) => self.out.push_str(text),
                Part::Group(group) => self.group(group),
            }
            before = Some(part);
        }
    }

    fn group(&mut self, group: &Group<'_>) {
        self.out.push(group.bracket.open());
        let empty = group.items.is_empty() && group.dangling.is_empty();
        // One for the closing bracket and one for the comma that may follow.
        let flat = flat_group(group).filter(|flat| self.column() + width(flat) + 2 <= WIDTH_MAX);
        match flat {
            Some(flat) => self.out.push_str(&flat),
            None if empty => {}
            None => {
                self.out.push('\n');
                self.depth += 1;
                for item in &group.items {
                    self.item(item, Comma::Yes);
                }
                self.lines(&group.dangling);
                self.depth -= 1;
                self.indent();
            }
        }
        self.out.push(group.bracket.close());
    }

    fn column(&self) -> usize {
        let line = self.out.rsplit('\n').next().unwrap_or_default();
        width(line)
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn space_between(before: Option<&Part<'_>>, part: &Part<'_>) -> bool {
    match (before, part) {
        (None, _) => false,
        (Some(Part::Comment(_)), _) | (_, Part::Comment(_)) => true,
        (Some(Part::Token(TokenKind::Colon, _)), _) => true,
        _ => false,
    }
}

/// The inside of a group on one line, unless it has to be on several.
fn flat_group(group: &Group<'_>) -> Option<String> {
    if group.broken || !group.dangling.is_empty() {
        return None;
    }
    let mut out = String::new();
    for (index, item) in group.items.iter().enumerate() {
        if !item.lead.is_empty() || !item.trail.is_empty() {
            return None;
        }
        if index > 0 {
            out.push_str(", ");
        }
        let mut before = None;
        for part in &item.parts {
            if space_between(before, part) {
                out.push(' ');
            }
            match part {
                Part::Token(_, text) | Part::Comment(text) if text.contains('\n') => return None,
                Part::Token(_, text) | Part::Comment(text) => out.push_str(text),
                Part::Group(inner) => {
                    out.push(inner.bracket.open());
                    out.push_str(&flat_group(inner)?);
                    out.push(inner.bracket.close());
                }
            }
            // What is too wide already is not worth going on with.
            if out.len() > 4 * WIDTH_MAX {
                return None;
            }
            before = Some(part);
        }
    }
    Some(out)
}
