//! The programs that pack, unpack and build trees.

use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::super::StorageError;

/// Last lines that are kept of what a program says: enough for an error and what led to it.
const LINES_KEPT: usize = 20;

pub(super) fn spawn(program: &'static str, command: &mut Command) -> Result<Child, StorageError> {
    command
        .stderr(Stdio::piped())
        .env("LC_ALL", "C")
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => StorageError::NoProgram(program),
            _ => StorageError::Io {
                doing: format!("cannot run `{program}`"),
                source,
            },
        })
}

/// Reads to the end, hands each line to `each`, and keeps the last ones.
pub(super) async fn tail(
    stream: Option<impl AsyncRead + Unpin>,
    each: impl Fn(&str),
) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    if let Some(stream) = stream {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            each(&line);
            if kept.len() == LINES_KEPT {
                kept.remove(0);
            }
            kept.push(line);
        }
    }
    kept
}

/// Waits for the end; `detail` says what went wrong if it is a bad one.
pub(super) async fn wait(
    program: &'static str,
    child: &mut Child,
    detail: impl FnOnce() -> String,
) -> Result<(), StorageError> {
    let status: ExitStatus = child.wait().await.map_err(|source| StorageError::Io {
        doing: format!("lost `{program}`"),
        source,
    })?;
    if status.success() {
        return Ok(());
    }
    Err(StorageError::BuildFailed {
        program,
        status: status.to_string(),
        detail: detail(),
    })
}
