//! Something to look at while the daemon works.

use std::future::Future;
use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text;

/// Nothing is shown for what is over sooner.
const PATIENCE: Duration = Duration::from_secs(1);

/// Time between two pictures of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// Waits for `work`, with a spinner once that takes more than a second.
pub(crate) async fn waiting<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep(PATIENCE) => {}
    }
    let bar = spinner(what);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            () = tokio::time::sleep(TICK) => bar.tick(),
        }
    }
}

fn spinner(what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target());
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    bar.set_style(style);
    bar.set_elapsed(PATIENCE);
    bar.set_message(text::plain(what));
    bar
}

/// Draws on a terminal only.
fn target() -> ProgressDrawTarget {
    if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    }
}

/// The steps of an apply: a bar on a terminal, a line for each step elsewhere.
#[derive(Debug)]
pub(crate) struct Steps {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Steps {
    /// `quiet`: show nothing (`--json`).
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = (!quiet && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), target());
            let style = ProgressStyle::with_template("[{pos}/{len}] {bar:24} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, quiet }
    }

    pub(crate) fn total(&self, steps: u32) {
        if let Some(bar) = &self.bar {
            bar.set_length(u64::from(steps));
        }
    }

    pub(crate) fn started(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text::plain(what));
            bar.tick();
        }
    }

    /// A step is over; `error` says why it failed.
    pub(crate) fn finished(&self, what: &str, error: &str) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
        if error.is_empty() {
            self.line(&format!("  done: {what}"), false);
        } else {
            self.line(&format!("failed: {what}: {error}"), true);
        }
    }

    pub(crate) fn undoing(&self, because: &str) {
        self.line(&format!("undoing: {because}"), true);
    }

    /// Shows a line; on a terminal only an `important` one, since the bar shows the rest.
    fn line(&self, what: &str, important: bool) {
        let what = text::plain(what);
        match &self.bar {
            Some(bar) if important => bar.println(what),
            None if !self.quiet => {
                // Progress is for a reader; without one there is nothing to do about it.
                use std::io::Write;
                let _ = writeln!(io::stderr(), "{what}");
            }
            _ => {}
        }
    }

    pub(crate) fn tick(&self) {
        if let Some(bar) = &self.bar {
            bar.tick();
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
