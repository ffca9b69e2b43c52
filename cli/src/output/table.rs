//! Aligned columns.

use unicode_width::UnicodeWidthStr;

use super::style::Paint;

/// How a cell is painted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    Plain,
    Strong,
    Dim,
    Added,
    Changed,
    Removed,
    /// In this label's colour.
    Label(String),
}

/// Text and how it looks. The text must be safe for a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    look: Look,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>, look: Look) -> Self {
        Self {
            text: text.into(),
            look,
        }
    }

    /// Plain text, with a dash where there is none.
    pub(crate) fn or_dash(text: &str) -> Self {
        if text.is_empty() {
            Self::new("-", Look::Dim)
        } else {
            Self::new(super::text::line(text), Look::Plain)
        }
    }

    fn painted(&self, paint: Paint) -> String {
        let text = &self.text;
        match &self.look {
            Look::Plain => text.clone(),
            Look::Strong => paint.strong(text),
            Look::Dim => paint.dim(text),
            Look::Added => paint.added(text),
            Look::Changed => paint.changed(text),
            Look::Removed => paint.removed(text),
            Look::Label(color) => paint.label(color, text),
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(super::text::line(&text.into()), Look::Plain)
    }
}

/// On which side a column is even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows below a heading, two spaces between columns, nothing behind the last.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for every column.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    pub(crate) fn render(&self, paint: Paint) -> String {
        let heading: Vec<Cell> = (self.columns.iter())
            .map(|(name, _)| Cell::new(*name, Look::Strong))
            .collect();
        let mut widths = vec![0; self.columns.len()];
        for row in std::iter::once(&heading).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.text.width().max(*width);
            }
        }
        let mut out = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            self.line(&mut out, row, &widths, paint);
        }
        out
    }

    fn line(&self, out: &mut String, row: &[Cell], widths: &[usize], paint: Paint) {
        let mut gap = 0;
        for ((cell, width), (_, align)) in row.iter().zip(widths).zip(&self.columns) {
            let pad = width.saturating_sub(cell.text.width());
            if *align == Align::Right {
                gap += pad;
            }
            if !cell.text.is_empty() {
                out.extend(std::iter::repeat_n(' ', gap));
                gap = 0;
                out.push_str(&cell.painted(paint));
            }
            if *align == Align::Left {
                gap += pad;
            }
            gap += 2;
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&[
            ("NAME", Align::Left),
            ("MEMORY", Align::Right),
            ("NOTE", Align::Left),
        ]);
        table.row(vec!["work".into(), "400".into(), "".into()]);
        table.row(vec!["日本".into(), "12000".into(), Cell::or_dash("")]);
        table.row(vec!["\x1b[1m".into(), "".into(), "x".into()]);
        table
    }

    #[test]
    fn columns_stay_even_whatever_the_width_of_a_character() {
        insta::assert_snapshot!(sample().render(Paint::NEVER), @r"
        NAME  MEMORY  NOTE
        work     400
        日本   12000  -
        �[1m          x
        ");
    }

    #[test]
    fn colour_changes_no_width_and_nothing_trails() {
        let plain = sample().render(Paint::NEVER);
        let mut coloured = sample().render(Paint::ALWAYS);
        for code in ["\x1b[1m", "\x1b[2m", "\x1b[0m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, plain);
        assert!(plain.lines().all(|line| line == line.trim_end()));
    }
}
