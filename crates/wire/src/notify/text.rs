//! Texts of notifications, made fit to be shown by the rule for titles of windows.

use crate::filecopy::is_allowed;

/// In the place of what cannot be shown.
const STAND_IN: char = '_';

/// At the end of what was cut.
const CUT: char = '…';

/// What of a text can be shown in one line of so many characters.
#[must_use]
pub fn line(untrusted: &str, max: usize) -> String {
    cut(untrusted.chars().map(shown), max, 1)
}

/// The same in several lines.
#[must_use]
pub fn lines(untrusted: &str, max: usize, lines_max: usize) -> String {
    let mut characters = untrusted.chars().peekable();
    let whole = std::iter::from_fn(|| {
        let c = characters.next()?;
        Some(match c {
            '\r' if characters.next_if_eq(&'\n').is_some() => '\n',
            '\r' | '\n' => '\n',
            '\t' => ' ',
            c => shown(c),
        })
    });
    cut(whole, max, lines_max)
}

fn shown(c: char) -> char {
    if is_allowed(c) { c } else { STAND_IN }
}

fn cut(text: impl Iterator<Item = char>, max: usize, lines_max: usize) -> String {
    let mut kept = String::new();
    let (mut count, mut lines) = (0, 1);
    for c in text {
        lines += usize::from(c == '\n');
        if count == max {
            kept.pop();
        }
        if count == max || lines > lines_max {
            kept.push(CUT);
            break;
        }
        kept.push(c);
        count += 1;
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_seen_is_an_underscore() {
        for (text, in_line, in_lines) in [
            ("", "", ""),
            ("a title", "a title", "a title"),
            (
                "<b>Grüße</b> & co",
                "<b>Grüße</b> & co",
                "<b>Grüße</b> & co",
            ),
            ("a\nb\tc\r\nd\re", "a_b_c__d_e", "a\nb c\nd\ne"),
            ("\u{202e}exe.txt\u{200b}", "_exe.txt_", "_exe.txt_"),
            ("\x1b[31mred\x07\0", "_[31mred__", "_[31mred__"),
        ] {
            assert_eq!(line(text, 100), in_line, "{text:?}");
            assert_eq!(lines(text, 100, 10), in_lines, "{text:?}");
        }
    }

    #[test]
    fn the_longest_is_whole_and_one_more_is_cut() {
        assert_eq!(line("üüü", 3), "üüü");
        assert_eq!(line("üüüü", 3), "üü…");
        assert_eq!(lines("a\nb\nc", 9, 3), "a\nb\nc");
        assert_eq!(lines("a\nb\nc\n", 9, 3), "a\nb\nc…");
        assert_eq!(lines("a\nb\nc", 5, 3), "a\nb\nc");
        assert_eq!(lines("a\nb\ncd", 5, 3), "a\nb\n…");
        assert_eq!(lines("a\nb\nc\n", 5, 3), "a\nb\n…");
    }

    proptest! {
        #[test]
        fn what_is_fit_stays_as_it_is(text in "(?s).{0,40}", max in 1..30_usize, rows in 1..5_usize) {
            for shown in [line(&text, max), lines(&text, max, rows)] {
                prop_assert!(shown.chars().count() <= max);
                prop_assert!(shown.split('\n').count() <= rows);
                prop_assert!(shown.chars().all(|c| is_allowed(c) || c == '\n'));
                prop_assert_eq!(&lines(&shown, max, rows), &shown);
            }
            let shown = line(&text, max);
            prop_assert_eq!(line(&shown, max), shown);
        }
    }
}
