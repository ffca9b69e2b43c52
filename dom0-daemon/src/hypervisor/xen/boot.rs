//! What a domain boots directly: a kernel that is installed in dom0, or that of its image.
//!
//! An installed kernel is a folder with its name, filled as the packages of Qubes do it, so that
//! those kernels work here.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bulkhead_model::check::KERNELOPTS_MAX;
use bulkhead_model::qube::VirtMode;

use crate::hypervisor::{DomainSpec, HypervisorError};
use crate::storage::DiskRoot;

use super::domain;

/// Names in the folder of a kernel.
const KERNEL: &str = "vmlinuz";
const INITRD: &str = "initramfs";
const MODULES: &str = "modules.img";
const OPTIONS: &str = "default-kernelopts-common.txt";

/// How an unpacked kernel begins, which is an ELF program.
const UNPACKED: [u8; 4] = *b"\x7fELF";

/// Where a kernel finds its root, and where it speaks, unless its folder says so itself.
const ROOT_OPTIONS: &str = "root=/dev/xvda rw console=hvc0";

/// Files of a direct boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BootFiles {
    /// The kernel.
    pub(super) kernel: PathBuf,
    /// What it unpacks first.
    pub(super) initrd: Option<PathBuf>,
    /// A disk with its modules, for a root that does not have them.
    pub(super) modules: Option<PathBuf>,
    /// How its command line begins if it has a root.
    pub(super) root_options: String,
}

impl BootFiles {
    /// What `spec` boots directly, if it names a kernel or its image has one; kernels with a name are
    /// folders in `kernels`.
    pub(super) fn of(spec: &DomainSpec, kernels: &Path) -> Result<Option<Self>, HypervisorError> {
        let refused = |detail| HypervisorError::StartFailed {
            name: spec.name.clone(),
            detail,
        };
        let found = match &spec.boot.kernel {
            Some(name) => Some(installed(kernels, name).map_err(refused)?),
            None => Self::of_image(domain::root(spec)?),
        };
        if spec.boot.mode == VirtMode::Hvm
            && let Some(found) = &found
        {
            packed(&found.kernel).map_err(refused)?;
        }
        Ok(found)
    }

    fn of_image(image: &DiskRoot) -> Option<Self> {
        Some(Self {
            kernel: image.kernel.clone()?,
            initrd: image.initrd.clone(),
            modules: None,
            root_options: ROOT_OPTIONS.to_owned(),
        })
    }
}

/// Whether QEMU can boot it, which knows kernels only as they are installed.
fn packed(kernel: &Path) -> Result<(), String> {
    let mut begin = [0; UNPACKED.len()];
    let read = File::open(kernel).and_then(|mut file| file.read_exact(&mut begin));
    let shown = kernel.display();
    match read {
        Err(error) => Err(format!("its kernel `{shown}` cannot be read: {error}")),
        Ok(()) if begin == UNPACKED => Err(format!(
            "its kernel `{shown}` is unpacked, and with `virt_mode: Hvm` only a packed one can be \
             booted; install that, and name it as `kernel`"
        )),
        Ok(()) => Ok(()),
    }
}

/// Why there is no such kernel; none if there is.
pub(super) fn missing(kernels: &Path, name: &str) -> Option<String> {
    installed(kernels, name).err()
}

fn installed(kernels: &Path, name: &str) -> Result<BootFiles, String> {
    let folder = kernels.join(name);
    let file = |name| Some(folder.join(name)).filter(|path| path.is_file());
    let kernel = file(KERNEL).ok_or_else(|| {
        format!(
            "kernel `{name}` is not installed: there is no `{}`; {}",
            folder.join(KERNEL).display(),
            others(kernels)
        )
    })?;
    Ok(BootFiles {
        kernel,
        initrd: file(INITRD),
        modules: file(MODULES),
        root_options: options(&folder.join(OPTIONS))?,
    })
}

/// Which kernels there are, as a clause.
fn others(kernels: &Path) -> String {
    let entries = std::fs::read_dir(kernels).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join(KERNEL).is_file())
        .map(|entry| format!("`{}`", entry.file_name().display()))
        .collect();
    names.sort();
    match names.is_empty() {
        true => "no kernel is".to_owned(),
        false => format!("installed are {}", names.join(", ")),
    }
}

/// What the file at `path` says, which need not be there.
fn options(path: &Path) -> Result<String, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ROOT_OPTIONS.to_owned()),
        Err(error) => return Err(format!("cannot read `{}`: {error}", path.display())),
    };
    let mut text = String::new();
    file.take(KERNELOPTS_MAX as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    if text.len() > KERNELOPTS_MAX {
        return Err(format!(
            "`{}` has more than {KERNELOPTS_MAX} bytes",
            path.display()
        ));
    }
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kernel_is_a_folder_as_qubes_fills_it() {
        let kernels = tempfile::tempdir().unwrap();
        let folder = kernels.path().join("6.12");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(KERNEL), "").unwrap();
        let bare = BootFiles {
            kernel: folder.join(KERNEL),
            initrd: None,
            modules: None,
            root_options: ROOT_OPTIONS.to_owned(),
        };
        assert_eq!(installed(kernels.path(), "6.12"), Ok(bare.clone()));
        for name in [INITRD, MODULES] {
            fs::write(folder.join(name), "").unwrap();
        }
        fs::write(folder.join(OPTIONS), "root=/dev/mapper/dmroot ro\n").unwrap();
        let whole = BootFiles {
            initrd: Some(folder.join(INITRD)),
            modules: Some(folder.join(MODULES)),
            root_options: "root=/dev/mapper/dmroot ro".to_owned(),
            ..bare
        };
        assert_eq!(installed(kernels.path(), "6.12"), Ok(whole));
    }

    #[test]
    fn qemu_is_given_no_kernel_that_it_cannot_boot() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = folder.path().join(KERNEL);
        let said = |content: &[u8]| {
            fs::write(&kernel, content).unwrap();
            let said = packed(&kernel).err().unwrap_or_default();
            said.replace(&folder.path().display().to_string(), "FOLDER")
        };
        let found = [said(b"MZ\xea\x07"), said(b"\x7fELF\x02"), said(b"")];
        insta::assert_snapshot!(found.join("\n").trim_start(), @r"
        its kernel `FOLDER/vmlinuz` is unpacked, and with `virt_mode: Hvm` only a packed one can be booted; install that, and name it as `kernel`
        its kernel `FOLDER/vmlinuz` cannot be read: failed to fill whole buffer
        ");
    }

    #[test]
    fn what_is_not_installed_is_told_with_what_is() {
        let kernels = tempfile::tempdir().unwrap();
        let said = |name| {
            let said = missing(kernels.path(), name).unwrap();
            said.replace(&kernels.path().display().to_string(), "KERNELS")
        };
        let none = said("6.12");
        for name in ["6.6", "6.1"] {
            fs::create_dir(kernels.path().join(name)).unwrap();
            fs::write(kernels.path().join(name).join(KERNEL), "").unwrap();
        }
        fs::create_dir(kernels.path().join("empty")).unwrap();
        let two = said("6.12");
        let folder = kernels.path().join("6.6");
        fs::write(folder.join(OPTIONS), "x".repeat(KERNELOPTS_MAX)).unwrap();
        assert_eq!(missing(kernels.path(), "6.6"), None);
        fs::write(folder.join(OPTIONS), "x".repeat(KERNELOPTS_MAX + 1)).unwrap();
        insta::assert_snapshot!([none, two, said("6.6")].join("\n"), @r"
        kernel `6.12` is not installed: there is no `KERNELS/6.12/vmlinuz`; no kernel is
        kernel `6.12` is not installed: there is no `KERNELS/6.12/vmlinuz`; installed are `6.1`, `6.6`
        `KERNELS/6.6/default-kernelopts-common.txt` has more than 1024 bytes
        ");
    }
}
