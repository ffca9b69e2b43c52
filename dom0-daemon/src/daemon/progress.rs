//! From the progress of applies to signals.

use bulkhead_api::change::ApplyOutcome as Shown;
use bulkhead_api::event::Event;
use tokio::sync::broadcast;

use crate::bus::Events;
use crate::ops::{ApplyOutcome, Progress};

/// Carries progress over until the daemon ends.
pub(super) fn pump(mut progress: broadcast::Receiver<Progress>, events: Events) {
    tokio::spawn(async move {
        loop {
            match progress.recv().await {
                Ok(progress) => translate(progress, &events),
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    tracing::warn!(count, "progress was lost");
                }
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
    });
}

fn translate(progress: Progress, events: &Events) {
    let event = match progress {
        Progress::ApplyStarted { apply, who, steps } => Event::ApplyStarted {
            apply: apply.0,
            who,
            steps,
        },
        Progress::StepStarted { apply, step, text } => Event::StepStarted {
            apply: apply.0,
            step: step.0,
            text,
        },
        Progress::StepProgress { apply, step, text } => Event::StepProgress {
            apply: apply.0,
            step: step.0,
            text,
        },
        Progress::StepFinished { apply, step, error } => Event::StepFinished {
            apply: apply.0,
            step: step.0,
            error: error.unwrap_or_default(),
        },
        Progress::Undoing { apply, because } => Event::Undoing {
            apply: apply.0,
            because,
        },
        Progress::StepUndone { apply, step, error } => Event::StepUndone {
            apply: apply.0,
            step: step.0,
            error: error.unwrap_or_default(),
        },
        Progress::ApplyFinished {
            apply,
            outcome,
            generation,
        } => {
            if outcome == ApplyOutcome::Done
                && let Some(number) = generation
            {
                events.send(Event::GenerationChanged { number });
            }
            Event::ApplyFinished {
                apply: apply.0,
                outcome: shown(outcome),
            }
        }
    };
    events.send(event);
}

fn shown(outcome: ApplyOutcome) -> Shown {
    match outcome {
        ApplyOutcome::Nothing => Shown::Nothing,
        ApplyOutcome::Done => Shown::Done,
        ApplyOutcome::Undone => Shown::Undone,
        ApplyOutcome::Partly => Shown::Partly,
    }
}
