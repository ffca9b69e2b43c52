//! One step: told, journaled, done.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_wire::causes::chain;

use super::{Env, Left, Point, fault};
use crate::apply::Progress;
use crate::generation::Candidate;
use crate::journal::{ApplyId, StepState};
use crate::lock::{Lock, Locked};
use crate::machine::{Declared, MachineError, Reason};
use crate::plan::{Action, ImageRef, StepId};
use crate::storage::{ImageDigest, StorageError};

/// A step with all it needs, so that it can run apart from the others.
pub(super) struct Job {
    pub(super) env: Arc<Env>,
    pub(super) apply: ApplyId,
    pub(super) step: StepId,
    /// The image of a start.
    pub(super) image: Option<ImageDigest>,
    /// What a declaration declares.
    pub(super) declared: Option<Declared>,
}

#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error("no image is locked for template `{0}`")]
    NoImage(bulkhead_model::name::QubeName),
    #[error("step {0} was told to fail")]
    Injected(StepId),
}

/// The image that a start uses, as far as the lock knows it.
pub(super) fn image(action: &Action, lock: &Lock) -> Option<ImageDigest> {
    match action {
        Action::StartQube {
            image: ImageRef::Exact(digest),
            ..
        } => Some(digest.clone()),
        Action::StartQube {
            image: ImageRef::Template(template),
            ..
        } => lock.image(template).cloned(),
        _ => None,
    }
}

impl Job {
    pub(super) async fn forward(
        self,
        action: &Action,
        switch: Option<(Candidate, Lock)>,
    ) -> Result<Left, String> {
        let (apply, step) = (self.apply, self.step);
        self.env.tell(Progress::StepStarted {
            apply,
            step,
            text: action.describe(),
        });
        let result = match switch {
            Some((candidate, lock)) => self.switch(&candidate, &lock).await,
            None => self.journaled(action).await,
        };
        let error = result.as_ref().err().cloned();
        self.env.tell(Progress::StepFinished { apply, step, error });
        result
    }

    pub(super) async fn back(self, inverse: &Action) -> Result<(), String> {
        self.note(StepState::Undoing, None).await;
        fault::point(Point::UndoBefore, self.step);
        let result = self
            .act(inverse)
            .await
            .map(drop)
            .map_err(|error| chain(&error));
        fault::point(Point::UndoAfter, self.step);
        let state = if result.is_ok() {
            StepState::Undone
        } else {
            StepState::Stuck
        };
        self.note(state, None).await;
        let error = result.as_ref().err().cloned();
        self.env.tell(Progress::StepUndone {
            apply: self.apply,
            step: self.step,
            error,
        });
        result
    }

    async fn journaled(&self, action: &Action) -> Result<Left, String> {
        fault::point(Point::Begin, self.step);
        self.journal(StepState::Started, None).await?;
        fault::point(Point::Before, self.step);
        fault::hold(self.step).await;
        let acted = if fault::fails(self.step) {
            Err(StepError::Injected(self.step))
        } else {
            self.act(action).await
        };
        let left = match acted {
            Ok(left) => left,
            Err(error) => {
                self.note(StepState::Failed, None).await;
                return Err(chain(&error));
            }
        };
        fault::point(Point::After, self.step);
        let result = match &left {
            Left::Locked(locked) => Some(locked.digest.to_string()),
            Left::Nothing | Left::Switched(_) => None,
        };
        self.journal(StepState::Done, result).await?;
        fault::point(Point::End, self.step);
        Ok(left)
    }

    /// The switch is its own journal entry: both are one transaction.
    async fn switch(&self, candidate: &Candidate, lock: &Lock) -> Result<Left, String> {
        fault::point(Point::Begin, self.step);
        fault::point(Point::Before, self.step);
        if fault::fails(self.step) {
            return Err(chain(&StepError::Injected(self.step)));
        }
        let now = (self.env.now)();
        let journal = &self.env.journal;
        let number = journal
            .switch(self.apply, self.step, candidate, lock, now)
            .await
            .map_err(|error| chain(&error))?;
        fault::point(Point::After, self.step);
        fault::point(Point::End, self.step);
        Ok(Left::Switched(number))
    }

    async fn journal(&self, state: StepState, result: Option<String>) -> Result<(), String> {
        let now = (self.env.now)();
        let journal = &self.env.journal;
        journal
            .step(self.apply, self.step, state, result, now)
            .await
            .map_err(|error| chain(&error))
    }

    /// Journals what must be done all the same when it cannot be journaled: a step that was not
    /// recorded as undone is undone once more after a crash, which does nothing.
    async fn note(&self, state: StepState, result: Option<String>) {
        if let Err(error) = self.journal(state, result).await {
            tracing::error!(
                apply = self.apply.0,
                step = self.step.0,
                error,
                "cannot journal"
            );
        }
    }

    async fn act(&self, action: &Action) -> Result<Left, StepError> {
        let (machine, storage) = (&self.env.machine, &self.env.storage);
        let tag = self.apply.to_string();
        match action {
            Action::EnsureTemplate {
                source,
                locked,
                anew,
                ..
            } => {
                let tell = |text: &str| self.tell(text);
                let image = match anew {
                    true => storage.renew_image(source, &tell).await?,
                    false => storage.ensure_image(source, locked.as_ref(), &tell).await?,
                };
                let locked = Locked {
                    source: source.clone(),
                    digest: image.digest,
                };
                return Ok(Left::Locked(Box::new(locked)));
            }
            Action::CreateVolume { volume, size } => {
                storage.create_volume(volume, *size).await?;
            }
            Action::DiscardVolume { volume } => {
                storage.retire_volume(volume, &tag).await?;
                storage.purge_volume(volume, &tag).await?;
            }
            Action::ResizeVolume { volume, to, .. } => {
                storage.resize_volume(volume, *to).await?;
            }
            Action::RetireVolume { volume, .. } => storage.retire_volume(volume, &tag).await?,
            Action::RestoreVolume { volume } => storage.restore_volume(volume, &tag).await?,
            Action::PurgeVolume { volume } => storage.purge_volume(volume, &tag).await?,
            Action::Declare | Action::DeclarePrevious => {
                if let Some(declared) = &self.declared {
                    machine.declare(declared.clone()).await?;
                }
            }
            Action::LiveUpdate { qube, to, .. } => machine.live_update(qube, to).await?,
            Action::StartQube { spec, image } => {
                if let (ImageRef::Template(template), None) = (image, &self.image) {
                    return Err(StepError::NoImage(template.clone()));
                }
                machine
                    .start(spec, self.image.as_ref(), Reason::Apply)
                    .await?;
            }
            Action::StopQube { qube, timeout } => {
                let timeout = Duration::from_secs((*timeout).into());
                machine.stop(qube, timeout, Reason::Apply).await?;
            }
            // Only `switch` does it, because only it has the transaction.
            Action::SwitchGeneration => {}
        }
        Ok(Left::Nothing)
    }

    fn tell(&self, text: &str) {
        self.env.tell(Progress::StepProgress {
            apply: self.apply,
            step: self.step,
            text: text.to_owned(),
        });
    }
}
