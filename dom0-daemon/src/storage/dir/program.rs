//! The programs that pack, unpack and build trees.

use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::super::StorageError;

/// Last lines that are kept of what a program says: enough for an error and what led to it.
const LINES_KEPT: usize = 20;

/// Starts a program that is killed where nobody waits for it any more.
pub(super) fn spawn(program: &'static str, command: &mut Command) -> Result<Child, StorageError> {
    start(program, command.kill_on_drop(true))
}

/// Starts a program that cleans up after itself: where nobody waits for it any more it is
/// interrupted, with everything that it started, as by Ctrl-C.
pub(super) fn spawn_tidy(
    program: &'static str,
    command: &mut Command,
) -> Result<(Child, Interrupt), StorageError> {
    let child = start(program, command.process_group(0))?;
    let group = child.id().and_then(|pid| pid.try_into().ok());
    Ok((child, Interrupt(group.and_then(Pid::from_raw))))
}

/// Interrupts a group of processes when dropped.
#[derive(Debug)]
pub(super) struct Interrupt(Option<Pid>);

impl Interrupt {
    /// The program has ended: its number may be another's from now on.
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(group) = self.0.take()
            && let Err(error) = kill_process_group(group, Signal::INT)
        {
            tracing::warn!(%error, "a build goes on for nobody");
        }
    }
}

fn start(program: &'static str, command: &mut Command) -> Result<Child, StorageError> {
    command
        .stderr(Stdio::piped())
        .env("LC_ALL", "C")
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
