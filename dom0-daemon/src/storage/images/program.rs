//! The programs that pack, unpack and build trees.

use std::fs::File;
use std::io::Read;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::super::StorageError;

/// Last lines that are kept of what a program says: enough for an error and what led to it.
const LINES_KEPT: usize = 20;

/// How often a log is looked at: a person reads no faster.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);

/// Starts a program that is killed where nobody waits for it any more.
pub(super) fn spawn(program: &'static str, command: &mut Command) -> Result<Child, StorageError> {
    start(program, command.kill_on_drop(true).stderr(Stdio::piped()))
}

/// Starts a program that cleans up after itself: where nobody waits for it any more it is
/// asked to end, with everything that it started. What it says goes to the file `log`:
/// a pipe that nobody reads any more would end it before it has cleaned up.
pub(super) fn spawn_tidy(
    program: &'static str,
    command: &mut Command,
    log: File,
) -> Result<(Child, Interrupt), StorageError> {
    let child = start(program, command.process_group(0).stderr(log))?;
    let group = child.id().and_then(|pid| pid.try_into().ok());
    Ok((child, Interrupt(group.and_then(Pid::from_raw))))
}

/// Asks a group of processes to end when dropped; not as Ctrl-C does, which is ignored by what a
/// daemon in the background of a shell starts.
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
            && let Err(error) = kill_process_group(group, Signal::TERM)
        {
            tracing::warn!(%error, "a build goes on for nobody");
        }
    }
}

fn start(program: &'static str, command: &mut Command) -> Result<Child, StorageError> {
    command
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

/// Reads to the end and keeps the last lines.
pub(super) async fn tail(stream: Option<impl AsyncRead + Unpin>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    if let Some(stream) = stream {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            keep(&mut kept, line);
        }
    }
    kept
}

/// Waits for the end, hands each line that comes into `log` meanwhile to `each`, and returns the
/// last ones.
pub(super) async fn follow(child: &mut Child, mut log: File, each: impl Fn(&str)) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let mut unfinished = Vec::new();
    loop {
        // Whether it has ended is known before the log is read to its end.
        let ended = tokio::time::timeout(FOLLOW_EVERY, child.wait()).await;
        // What cannot be read cannot be shown; how it ended is told all the same.
        let _ = log.read_to_end(&mut unfinished);
        while let Some(end) = unfinished.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = unfinished.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            each(&line);
            keep(&mut kept, line);
        }
        if ended.is_ok() {
            return kept;
        }
    }
}

fn keep(kept: &mut Vec<String>, line: String) {
    if kept.len() == LINES_KEPT {
        kept.remove(0);
    }
    kept.push(line);
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
