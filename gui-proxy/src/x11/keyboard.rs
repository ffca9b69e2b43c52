//! Which keys have which symbols.

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt as _, Keysym};

use super::{Done, X11};
use crate::keys::Keys;

/// Symbols of all keys: a row for each, with a symbol for each state of the keyboard.
#[derive(Debug)]
pub(super) struct Keyboard {
    first: u8,
    per_key: usize,
    symbols: Vec<Keysym>,
}

impl X11 {
    pub(super) fn keyboard(&self) -> Done<Keyboard> {
        let setup = self.connection.setup();
        let (first, last) = (setup.min_keycode, setup.max_keycode);
        let count = last.saturating_sub(first).saturating_add(1);
        let reply = self.connection.get_keyboard_mapping(first, count)?;
        let reply = reply.reply()?;
        Ok(Keyboard {
            first,
            per_key: reply.keysyms_per_keycode.into(),
            symbols: reply.keysyms,
        })
    }
}

impl Keyboard {
    /// Keys with a symbol in the first state that any has it in: a layout that is in use besides
    /// has the same letters on others.
    pub(super) fn keys_of(&self, symbol: Keysym) -> Keys {
        let mut keys = Keys::default();
        for state in 0..self.per_key {
            let rows = self.symbols.chunks_exact(self.per_key);
            for (key, row) in (self.first..=u8::MAX).zip(rows) {
                if row.get(state) == Some(&symbol) {
                    keys.insert(key);
                }
            }
            if !keys.is_empty() {
                break;
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_is_on_the_keys_of_the_first_layout_that_has_it() {
        // Two keys in two layouts that have the same letters the other way round.
        let keyboard = Keyboard {
            first: 8,
            per_key: 4,
            symbols: vec![
                0x63, 0x43, 0x6a, 0x4a, //
                0x6a, 0x4a, 0x63, 0x43, //
                0, 0, 0, 0, //
                0x6a, 0, 0xe9, 0,
            ],
        };
        let keys = |symbol| {
            let found = keyboard.keys_of(symbol);
            (0..=u8::MAX)
                .filter(|key| found.contains(*key))
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(0x63), [8]);
        assert_eq!(keys(0x6a), [9, 11]);
        assert_eq!(keys(0xe9), [11]);
        assert_eq!(keys(0x7a), Vec::<u8>::new());
        let none = Keyboard {
            first: 8,
            per_key: 0,
            symbols: Vec::new(),
        };
        assert!(none.keys_of(0x63).is_empty());
    }
}
