//! Policy files on disk, as the `policy.*` services change them.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_policy::{
    AdminError, AdminRequest, DiskFolders, FolderError, Layout, PolicyFolders, PolicyStore,
};
use rustix::fs::FlockOperation;

use crate::whole_file::{self, Lasting};

/// Mode of a file that is new; one that is replaced keeps its own.
const FILE_MODE: u32 = 0o644;
/// How often, and how far apart, the lock that other tools take on the folder is tried.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Store;

impl PolicyFolders for Store {
    fn read(&self, path: &Path) -> Result<Arc<[u8]>, FolderError> {
        DiskFolders.read(path)
    }

    fn files(&self, folder: &Path) -> Result<Vec<String>, FolderError> {
        DiskFolders.files(folder)
    }
}

impl PolicyStore for Store {
    fn replace(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        Ok(whole_file::replace(path, text, FILE_MODE, Lasting::Always)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        whole_file::sync_folder(path.parent().unwrap_or(Path::new("/")))
    }

    fn is_in_place(&self, path: &Path) -> bool {
        let link = fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink());
        !link
    }
}

/// Does a request on the live folders, if the description names any.
pub(super) fn perform(
    request: &AdminRequest<'_>,
    layout: Option<&Layout>,
) -> Result<Vec<u8>, AdminError> {
    let Some((layout, folder)) = layout.and_then(|l| Some((l, l.folders.last()?))) else {
        let why = "the description reads no policy folder live (`policy: [Live()]`)";
        return Err(AdminError::Protocol(why.into()));
    };
    let folder = fs::File::open(folder).map_err(AdminError::Io)?;
    lock(&folder).map_err(AdminError::Io)?;
    request.perform(layout, &Store)
}

/// The lock that the tools of Qubes take too; it ends with the descriptor.
fn lock(folder: &impl AsFd) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::Error::other(
        "another program holds the lock of the policy folder",
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("etc");
        for path in ["etc/include", "run"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let layout = Layout::under(dir.path());
        let ask = |service: &str, argument: &str, payload: &str| {
            let request = AdminRequest {
                service,
                argument,
                payload: payload.as_bytes(),
            };
            perform(&request, Some(&layout)).map_err(|error| error.told().1)
        };
        let path = folder.join("30-user.policy");
        ask("policy.Replace", "30-user", "new\na.B * * * deny\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(folder.join(".30-user.policy.new"), "left behind").unwrap();
        ask("policy.Replace", "30-user", "any\na.C * * * deny\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a.C * * * deny\n");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "nothing is left beside it: {names:?}");
        std::os::unix::fs::symlink("/etc/passwd", folder.join("out.policy")).unwrap();
        let said = ask("policy.Get", "out", "").unwrap_err();
        assert!(
            said.starts_with("PolicyAdminInvalidFilePathException "),
            "{said}"
        );
        fs::remove_file(folder.join("out.policy")).unwrap();
        ask("policy.Remove", "30-user", "any").unwrap();
        assert!(!path.exists());
        let none = AdminRequest {
            service: "policy.List",
            argument: "",
            payload: b"",
        };
        assert!(perform(&none, None).is_err());
    }
}
