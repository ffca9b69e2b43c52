//! Everything a person can ask of the declared system, as the faces of the daemon call it.
//!
//! A face (D-Bus, Admin API) turns a request into one of these calls and the answer into its own
//! form, and has no logic of its own. Every answer is `Serialize`: `--json` is that and no more.
//!
//! Start-up, in this order: claim the folders ([`crate::instance`]), [`Database::open`], the
//! storage, the runtime (a [`Machine`]) over both, [`Operations::new`], [`Operations::recover`],
//! serve, and [`Operations::bring_up`] beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bulkhead_model::qube::Description;
use bulkhead_policy::DiskFolders;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast, watch};

use crate::apply::{Ended, Env, Run, nothing_declared};
use crate::db::Database;
use crate::generation::{self, Candidate};
use crate::journal::Journal;
use crate::lock::Lock;
use crate::machine::Machine;
use crate::observe::{Current, Observed};
use crate::plan::build::{self, Images, PlanOptions, Restarts, Shrink, Undeclared};
use crate::plan::render::{Colour, render};
use crate::plan::{Action, Plan};
use crate::storage::Storage;

mod collect;
mod error;
#[cfg(test)]
mod mirror;
mod types;

pub use error::OperationsError;
pub use types::*;

/// Progress events kept for a slow receiver: an apply of 1,000 qubes has about 4,000.
const PROGRESS_BACKLOG: usize = 8192;

/// Where the kernel says which boot of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where things are.
#[derive(Debug, Clone)]
pub struct OperationsConfig {
    /// The description.
    pub system: PathBuf,
}

/// Everything a person can ask of the declared system. Shared by all faces in an `Arc`.
#[derive(Debug)]
pub struct Operations {
    config: OperationsConfig,
    database: Database,
    env: Arc<Env>,
    applying: watch::Receiver<Option<Applying>>,
    /// Held by whoever changes anything.
    changing: Arc<Mutex<()>>,
}

/// What an apply is made for.
struct Intent {
    description: Arc<Description>,
    options: PlanOptions,
    who: String,
    message: String,
    rollback_of: Option<u64>,
    /// The lock that the description comes with; none means that of the current generation.
    lock: Option<Lock>,
}

/// An apply that is allowed and has something to do, or nothing.
struct Prepared {
    plan: Plan,
    observed: Observed,
    lock: Lock,
}

impl Operations {
    /// Puts the parts together. Does nothing yet: [`Operations::recover`] comes next.
    pub fn new(
        config: OperationsConfig,
        database: Database,
        storage: Arc<dyn Storage>,
        machine: Arc<dyn Machine>,
    ) -> Self {
        let (progress, _) = broadcast::channel(PROGRESS_BACKLOG);
        let (applying_sender, applying) = watch::channel(None);
        let env = Env {
            journal: Journal::new(database.clone()),
            machine,
            storage,
            progress,
            applying: applying_sender,
            now,
        };
        Self {
            config,
            database,
            env: Arc::new(env),
            applying,
            changing: Arc::default(),
        }
    }

    /// Call once, before serving: declares the current generation to the machine, then finishes or
    /// undoes an apply that a killed daemon left. Returns what became of it, if there was one. A
    /// machine that refuses the current declaration (it denies every call then) is told in
    /// [`Status::warnings`] and stops nothing here.
    pub async fn recover(&self) -> Result<Option<ApplyReport>, OperationsError> {
        let _changing = self.begin_changing()?;
        let current = generation::current(&self.database).await?;
        let declared = current
            .as_ref()
            .map_or_else(nothing_declared, Current::declared);
        if let Err(error) = self.env.machine.declare(declared).await {
            tracing::error!(%error, "the current generation is not in force");
        }
        let Some(left) = self.env.journal.unfinished().await? else {
            return Ok(None);
        };
        tracing::warn!(apply = left.id.0, "an apply was left unfinished");
        let began = Instant::now();
        let ended = Run::resume(Arc::clone(&self.env), left, current).await;
        Ok(Some(report(ended, began)))
    }

    /// Call once after [`Operations::recover`]: on the first start since the machine booted, starts
    /// what the current generation wants running, once no apply is under way. A mere restart of the
    /// daemon changes nothing.
    pub async fn bring_up(&self) -> Result<Option<ApplyReport>, OperationsError> {
        let boot_id = tokio::fs::read_to_string(BOOT_ID).await.unwrap_or_default();
        if !generation::note_boot(&self.database, boot_id.trim()).await? {
            return Ok(None);
        }
        // Nothing to bring up, so an apply that comes now need not be told that we are busy.
        let applying = self.applying.borrow().is_some();
        if !applying && generation::current(&self.database).await?.is_none() {
            return Ok(None);
        }
        // Somebody's apply may have come first; what it makes current is what is brought up.
        let changing = Arc::clone(&self.changing).lock_owned().await;
        let Some(current) = generation::current(&self.database).await? else {
            return Ok(None);
        };
        let intent = Intent {
            description: current.description,
            options: PlanOptions {
                shrink: Shrink::Keep,
                ..PlanOptions::default()
            },
            who: "boot".to_owned(),
            message: String::new(),
            rollback_of: None,
            lock: Some(current.lock),
        };
        let done = self.carry_out_in(changing, intent, true, None).await;
        done.map(Some)
    }

    /// Progress of every apply from now on, whoever asked for it. A receiver that lags loses the
    /// oldest events.
    pub fn progress(&self) -> broadcast::Receiver<Progress> {
        self.env.progress.subscribe()
    }

    /// The apply under way, and every change of it.
    pub fn applying(&self) -> watch::Receiver<Option<Applying>> {
        self.applying.clone()
    }

    /// What an apply would do now.
    pub async fn plan(&self, request: &PlanRequest) -> Result<PlanReply, OperationsError> {
        let intent = self.intent(request, String::new(), String::new()).await?;
        Ok(reply(self.prepare(&intent).await?.plan))
    }

    /// Makes the machine what the description says. A step that fails is no error of this call:
    /// the report says what became of it. Refused while another apply runs. Goes on to its end
    /// when the caller goes away.
    pub async fn apply(
        &self,
        request: &ApplyRequest,
        who: &str,
    ) -> Result<ApplyReport, OperationsError> {
        let intent = self
            .intent(&request.plan, who.to_owned(), request.message.clone())
            .await?;
        self.carry_out(intent, request.allow_destroy, request.expect.as_deref())
            .await
    }

    /// Applies the description of an earlier generation as a new one. Needs neither the
    /// description's files nor a network. Volumes that it does not declare are kept unless
    /// `allow_destroy` is given, and none shrinks: there is always a way back.
    pub async fn rollback(
        &self,
        request: &RollbackRequest,
        who: &str,
    ) -> Result<ApplyReport, OperationsError> {
        let number = match request.generation {
            Some(number) => number,
            None => self.previous().await?,
        };
        let (_, description, lock) = self.stored(number).await?;
        let description = expectations_hold(number, description).await?;
        let intent = Intent {
            description: Arc::new(description),
            options: PlanOptions {
                restarts: if request.restart {
                    Restarts::Now
                } else {
                    Restarts::Leave
                },
                undeclared: if request.allow_destroy {
                    Undeclared::Destroy
                } else {
                    Undeclared::Keep
                },
                shrink: Shrink::Keep,
                images: Images::Locked,
            },
            who: who.to_owned(),
            message: request.message.clone(),
            rollback_of: Some(number),
            lock: Some(lock),
        };
        if request.dry_run {
            let began = Instant::now();
            let prepared = self.prepare(&intent).await?;
            let generation = prepared
                .observed
                .current
                .as_ref()
                .map(|current| current.number);
            return Ok(nothing_done(prepared.plan, generation, began));
        }
        self.carry_out(intent, request.allow_destroy, None).await
    }

    /// How the machine is, and where that is not as declared.
    pub async fn status(&self) -> Result<Status, OperationsError> {
        let observed = self.observe().await?;
        let found = crate::status::differences(&observed);
        let list = generation::list(&self.database).await?;
        let mut warnings: Vec<String> =
            self.env.journal.last_trouble().await?.into_iter().collect();
        warnings.extend(self.env.storage.warnings().await?);
        warnings.extend(self.env.machine.warnings());
        for (volume, _) in self.env.storage.retired_volumes().await? {
            warnings.push(format!(
                "Volume {volume} is set aside; `bulkhead gc --orphan-volumes` destroys it."
            ));
        }
        Ok(Status {
            generation: list.into_iter().find(|info| info.current),
            applying: self.applying.borrow().clone(),
            drift: found.drift,
            pending: found.pending,
            orphan_volumes: found.orphans,
            warnings,
        })
    }

    /// All generations, oldest first.
    pub async fn generations(&self) -> Result<Vec<GenerationInfo>, OperationsError> {
        Ok(generation::list(&self.database).await?)
    }

    /// One generation; none means the current.
    pub async fn generation(&self, number: Option<u64>) -> Result<Generation, OperationsError> {
        let number = match number {
            Some(number) => number,
            None => self.current_number().await?,
        };
        let (info, description, lock) = self.stored(number).await?;
        Ok(Generation {
            info,
            description,
            images: lock.images(),
        })
    }

    /// What is different in `to` from `from`. None as `to` means the current generation, none as
    /// `from` the one before `to`.
    pub async fn diff(
        &self,
        from: Option<u64>,
        to: Option<u64>,
    ) -> Result<DiffReply, OperationsError> {
        let to = match to {
            Some(to) => to,
            None => self.current_number().await?,
        };
        let from = match from {
            Some(from) => from,
            None => self.before(to).await?,
        };
        let (_, old, old_lock) = self.stored(from).await?;
        let (_, new, new_lock) = self.stored(to).await?;
        let changes = bulkhead_model::diff::diff(&old, &new);
        let mut text = changes.to_string();
        let mut images = Vec::new();
        for (template, digest) in new_lock.images() {
            let before = old_lock.image(&template).cloned();
            if before.as_ref().is_some_and(|before| *before != digest) {
                text.push_str(&format!(
                    "~ image of template {template}: {}\n",
                    digest.short()
                ));
                images.push(ImageChange {
                    template,
                    from: before,
                    to: digest,
                });
            }
        }
        Ok(DiffReply {
            from,
            to,
            text,
            changes,
            images,
        })
    }

    async fn intent(
        &self,
        request: &PlanRequest,
        who: String,
        message: String,
    ) -> Result<Intent, OperationsError> {
        let system = request
            .system
            .clone()
            .unwrap_or_else(|| self.config.system.clone());
        Ok(Intent {
            description: Arc::new(load(&system).await?),
            options: PlanOptions {
                restarts: if request.restart {
                    Restarts::Now
                } else {
                    Restarts::Leave
                },
                undeclared: if request.keep_volumes {
                    Undeclared::Keep
                } else {
                    Undeclared::Destroy
                },
                shrink: Shrink::Refuse,
                images: if request.update_templates {
                    Images::Update
                } else {
                    Images::Locked
                },
            },
            who,
            message,
            rollback_of: None,
            lock: None,
        })
    }

    async fn observe(&self) -> Result<Observed, OperationsError> {
        let current = generation::current(&self.database).await?;
        Ok(Observed::gather(current, &*self.env.machine, &*self.env.storage).await?)
    }

    async fn prepare(&self, intent: &Intent) -> Result<Prepared, OperationsError> {
        let observed = self.observe().await?;
        let locked = match (&intent.lock, &observed.current) {
            (Some(lock), _) => lock.clone(),
            (None, Some(current)) => current.lock.clone(),
            (None, None) => Lock::default(),
        };
        let plan = build::plan(&intent.description, &locked, &observed, intent.options)
            .map_err(OperationsError::Plan)?;
        let lock = match intent.options.images {
            Images::Locked => locked.carry(&intent.description),
            Images::Update => Lock::default(),
        };
        Ok(Prepared {
            plan,
            observed,
            lock,
        })
    }

    async fn carry_out(
        &self,
        intent: Intent,
        allow_destroy: bool,
        expect: Option<&str>,
    ) -> Result<ApplyReport, OperationsError> {
        let changing = self.begin_changing()?;
        self.carry_out_in(changing, intent, allow_destroy, expect)
            .await
    }

    async fn carry_out_in(
        &self,
        changing: OwnedMutexGuard<()>,
        intent: Intent,
        allow_destroy: bool,
        expect: Option<&str>,
    ) -> Result<ApplyReport, OperationsError> {
        let began = Instant::now();
        let Prepared {
            plan,
            observed,
            lock,
        } = self.prepare(&intent).await?;
        if expect.is_some_and(|expected| expected != fingerprint(&plan)) {
            return Err(OperationsError::PlanChanged);
        }
        let destroys: Vec<String> = plan.destroys().iter().map(ToString::to_string).collect();
        if !allow_destroy && !destroys.is_empty() {
            return Err(OperationsError::NeedsAllowDestroy(destroys));
        }
        if plan.is_empty() {
            let generation = observed.current.map(|current| current.number);
            return Ok(nothing_done(plan, generation, began));
        }
        let candidate = Candidate {
            who: intent.who,
            message: intent.message,
            rollback_of: intent.rollback_of,
            description: intent.description,
        };
        let env = Arc::clone(&self.env);
        // A task of its own: a client that hangs up does not stop half way.
        let task = tokio::spawn(async move {
            let _changing = changing;
            let run = Run::begin(env, candidate, observed.current, lock, plan).await?;
            Ok(run.run().await)
        });
        match task.await {
            Ok(Ok(ended)) => Ok(report(ended, began)),
            Ok(Err(error)) => Err(OperationsError::Database(error)),
            Err(error) => Err(OperationsError::BrokeOff(error.to_string())),
        }
    }

    /// One change at a time: a second is refused at once and told who is at it.
    fn begin_changing(&self) -> Result<OwnedMutexGuard<()>, OperationsError> {
        Arc::clone(&self.changing).try_lock_owned().map_err(|_| {
            match self.applying.borrow().clone() {
                Some(applying) => OperationsError::Busy {
                    who: applying.who,
                    since: utc(applying.since),
                    done: applying.done,
                    steps: applying.steps,
                },
                None => OperationsError::Preparing,
            }
        })
    }

    async fn stored(
        &self,
        number: u64,
    ) -> Result<(GenerationInfo, Description, Lock), OperationsError> {
        let found = generation::get(&self.database, number).await?;
        found.ok_or(OperationsError::NoSuchGeneration(number))
    }

    async fn current_number(&self) -> Result<u64, OperationsError> {
        let list = self.generations().await?;
        let current = list
            .iter()
            .find(|info| info.current)
            .map(|info| info.number);
        current.ok_or(OperationsError::NoGeneration)
    }

    /// What a rollback without a number goes back to: the generation before the current one; and
    /// where that one is itself a rollback, the one before what it went back to, so that going back
    /// twice goes back twice as far.
    async fn previous(&self) -> Result<u64, OperationsError> {
        let list = self.generations().await?;
        let current = list
            .iter()
            .find(|info| info.current)
            .ok_or(OperationsError::NoGeneration)?;
        let from = current.rollback_of.unwrap_or(current.number);
        let earlier = list
            .iter()
            .rev()
            .map(|info| info.number)
            .find(|number| *number < from);
        earlier.ok_or(OperationsError::NothingEarlier)
    }

    async fn before(&self, number: u64) -> Result<u64, OperationsError> {
        let list = self.generations().await?;
        let earlier = list
            .iter()
            .rev()
            .map(|info| info.number)
            .find(|other| *other < number);
        earlier.ok_or(OperationsError::NothingEarlier)
    }
}

/// What is kept was checked when it was applied; another version of the engine, or what folders of
/// policy hold by now, may decide otherwise.
async fn expectations_hold(
    number: u64,
    description: Description,
) -> Result<Description, OperationsError> {
    let looked = tokio::task::spawn_blocking(move || {
        let unmet = bulkhead_policy::unmet_expectations(&description, &DiskFolders);
        (description, unmet)
    });
    let (description, diagnostics) = looked
        .await
        .map_err(|error| OperationsError::BrokeOff(error.to_string()))?;
    match diagnostics.errors() {
        0 => Ok(description),
        count => Err(OperationsError::Expectations {
            number,
            count,
            diagnostics: Box::new(diagnostics),
        }),
    }
}

async fn load(system: &Path) -> Result<Description, OperationsError> {
    let path = system.to_owned();
    let loaded = tokio::task::spawn_blocking(move || crate::description::load(&path))
        .await
        .map_err(|error| OperationsError::BrokeOff(error.to_string()))?;
    match loaded {
        Ok(loaded) => Ok(loaded.description),
        Err(diagnostics) => Err(OperationsError::Description {
            system: system.to_owned(),
            count: diagnostics.errors(),
            diagnostics: Box::new(diagnostics),
        }),
    }
}

fn reply(plan: Plan) -> PlanReply {
    PlanReply {
        text: render(&plan, Colour::Off),
        fingerprint: fingerprint(&plan),
        destroys: plan.destroys().iter().map(ToString::to_string).collect(),
        plan,
    }
}

/// Names a plan by what it does; what is only told does not count.
fn fingerprint(plan: &Plan) -> String {
    let actions: Vec<&Action> = plan.steps.iter().map(|step| &step.action).collect();
    // Types that serialise to JSON everywhere else cannot fail to here.
    let text = serde_json::to_string(&(plan.base, actions)).unwrap_or_default();
    crate::storage::hex(&Sha256::digest(text))
}

fn report(ended: Ended, began: Instant) -> ApplyReport {
    ApplyReport {
        outcome: ended.end.into(),
        apply: Some(ended.id),
        generation: ended.generation,
        plan: ended.plan,
        failures: ended.failures,
        took_ms: millis(began),
    }
}

fn nothing_done(plan: Plan, generation: Option<u64>, began: Instant) -> ApplyReport {
    ApplyReport {
        outcome: ApplyOutcome::Nothing,
        apply: None,
        generation,
        plan,
        failures: Vec::new(),
        took_ms: millis(began),
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// RFC 3339, in whole seconds.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days since 1970: years counted from 1 March of year 0, in 400-year eras.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests;
