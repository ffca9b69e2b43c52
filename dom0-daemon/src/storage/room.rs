//! How much room there is for what qubes write.

use std::io;
use std::path::Path;

use bulkhead_model::qube::Mib;

/// Less room than this is told: volumes are files that grow when they are written to, and where they
/// cannot, a qube's writes fail. One that writes as fast as it can needs seconds for this much.
const LOW: Mib = Mib(256);

/// The warning, where there is little room on the file system of `folder`.
pub(super) fn warning(folder: &Path) -> io::Result<Option<String>> {
    let system = rustix::fs::statvfs(folder)?;
    let free = Mib(system.f_bavail.saturating_mul(system.f_frsize) >> 20);
    Ok((free < LOW).then(|| {
        format!(
            "Only {free} are free below {}: what qubes write will soon fail. Make room there; \
             `bulkhead gc` removes what nothing needs.",
            folder.display()
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child() {
        let Some(small) = bulkhead_testing::small_disk() else {
            return;
        };
        let said = warning(&small).unwrap().unwrap();
        assert!(said.starts_with("Only 1 MiB are free below"), "{said}");
        bulkhead_testing::fill(&small);
        let said = warning(&small).unwrap().unwrap();
        assert!(said.starts_with("Only 0 MiB are free below"), "{said}");
        println!("refused: {said}");
    }

    #[test]
    fn little_room_is_told() {
        bulkhead_testing::on_a_small_disk("storage::room::tests::child");
    }
}
