//! Text of agents, made fit to be shown (`wire/gui.md`, section 4).

use super::{CLASS_LEN, TITLE_LEN};
use crate::filecopy::is_allowed;

/// Text as an agent sent it: up to the first NUL of a field of fixed length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UntrustedText<const LEN: usize>([u8; LEN]);

/// A title.
pub type UntrustedTitle = UntrustedText<TITLE_LEN>;

/// Half of a class.
pub type UntrustedClass = UntrustedText<CLASS_LEN>;

/// What may be shown of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letters {
    /// ASCII from blank to tilde.
    Ascii,
    /// Also what file names may have: letters and signs that are seen where they stand, and turn
    /// nothing.
    Utf8,
}

/// In the place of what cannot be shown.
const STAND_IN: char = '_';

impl<const LEN: usize> UntrustedText<LEN> {
    /// A field of a body; what is missing is NUL.
    pub(super) fn of(field: &[u8]) -> Self {
        let mut bytes = [0; LEN];
        for (to, from) in bytes.iter_mut().zip(field) {
            *to = *from;
        }
        Self(bytes)
    }

    /// A text of ours, cut to where it fits with a NUL behind it, at the end of a character.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let fits = text.floor_char_boundary(LEN - 1);
        Self::of(text.get(..fits).unwrap_or_default().as_bytes())
    }

    /// On the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// What of it can be shown; each byte that cannot is a `_`.
    #[must_use]
    pub fn shown(&self, letters: Letters) -> String {
        let end = self.0.iter().position(|byte| *byte == 0);
        // The last byte is NUL by decree, whatever was sent.
        let end = end.unwrap_or(LEN).min(LEN - 1);
        let text = self.0.get(..end).unwrap_or_default();
        match letters {
            Letters::Ascii => ascii(text),
            Letters::Utf8 => utf8(text),
        }
    }
}

fn ascii(text: &[u8]) -> String {
    // Programs put it behind titles that they have cut.
    let (text, cut) = match text.strip_suffix("…".as_bytes()) {
        Some(text) => (text, "..."),
        None => (text, ""),
    };
    let shown = text.iter().map(|byte| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => STAND_IN,
    });
    shown.chain(cut.chars()).collect()
}

fn utf8(text: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid().chars();
        shown.extend(valid.map(|c| if is_allowed(c) { c } else { STAND_IN }));
        shown.extend(chunk.invalid().iter().map(|_| STAND_IN));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &[u8], letters: Letters) -> String {
        UntrustedTitle::of(text).shown(letters)
    }

    #[test]
    fn what_cannot_be_seen_is_an_underscore() {
        for (text, ascii, utf8) in [
            (&b"a title"[..], "a title", "a title"),
            (b"", "", ""),
            (b"a\0b", "a", "a"),
            (b"\x1b[31mred\x07\n", "_[31mred__", "_[31mred__"),
            ("Grüße".as_bytes(), "Gr____e", "Grüße"),
            (b"\xff\xc3", "__", "__"),
            ("\u{202e}exe.txt".as_bytes(), "___exe.txt", "_exe.txt"),
            ("\u{200b}a\u{301}".as_bytes(), "___a__", "_a_"),
            ("cut…".as_bytes(), "cut...", "cut…"),
        ] {
            assert_eq!(shown(text, Letters::Ascii), ascii, "{text:?}");
            assert_eq!(shown(text, Letters::Utf8), utf8, "{text:?}");
        }
    }

    #[test]
    fn a_text_without_an_end_ends_before_the_last_byte() {
        let full = [b'x'; TITLE_LEN];
        assert_eq!(shown(&full, Letters::Ascii).len(), TITLE_LEN - 1);
        let ours = UntrustedTitle::new(&"ü".repeat(TITLE_LEN));
        assert_eq!(ours.shown(Letters::Utf8), "ü".repeat(63));
    }
}
