//! Where libxl's lines go: to the log with the operation they belong to, and the last ones into the
//! error that the operation may end with.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_libxl_sys::{Level, Log};
use bulkhead_wire::xl::{LOG_LINE_MAX, LOG_LINES_MAX, OperationKind};

/// The log of one operation.
#[derive(Debug)]
pub(crate) struct OperationLog {
    /// What every line begins with.
    name: String,
    kept: Mutex<VecDeque<String>>,
}

impl OperationLog {
    /// The log of what belongs to no operation.
    pub(crate) fn unnamed() -> Arc<Self> {
        Self::called("libxl".to_owned())
    }

    /// The log of an operation, by the number of its request where there is one.
    pub(crate) fn new(kind: OperationKind, id: Option<u64>) -> Arc<Self> {
        let id = id.map_or_else(|| "own".to_owned(), |id| id.to_string());
        Self::called(format!("{kind:?}#{id}"))
    }

    fn called(name: String) -> Arc<Self> {
        Arc::new(Self {
            name,
            kept: Mutex::default(),
        })
    }

    /// The last lines.
    pub(crate) fn last(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().cloned().collect()
    }
}

impl Log for OperationLog {
    fn line(&self, level: Level, line: &str) {
        let operation = self.name.as_str();
        match level {
            Level::Error => tracing::error!(operation, "{line}"),
            Level::Warning => tracing::warn!(operation, "{line}"),
            Level::Info => tracing::info!(operation, "{line}"),
            // Hundreds for each domain, and none that explains what went wrong.
            Level::Debug => return tracing::debug!(operation, "{line}"),
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LOG_LINES_MAX {
            kept.pop_front();
        }
        kept.push_back(cut(line));
    }
}

/// At most [`LOG_LINE_MAX`] bytes of a line.
fn cut(line: &str) -> String {
    let mut end = line.len().min(LOG_LINE_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_past_the_limit_drops_the_first() {
        let log = OperationLog::new(OperationKind::Create, Some(7));
        for n in 0..=LOG_LINES_MAX {
            log.line(Level::Debug, "step");
            log.line(Level::Error, &format!("line {n}"));
        }
        let last = log.last();
        assert_eq!(last.len(), LOG_LINES_MAX);
        assert_eq!(last.first().map(String::as_str), Some("line 1"));
    }

    #[test]
    fn lines_are_cut_between_characters() {
        assert_eq!(cut(&"é".repeat(201)), "é".repeat(200));
        assert_eq!(
            cut(&format!("a{}", "é".repeat(200))).len(),
            LOG_LINE_MAX - 1
        );
    }
}
