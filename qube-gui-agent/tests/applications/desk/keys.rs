//! What is typed, as X numbers keys on a keyboard of the United States.

/// The shift key.
pub(crate) const SHIFT: u32 = 50;
/// The control key.
pub(crate) const CONTROL: u32 = 37;
/// The return key.
pub(crate) const RETURN: u32 = 36;
/// The escape key.
pub(crate) const ESCAPE: u32 = 9;

/// The insert key.
pub(crate) const INSERT: u32 = 118;

/// A key without a character.
pub(crate) const F11: u32 = 95;

/// Rows of keys, from their first number on: without and with shift.
const ROWS: [(u32, &str, &str); 4] = [
    (10, "1234567890-=", "!@#$%^&*()_+"),
    (24, "qwertyuiop[]", "QWERTYUIOP{}"),
    (38, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (52, "zxcvbnm,./", "ZXCVBNM<>?"),
];

/// The key that gives a character, and whether shift is held.
#[track_caller]
pub(crate) fn key(c: char) -> (u32, bool) {
    match c {
        ' ' => return (65, false),
        '\n' => return (RETURN, false),
        '|' => return (51, true),
        _ => {}
    }
    for (first, plain, shifted) in ROWS {
        for (row, shift) in [(plain, false), (shifted, true)] {
            if let Some(at) = row.chars().position(|key| key == c) {
                return (first + u32::try_from(at).unwrap(), shift);
            }
        }
    }
    panic!("no key for {c:?}")
}
