//! The keys and values of one qube.

use std::collections::BTreeMap;
use std::ops::Bound;

use thiserror::Error;

use super::message::{HEADER_LEN, Value};
use super::path::DbPath;

/// Most that one store may hold, counted as [`Store::size`]: nothing else bounds the number of
/// keys, and a guest writes as many as it likes. A qube's own keys take about 4 KiB.
pub const STORE_MAX: usize = 1024 * 1024;

/// Most that a store may hold after a write from the guest; the rest stays for dom0's own keys, so
/// that a guest which fills its store still gets them.
pub const STORE_GUEST_MAX: usize = STORE_MAX / 4 * 3;

/// A key was set or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Key, or subtree where it was removed and ends in `/`.
    pub path: DbPath,
    /// The value now; none after a removal.
    pub value: Option<Value>,
}

/// Why a key cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The path does not start with `/`, or ends with it.
    #[error("the path cannot name a key")]
    Path,
    /// The value is too long or has a NUL byte.
    #[error("the value is too long or has a NUL byte")]
    Value,
    /// The store would pass its limit.
    #[error("the store is full")]
    Full,
}

/// Keys in byte order. Values are overwritten when they are replaced or removed.
#[derive(Debug, Default)]
pub struct Store {
    keys: BTreeMap<DbPath, Value>,
    size: usize,
}

impl Store {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &DbPath) -> Option<&Value> {
        self.keys.get(key)
    }

    /// Sets `key`, so long as the store then holds at most `limit` bytes.
    ///
    /// # Errors
    /// Where path or value cannot be stored or the store is full; nothing has changed then.
    pub fn write(&mut self, key: &DbPath, value: Value, limit: usize) -> Result<(), StoreError> {
        if !key.is_storable() {
            return Err(StoreError::Path);
        }
        if !value.is_storable() {
            return Err(StoreError::Value);
        }
        let freed = self.keys.get(key).map_or(0, |old| cost(key, old));
        let size = self.size - freed + cost(key, &value);
        // Shrinking is always possible, also where dom0's keys have passed the guest's limit.
        if size > limit && size > self.size {
            return Err(StoreError::Full);
        }
        self.size = size;
        self.keys.insert(key.clone(), value);
        Ok(())
    }

    /// Removes `path`, or all keys that start with it where it ends in `/`. False if there was
    /// nothing to remove.
    pub fn remove(&mut self, path: &DbPath) -> bool {
        let before = self.keys.len();
        if path.is_subtree() {
            let gone: Vec<_> = self.below(path, None).map(|(key, _)| key.clone()).collect();
            gone.iter().for_each(|key| self.remove_key(key));
        } else {
            self.remove_key(path);
        }
        self.keys.len() < before
    }

    fn remove_key(&mut self, key: &DbPath) {
        if let Some(old) = self.keys.remove(key) {
            self.size -= cost(key, &old);
        }
    }

    /// Keys that start with `prefix`, ascending; only those behind `after` if it is given.
    pub fn below<'a>(
        &'a self,
        prefix: &'a DbPath,
        after: Option<&DbPath>,
    ) -> impl Iterator<Item = (&'a DbPath, &'a Value)> {
        let start = match after {
            Some(key) => Bound::Excluded(key.as_str()),
            None => Bound::Included(prefix.as_str()),
        };
        self.keys
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(prefix.as_str()))
    }

    /// All keys, descending; only those before `before` if it is given.
    pub fn descending(
        &self,
        before: Option<&DbPath>,
    ) -> impl Iterator<Item = (&DbPath, &Value)> + use<'_> {
        let end = match before {
            Some(key) => Bound::Excluded(key.as_str()),
            None => Bound::Unbounded,
        };
        self.keys.range::<str, _>((Bound::Unbounded, end)).rev()
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Holds no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What limits count: header, path and value of every key, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }
}

fn cost(key: &DbPath, value: &Value) -> usize {
    HEADER_LEN + key.as_str().len() + value.as_bytes().len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::VALUE_MAX;
    use super::*;

    fn path(text: &str) -> DbPath {
        DbPath::new(text).unwrap()
    }

    fn set(store: &mut Store, key: &str, value: &[u8]) -> Result<(), StoreError> {
        store.write(&path(key), Value::new(value), STORE_MAX)
    }

    fn keys<'a>(found: impl Iterator<Item = (&'a DbPath, &'a Value)>) -> Vec<&'a str> {
        found.map(|(key, _)| key.as_str()).collect()
    }

    fn filled() -> Store {
        let mut store = Store::default();
        for key in ["/a", "/a/b", "/a/c", "/a0", "/b"] {
            set(&mut store, key, b"v").unwrap();
        }
        store
    }

    #[test]
    fn prefixes_match_text_and_not_components() {
        let store = filled();
        assert_eq!(
            keys(store.below(&path("/a"), None)),
            ["/a", "/a/b", "/a/c", "/a0"]
        );
        assert_eq!(keys(store.below(&path("/a/"), None)), ["/a/b", "/a/c"]);
        assert_eq!(
            keys(store.below(&path("/a"), Some(&path("/a/b")))),
            ["/a/c", "/a0"]
        );
        assert_eq!(keys(store.below(&path("/c"), None)), [""; 0]);
    }

    #[test]
    fn a_full_dump_descends() {
        let store = filled();
        assert_eq!(
            keys(store.descending(None)),
            ["/b", "/a0", "/a/c", "/a/b", "/a"]
        );
        assert_eq!(keys(store.descending(Some(&path("/a/c")))), ["/a/b", "/a"]);
    }

    #[test]
    fn removing_a_subtree_keeps_its_root() {
        let mut store = filled();
        assert!(store.remove(&path("/a/")));
        assert_eq!(
            keys(store.below(&DbPath::empty(), None)),
            ["/a", "/a0", "/b"]
        );
        assert!(!store.remove(&path("/a/")));
        assert!(!store.remove(&DbPath::empty()));
    }

    #[test]
    fn values_at_the_limit_fit_and_one_past_does_not() {
        let mut store = Store::default();
        set(&mut store, "/a", &[1; VALUE_MAX]).unwrap();
        assert_eq!(
            set(&mut store, "/a", &[1; VALUE_MAX + 1]),
            Err(StoreError::Value)
        );
        assert_eq!(set(&mut store, "/a", b"x\0"), Err(StoreError::Value));
        assert_eq!(set(&mut store, "/a/", b""), Err(StoreError::Path));
        assert_eq!(store.size(), HEADER_LEN + 2 + VALUE_MAX);
    }

    #[test]
    fn the_store_fills_to_its_limit_and_not_one_byte_past() {
        let mut store = Store::default();
        let mut n = 0;
        let one = cost(&path("/00000"), &Value::new([1; VALUE_MAX]));
        while store.size() + one <= STORE_MAX {
            set(&mut store, &format!("/{n:05}"), &[1; VALUE_MAX]).unwrap();
            n += 1;
        }
        let room = STORE_MAX - store.size() - cost(&path("/z"), &Value::default());
        assert_eq!(
            set(&mut store, "/z", &vec![1; room + 1]),
            Err(StoreError::Full)
        );
        set(&mut store, "/z", &vec![1; room]).unwrap();
        assert_eq!(store.size(), STORE_MAX);
        assert_eq!(set(&mut store, "/y", b""), Err(StoreError::Full));
        set(&mut store, "/z", b"").unwrap();
        // Smaller is fine even where the limit is already passed.
        let shorter = Value::new([1; 9]);
        store
            .write(&path("/00000"), shorter, STORE_GUEST_MAX)
            .unwrap();
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(
            ops in prop::collection::vec(
                (0..3_u8, "/[ab/]{0,4}", prop::collection::vec(1..=255_u8, 0..4)), 0..80),
            prefix in "/[ab/]{0,2}",
        ) {
            let mut store = Store::default();
            let mut model = BTreeMap::<String, Vec<u8>>::new();
            for (op, key, value) in ops {
                let at = path(&key);
                if op == 0 {
                    let had = model.len();
                    model.retain(|k, _| *k != key && !(key.ends_with('/') && k.starts_with(&key)));
                    prop_assert_eq!(store.remove(&at), model.len() < had);
                } else {
                    let done = store.write(&at, Value::new(value.clone()), STORE_MAX).is_ok();
                    prop_assert_eq!(done, !key.ends_with('/'));
                    if done {
                        model.insert(key, value);
                    }
                }
            }
            let size: usize = model.iter().map(|(k, v)| HEADER_LEN + k.len() + v.len()).sum();
            prop_assert_eq!(store.size(), size);
            let prefix = path(&prefix);
            let got: Vec<_> = store.below(&prefix, None).map(|(k, v)| (k.to_string(), v.as_bytes().to_vec())).collect();
            let expected: Vec<_> = model.into_iter().filter(|(k, _)| k.starts_with(prefix.as_str())).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
