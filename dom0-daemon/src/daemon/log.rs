//! The daemon's log: standard error (a terminal or the journal) and a file of bounded size.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::error::DaemonError;
use crate::bounded_log::{BoundedLog, Refused};

/// Size at which the file becomes `.1` in place of the one before: 16 MiB at most in all.
const LOG_FILE_MAX: u64 = 8 << 20;

/// Begins to log. Error means: something the person asked for did not happen.
pub(super) fn start(filter: &str, path: &Path) -> Result<(), DaemonError> {
    let parsed = EnvFilter::try_new(filter)
        .map_err(|error| DaemonError::LogFilter(filter.to_owned(), error))?;
    let file = LogFile::open(path).map_err(|source| DaemonError::LogFile {
        path: path.to_owned(),
        source,
    })?;
    let terminal = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let lasting = tracing_subscriber::fmt::layer()
        .with_writer(file)
        .with_ansi(false);
    let registry = tracing_subscriber::registry().with(parsed);
    // Fails where a test has set one already; then that one is as good.
    let _ = registry.with(terminal).with(lasting).try_init();
    Ok(())
}

/// The file, of which every writer has a handle.
#[derive(Debug, Clone)]
struct LogFile(Arc<Mutex<BoundedLog>>);

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        Self::with_max(path, LOG_FILE_MAX)
    }

    fn with_max(path: &Path, max: u64) -> io::Result<Self> {
        let log = BoundedLog::open(path.to_owned(), max)?;
        Ok(Self(Arc::new(Mutex::new(log))))
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let missing = |lost| format!("{lost} lines were lost here: they could not be written\n");
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(Refused { error, first: true }) = log.keep(line, 1, missing) {
            // Told once, where all lines are told too; to log it would end here again.
            let path = log.path().display();
            let text = format!("bulkheadd: log file `{path}` cannot be written: {error}\n");
            let _ = io::stderr().write_all(text.as_bytes());
        }
        // A log that has no room is nothing that whoever logs could do better about.
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_full_log_is_set_aside_and_an_older_one_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/d.log");
        let mut log = LogFile::with_max(&path, 20).unwrap();
        for line in ["first 10 b\n", "second\n", "third\n", "fourth is long\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let older = path.with_added_extension("1");
        assert_eq!(fs::read_to_string(&path).unwrap(), "fourth is long\n");
        assert_eq!(fs::read_to_string(&older).unwrap(), "third\n");
        // A restarted daemon goes on where the last one stopped.
        let mut log = LogFile::with_max(&path, 20).unwrap();
        log.write_all(b"x\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "fourth is long\nx\n");
    }

    #[test]
    fn full_child() {
        let Some(small) = bulkhead_testing::small_disk() else {
            return;
        };
        let path = small.join("log/d.log");
        let mut log = LogFile::with_max(&path, 32 << 10).unwrap();
        log.write_all(b"before\n").unwrap();
        let filler = bulkhead_testing::fill(&small);
        // Past the size at which it is set aside, too.
        for number in 0..1000 {
            let line = format!("full {number} {}\n", "x".repeat(90));
            log.write_all(line.as_bytes()).unwrap();
        }
        fs::remove_file(filler).unwrap();
        log.write_all(b"after\n").unwrap();
        log.write_all(b"and on\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let older = fs::read_to_string(path.with_added_extension("1")).unwrap_or_default();
        let lines: Vec<&str> = older.lines().chain(text.lines()).collect();
        assert_eq!(lines.first(), Some(&"before"));
        let [.., last, lost, after, on] = *lines else {
            panic!("{lines:?}");
        };
        assert!(
            last.ends_with("xx") || last == "before",
            "half a line: {last}"
        );
        let full = lines
            .iter()
            .filter(|line| line.starts_with("full "))
            .count();
        let expect = format!(
            "{} lines were lost here: they could not be written",
            1000 - full
        );
        assert_eq!((lost, after, on), (&*expect, "after", "and on"));
        println!("refused {} lines", 1000 - full);
    }

    #[test]
    fn a_full_disk_costs_lines_and_is_told_once() {
        let said = bulkhead_testing::on_a_small_disk("daemon::log::tests::full_child");
        assert_eq!(
            said.matches("cannot be written: No space").count(),
            1,
            "{said}"
        );
    }

    #[test]
    fn a_bad_filter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = start("info,=,", &folder.path().join("x")).unwrap_err();
        assert!(matches!(error, DaemonError::LogFilter(..)));
    }
}
