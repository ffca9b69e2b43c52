//! Things that are expensive to make, kept under a hash of what they are made from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Things of one kind that are kept at most: a change of their inputs leaves the old one behind,
/// and a person may go to and fro between two branches.
const KEPT_MAX: usize = 2;

/// Hash of everything that one thing is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Key of inputs; where one ends and the next begins counts.
    pub fn of<B: AsRef<[u8]>>(inputs: impl IntoIterator<Item = B>) -> Self {
        let mut digest = Sha256::new();
        for input in inputs {
            let input = input.as_ref();
            digest.update((input.len() as u64).to_le_bytes());
            digest.update(input);
        }
        let hex = |byte: &u8| format!("{byte:02x}");
        Self(digest.finalize().iter().take(12).map(hex).collect())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Folder of what machines for tests are made of.
pub const HW_TESTS: &str = "hw-tests";

/// The folder `name` of this cache: `bulkhead/NAME` in the user's cache folder.
pub fn folder(name: &str) -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache
        .or_else(home)
        .context("neither XDG_CACHE_HOME nor HOME is set: there is no place for a cache")?;
    Ok(cache.join("bulkhead").join(name))
}

/// The folder of the thing `kind` with `key`, for tests. `make` fills an empty folder if there is none yet;
/// whoever comes meanwhile waits, and what is interrupted is made anew.
pub fn kept(kind: &str, key: &Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    kept_in(&folder(HW_TESTS)?, kind, key, make)
}

/// The same in the folder `cache`.
pub fn kept_in(
    cache: &Path,
    kind: &str,
    key: &Key,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let kinds = cache.join(kind);
    fs::create_dir_all(&kinds).with_context(|| format!("cannot make {}", kinds.display()))?;
    let lock = File::create(cache.join(format!("{kind}.lock")))?;
    lock.lock().context("cannot lock the cache")?;
    let place = kinds.join(key.as_str());
    if place.is_dir() {
        // So that the one used last is the one removed last.
        let _ = File::open(&place).and_then(|dir| dir.set_modified(std::time::SystemTime::now()));
        return Ok(place);
    }
    let partial = kinds.join("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    make(&partial)?;
    fs::rename(&partial, &place)?;
    remove_old(&kinds)?;
    Ok(place)
}

/// Removes all but the newest few of a kind.
fn remove_old(kinds: &Path) -> Result<()> {
    let mut places = Vec::new();
    for entry in fs::read_dir(kinds)? {
        let entry = entry?;
        places.push((entry.metadata()?.modified()?, entry.path()));
    }
    places.sort();
    let old = places.len().saturating_sub(KEPT_MAX);
    for (_, path) in places.into_iter().take(old) {
        fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(dir: &Path) -> Result<()> {
        Ok(fs::write(dir.join("made"), "")?)
    }

    #[test]
    fn a_thing_is_made_once_and_half_a_thing_anew() {
        let cache = tempfile::tempdir().unwrap();
        let key = Key::of(["a", "b"]);
        let failed = kept_in(cache.path(), "thing", &key, |dir| {
            fs::write(dir.join("half"), "")?;
            anyhow::bail!("interrupted")
        });
        assert!(failed.is_err());
        let place = kept_in(cache.path(), "thing", &key, make).unwrap();
        assert!(place.join("made").exists() && !place.join("half").exists());
        let again = kept_in(cache.path(), "thing", &key, |_| anyhow::bail!("made twice"));
        assert_eq!(again.unwrap(), place);
    }

    #[test]
    fn inputs_are_not_run_together() {
        assert_ne!(Key::of(["ab", "c"]), Key::of(["a", "bc"]));
    }

    #[test]
    fn one_past_the_limit_removes_the_oldest() {
        let cache = tempfile::tempdir().unwrap();
        let keys: Vec<Key> = (0..=KEPT_MAX).map(|n| Key::of([n.to_string()])).collect();
        for (age, key) in keys.iter().enumerate() {
            let place = kept_in(cache.path(), "thing", key, make).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            if age < KEPT_MAX {
                File::open(place).unwrap().set_modified(time).unwrap();
            }
        }
        let left = |key: &Key| cache.path().join("thing").join(key.as_str()).exists();
        assert!(!left(&keys[0]) && left(&keys[1]) && left(&keys[KEPT_MAX]));
    }
}
