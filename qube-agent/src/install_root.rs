//! `install-root DIR`: puts the names of this program and the standard
//! services into the root of a qube. Running it again changes nothing.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use thiserror::Error;

use crate::applet::APPLETS;

const NAME: &str = "install-root";

/// Where the program itself is, seen from within.
const PROGRAM: &str = "/usr/lib/qubes/qube-agent";

const SERVICES: &str = "etc/qubes-rpc";

#[derive(Debug, Error)]
enum InstallError {
    #[error("expected one argument, the root folder")]
    Usage,
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
}

const CONFIGS: &str = "etc/qubes/rpc-config";

/// Services that show windows, or whose callers want them to.
const WAIT_FOR_SESSION: &[&str] = &[
    "qubes.OpenInVM",
    "qubes.OpenURL",
    "qubes.SetMonitorLayout",
    "qubes.StartApp",
    "qubes.VMExecGUI",
    "qubes.VMShell+WaitForSession",
];

/// Services that need no more than a shell.
const SCRIPTS: &[(&str, &str)] = &[
    ("qubes.GetDate", "#!/bin/sh\nexec date -u -Iseconds\n"),
    ("qubes.VMShell", "#!/bin/sh\nexec /bin/sh\n"),
    ("qubes.WaitForRunningSystem", "#!/bin/sh\nexit 0\n"),
];

pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let outcome = match arguments.as_slice() {
        [root] => install(Path::new(root)),
        _ => Err(InstallError::Usage),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e @ InstallError::Usage) => {
            crate::report::log(NAME, &e);
            ExitCode::from(2)
        }
        Err(e) => {
            crate::report::log(NAME, &e);
            ExitCode::FAILURE
        }
    }
}

fn install(root: &Path) -> Result<(), InstallError> {
    for applet in APPLETS {
        if let Some(folder) = applet.installed {
            link(&root.join(folder).join(applet.name), PROGRAM)?;
        }
    }
    for (name, text) in SCRIPTS {
        write(&root.join(SERVICES).join(name), text, 0o755)?;
    }
    for name in WAIT_FOR_SESSION {
        let text = "wait-for-session=1\n";
        write(&root.join(CONFIGS).join(name), text, 0o644)?;
    }
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    move |source| InstallError::Write {
        path: path.into(),
        source,
    }
}

fn folder_of(path: &Path) -> Result<(), InstallError> {
    path.parent().map_or(Ok(()), |folder| {
        std::fs::create_dir_all(folder).map_err(failed(folder))
    })
}

fn link(path: &Path, target: &str) -> Result<(), InstallError> {
    if std::fs::read_link(path).is_ok_and(|there| there == Path::new(target)) {
        return Ok(());
    }
    folder_of(path)?;
    replace(path, |new| symlink(target, new))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), InstallError> {
    let same_mode = || {
        path.symlink_metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o777 == mode)
    };
    if std::fs::read(path).is_ok_and(|there| there == text.as_bytes()) && same_mode() {
        return Ok(());
    }
    folder_of(path)?;
    replace(path, |new| {
        std::fs::write(new, text)?;
        std::fs::set_permissions(new, PermissionsExt::from_mode(mode))
    })
}

/// Makes `path` anew beside itself and moves it into place, so that it is never half there.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), InstallError> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let new = path.with_file_name(name);
    let made = match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => make(&new).and_then(|()| std::fs::rename(&new, path)),
    };
    made.map_err(failed(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_changes_nothing_and_damage_is_repaired() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        install(root.path()).unwrap();
        let link = at("usr/bin/qrexec-client-vm");
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new(PROGRAM));
        let config = std::fs::read(at("etc/qubes/rpc-config/qubes.StartApp")).unwrap();
        let config = bulkhead_wire::qrexec::config::ServiceConfig::parse(&config).unwrap();
        assert!(config.wait_for_session);
        let service = at("etc/qubes-rpc/qubes.VMShell");
        let first = service.metadata().unwrap();
        assert_eq!(first.permissions().mode() & 0o777, 0o755);
        install(root.path()).unwrap();
        let second = service.metadata().unwrap();
        assert_eq!(first.modified().unwrap(), second.modified().unwrap());
        std::fs::write(&service, "damaged").unwrap();
        std::fs::remove_file(&link).unwrap();
        install(root.path()).unwrap();
        assert!(
            std::fs::read_to_string(&service)
                .unwrap()
                .contains("/bin/sh")
        );
        assert!(link.symlink_metadata().unwrap().is_symlink());
    }

    #[test]
    fn a_root_that_is_none_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(install(&file).is_err());
    }
}
