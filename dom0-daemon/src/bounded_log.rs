//! A log file of bounded size, which a full disk cannot garble: set aside as `NAME.1` when it is
//! full, written whole or not at all, and telling where something is missing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file; at most two of it exist.
#[derive(Debug)]
pub(crate) struct BoundedLog {
    path: PathBuf,
    max: u64,
    file: File,
    size: u64,
    /// What could not be written since the last that was, in whatever its owner counts.
    lost: u64,
}

/// What could not be written.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Why.
    pub(crate) error: io::Error,
    /// Nothing was refused just before: worth telling, once.
    pub(crate) first: bool,
}

impl BoundedLog {
    /// Opens the file at `path` to go on where it ends; it is set aside before it exceeds `max`
    /// bytes.
    pub(crate) fn open(path: PathBuf, max: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(folder)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path,
            max,
            file,
            size,
            lost: 0,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of `bytes`, or none of it and counts `amount` as lost. What was lost before is
    /// told in the file by the words of `missing`, and returned.
    pub(crate) fn keep(
        &mut self,
        bytes: &[u8],
        amount: u64,
        missing: impl FnOnce(u64) -> String,
    ) -> Result<u64, Refused> {
        self.append(bytes, missing).map_err(|error| {
            let first = self.lost == 0;
            self.lost = self.lost.saturating_add(amount);
            Refused { error, first }
        })
    }

    fn append(&mut self, bytes: &[u8], missing: impl FnOnce(u64) -> String) -> io::Result<u64> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(length) > self.max {
            self.set_aside()?;
        }
        let missing = match self.lost {
            0 => String::new(),
            lost => missing(lost),
        };
        let whole = [missing.as_bytes(), bytes].concat();
        if let Err(error) = self.file.write_all(&whole) {
            // Half of it would swallow what comes next, or be there twice; where it stays, that
            // is all that is wrong.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        let written = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        self.size = self.size.saturating_add(written);
        Ok(std::mem::take(&mut self.lost))
    }

    fn set_aside(&mut self) -> io::Result<()> {
        match fs::rename(&self.path, self.path.with_added_extension("1")) {
            // Set aside already by a try that ended there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        *self = Self {
            lost: self.lost,
            ..Self::open(self.path.clone(), self.max)?
        };
        Ok(())
    }
}
