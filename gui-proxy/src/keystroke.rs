//! Keystrokes as they are written in settings: `Ctrl-Shift-c`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Modifiers that are held, as X has them in the state of an event; of the others, such as those of
/// a lock, none counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modifiers(u32);

impl Modifiers {
    const SHIFT: u32 = 1;
    const CTRL: u32 = 1 << 2;
    const ALT: u32 = 1 << 3;
    const SUPER: u32 = 1 << 6;
    const ALL: u32 = Self::SHIFT | Self::CTRL | Self::ALT | Self::SUPER;

    /// Those that count of the state of an event.
    #[must_use]
    pub const fn of_state(state: u32) -> Self {
        Self(state & Self::ALL)
    }

    fn named(name: &str) -> Option<u32> {
        let names = [
            ("ctrl", Self::CTRL),
            ("shift", Self::SHIFT),
            ("alt", Self::ALT),
            ("mod1", Self::ALT),
            ("super", Self::SUPER),
            ("mod4", Self::SUPER),
        ];
        let name = name.to_ascii_lowercase();
        names
            .into_iter()
            .find_map(|(known, bit)| (known == name).then_some(bit))
    }
}

/// A key and what is held with it.
#[derive(Debug, Clone)]
pub struct Keystroke {
    /// Exactly these are held.
    pub modifiers: Modifiers,
    /// X's number of the sign on the key.
    pub symbol: u32,
    text: String,
}

/// As it was written.
impl fmt::Display for Keystroke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Keystroke {
    /// Whether both are made by the same keys.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.modifiers, self.symbol) == (other.modifiers, other.symbol)
    }
}

/// Why a text is no keystroke.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeystrokeError {
    /// There is nothing behind the last `-`.
    #[error("there is no key in it")]
    NoKey,
    /// No such modifier.
    #[error("'{0}' is no modifier; there are Ctrl, Shift, Alt (or Mod1), Super (or Mod4)")]
    Modifier(String),
    /// The same modifier again.
    #[error("'{0}' is there twice")]
    Twice(String),
    /// No such key.
    #[error(
        "'{0}' is no key that is known; letters, digits, F1 to F35, and names such as Insert are"
    )]
    Key(String),
    /// Nobody could write that sign any more.
    #[error("'{0}' is a key to write with and needs Ctrl, Alt or Super beside it")]
    Writes(String),
}

impl FromStr for Keystroke {
    type Err = KeystrokeError;

    fn from_str(text: &str) -> Result<Self, KeystrokeError> {
        let mut parts: Vec<&str> = text.split('-').collect();
        let key = parts.pop().filter(|key| !key.is_empty());
        let key = key.ok_or(KeystrokeError::NoKey)?;
        let mut held = 0;
        for part in parts {
            let bit = Modifiers::named(part);
            let bit = bit.ok_or_else(|| KeystrokeError::Modifier(part.to_owned()))?;
            if held & bit != 0 {
                return Err(KeystrokeError::Twice(part.to_owned()));
            }
            held |= bit;
        }
        let symbol = symbol(key).ok_or_else(|| KeystrokeError::Key(key.to_owned()))?;
        if symbol <= LAST_OF_LATIN && held & !Modifiers::SHIFT == 0 {
            return Err(KeystrokeError::Writes(key.to_owned()));
        }
        Ok(Self {
            modifiers: Modifiers(held),
            symbol,
            text: text.to_owned(),
        })
    }
}

/// Up to it, symbols are signs that are written.
const LAST_OF_LATIN: u32 = 0xff;

/// The symbol of F1; the others follow.
const F1: u32 = 0xffbe;

/// How many keys of that kind have symbols.
const F_KEYS: u32 = 35;

/// What keys without a letter, a digit or a number are called.
const NAMES: [(&str, u32); 40] = [
    ("space", 0x20),
    ("apostrophe", 0x27),
    ("comma", 0x2c),
    ("minus", 0x2d),
    ("period", 0x2e),
    ("slash", 0x2f),
    ("semicolon", 0x3b),
    ("equal", 0x3d),
    ("bracketleft", 0x5b),
    ("backslash", 0x5c),
    ("bracketright", 0x5d),
    ("grave", 0x60),
    ("BackSpace", 0xff08),
    ("Tab", 0xff09),
    ("Return", 0xff0d),
    ("Pause", 0xff13),
    ("Scroll_Lock", 0xff14),
    ("Escape", 0xff1b),
    ("Home", 0xff50),
    ("Left", 0xff51),
    ("Up", 0xff52),
    ("Right", 0xff53),
    ("Down", 0xff54),
    ("Prior", 0xff55),
    ("Page_Up", 0xff55),
    ("Next", 0xff56),
    ("Page_Down", 0xff56),
    ("End", 0xff57),
    ("Begin", 0xff58),
    ("Print", 0xff61),
    ("Insert", 0xff63),
    ("Undo", 0xff65),
    ("Menu", 0xff67),
    ("Find", 0xff68),
    ("Cancel", 0xff69),
    ("Help", 0xff6a),
    ("Delete", 0xffff),
    ("XF86Copy", 0x1008_ff57),
    ("XF86Cut", 0x1008_ff58),
    ("XF86Paste", 0x1008_ff6d),
];

fn symbol(name: &str) -> Option<u32> {
    if let &[sign] = name.as_bytes() {
        // A key has the sign that it writes without Shift first.
        let sign = sign.to_ascii_lowercase();
        return sign.is_ascii_alphanumeric().then_some(sign.into());
    }
    if let Some(number) = name.strip_prefix('F')
        && number.bytes().all(|digit| digit.is_ascii_digit())
        && !number.starts_with('0')
    {
        let number: u32 = number.parse().ok()?;
        return (1..=F_KEYS).contains(&number).then(|| F1 + number - 1);
    }
    NAMES
        .into_iter()
        .find_map(|(known, symbol)| (known == name).then_some(symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(u32, u32), &str>) {
        let keystroke: Result<Keystroke, KeystrokeError> = text.parse();
        let got = keystroke.map(|it| (it.modifiers.0, it.symbol));
        assert_eq!(
            got.map_err(|e| e.to_string()),
            expected.map_err(str::to_owned),
            "{text}"
        );
    }

    #[test]
    fn keystrokes_are_written_as_those_of_qubes() {
        check("Ctrl-Shift-c", Ok((5, 0x63)));
        check("ctrl-SHIFT-C", Ok((5, 0x63)));
        check("Ctrl-Alt-v", Ok((12, 0x76)));
        check("Mod1-Mod4-7", Ok((72, 0x37)));
        check("Super-Insert", Ok((64, 0xff63)));
        check("F12", Ok((0, 0xffc9)));
        check("Shift-Insert", Ok((1, 0xff63)));
        check("XF86Paste", Ok((0, 0x1008_ff6d)));
        check("Ctrl-F35", Ok((4, 0xffe0)));
    }

    #[test]
    fn what_is_wrong_with_a_keystroke_is_named() {
        check("", Err("there is no key in it"));
        check("Ctrl-", Err("there is no key in it"));
        check(
            "Ctrl-Shift",
            Err(
                "'Shift' is no key that is known; letters, digits, F1 to F35, and names such as Insert are",
            ),
        );
        check(
            "Hyper-c",
            Err("'Hyper' is no modifier; there are Ctrl, Shift, Alt (or Mod1), Super (or Mod4)"),
        );
        check(
            "-c",
            Err("'' is no modifier; there are Ctrl, Shift, Alt (or Mod1), Super (or Mod4)"),
        );
        check("Alt-Mod1-c", Err("'Mod1' is there twice"));
        check(
            "c",
            Err("'c' is a key to write with and needs Ctrl, Alt or Super beside it"),
        );
        check(
            "Shift-space",
            Err("'space' is a key to write with and needs Ctrl, Alt or Super beside it"),
        );
        for key in [
            "F0",
            "F36",
            "F01",
            "F+1",
            "F99999999999",
            "ü",
            "insert",
            "+",
        ] {
            let error = format!("Ctrl-{key}").parse::<Keystroke>();
            assert_eq!(error.err(), Some(KeystrokeError::Key(key.to_owned())));
        }
    }

    #[test]
    fn a_lock_and_a_button_do_not_count() {
        assert_eq!(Modifiers::of_state(0b1_0001_0111), Modifiers(5));
        assert_eq!(Modifiers::of_state(0x10), Modifiers::default());
    }
}
