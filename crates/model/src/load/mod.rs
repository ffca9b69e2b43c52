//! From files to a resolved description, or to everything that is wrong with them.
//!
//! `gather` reads the root file, its imports and the managed fragment; [`resolve`] joins them;
//! [`check`] looks at the result as a whole; the assertions come last.
//!
//! [`resolve`]: crate::resolve
//! [`check`]: crate::check

mod gather;
mod policy;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Diagnostics, Problems, SourceMap};
use crate::qube::Description;
use crate::source::SourceReader;
use crate::{assertion, check, resolve};

pub use gather::LIVE_FOLDERS_MAX;
pub(crate) use gather::{SourceUnit, syntax_problem};
pub use policy::PolicySources;

/// Most files of one description. Ten thousand qubes in a file each are a mistake in a pattern.
pub const FILES_MAX: usize = 4096;

/// Most bytes of all files of one description together.
pub const TOTAL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A description that may be applied.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The machine.
    pub description: Description,
    /// What may not be meant as it is written.
    pub warnings: Diagnostics,
    /// The files that were read, the root first; policy files are among them.
    pub files: Vec<PathBuf>,
}

/// Loads the description whose root file is `root`.
///
/// Everything that is wrong in any file is reported at once; then nothing is returned that could
/// be applied.
pub fn load(root: &Path, reader: &dyn SourceReader) -> Result<Loaded, Diagnostics> {
    load_with(root, reader, |_| Vec::new())
}

/// The same, with whatever `check_policy` finds wrong with the policy of all files reported beside
/// the rest: this crate does not know what a rule means.
pub fn load_with(
    root: &Path,
    reader: &dyn SourceReader,
    check_policy: impl FnOnce(&PolicySources<'_>) -> Vec<Diagnostic>,
) -> Result<Loaded, Diagnostics> {
    let mut sources = SourceMap::default();
    let mut problems = Problems::default();
    let mut gathered = gather::gather(root, reader, &mut sources, &mut problems);
    let mut resolved = resolve::resolve(&gathered.units, gathered.complete, &mut problems);
    check::check(&resolved, &mut problems);
    assertion::check(&gathered.units, &resolved, &mut problems);
    let policy = gathered.policy(root, reader, &sources, &mut problems);
    let tests = gathered.tests(root, reader, &sources, &mut problems);
    let refused = problems.has_errors();
    let mut diagnostics = problems.finish(&sources);
    let written = PolicySources {
        sources: &sources,
        policy,
        tests,
    };
    diagnostics.extend(check_policy(&written));
    if refused || diagnostics.errors() > 0 {
        return Err(diagnostics);
    }
    let qubes = std::mem::take(&mut resolved.qubes);
    Ok(Loaded {
        description: Description {
            labels: resolved.labels,
            templates: (resolved.templates.into_iter())
                .map(|(name, template)| (name, template.template))
                .collect(),
            qubes: (qubes.into_iter())
                .map(|(name, qube)| (name, qube.qube))
                .collect(),
            remotes: (resolved.remotes.into_iter())
                .map(|(name, remote)| (name, remote.remote))
                .collect(),
            dom0: resolved.dom0,
            policy: written.policy.texts,
            policy_tests: written.tests.texts,
            policy_folders: written.policy.folders,
        },
        warnings: diagnostics,
        files: gathered.files,
    })
}

/// What is wrong with one file by itself: its syntax, options and values, but not what it needs
/// of other files.
pub fn check_file(name: &str, text: &str) -> Diagnostics {
    let mut sources = SourceMap::default();
    let mut problems = Problems::default();
    gather::read_alone(name, text, &mut sources, &mut problems);
    problems.finish(&sources)
}

/// The file beside `root` in which tools write: `system.managed.ron` for `system.ron`. It is part
/// of the description when it exists. Its entries in `qubes` win over hand-written ones of the
/// same name, property by property.
pub fn managed_path(root: &Path) -> PathBuf {
    let mut name = root.file_stem().map(OsString::from).unwrap_or_default();
    name.push(".managed.ron");
    root.with_file_name(name)
}

#[cfg(test)]
mod tests;
