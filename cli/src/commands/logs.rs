//! `bulkhead logs` and `console`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::client::{Incoming, Signals};
use bulkhead_api::event::{Event, Topic};
use rustix::fs::inotify;
use tokio::sync::Notify;

use crate::args::{ConsoleArgs, LogsArgs};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{note, print, text};

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// Lines of the past that `console` starts with.
const CONSOLE_LINES: usize = 20;

/// How often to look where the kernel does not tell that a log has grown.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

pub(crate) async fn logs(client: Client, args: LogsArgs) -> Result<Exit, Failure> {
    let mut log = Log::open(&client, args.qube.as_deref().unwrap_or_default()).await?;
    if let Some(lines) = args.lines {
        log.skip_to_last(lines)?;
    }
    // Watched before reading, so that nothing falls between.
    let growth = args.follow.then(|| Growth::of(&log.file));
    log.show()?;
    while let Some(growth) = &growth {
        growth.wait().await;
        log.show()?;
    }
    Ok(Exit::Done)
}

pub(crate) async fn console(client: Client, args: ConsoleArgs) -> Result<Exit, Failure> {
    let name = &args.qube;
    let mut events = Signals::subscribe(&client, &[Topic::Qubes]).await?;
    let mut log = Log::open(&client, name).await?;
    if !runs(&client, name).await? {
        return Err(Failure::new(format!("qube `{name}` does not run"))
            .hint(format!("See what it wrote with `bulkhead logs {name}`.")));
    }
    log.skip_to_last(CONSOLE_LINES)?;
    let growth = Growth::of(&log.file);
    let mut over = false;
    while !over {
        log.show()?;
        tokio::select! {
            () = growth.wait() => {}
            incoming = events.next() => over = match incoming? {
                Incoming::Event(event) => ends(&event, name),
                Incoming::Lost => !runs(&client, name).await?,
            },
        }
    }
    log.show()?;
    note(&format!("Qube `{}` has stopped.\n", text::line(name)));
    Ok(Exit::Done)
}

async fn runs(client: &Client, name: &str) -> Result<bool, Failure> {
    let rows = client.proxy.list().await?;
    let row = rows.into_iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| super::ls::not_declared(name))?;
    Ok(row.state.has_domain())
}

fn ends(event: &Event, name: &str) -> bool {
    match event {
        Event::QubeChanged(row) => row.name == name && !row.state.has_domain(),
        Event::QubeRemoved { name: removed } => removed == name,
        _ => false,
    }
}

/// A log that may still grow.
#[derive(Debug)]
struct Log {
    file: File,
    at: u64,
    cut: Cut,
}

impl Log {
    async fn open(client: &Client, qube: &str) -> Result<Self, Failure> {
        let fd = client.proxy.open_log(qube).await?;
        Ok(Self {
            file: File::from(OwnedFd::from(fd)),
            at: 0,
            cut: Cut::default(),
        })
    }

    /// Shows everything from here to the end.
    fn show(&mut self) -> Result<(), Failure> {
        let mut buffer = vec![0; CHUNK];
        // A log that became shorter was begun anew.
        if self.file.metadata().is_ok_and(|meta| meta.len() < self.at) {
            self.at = 0;
        }
        loop {
            let got = self.file.read_at(&mut buffer, self.at).map_err(failed)?;
            let bytes = buffer.get(..got).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            self.at += bytes.len() as u64;
            print(&text::log(&self.cut.whole(bytes)))?;
        }
    }

    /// Passes over all but the last lines.
    fn skip_to_last(&mut self, lines: usize) -> Result<(), Failure> {
        let end = self.file.metadata().map_err(failed)?.len();
        let mut buffer = vec![0; CHUNK];
        let mut start = end;
        // The newline at the very end ends the last line and begins none.
        let mut wanted = lines;
        let mut first = true;
        self.at = end;
        while start > 0 {
            let from = start.saturating_sub(CHUNK as u64);
            let length = usize::try_from(start - from).unwrap_or(CHUNK);
            let part = buffer.get_mut(..length).unwrap_or_default();
            self.file.read_exact_at(part, from).map_err(failed)?;
            for (index, byte) in part.iter().enumerate().rev() {
                if *byte == b'\n' && !std::mem::take(&mut first) {
                    wanted = wanted.saturating_sub(1);
                }
                first = false;
                if wanted == 0 {
                    return Ok(());
                }
                self.at = from + index as u64;
            }
            start = from;
        }
        Ok(())
    }
}

fn failed(error: io::Error) -> Failure {
    Failure::io("cannot read the log", &error)
}

/// Keeps back the end of a chunk that may be the start of a character or of a line end.
#[derive(Debug, Default)]
struct Cut(Vec<u8>);

impl Cut {
    fn whole(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut whole = std::mem::take(&mut self.0);
        whole.extend_from_slice(bytes);
        let keep = match std::str::from_utf8(&whole) {
            Ok(text) => usize::from(text.ends_with('\r')),
            // No length: the end is missing. Else it is wrong, and more does not mend it.
            Err(error) if error.error_len().is_none() => whole.len() - error.valid_up_to(),
            Err(_) => unfinished(&whole),
        };
        self.0 = whole.split_off(whole.len() - keep);
        whole
    }
}

/// Bytes at the end that start a character and do not finish it.
fn unfinished(bytes: &[u8]) -> usize {
    (1..=bytes.len().min(3))
        .find(|&length| {
            let tail = bytes.len() - length;
            let tail = bytes.get(tail..).unwrap_or_default();
            let starts = tail.first().is_some_and(|&byte| byte >= 0xc0);
            let open = |error: std::str::Utf8Error| error.error_len().is_none();
            starts && std::str::from_utf8(tail).err().is_some_and(open)
        })
        .unwrap_or(0)
}

/// Tells when a file has grown.
#[derive(Debug)]
struct Growth(Option<Arc<Notify>>);

impl Growth {
    fn of(file: &File) -> Self {
        // A member of the group may read the open log but may not be allowed to watch it.
        let watch = watch(file).ok();
        Self(watch.map(|watch| {
            let grown = Arc::new(Notify::new());
            let tell = Arc::clone(&grown);
            // It ends with the process.
            std::thread::spawn(move || {
                let mut events = [0; 4096];
                while rustix::io::read(&watch, &mut events[..]).is_ok() {
                    tell.notify_one();
                }
            });
            grown
        }))
    }

    /// Returns when there may be more to read.
    async fn wait(&self) {
        match &self.0 {
            Some(grown) => grown.notified().await,
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

fn watch(file: &File) -> io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY)?;
    Ok(watch)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn log(content: &[u8]) -> Log {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Log {
            file,
            at: 0,
            cut: Cut::default(),
        }
    }

    #[track_caller]
    fn last(content: &str, lines: usize, expected: &str) {
        let mut log = log(content.as_bytes());
        log.skip_to_last(lines).unwrap();
        let at = usize::try_from(log.at).unwrap();
        assert_eq!(content.get(at..), Some(expected));
    }

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        last("a\nb\nc\n", 2, "b\nc\n");
        last("a\nb\nc", 2, "b\nc");
        last("a\nb\nc\n", 9, "a\nb\nc\n");
        last("a\nb\n", 0, "");
        last("", 3, "");
        last("\n\n\n", 2, "\n\n");
        let long = "x".repeat(CHUNK * 2);
        last(
            &format!("first\n{long}\nlast\n"),
            2,
            &format!("{long}\nlast\n"),
        );
    }

    #[test]
    fn characters_survive_any_cut() {
        let content = "é\r\n日本 \u{1f600}\r\nx".as_bytes();
        for at in 0..=content.len() {
            let (one, two) = content.split_at(at);
            let mut cut = Cut::default();
            let shown = [text::log(&cut.whole(one)), text::log(&cut.whole(two))];
            assert_eq!(shown.concat(), "é\n日本 😀\nx", "cut at {at}");
        }
    }

    #[test]
    fn wrong_bytes_are_not_kept_back_for_ever() {
        let mut cut = Cut::default();
        assert_eq!(cut.whole(b"\xff\xfe ok"), b"\xff\xfe ok");
        assert_eq!(cut.whole(b"\xff \xe6\x97"), b"\xff ");
        assert_eq!(cut.whole(b"\xa5"), "日".as_bytes());
    }
}
