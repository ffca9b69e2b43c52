//! What a qube says on its console, into a log of bounded size.
//!
//! The console is a named pipe that outlives the daemon's process: after a restart the daemon
//! opens it again. Nothing here looks at the bytes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::unix::pipe;

use crate::bounded_log::{BoundedLog, Refused};

/// Size at which a console log is set aside; at most two files of it exist per qube.
pub const CONSOLE_LOG_MAX: u64 = 1 << 20;

/// Bytes taken at once; small, since every qube has one such buffer.
const CHUNK: usize = 8192;

/// Pause after a full chunk: a qube that floods its console gets 800 KB/s and waits for the rest.
const BREATH: Duration = Duration::from_millis(10);

/// Lines of the log quoted in an error.
const TAIL_BYTES: u64 = 600;

/// Makes the pipe at `path` and opens its writing end for the qube.
pub(super) fn make_pipe(path: &Path) -> io::Result<()> {
    match rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    ) {
        Err(rustix::io::Errno::EXIST) | Ok(()) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// The end that the qube writes to. Non-blocking: what does not fit while nobody reads is lost,
/// and the qube never hangs on its own console. For reading too: its programs would be ended by what
/// they write while there is no daemon.
pub(super) fn open_writer(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Starts to copy the pipe at `path` to `log`, until the returned handle is aborted.
pub(super) fn follow(path: &Path, log: PathBuf) -> io::Result<tokio::task::JoinHandle<()>> {
    // Read and write: so it never ends, whoever comes and goes at the other side.
    let reader = pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(path)?;
    let log = Log::open(log)?;
    Ok(tokio::spawn(copy(reader, log)))
}

/// Copies a terminal to `log` until its other end is gone.
pub(super) async fn copy_from(terminal: OwnedFd, log: PathBuf) -> io::Result<()> {
    let mut log = Log::open(log)?;
    let terminal = crate::aio::watch(terminal, Interest::READABLE)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let mut ready = terminal.readable().await?;
        match rustix::io::read(terminal.get_ref(), &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                log.keep(buffer.get(..count).unwrap_or_default());
                if count == CHUNK {
                    tokio::time::sleep(BREATH).await;
                }
            }
            Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn copy(mut reader: pipe::Receiver, mut log: Log) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return,
            Ok(count) => {
                let chunk = buffer.get(..count).unwrap_or_default();
                log.keep(chunk);
                if count == CHUNK {
                    tokio::time::sleep(BREATH).await;
                }
            }
            Err(error) => {
                tracing::warn!(file = %log.0.path().display(), %error, "console is gone");
                return;
            }
        }
    }
}

/// Takes what is still in the pipe, after its qube is gone.
pub(super) async fn drain(path: &Path, log: PathBuf) {
    let Ok(mut file) = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
    else {
        return;
    };
    let Ok(mut log) = Log::open(log) else { return };
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = file.read(&mut buffer) {
        log.keep(buffer.get(..count).unwrap_or_default());
    }
}

/// A console log.
#[derive(Debug)]
struct Log(BoundedLog);

impl Log {
    fn open(path: PathBuf) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        BoundedLog::open(path, CONSOLE_LOG_MAX).map(Self)
    }

    /// Writes `bytes`, or counts them as lost; a full disk is told once, and how it ended.
    fn keep(&mut self, bytes: &[u8]) {
        let missing =
            |lost| format!("\n[{lost} bytes were lost here: they could not be written]\n");
        let kept = self.0.keep(bytes, bytes.len() as u64, missing);
        let file = self.0.path().display();
        match kept {
            Ok(0) | Err(Refused { first: false, .. }) => {}
            Ok(lost) => tracing::info!(%file, lost, "console is logged again"),
            Err(Refused { error, .. }) => tracing::warn!(%file, %error, "console output is lost"),
        }
    }
}

/// The end of a log for a message: printable ASCII, everything else as `_`.
pub(super) fn tail(log: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text: String = bytes
        .iter()
        .map(|byte| match byte {
            b'\n' => '\n',
            0x20..=0x7e => char::from(*byte),
            _ => '_',
        })
        .collect();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let skip = lines.len().saturating_sub(3);
    lines.get(skip..).unwrap_or_default().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_set_aside_one_byte_past_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("work.log");
        let mut log = Log::open(path.clone()).unwrap();
        let full = vec![b'x'; usize::try_from(CONSOLE_LOG_MAX).unwrap()];
        log.0.keep(&full, 0, |_| String::new()).unwrap();
        assert!(!dir.path().join("work.log.1").exists());
        log.0.keep(b"y", 0, |_| String::new()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"y");
        let aside = fs::metadata(dir.path().join("work.log.1")).unwrap();
        assert_eq!(aside.len(), CONSOLE_LOG_MAX);
    }

    #[test]
    fn full_child() {
        let Some(small) = bulkhead_testing::small_disk() else {
            return;
        };
        tracing_subscriber::fmt()
            .with_writer(io::stderr)
            .with_ansi(false)
            .init();
        let path = small.join("work.log");
        let mut log = Log::open(path.clone()).unwrap();
        log.keep(b"before\n");
        let filler = bulkhead_testing::fill(&small);
        for _ in 0..1000 {
            log.keep(&[b'x'; 100]);
        }
        fs::remove_file(filler).unwrap();
        log.keep(b"after\n");
        let text = fs::read_to_string(&path).unwrap();
        let kept = text.matches('x').count();
        assert_eq!(kept % 100, 0, "half of what was written stays");
        let expect = format!(
            "before\n{}\n[{} bytes were lost here: they could not be written]\nafter\n",
            "x".repeat(kept),
            100_000 - kept
        );
        assert_eq!(text, expect);
        println!("refused {} bytes", 100_000 - kept);
    }

    #[test]
    fn a_full_disk_costs_output_and_is_told_once() {
        let child = "hypervisor::console::tests::full_child";
        let said = bulkhead_testing::on_a_small_disk(child);
        assert_eq!(said.matches("console output is lost").count(), 1, "{said}");
        assert_eq!(said.matches("console is logged again").count(), 1, "{said}");
    }

    #[test]
    fn a_quoted_tail_holds_nothing_a_terminal_acts_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, b"first\nsecond\n\x1b[2Jthird\xff\n\nfourth\n").unwrap();
        assert_eq!(tail(&path), "second; _[2Jthird_; fourth");
    }
}
