//! Running other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

/// The top of the checkout.
pub(crate) fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The cargo that runs us, at the top of the checkout.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs `command` with our own standard streams and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", words(command)))?;
    ensure!(status.success(), "{} ended with {status}", words(command));
    Ok(())
}

/// Runs `command` quietly and returns what it printed; fails with its output unless it succeeds.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", words(command)))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}\n{}{}",
            words(command),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
    }
    Ok(output)
}

fn words(command: &Command) -> String {
    let mut text = format!("`{}", command.get_program().to_string_lossy());
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text.push('`');
    text
}

/// Options of a command: flags, and values that follow a flag.
pub(crate) struct Options<'a> {
    left: Vec<&'a str>,
}

impl<'a> Options<'a> {
    pub(crate) fn new(arguments: &'a [String]) -> Self {
        Self {
            left: arguments.iter().map(String::as_str).collect(),
        }
    }

    /// Whether `name` is given.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.left.len();
        self.left.retain(|argument| *argument != name);
        self.left.len() != before
    }

    /// The word after `name`.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<&'a str>> {
        let Some(at) = self.left.iter().position(|argument| *argument == name) else {
            return Ok(None);
        };
        self.left.remove(at);
        ensure!(at < self.left.len(), "`{name}` needs a value");
        Ok(Some(self.left.remove(at)))
    }

    /// The next word that is no flag.
    pub(crate) fn word(&mut self) -> Option<&'a str> {
        let at = self.left.iter().position(|word| !word.starts_with('-'))?;
        Some(self.left.remove(at))
    }

    /// Fails if anything is left.
    pub(crate) fn finish(self) -> Result<()> {
        match self.left.first() {
            None => Ok(()),
            Some(unknown) => bail!("unknown option `{unknown}`; see `cargo xtask help`"),
        }
    }
}
