//! Text that others have written, made safe to show.
//!
//! The daemon has cleaned it already; here it is done again, so that no mistake there becomes a
//! lie on the screen. Names of qubes, services and their arguments are ASCII by their own rules,
//! so everything else is written out as what it is and can neither reorder, hide nor imitate.
//!
//! Invariant: what [`name`] and [`line()`] return is printable ASCII in one line of bounded length,
//! and two texts that are not cut look the same only if they are the same.

use std::fmt::Write;

/// Longest name that is shown whole; real ones have up to 31 characters.
pub(crate) const NAME_MAX: usize = 48;

/// Longest text of other kinds that is shown whole: two or three lines of a prompt.
pub(crate) const LINE_MAX: usize = 160;

/// How much of the end of a cut text is shown: what is put at the very end is not hidden either.
const TAIL: usize = 16;

/// The name of a qube, target or service.
pub(crate) fn name(untrusted: &str) -> String {
    shown(untrusted, NAME_MAX)
}

/// Any other text.
pub(crate) fn line(untrusted: &str) -> String {
    shown(untrusted, LINE_MAX)
}

fn shown(untrusted: &str, max: usize) -> String {
    let mut whole = String::new();
    // Nothing that is cut off is worth the time: it may be megabytes.
    let mut characters = untrusted.chars();
    let mut before = ' ';
    while whole.len() <= max {
        let Some(c) = characters.next() else { break };
        let last = characters.as_str().is_empty();
        push(&mut whole, c, before == ' ' || last);
        before = c;
    }
    if whole.len() <= max && characters.as_str().is_empty() {
        return whole;
    }
    let mut head = String::new();
    let mut rest = untrusted.chars();
    before = ' ';
    loop {
        let here = rest.as_str();
        let Some(c) = rest.next() else { break };
        let length = head.len();
        push(&mut head, c, before == ' ');
        if head.len() > max - TAIL {
            head.truncate(length);
            rest = here.chars();
            break;
        }
        before = c;
    }
    if head.ends_with(' ') {
        head.pop();
        push(&mut head, ' ', true);
    }
    let tail = tail(rest.as_str());
    let left_out = rest.as_str().chars().count() - tail.1;
    format!("{head} [{left_out} more] {}", tail.0)
}

/// The end of a text, escaped, and how many of its characters that is.
fn tail(untrusted: &str) -> (String, usize) {
    let mut end = String::new();
    let mut count = 0;
    for c in untrusted.chars().rev() {
        let mut next = String::new();
        push(&mut next, c, true);
        if next.len() + end.len() > TAIL {
            break;
        }
        end.insert_str(0, &next);
        count += 1;
    }
    (end, count)
}

/// Appends a character as it is shown. A space that would not be seen as one is written out.
fn push(out: &mut String, c: char, space_is_unseen: bool) {
    match c {
        '\\' => out.push_str("\\\\"),
        ' ' if space_is_unseen => out.push_str("\\u{20}"),
        ' '..='~' => out.push(c),
        // Writing to a string cannot fail.
        _ => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_act_is_written_out() {
        for (text, expected) in [
            ("work", "work"),
            ("two words", "two words"),
            ("<b>vault</b> & co", "<b>vault</b> & co"),
            ("a\nb\tc\0", "a\\u{a}b\\u{9}c\\u{0}"),
            ("safe\u{202e}txt.exe", "safe\\u{202e}txt.exe"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("va\u{200b}ult\u{feff}", "va\\u{200b}ult\\u{feff}"),
            ("v\u{430}ult", "v\\u{430}ult"),
            ("e\u{301}", "e\\u{301}"),
            ("C:\\u{41}", "C:\\\\u{41}"),
            (" a  b ", "\\u{20}a \\u{20}b\\u{20}"),
            ("", ""),
        ] {
            assert_eq!(name(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_longest_is_whole_and_one_more_is_cut() {
        let longest = "x".repeat(NAME_MAX);
        assert_eq!(name(&longest), longest);
        let cut = name(&format!("{longest}y"));
        assert_eq!(
            cut,
            format!("{} [1 more] {}y", "x".repeat(32), "x".repeat(15))
        );
        let cut = line(&"\u{202e}".repeat(1_000_000));
        assert!(cut.contains("[999980 more]"), "{cut}");
        assert!(cut.len() <= LINE_MAX + 32, "{cut}");
    }

    proptest! {
        #[test]
        fn nothing_but_printable_ascii_in_bounded_length(text in any::<String>()) {
            for shown in [name(&text), line(&text)] {
                prop_assert!(shown.chars().all(|c| (' '..='~').contains(&c)), "{shown:?}");
                prop_assert!(!shown.starts_with(' ') && !shown.ends_with(' '), "{shown:?}");
                prop_assert!(!shown.contains("  "), "{shown:?}");
                prop_assert!(shown.len() <= LINE_MAX + 32);
            }
        }

        #[test]
        fn different_texts_look_different(one in "[\\\\u{}0-9a \u{20}\u{200b}\n]{0,8}",
                                          other in "[\\\\u{}0-9a \u{20}\u{200b}\n]{0,8}") {
            if one != other {
                prop_assert_ne!(line(&one), line(&other));
            }
        }
    }
}
