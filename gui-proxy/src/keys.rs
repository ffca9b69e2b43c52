//! Sets of keys.

use bulkhead_wire::gui::KEYMAP_LEN;

/// A set of keys, by X's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keys([u8; KEYMAP_LEN]);

impl Keys {
    /// From a map: bit `n % 8` of byte `n / 8` for key `n`.
    #[must_use]
    pub const fn of_map(map: [u8; KEYMAP_LEN]) -> Self {
        Self(map)
    }

    /// As a map.
    #[must_use]
    pub const fn map(self) -> [u8; KEYMAP_LEN] {
        self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether it is there.
    #[must_use]
    pub fn contains(self, key: u8) -> bool {
        self.0
            .get(usize::from(key / 8))
            .is_some_and(|byte| byte & (1 << (key % 8)) != 0)
    }

    /// Adds a key.
    pub fn insert(&mut self, key: u8) {
        if let Some(byte) = self.0.get_mut(usize::from(key / 8)) {
            *byte |= 1 << (key % 8);
        }
    }

    /// Takes a key out; says whether it was there.
    pub fn remove(&mut self, key: u8) -> bool {
        let was = self.contains(key);
        if let Some(byte) = self.0.get_mut(usize::from(key / 8)) {
            *byte &= !(1 << (key % 8));
        }
        was
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let mut both = self;
        for (byte, other) in both.0.iter_mut().zip(other.0) {
            *byte &= other;
        }
        both
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_bit_of_its_own() {
        let mut all = Keys::default();
        for key in 0..=u8::MAX {
            assert!(!all.contains(key));
            all.insert(key);
            assert!(all.contains(key));
        }
        assert_eq!(all.map(), [0xff; KEYMAP_LEN]);
        for key in 0..=u8::MAX {
            assert!(all.remove(key) && !all.remove(key));
        }
        assert!(all.is_empty());
    }

    #[test]
    fn what_is_in_both_is_in_each() {
        let (mut a, mut b) = (Keys::default(), Keys::default());
        [8, 9, 255].into_iter().for_each(|key| a.insert(key));
        [9, 10, 255].into_iter().for_each(|key| b.insert(key));
        let both = a.and(b);
        assert!(both.contains(9) && both.contains(255));
        assert!(!both.contains(8) && !both.contains(10));
    }
}
