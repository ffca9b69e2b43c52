//! Places where a test may kill the daemon.
//!
//! `BULKHEAD_CRASH_AT=<point>:<step>` kills the process with SIGKILL when it gets there, where
//! `<point>` is `begin` (before a step is journaled as begun), `before` (before it is done), `after`
//! (done, and not yet journaled as done), `end` (journaled), or `undo-before` and `undo-after`.
//! Debug builds and the feature `fault-injection` honour it; otherwise nothing of it is compiled.
//! `BULKHEAD_HOLD_AT=<step>:<path>` makes the step wait for as long as there is something at `path`.
//! `BULKHEAD_FAIL_AT=<step>` makes the step fail instead of being done.

use crate::plan::StepId;

/// Where in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// Not yet journaled as begun.
    Begin,
    /// Journaled as begun, not done.
    Before,
    /// Done, not journaled as done.
    After,
    /// Journaled as done.
    End,
    /// Journaled as being undone, not undone.
    UndoBefore,
    /// Undone, not journaled as undone.
    UndoAfter,
}

#[cfg(any(debug_assertions, feature = "fault-injection"))]
mod armed {
    use std::path::Path;
    use std::time::Duration;

    use super::{Point, StepId};

    impl Point {
        fn name(self) -> &'static str {
            match self {
                Self::Begin => "begin",
                Self::Before => "before",
                Self::After => "after",
                Self::End => "end",
                Self::UndoBefore => "undo-before",
                Self::UndoAfter => "undo-after",
            }
        }
    }

    pub(crate) fn point(point: Point, step: StepId) {
        let here = format!("{}:{step}", point.name());
        if std::env::var("BULKHEAD_CRASH_AT").is_ok_and(|at| at == here) {
            let me = rustix::process::getpid();
            // As abrupt as it gets: no destructor runs, no buffer is written.
            let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
        }
    }

    /// How often a held step looks whether it may go on.
    const HOLD_LOOK: Duration = Duration::from_millis(5);

    pub(crate) async fn hold(step: StepId) {
        let held = std::env::var("BULKHEAD_HOLD_AT").unwrap_or_default();
        if let Some((at, path)) = held.split_once(':')
            && at == step.to_string()
        {
            while Path::new(path).exists() {
                tokio::time::sleep(HOLD_LOOK).await;
            }
        }
    }

    pub(crate) fn fails(step: StepId) -> bool {
        std::env::var("BULKHEAD_FAIL_AT").is_ok_and(|at| at == step.to_string())
    }
}

#[cfg(any(debug_assertions, feature = "fault-injection"))]
pub(crate) use armed::{fails, hold, point};

#[cfg(not(any(debug_assertions, feature = "fault-injection")))]
pub(crate) fn point(_: Point, _: StepId) {}

#[cfg(not(any(debug_assertions, feature = "fault-injection")))]
pub(crate) async fn hold(_: StepId) {}

#[cfg(not(any(debug_assertions, feature = "fault-injection")))]
pub(crate) fn fails(_: StepId) -> bool {
    false
}
