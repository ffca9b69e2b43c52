//! Colour, where it is wanted.

use std::io::IsTerminal;
use std::sync::OnceLock;

use crate::args::When;

static WHEN: OnceLock<When> = OnceLock::new();

/// Notes what was asked for; the first call counts.
pub(crate) fn choose(when: When) {
    let _ = WHEN.set(when);
}

/// Colours text, or leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(bool);

/// For standard output.
pub(crate) fn stdout() -> Paint {
    Paint(wanted(|| std::io::stdout().is_terminal()))
}

/// For standard error.
pub(crate) fn stderr() -> Paint {
    Paint(wanted(|| std::io::stderr().is_terminal()))
}

fn wanted(terminal: impl FnOnce() -> bool) -> bool {
    match WHEN.get().copied().unwrap_or(When::Auto) {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            !refused && !dumb && terminal()
        }
    }
}

impl Paint {
    #[cfg(test)]
    pub(crate) const NEVER: Self = Self(false);
    #[cfg(test)]
    pub(crate) const ALWAYS: Self = Self(true);

    pub(crate) fn is_on(self) -> bool {
        self.0
    }

    fn with(self, codes: &str, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\x1b[{codes}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn error(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(crate) fn warning(self, text: &str) -> String {
        self.with("1;33", text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn hint(self, text: &str) -> String {
        self.with("1;36", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(crate) fn added(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn changed(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(crate) fn removed(self, text: &str) -> String {
        self.with("31", text)
    }

    /// In a label's colour, `0xRRGGBB`; plain where that is malformed. Very dark colours get a
    /// light ground, since terminals are mostly dark.
    pub(crate) fn label(self, color: &str, text: &str) -> String {
        let Some((r, g, b)) = rgb(color) else {
            return text.to_owned();
        };
        let light = (u32::from(r) * 299 + u32::from(g) * 587 + u32::from(b) * 114) / 1000;
        let ground = if light < DARK {
            ";48;2;220;220;220"
        } else {
            ""
        };
        self.with(&format!("1;38;2;{r};{g};{b}{ground}"), text)
    }

    /// A plan or a difference: each line by the mark at its start.
    pub(crate) fn marked(self, text: &str) -> String {
        if !self.0 {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len() * 2);
        for line in text.split_inclusive('\n') {
            let (content, end) = match line.strip_suffix('\n') {
                Some(content) => (content, "\n"),
                None => (line, ""),
            };
            let painted = match content.trim_start().chars().next() {
                Some('+') => self.added(content),
                Some('-') => self.removed(content),
                Some('~') => self.changed(content),
                _ => content.to_owned(),
            };
            out.push_str(&painted);
            out.push_str(end);
        }
        out
    }
}

/// Luma below which a colour cannot be read on black.
const DARK: u32 = 40;

fn rgb(color: &str) -> Option<(u8, u8, u8)> {
    let digits = color.strip_prefix("0x").filter(|d| d.len() == 6)?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let number = u32::from_str_radix(digits, 16).ok()?;
    let [_, r, g, b] = number.to_be_bytes();
    Some((r, g, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_their_own_colour() {
        let paint = Paint::ALWAYS;
        assert_eq!(
            paint.label("0xcc0000", "red"),
            "\x1b[1;38;2;204;0;0mred\x1b[0m"
        );
        assert!(paint.label("0x000000", "black").contains("48;2;220"));
        assert_eq!(paint.label("red", "red"), "red");
        assert_eq!(paint.label("0x+12345", "odd"), "odd");
        assert_eq!(Paint::NEVER.label("0xcc0000", "red"), "red");
    }

    #[test]
    fn marks_decide_the_colour_of_a_line() {
        let text = "Plan\n  + qube work\n  ~ netvm\n  - qube old";
        assert_eq!(
            Paint::ALWAYS.marked(text),
            "Plan\n\x1b[32m  + qube work\x1b[0m\n\x1b[33m  ~ netvm\x1b[0m\n\x1b[31m  - qube old\x1b[0m"
        );
        assert_eq!(Paint::NEVER.marked(text), text);
    }
}
