//! `qubes.SetMonitorLayout`: leaves what dom0 says of its monitors for the compositor, as a file in the
//! user's runtime folder. What is no layout is not left.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bulkhead_wire::monitors::{FILE, LAYOUT_MAX, Layout, LayoutError};
use rustix::process::geteuid;
use thiserror::Error;

use super::runtime_folder;

const NAME: &str = "qubes.SetMonitorLayout";

#[derive(Debug, Error)]
enum SetError {
    #[error("the layout of monitors cannot be read")]
    Read(#[source] io::Error),
    #[error("what came is no layout of monitors")]
    Layout(#[from] LayoutError),
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
}

pub(crate) fn main(_arguments: Vec<OsString>) -> ExitCode {
    let folder = runtime_folder(geteuid().as_raw());
    match set(io::stdin().lock(), &folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::report::log(NAME, &error);
            ExitCode::FAILURE
        }
    }
}

/// The file is never half there.
fn set(input: impl Read, folder: &Path) -> Result<(), SetError> {
    let mut text = Vec::new();
    // One more says that it is too long.
    let limit = u64::try_from(LAYOUT_MAX + 1).unwrap_or(u64::MAX);
    let read = input.take(limit).read_to_end(&mut text);
    read.map_err(SetError::Read)?;
    let layout = Layout::parse(&text)?;
    let path = folder.join(FILE);
    // Two may come at once.
    let new = path.with_added_extension(std::process::id().to_string());
    let written = std::fs::write(&new, layout.to_string());
    let written = written.and_then(|()| std::fs::rename(&new, &path));
    written.map_err(|source| {
        let _ = std::fs::remove_file(&new);
        SetError::Write { path, source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_left_and_what_is_none_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let left = || std::fs::read_to_string(folder.path().join(FILE));
        for (text, shown) in [
            ("1920 1080 0 0\n", "1920 1080 0 0\n"),
            ("640  480 0 0 300 200 more", "640 480 0 0 300 200\n"),
        ] {
            set(text.as_bytes(), folder.path()).unwrap();
            assert_eq!(left().unwrap(), shown);
            for bad in [
                "",
                "1920",
                &"1 1 0 0\n".repeat(17),
                &" ".repeat(LAYOUT_MAX + 1),
            ] {
                let error = set(bad.as_bytes(), folder.path()).unwrap_err();
                assert!(matches!(error, SetError::Layout(_)), "{error:?}");
                assert_eq!(left().unwrap(), shown);
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = folder.path().join("no");
        let error = set(&b"1 1 0 0\n"[..], &nowhere).unwrap_err();
        assert!(matches!(error, SetError::Write { .. }));
    }
}
