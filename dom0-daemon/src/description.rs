//! Loads the description from disk.

use std::path::Path;

use bulkhead_model::diagnostic::Diagnostics;
use bulkhead_model::load::{Loaded, load as load_with};
use bulkhead_model::source::DiskReader;

/// Loads and checks everything that `system` names. Blocks; a thousand qubes take milliseconds.
pub fn load(system: &Path) -> Result<Loaded, Diagnostics> {
    load_with(system, &DiskReader)
}
