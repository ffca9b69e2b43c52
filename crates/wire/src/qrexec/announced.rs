//! What a caller says it will send, before anything flows.
//!
//! The messages of qrexec have no room for it, but for the request identifier: 31 characters of the
//! agent's own choice, which dom0 hands back. An agent of ours puts it there; a dom0 that does not
//! know of it sees an identifier like any other, and an identifier of another agent says nothing.
//!
//! ```text
//! text  = ("E" | "L") files "." folders "." bytes     exactly that, or at least that
//! ident = "B" slot text                               numbers in base 36: 0-9 a-z
//! ```
//!
//! It is a claim: nothing holds the caller to it, and nothing may be decided by it.

use serde::{Deserialize, Serialize};

/// Most files, and most folders, that can be announced: four digits of the identifier's 31
/// characters, and far past what a person tells apart.
pub const ANNOUNCED_ENTRIES_MAX: u64 = 1_000_000;
/// Most bytes that can be announced, 1 EiB: twelve digits, and more than a file system holds.
pub const ANNOUNCED_BYTES_MAX: u64 = 1 << 60;

const BASE: u32 = 36;

/// How many files, folders and bytes a caller says that it will send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Announced {
    /// Files, and whatever else is no folder.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Bytes of content of the files.
    pub bytes: u64,
    /// The figures may be less than what comes: not all was looked at.
    pub at_least: bool,
}

impl Announced {
    /// Whether each figure is one that can be announced.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.files <= ANNOUNCED_ENTRIES_MAX
            && self.folders <= ANNOUNCED_ENTRIES_MAX
            && self.bytes <= ANNOUNCED_BYTES_MAX
    }

    /// The same where it can be announced, else as much of it as can, and at least that.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            files: self.files.min(ANNOUNCED_ENTRIES_MAX),
            folders: self.folders.min(ANNOUNCED_ENTRIES_MAX),
            bytes: self.bytes.min(ANNOUNCED_BYTES_MAX),
            at_least: self.at_least || !self.is_possible(),
        }
    }

    /// At most 23 characters; figures that cannot be announced are clamped.
    #[must_use]
    pub fn encode(self) -> String {
        let it = self.clamped();
        let kind = if it.at_least { 'L' } else { 'E' };
        let [files, folders, bytes] = [it.files, it.folders, it.bytes].map(digits);
        format!("{kind}{files}.{folders}.{bytes}")
    }

    /// Reads the one text that [`Announced::encode`] makes of these figures; none of any other.
    #[must_use]
    pub fn decode(untrusted: &str) -> Option<Self> {
        let (at_least, numbers) = match untrusted.split_at_checked(1)? {
            ("E", numbers) => (false, numbers),
            ("L", numbers) => (true, numbers),
            _ => return None,
        };
        let mut numbers = numbers.split('.').map(number);
        let mut next = || numbers.next().flatten();
        let (files, folders, bytes) = (next()?, next()?, next()?);
        let it = Self {
            files,
            folders,
            bytes,
            at_least,
        };
        (numbers.next().is_none() && it.is_possible()).then_some(it)
    }
}

/// A number in base 36, without zeros before it.
pub(super) fn digits(mut number: u64) -> String {
    let mut reversed = Vec::new();
    loop {
        let digit = u32::try_from(number % u64::from(BASE)).unwrap_or_default();
        reversed.extend(char::from_digit(digit, BASE));
        number /= u64::from(BASE);
        if number == 0 {
            return reversed.iter().rev().collect();
        }
    }
}

/// Reads what [`digits`] writes, and nothing else.
pub(super) fn number(untrusted: &str) -> Option<u64> {
    let plain = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    let canonical = untrusted == "0" || !untrusted.starts_with('0');
    if !canonical || !untrusted.bytes().all(plain) {
        return None;
    }
    u64::from_str_radix(untrusted, BASE).ok()
}

#[cfg(test)]
mod tests {
    use super::super::{IDENT_LEN, Ident};
    use super::*;
    use proptest::prelude::*;

    const NONE: Announced = Announced {
        files: 0,
        folders: 0,
        bytes: 0,
        at_least: false,
    };
    const MOST: Announced = Announced {
        files: ANNOUNCED_ENTRIES_MAX,
        folders: ANNOUNCED_ENTRIES_MAX,
        bytes: ANNOUNCED_BYTES_MAX,
        at_least: false,
    };

    #[test]
    fn the_form_is_this_one() {
        let few = Announced {
            files: 3,
            folders: 1,
            bytes: 13_002_342,
            at_least: true,
        };
        assert_eq!(few.encode(), "L3.1.7qoo6");
        assert_eq!(Ident::announcing(37, few).as_str(), "B11L3.1.7qoo6");
        assert_eq!(NONE.encode(), "E0.0.0");
    }

    #[test]
    fn the_longest_fits_an_identifier() {
        let ident = Ident::announcing(u32::MAX, MOST);
        assert!(ident.as_str().len() < IDENT_LEN, "{ident:?}");
        assert_eq!(ident.as_str().len(), 31);
        let same = Ident::from_field(&ident.encode()).unwrap();
        assert_eq!(same.announced(), Some(MOST));
        assert_eq!(same.slot(), Some(u32::MAX));
    }

    #[test]
    fn one_past_each_limit_is_no_announcement_and_is_clamped() {
        let past: [fn(&mut Announced); 3] =
            [|it| it.files += 1, |it| it.folders += 1, |it| it.bytes += 1];
        for add in past {
            let mut it = MOST;
            add(&mut it);
            assert!(MOST.is_possible() && !it.is_possible());
            let text = format!(
                "E{}.{}.{}",
                digits(it.files),
                digits(it.folders),
                digits(it.bytes)
            );
            assert_eq!(Announced::decode(&text), None, "{text}");
            let expected = Announced {
                at_least: true,
                ..MOST
            };
            assert_eq!(Announced::decode(&it.encode()), Some(expected));
        }
        let all = Announced {
            files: u64::MAX,
            folders: u64::MAX,
            bytes: u64::MAX,
            at_least: false,
        };
        assert_eq!(all.clamped().bytes, ANNOUNCED_BYTES_MAX);
        assert!(all.clamped().at_least);
    }

    #[test]
    fn what_is_not_written_so_says_nothing() {
        for text in [
            "",
            "E",
            "E0.0",
            "E0.0.0.0",
            "E0.0.0 ",
            "e0.0.0",
            "E00.0.0",
            "E0.01.0",
            "E+1.0.0",
            "E-1.0.0",
            "E0.0.",
            "E.0.0",
            "E0.0.A",
            "E0.0.zzzzzzzzzzzzzz",
            "X0.0.0",
            "E0,0,0",
            "\u{415}0.0.0",
            "\u{2028}",
        ] {
            assert_eq!(Announced::decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn identifiers_of_other_agents_say_nothing_and_keep_their_slot() {
        for text in [
            "SOCKET",
            "SOCKET7",
            "SOCKET11",
            "B",
            "BE0.0.0",
            "B07E0.0.0",
            "B7e0.0.0",
            "B7E0.0",
            "C7E0.0.0",
            "b7E0.0.0",
            "B1z141z4E0.0.0",
            "B7E0.0.0.",
            "7E0.0.0",
        ] {
            let ident = Ident::from_text(text).unwrap();
            assert_eq!(ident.announced(), None, "{text}");
            assert_eq!(
                ident.slot().is_some(),
                text.starts_with("SOCKET") && text.len() > 6
            );
        }
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(
            files in 0..=ANNOUNCED_ENTRIES_MAX, folders in 0..=ANNOUNCED_ENTRIES_MAX,
            bytes in 0..=ANNOUNCED_BYTES_MAX, at_least: bool, slot: u32,
        ) {
            let it = Announced { files, folders, bytes, at_least };
            prop_assert_eq!(Announced::decode(&it.encode()), Some(it));
            let ident = Ident::announcing(slot, it);
            prop_assert_eq!(Ident::from_text(ident.as_str()), Some(ident.clone()));
            prop_assert_eq!((ident.slot(), ident.announced()), (Some(slot), Some(it)));
        }

        #[test]
        fn whatever_is_read_is_possible_and_written_the_same(text in "[BEL]?[0-9a-zEL.]{0,30}") {
            if let Some(it) = Announced::decode(&text) {
                prop_assert!(it.is_possible());
                prop_assert_eq!(it.encode(), text.clone());
            }
            if let Some((it, slot)) = Ident::from_text(&text).and_then(|i| Some((i.announced()?, i.slot()?))) {
                prop_assert!(it.is_possible());
                let again = Ident::announcing(slot, it);
                prop_assert_eq!(again.as_str(), text);
            }
        }

        #[test]
        fn huge_figures_are_clamped(files: u64, folders: u64, bytes: u64, at_least: bool) {
            let it = Announced { files, folders, bytes, at_least };
            prop_assert!(it.clamped().is_possible());
            prop_assert_eq!(it.clamped() == it, it.is_possible());
            prop_assert_eq!(Announced::decode(&it.encode()), Some(it.clamped()));
        }
    }
}
