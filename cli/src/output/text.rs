//! Text that others have written, made safe for a terminal.

/// Stands in for a character that a terminal would act on.
const STAND_IN: char = '\u{fffd}';

/// One line: nothing in it can move the cursor, change colours or reorder what is read.
pub(crate) fn line(text: &str) -> String {
    text.chars()
        .map(|c| if is_harmless(c) { c } else { STAND_IN })
        .collect()
}

/// Several lines; tabs stay too.
pub(crate) fn block(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if is_harmless(c) => c,
            _ => STAND_IN,
        })
        .collect()
}

/// Bytes of a log: as [`block`], and what is not UTF-8 is replaced.
pub(crate) fn log(bytes: &[u8]) -> String {
    // Consoles end lines with CR LF.
    block(&String::from_utf8_lossy(bytes).replace("\r\n", "\n"))
}

fn is_harmless(c: char) -> bool {
    let invisible = matches!(c,
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_replaced() {
        let bad = "\x1b]0;x\x07\x08\r\u{9b}2J\u{202e}\u{2066}\u{200b}\u{feff}";
        assert!(
            line(bad)
                .chars()
                .all(|c| c == STAND_IN || c.is_ascii_graphic())
        );
        assert_eq!(line("a\nb\tc"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(block("a\nb\tc\r"), "a\nb\tc\u{fffd}");
        assert_eq!(line("Gartenhäuschen 日本"), "Gartenhäuschen 日本");
    }

    #[test]
    fn logs_may_hold_any_bytes() {
        assert_eq!(
            log(b"one\r\ntwo \xff\x1b[0m\n"),
            "one\ntwo \u{fffd}\u{fffd}[0m\n"
        );
    }
}
