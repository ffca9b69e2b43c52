//! Drivers that must be there before there is a root.

use std::ffi::CStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::system::finit_module;

use crate::BootError;

/// They are here, named so that their order is the order in which they need each other.
const FOLDER: &str = "/modules";

/// What a driver is told, by its name. Channels of which this qube is the server take their memory
/// from here: of 256 calls at a time, each has what it must have, and most what it asks for.
const PARAMETERS: &[(&str, &CStr)] = &[("xen-gntalloc", c"limit=16384")];

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
    match finit_module(&file, parameters(module), flags) {
        // Part of the kernel, or loaded already.
        Err(Errno::EXIST) => Ok(()),
        loaded => loaded.map_err(BootError::at("load", module)),
    }
}

/// What a driver in the file `NUMBER-NAME.ko[.xz]` is told.
fn parameters(module: &Path) -> &'static CStr {
    let file = module
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let name = file.split_once('-').map_or(file, |(_, rest)| rest);
    let name = name.split('.').next().unwrap_or_default();
    // The kernel takes both spellings for one.
    let name = name.replace('_', "-");
    let known = PARAMETERS.iter().find(|(known, _)| *known == name);
    known.map_or(c"", |(_, parameters)| parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_told_what_is_for_it_by_any_spelling() {
        for name in [
            "02-xen-gntalloc.ko.xz",
            "02-xen_gntalloc.ko",
            "12-xen-gntalloc.ko.zst",
        ] {
            let module = Path::new("/modules").join(name);
            assert_eq!(parameters(&module), c"limit=16384", "{name}");
        }
        for name in ["03-xen-gntdev.ko.xz", "xen-gntalloc2.ko", "00-", ""] {
            assert_eq!(parameters(Path::new(name)), c"", "{name}");
        }
    }

    #[test]
    fn modprobe_tells_it_the_same() {
        let options = include_str!("../../../dist/modprobe.conf");
        for (name, parameters) in PARAMETERS {
            let line = format!("options {name} {}", parameters.to_str().unwrap());
            assert!(options.lines().any(|l| l == line), "{line}");
        }
    }
}
