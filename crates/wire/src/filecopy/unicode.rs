//! Characters outside ASCII that a file name may have.
//!
//! The list is frozen in `unicode_table.rs`, so that what a name may look like changes with the
//! product and never with a library. The test below holds the rule it was made by and fails when
//! table and rule differ; `BULKHEAD_BLESS=1 cargo test -p bulkhead-wire unicode` writes it anew.

#[path = "unicode_table.rs"]
mod table;

/// Printable ASCII, or on the frozen list.
pub(crate) fn is_allowed(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    let after = table::ALLOWED.partition_point(|(first, _)| *first <= c);
    after
        .checked_sub(1)
        .and_then(|index| table::ALLOWED.get(index))
        .is_some_and(|(_, last)| c <= *last)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use unicode_bidi::{BidiClass, bidi_class};
    use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
    use unicode_script::{Script, UnicodeScript};

    use super::*;

    /// Letters, numbers, punctuation and the symbols of mathematics and currency, written from
    /// left to right or neutral, in scripts that people read as text.
    fn rule(c: char) -> bool {
        use GeneralCategory as G;
        let category = matches!(
            c.general_category(),
            G::UppercaseLetter
                | G::LowercaseLetter
                | G::TitlecaseLetter
                | G::ModifierLetter
                | G::OtherLetter
                | G::DecimalNumber
                | G::LetterNumber
                | G::OtherNumber
                | G::ConnectorPunctuation
                | G::DashPunctuation
                | G::OpenPunctuation
                | G::ClosePunctuation
                | G::InitialPunctuation
                | G::FinalPunctuation
                | G::OtherPunctuation
                | G::MathSymbol
                | G::CurrencySymbol
        );
        let direction = matches!(
            bidi_class(c),
            BidiClass::L
                | BidiClass::EN
                | BidiClass::ES
                | BidiClass::ET
                | BidiClass::CS
                | BidiClass::WS
                | BidiClass::ON
        );
        let script = matches!(
            c.script(),
            Script::Latin
                | Script::Greek
                | Script::Cyrillic
                | Script::Braille
                | Script::Han
                | Script::Hangul
                | Script::Bopomofo
                | Script::Hiragana
                | Script::Katakana
                | Script::Common
                | Script::Inherited
        );
        category && direction && script
    }

    fn ranges() -> Vec<(char, char)> {
        let mut ranges: Vec<(char, char)> = Vec::new();
        for c in ('\u{80}'..=char::MAX).filter(|c| rule(*c)) {
            match ranges.last_mut() {
                Some((_, last)) if u32::from(*last) + 1 == u32::from(c) => *last = c,
                _ => ranges.push((c, c)),
            }
        }
        ranges
    }

    #[test]
    fn the_frozen_table_is_what_the_rule_gives() {
        let ranges = ranges();
        if std::env::var_os("BULKHEAD_BLESS").is_some() {
            let (major, minor, _) = unicode_properties::UNICODE_VERSION;
            let mut text = format!(
                "//! Generated from Unicode {major}.{minor}; see `unicode.rs`.\n\n\
                 /// First and last of each range, ascending.\n#[rustfmt::skip]\n\
                 pub(super) const ALLOWED: &[(char, char)] = &[\n"
            );
            for (first, last) in &ranges {
                let (first, last) = (u32::from(*first), u32::from(*last));
                writeln!(text, "    ('\\u{{{first:x}}}', '\\u{{{last:x}}}'),").unwrap();
            }
            text += "];\n";
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/filecopy/unicode_table.rs");
            std::fs::write(path, text).unwrap();
            return;
        }
        assert!(
            ranges == table::ALLOWED,
            "run with BULKHEAD_BLESS=1 and review the difference"
        );
    }

    #[test]
    fn every_character_is_found_as_the_rule_says() {
        for c in '\u{80}'..=char::MAX {
            assert_eq!(is_allowed(c), rule(c), "U+{:04X}", u32::from(c));
        }
    }
}
