//! What a person sees while something takes its time. All of it goes to standard error.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;

use bulkhead_api::event::Event;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::{note, style, text};

/// Faster than this needs no sign of life.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Shows `what` with a spinner if `work` takes long and a person watches.
pub(crate) async fn waiting<T>(what: &str, work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    let bar = ProgressBar::new_spinner();
    bar.set_style(template("{spinner} {msg} {elapsed:.dim}"));
    bar.set_message(text::line(what));
    bar.enable_steady_tick(TICK);
    let done = work.await;
    bar.finish_and_clear();
    done
}

fn template(text: &str) -> ProgressStyle {
    // The templates are constants; a wrong one would show the plain style.
    ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// How far an apply is: bars on a terminal, elsewhere a line for every step.
#[derive(Debug)]
pub(crate) struct ApplyProgress {
    bars: Option<Bars>,
    steps: u32,
    done: u32,
    running: BTreeMap<u32, Running>,
}

#[derive(Debug)]
struct Running {
    text: String,
    bar: Option<ProgressBar>,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    main: ProgressBar,
}

impl ApplyProgress {
    pub(crate) fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let main = all.add(ProgressBar::new(0));
            main.set_style(template("{bar:30} {pos}/{len} {msg} {elapsed:.dim}"));
            main.enable_steady_tick(TICK);
            Bars { all, main }
        });
        Self {
            bars,
            steps: 0,
            done: 0,
            running: BTreeMap::new(),
        }
    }

    pub(crate) fn show(&mut self, event: &Event) {
        if let Some(line) = self.take(event) {
            self.say(&line);
        }
        if let Some(bars) = &self.bars {
            bars.main.set_length(self.steps.into());
            bars.main.set_position(self.done.into());
        }
    }

    /// Removes the bars.
    pub(crate) fn end(&mut self) {
        for running in std::mem::take(&mut self.running).into_values() {
            if let Some(bar) = running.bar {
                bar.finish_and_clear();
            }
        }
        if let Some(bars) = self.bars.take() {
            bars.main.finish_and_clear();
        }
    }

    fn say(&self, line: &str) {
        match &self.bars {
            // Above the bars; a lost line is not worth ending an apply for.
            Some(bars) => drop(bars.all.println(line)),
            None => note(&format!("{line}\n")),
        }
    }

    /// Takes in an event; the line that is worth showing.
    fn take(&mut self, event: &Event) -> Option<String> {
        let paint = style::stderr();
        match event {
            Event::ApplyStarted { steps, .. } => {
                self.steps = *steps;
                self.done = 0;
                None
            }
            Event::StepStarted { step, text, .. } => {
                let text = text::line(text);
                let bar = self.bars.as_ref().map(|bars| {
                    let bar = bars.all.add(ProgressBar::new_spinner());
                    bar.set_style(template("  {spinner} {msg}"));
                    bar.set_message(text.clone());
                    bar.enable_steady_tick(TICK);
                    bar
                });
                self.running.insert(*step, Running { text, bar });
                None
            }
            Event::StepProgress { step, text, .. } => {
                let running = self.running.get(step)?;
                let line = format!("{}: {}", running.text, text::line(text));
                match &running.bar {
                    Some(bar) => {
                        bar.set_message(line);
                        None
                    }
                    None => Some(format!("  {line}")),
                }
            }
            Event::StepFinished { step, error, .. } => {
                self.done += 1;
                let text = self.leave(*step);
                let count = format!("[{}/{}]", self.done, self.steps);
                Some(if error.is_empty() {
                    format!("{} {text}", paint.dim(&count))
                } else {
                    let failed = paint.error("failed:");
                    format!(
                        "{} {failed} {text}: {}",
                        paint.dim(&count),
                        text::line(error)
                    )
                })
            }
            Event::Undoing { because, .. } => {
                let heading = paint.warning("undoing:");
                Some(format!("{heading} {}", text::line(because)))
            }
            Event::StepUndone { step, error, .. } if !error.is_empty() => {
                let heading = paint.error("not undone:");
                Some(format!("{heading} step {step}: {}", text::line(error)))
            }
            _ => None,
        }
    }

    fn leave(&mut self, step: u32) -> String {
        let Some(running) = self.running.remove(&step) else {
            return format!("step {step}");
        };
        if let Some(bar) = running.bar {
            bar.finish_and_clear();
        }
        running.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> ApplyProgress {
        ApplyProgress {
            bars: None,
            steps: 0,
            done: 0,
            running: BTreeMap::new(),
        }
    }

    fn started(step: u32, text: &str) -> Event {
        Event::StepStarted {
            apply: 1,
            step,
            text: text.into(),
        }
    }

    fn finished(step: u32, error: &str) -> Event {
        Event::StepFinished {
            apply: 1,
            step,
            error: error.into(),
        }
    }

    #[test]
    fn steps_are_told_in_the_order_in_which_they_end() {
        let mut progress = plain();
        let events = [
            Event::ApplyStarted {
                apply: 1,
                who: "ada".into(),
                steps: 3,
            },
            started(0, "create volume work:private"),
            started(1, "create volume vault:private"),
            Event::StepProgress {
                apply: 1,
                step: 0,
                text: "half of it".into(),
            },
            finished(1, ""),
            finished(0, "no space left\x1b[2J"),
            Event::Undoing {
                apply: 1,
                because: "a step failed".into(),
            },
            Event::StepUndone {
                apply: 1,
                step: 1,
                error: String::new(),
            },
            Event::StepUndone {
                apply: 1,
                step: 0,
                error: "it is in use".into(),
            },
        ];
        let lines: Vec<_> = events.iter().filter_map(|e| progress.take(e)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
          create volume work:private: half of it
        [1/3] create volume vault:private
        [2/3] failed: create volume work:private: no space left�[2J
        undoing: a step failed
        not undone: step 0: it is in use
        ");
    }
}
