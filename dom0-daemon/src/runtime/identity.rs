//! Each qube's UUID, which outlives its domains and the daemon.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use bulkhead_model::name::QubeName;
use uuid::Uuid;

use crate::whole_file::{self, Lasting};

const FILE: &str = "uuids.json";

/// What is known from before.
pub(super) fn load(state_dir: &Path) -> io::Result<BTreeMap<QubeName, Uuid>> {
    match fs::read(state_dir.join(FILE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(e) => Err(e),
    }
}

/// Gives new qubes a UUID and forgets those that are gone: one of the same name that comes later
/// is another qube.
pub(super) fn update(uuids: &mut BTreeMap<QubeName, Uuid>, declared: &[QubeName]) {
    uuids.retain(|name, _| declared.binary_search(name).is_ok());
    for name in declared {
        uuids.entry(name.clone()).or_insert_with(Uuid::new_v4);
    }
}

/// Writes them, whole or not at all.
pub(super) fn save(state_dir: &Path, uuids: &BTreeMap<QubeName, Uuid>) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(uuids)?;
    let path = state_dir.join(FILE);
    if fs::read(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::create_dir_all(state_dir)?;
    Ok(whole_file::replace(&path, &text, 0o600, Lasting::Always)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_uuid_until_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let name = |text: &str| QubeName::new(text).unwrap();
        let mut uuids = load(dir.path()).unwrap();
        update(&mut uuids, &[name("a"), name("b")]);
        save(dir.path(), &uuids).unwrap();
        let mut again = load(dir.path()).unwrap();
        assert_eq!(again, uuids);
        update(&mut again, &[name("a")]);
        update(&mut again, &[name("a"), name("b")]);
        assert_eq!(again[&name("a")], uuids[&name("a")]);
        assert_ne!(again[&name("b")], uuids[&name("b")]);
    }
}
