//! Text on its way to a terminal: filtered, aligned, and with times that people can read.

use std::fmt::Write;

/// One line, with everything that could act on a terminal or mislead a reader replaced by `_`:
/// control characters, and the invisible or direction-changing ones of Unicode.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if harmless(c) { c } else { '_' })
        .collect()
}

/// The same for several lines: line breaks and tabs stay.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    text.chars()
        .map(|c| {
            if harmless(c) || c == '\n' || c == '\t' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// The same for bytes of a log, which may be anything; what is no UTF-8 becomes `_`.
#[must_use]
pub fn plain_bytes(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace('\r', "");
    plain_lines(&text).replace(char::REPLACEMENT_CHARACTER, "_")
}

fn harmless(c: char) -> bool {
    let misleading = matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    !c.is_control() && !misleading
}

/// A table: a heading, rows, two spaces between columns, no space at the end of a line.
#[derive(Debug)]
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One cell: what is measured, and how it is shown.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    dyed: Option<String>,
    right: bool,
}

impl Cell {
    /// Colours the text with this escape sequence.
    #[must_use]
    pub fn dyed(mut self, sequence: Option<String>) -> Self {
        self.dyed = sequence;
        self
    }

    /// Aligns it to the right: numbers.
    #[must_use]
    pub fn right(mut self) -> Self {
        self.right = true;
        self
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: plain(text.as_ref()),
            dyed: None,
            right: false,
        }
    }
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(heading: &[&'static str]) -> Self {
        Self {
            heading: heading.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with as many cells as the heading has.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as text; the heading in bold if `bold`.
    #[must_use]
    pub fn render(&self, bold: bool) -> String {
        let mut widths: Vec<usize> = self.heading.iter().map(|text| text.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut out = String::new();
        let right: Vec<bool> = self
            .rows
            .first()
            .map(|row| row.iter().map(|cell| cell.right).collect())
            .unwrap_or_default();
        let heading: Vec<Cell> = self
            .heading
            .iter()
            .enumerate()
            .map(|(column, text)| Cell {
                right: right.get(column).copied().unwrap_or(false),
                dyed: bold.then(|| "\u{1b}[1m".to_owned()),
                ..Cell::from(text)
            })
            .collect();
        for row in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let gap = width.saturating_sub(cell.width());
                let shown = match &cell.dyed {
                    Some(sequence) => format!("{sequence}{}\u{1b}[0m", cell.text),
                    None => cell.text.clone(),
                };
                let (left, after) = if cell.right { (gap, 0) } else { (0, gap) };
                let _ = write!(line, "{:left$}{shown}{:after$}  ", "", "");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Seconds since 1970 as `2026-11-22 05:10:09` UTC.
#[must_use]
pub fn time(seconds: u64) -> String {
    let days = i64::try_from(seconds / 86_400).unwrap_or(i64::MAX / 2);
    let (year, month, day) = civil(days);
    let rest = seconds % 86_400;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Counts in eras of 400 years that begin on a 1 March, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Milliseconds as people say them.
#[must_use]
pub fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1000 => format!("{milliseconds} ms"),
        1000..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => format!(
            "{} min {} s",
            milliseconds / 60_000,
            milliseconds / 1000 % 60
        ),
    }
}

/// `1 qube`, `2 qubes`.
#[must_use]
pub fn count(number: u64, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}s")
    }
}

/// The arguments of a command line as one line for a POSIX shell. A single argument is taken as a
/// line already, so that pipes and variables work: `run work -- 'ls | wc -l'`.
#[must_use]
pub fn shell_line(arguments: &[std::ffi::OsString]) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    if let [line] = arguments {
        return line.as_bytes().to_vec();
    }
    let mut line = Vec::new();
    for argument in arguments {
        if !line.is_empty() {
            line.push(b' ');
        }
        let bytes = argument.as_bytes();
        let safe = |b: &u8| b.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(b);
        if !bytes.is_empty() && bytes.iter().all(safe) {
            line.extend_from_slice(bytes);
            continue;
        }
        line.push(b'\'');
        for byte in bytes {
            if *byte == b'\'' {
                line.extend_from_slice(b"'\\''");
            } else {
                line.push(*byte);
            }
        }
        line.push(b'\'');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsString;

    #[test]
    fn filters_what_acts_on_a_terminal() {
        let cases = [
            ("work", "work"),
            ("\u{1b}[31mred", "_[31mred"),
            ("a\nb\tc", "a_b_c"),
            ("\u{9b}31m", "_31m"),
            ("user\u{202e}gpj.exe", "user_gpj.exe"),
            ("zero\u{200b}width", "zero_width"),
            ("Grüße 你好", "Grüße 你好"),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text), expected);
        }
        assert_eq!(plain_lines("a\r\nb\tc"), "a_\nb\tc");
        assert_eq!(plain_bytes(b"ok\r\n\xff\x1b[2J"), "ok\n__[2J");
    }

    #[test]
    fn aligns_columns() {
        let mut table = Table::new(&["NAME", "STATE", "MEMORY"]);
        table.row(vec![
            "work".into(),
            "running".into(),
            Cell::from("400").right(),
        ]);
        table.row(vec![
            "sys-firewall".into(),
            "-".into(),
            Cell::from("4000").right(),
        ]);
        insta::assert_snapshot!(table.render(false), @r"
        NAME          STATE    MEMORY
        work          running     400
        sys-firewall  -          4000
        ");
    }

    #[test]
    fn colour_does_not_change_the_width() {
        let mut table = Table::new(&["A", "B"]);
        table.row(vec![
            Cell::from("xx").dyed(Some("\u{1b}[1m".into())),
            "y".into(),
        ]);
        let bare: String = table
            .render(true)
            .replace("\u{1b}[1m", "")
            .replace("\u{1b}[0m", "");
        table.rows = vec![vec!["xx".into(), "y".into()]];
        assert_eq!(bare, table.render(false));
    }

    #[test]
    fn knows_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(time(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(time(1_709_251_199), "2024-02-29 23:59:59");
        assert_eq!(time(4_102_444_799), "2099-12-31 23:59:59");
    }

    #[test]
    fn says_durations() {
        assert_eq!(duration(7), "7 ms");
        assert_eq!(duration(1230), "1.2 s");
        assert_eq!(duration(61_000), "1 min 1 s");
    }

    fn line(arguments: &[&str]) -> String {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        String::from_utf8(shell_line(&arguments)).unwrap()
    }

    #[test]
    fn quotes_for_the_shell() {
        assert_eq!(line(&["ls | wc -l"]), "ls | wc -l");
        assert_eq!(
            line(&["echo", "a b", "$HOME", "it's", ""]),
            r"echo 'a b' '$HOME' 'it'\''s' ''"
        );
    }

    proptest! {
        #[test]
        fn nothing_dangerous_is_left(text: String) {
            prop_assert!(plain(&text).chars().all(|c| !c.is_control()));
            prop_assert_eq!(plain(&text).chars().count(), text.chars().count());
        }

        #[test]
        fn the_shell_reads_what_was_meant(
            words in proptest::collection::vec("[^\u{0}]{0,12}", 2..5)
        ) {
            let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            let mut script = b"printf '%s\\0' ".to_vec();
            script.extend(shell_line(&words));
            use std::os::unix::ffi::{OsStrExt, OsStringExt};
            let out = std::process::Command::new("/bin/sh")
                .arg("-c")
                .arg(OsString::from_vec(script))
                .output()
                .unwrap();
            let mut expected = Vec::new();
            for word in &words {
                expected.extend_from_slice(word.as_bytes());
                expected.push(0);
            }
            prop_assert_eq!(out.stdout, expected);
        }
    }
}
