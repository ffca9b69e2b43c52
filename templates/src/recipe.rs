//! What a template is made of, as people write it: `templates/NAME/recipe.ron`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::lock::Lock;

/// A recipe and the folder that it is in.
#[derive(Debug, Clone)]
pub struct Recipe {
    folder: PathBuf,
    pub(crate) written: Written,
}

/// The file itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    /// Release of Debian.
    pub(crate) suite: String,
    /// Packages beside Debian's essential ones and apt.
    pub(crate) packages: Vec<String>,
    /// Drivers that the kernel needs before it has a root, without those that they need.
    pub(crate) early_modules: Vec<String>,
    /// Units that never run.
    pub(crate) masked: Vec<String>,
    /// Size of the root.
    pub(crate) size_mib: u64,
}

impl Recipe {
    /// The recipe in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("recipe.ron");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let written = ron::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            written,
        })
    }

    fn lock_file(&self) -> PathBuf {
        self.folder.join("packages.lock")
    }

    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.lock_file();
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}; `--update-lock` makes it", path.display()))?;
        Lock::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Writes down which packages Debian has now; how many there are.
    pub fn update_lock(&self) -> Result<usize> {
        let lock = Lock::resolve(&self.written.suite, &self.written.packages)?;
        fs::write(self.lock_file(), lock.to_text())?;
        Ok(lock.packages.len())
    }
}
