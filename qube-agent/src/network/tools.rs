//! The programs that change the kernel's tables.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use thiserror::Error;

/// Bytes of what a program says that are shown.
const SAID_MAX: usize = 2000;

/// A program that did not do it.
#[derive(Debug, Error)]
pub(crate) enum ToolError {
    #[error("cannot run `{program}`, which is in the package `{package}`")]
    Start {
        program: &'static str,
        package: &'static str,
        source: io::Error,
    },
    #[error("`{program}` failed: {said}")]
    Failed { program: &'static str, said: String },
}

/// Changes addresses and routes: a command on each line.
pub(super) fn ip(commands: &str) -> Result<(), ToolError> {
    run("ip", "iproute2", &["-batch", "-"], commands)
}

/// Changes rules, all at once or not at all.
pub(super) fn nft(rules: &str) -> Result<(), ToolError> {
    run("nft", "nftables", &["-f", "-"], rules)
}

/// Loads a driver, unless it is there.
pub(super) fn modprobe(driver: &str) -> Result<(), ToolError> {
    run("modprobe", "kmod", &[driver], "")
}

fn run(
    program: &'static str,
    package: &'static str,
    words: &[&str],
    input: &str,
) -> Result<(), ToolError> {
    let start = |source| ToolError::Start {
        program,
        package,
        source,
    };
    let mut child = Command::new(program)
        .args(words)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it has read all says why by itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let ended = child.wait_with_output().map_err(start)?;
    if ended.status.success() {
        return Ok(());
    }
    let mut said = String::from_utf8_lossy(&ended.stderr)
        .trim()
        .replace('\n', "; ");
    said.truncate(said.floor_char_boundary(SAID_MAX));
    Err(ToolError::Failed { program, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_says_why_and_what_is_missing_where_to_get_it() {
        let failed = run("sh", "dash", &["-c", "cat >&2; exit 3"], "no\nway\n").unwrap_err();
        assert_eq!(failed.to_string(), "`sh` failed: no; way");
        let missing = run("no-such-tool", "tools", &[], "").unwrap_err();
        assert_eq!(
            missing.to_string(),
            "cannot run `no-such-tool`, which is in the package `tools`"
        );
        run("true", "coreutils", &[], "not read").unwrap();
    }
}
