//! Loads the description from disk.

use std::path::Path;

use bulkhead_model::diagnostic::Diagnostics;
use bulkhead_model::load::Loaded;
use bulkhead_model::source::DiskReader;

/// Loads and checks everything that `system` names, the policy included. Blocks; a thousand qubes
/// take milliseconds.
pub fn load(system: &Path) -> Result<Loaded, Diagnostics> {
    bulkhead_policy::load(system, &DiskReader).map(|(loaded, _)| loaded)
}
