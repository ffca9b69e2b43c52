//! Drivers that must be there before there is a root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::system::finit_module;

use crate::BootError;

/// They are here, named so that their order is the order in which they need each other.
const FOLDER: &str = "/modules";

/// The kernel unpacks it (`MODULE_INIT_COMPRESSED_FILE`).
const COMPRESSED: i32 = 4;

/// Loads all of them.
pub(crate) fn load_all() -> Result<(), BootError> {
    let folder = Path::new(FOLDER);
    let entries = fs::read_dir(folder).map_err(BootError::at("read", folder))?;
    let mut modules: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    modules.sort();
    modules.iter().try_for_each(|module| load(module))
}

fn load(module: &Path) -> Result<(), BootError> {
    let file = File::open(module).map_err(BootError::at("open", module))?;
    let flags = match module.extension() {
        Some(end) if end == "ko" => 0,
        _ => COMPRESSED,
    };
    match finit_module(&file, c"", flags) {
        // Part of the kernel, or loaded already.
        Err(Errno::EXIST) => Ok(()),
        loaded => loaded.map_err(BootError::at("load", module)),
    }
}
