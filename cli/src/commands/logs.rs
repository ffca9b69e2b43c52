//! `logs` and `console`: files that the daemon opens and we read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{Session, wait};
use crate::args;
use crate::error::{CommandError, Exit};
use crate::text;

/// Read at a time.
const CHUNK: u64 = 64 * 1024;

/// How far back `-n` looks: more lines than this holds nobody reads in a terminal.
const TAIL_MAX: u64 = 16 * 1024 * 1024;

/// Pause before looking for more. The file may belong to root, so it cannot be watched.
const FOLLOW_PAUSE: Duration = Duration::from_millis(150);

/// Lines of the past that `console` begins with.
const CONSOLE_LINES: usize = 50;

pub(super) fn logs(session: Session, args: &args::Logs) -> Result<Exit, CommandError> {
    let qube = args.qube.as_deref().unwrap_or_default();
    show(session, qube, args.lines, args.follow)
}

pub(super) fn console(session: Session, args: &args::Console) -> Result<Exit, CommandError> {
    show(session, &args.qube, CONSOLE_LINES, true)
}

fn show(
    mut session: Session,
    qube: &str,
    lines: usize,
    follow: bool,
) -> Result<Exit, CommandError> {
    let file: OwnedFd = wait(async {
        let client = session.client().await?;
        Ok(client.proxy.open_log(qube).await?)
    })?
    .into();
    let mut file = File::from(file);
    let failed =
        |error: std::io::Error| CommandError::new("the log cannot be read").because(&error);
    let past = tail(&mut file, lines).map_err(failed)?;
    session.out.text(&text::plain_bytes(&past))?;
    if !follow {
        return Ok(Exit::Done);
    }
    loop {
        let added = read_on(&mut file).map_err(failed)?;
        if added.is_empty() {
            std::thread::sleep(FOLLOW_PAUSE);
        } else {
            session.out.bare(&text::plain_bytes(&added))?;
        }
    }
}

/// The last `lines` lines; the file's position is its end afterwards.
fn tail(file: &mut File, lines: usize) -> std::io::Result<Vec<u8>> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut kept = Vec::new();
    let mut start = end;
    let floor = end.saturating_sub(TAIL_MAX);
    while start > floor {
        let from = start.saturating_sub(CHUNK).max(floor);
        file.seek(SeekFrom::Start(from))?;
        let mut chunk = Vec::new();
        (&mut *file).take(start - from).read_to_end(&mut chunk)?;
        chunk.extend_from_slice(&kept);
        kept = chunk;
        start = from;
        if count_lines(&kept) > lines {
            break;
        }
    }
    file.seek(SeekFrom::Start(end))?;
    Ok(last_lines(&kept, lines).to_vec())
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn last_lines(bytes: &[u8], lines: usize) -> &[u8] {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut breaks = body
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n');
    if lines == 0 {
        return &[];
    }
    match breaks.nth(lines - 1) {
        Some((index, _)) => bytes.get(index + 1..).unwrap_or_default(),
        None => bytes,
    }
}

/// What was added since; starts over in a file that was cut.
fn read_on(file: &mut File) -> std::io::Result<Vec<u8>> {
    let at = file.stream_position()?;
    if file.metadata()?.len() < at {
        file.seek(SeekFrom::Start(0))?;
    }
    let mut added = Vec::new();
    file.take(CHUNK).read_to_end(&mut added)?;
    Ok(added)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn finds_the_last_lines() {
        let text = b"one\ntwo\nthree\n";
        assert_eq!(last_lines(text, 0), b"");
        assert_eq!(last_lines(text, 1), b"three\n");
        assert_eq!(last_lines(text, 2), b"two\nthree\n");
        assert_eq!(last_lines(text, 9), text);
        assert_eq!(last_lines(b"no break", 1), b"no break");
        assert_eq!(last_lines(b"a\nhalf", 1), b"half");
    }

    #[test]
    fn reads_back_over_chunks_and_goes_on() {
        let mut file = tempfile::tempfile().unwrap();
        for number in 0..40_000 {
            writeln!(file, "line {number}").unwrap();
        }
        let got = tail(&mut file, 20_000).unwrap();
        assert!(got.starts_with(b"line 20000\n"));
        assert!(got.ends_with(b"line 39999\n"));
        assert!(read_on(&mut file).unwrap().is_empty());
        let mut writer = file.try_clone().unwrap();
        writer.write_all(b"more").unwrap();
        file.seek(SeekFrom::Current(-4)).unwrap();
        assert_eq!(read_on(&mut file).unwrap(), b"more");
    }

    #[test]
    fn a_cut_file_is_read_from_its_start() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"long before").unwrap();
        file.set_len(0).unwrap();
        assert!(read_on(&mut file).unwrap().is_empty());
        assert_eq!(file.stream_position().unwrap(), 0);
    }
}
