//! What the person sees while files travel.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_wire::filecopy::{Names, check_name};

use super::error::SendError;
use super::send::name_of;

/// Least time between two updates: faster than this nobody reads.
const STEP: Duration = Duration::from_millis(100);
const KIB: u64 = 1024;

/// What is to be sent, seen before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Bytes of file content.
    pub(crate) bytes: u64,
    /// Which names the receiver has to accept.
    pub(crate) names: Names,
}

impl Survey {
    /// Looks at every name, and at every size if `sizes`.
    pub(crate) fn of(paths: &[std::path::PathBuf], sizes: bool) -> Result<Self, SendError> {
        let mut survey = Self {
            bytes: 0,
            names: Names::Listed,
        };
        for path in paths {
            let (path, name) = name_of(path)?;
            survey.look(&path, &name, sizes)?;
        }
        Ok(survey)
    }

    fn look(&mut self, path: &Path, name: &[u8], sizes: bool) -> Result<(), SendError> {
        let failed = |source| SendError::Read {
            path: path.to_owned(),
            source,
        };
        let found = path.symlink_metadata().map_err(failed)?;
        self.note(name);
        if !found.is_dir() {
            self.bytes += if found.is_file() { found.len() } else { 0 };
            return Ok(());
        }
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.pop() {
            let failed = |source| SendError::Read {
                path: folder.clone(),
                source,
            };
            for entry in folder.read_dir().map_err(failed)? {
                let entry = entry.map_err(failed)?;
                self.note(std::os::unix::ffi::OsStrExt::as_bytes(&*entry.file_name()));
                let kind = entry.file_type().map_err(failed)?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if sizes && kind.is_file() {
                    self.bytes += entry.metadata().map_err(failed)?.len();
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, name: &[u8]) {
        if check_name(name, Names::Listed).is_err() {
            self.names = Names::All;
        }
    }
}

/// A line on standard error that grows, if that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    total: u64,
    shown: bool,
    last: Option<Instant>,
}

impl Progress {
    /// Silent if not wanted or if nobody is looking.
    pub(crate) fn new(wanted: bool) -> Self {
        Self {
            total: 0,
            shown: wanted && std::io::stderr().is_terminal(),
            last: None,
        }
    }

    pub(crate) fn is_shown(&self) -> bool {
        self.shown
    }

    pub(crate) fn set_total(&mut self, bytes: u64) {
        self.total = bytes;
    }

    pub(crate) fn update(&mut self, bytes: u64) {
        if self.shown && self.last.is_none_or(|last| last.elapsed() >= STEP) {
            self.last = Some(Instant::now());
            self.print(bytes, "\r");
        }
    }

    pub(crate) fn finish(&mut self, bytes: u64) {
        if self.shown {
            self.print(bytes, "\n");
        }
    }

    fn print(&self, bytes: u64, end: &str) {
        let line = format!("\rsent {}/{} KiB{end}", bytes / KIB, self.total / KIB);
        // A terminal that went away is no reason to stop the transfer.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
