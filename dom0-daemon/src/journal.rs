//! What every apply did, step by step, written before and after each: what a killed daemon comes
//! back to.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_model::qube::Description;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::db::{Database, DatabaseError};
use crate::generation::{Candidate, Texts, signed, switch, unsigned};
use crate::lock::Lock;
use crate::plan::{Plan, StepId};

/// Names one apply in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApplyId(pub u64);

impl std::fmt::Display for ApplyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How far a step is. A step that is not in the journal has not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepState {
    /// Begun; whether it is done nobody knows after a crash.
    Started,
    /// Done.
    Done,
    /// Tried, and refused by the machine.
    Failed,
    /// Being undone.
    Undoing,
    /// Undone.
    Undone,
    /// Could not be undone.
    Stuck,
}

impl StepState {
    const ALL: [Self; 6] = [
        Self::Started,
        Self::Done,
        Self::Failed,
        Self::Undoing,
        Self::Undone,
        Self::Stuck,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::Stuck => "stuck",
        }
    }
}

/// How an apply ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Undone,
    Partly,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Partly => "partly",
        }
    }
}

/// An apply that has not ended: the daemon was killed.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) id: ApplyId,
    pub(crate) candidate: Candidate,
    pub(crate) lock: Lock,
    pub(crate) plan: Plan,
    /// Whether it was being undone, and why.
    pub(crate) undoing: Option<String>,
    pub(crate) states: BTreeMap<StepId, StepState>,
    /// What steps left for later ones: the locked images.
    pub(crate) results: BTreeMap<StepId, String>,
}

/// The journal.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    database: Database,
}

impl Journal {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// An apply begins. One that this process left open because the disk was full is closed.
    pub(crate) async fn begin(
        &self,
        candidate: &Candidate,
        lock: &Lock,
        plan: &Plan,
        now: u64,
    ) -> Result<ApplyId, DatabaseError> {
        let texts = Texts::of(&candidate.description, lock)?;
        let plan_text = serde_json::to_string(plan)
            .map_err(|error| DatabaseError::Damaged(error.to_string()))?;
        let (candidate, base) = (candidate.clone(), plan.base);
        self.database
            .write("beginning an apply", move |tx| {
                tx.execute(
                    "UPDATE apply SET state = 'partly', finished = ?1,
                        failure = coalesce(failure, 'its end could not be recorded')
                     WHERE finished IS NULL",
                    [signed(now)],
                )?;
                tx.execute(
                    "INSERT INTO apply
                        (started, who, message, rollback_of, base, description, lock, plan, state)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'forward')",
                    params![
                        signed(now),
                        candidate.who,
                        candidate.message,
                        candidate.rollback_of.map(signed),
                        base.map(signed),
                        texts.description,
                        texts.lock,
                        plan_text,
                    ],
                )?;
                Ok(ApplyId(tx.last_insert_rowid().unsigned_abs()))
            })
            .await
    }

    /// A step changes state. `result` is kept for a daemon that has to go on from here.
    pub(crate) async fn step(
        &self,
        apply: ApplyId,
        step: StepId,
        state: StepState,
        result: Option<String>,
        now: u64,
    ) -> Result<(), DatabaseError> {
        self.database
            .write("journaling a step", move |tx| {
                record(tx, apply, step, state, result, now)
            })
            .await
    }

    /// The generation switch and its journal entry, in one transaction: it happens once.
    pub(crate) async fn switch(
        &self,
        apply: ApplyId,
        step: StepId,
        candidate: &Candidate,
        lock: &Lock,
        now: u64,
    ) -> Result<u64, DatabaseError> {
        let texts = Texts::of(&candidate.description, lock)?;
        let candidate = candidate.clone();
        self.database
            .write("switching the generation", move |tx| {
                let number = switch(tx, &candidate, &texts, now)?;
                record(
                    tx,
                    apply,
                    step,
                    StepState::Done,
                    Some(number.to_string()),
                    now,
                )?;
                Ok(number)
            })
            .await
    }

    /// From here on the apply is being undone.
    pub(crate) async fn turn_back(
        &self,
        apply: ApplyId,
        because: String,
    ) -> Result<(), DatabaseError> {
        self.database
            .write("journaling that an apply is undone", move |tx| {
                tx.execute(
                    "UPDATE apply SET state = 'undoing', failure = ?2 WHERE id = ?1",
                    params![signed(apply.0), because],
                )?;
                Ok(())
            })
            .await
    }

    /// The apply is over.
    pub(crate) async fn finish(
        &self,
        apply: ApplyId,
        end: End,
        failure: Option<String>,
        now: u64,
    ) -> Result<(), DatabaseError> {
        self.database
            .write("ending an apply", move |tx| {
                tx.execute(
                    "UPDATE apply SET state = ?2, failure = ?3, finished = ?4 WHERE id = ?1",
                    params![signed(apply.0), end.name(), failure, signed(now)],
                )?;
                Ok(())
            })
            .await
    }

    /// The apply that has not ended, if there is one.
    pub(crate) async fn unfinished(&self) -> Result<Option<Unfinished>, DatabaseError> {
        let found = self
            .database
            .read("looking for an unfinished apply", |db| {
                let row = db
                    .query_row(
                        "SELECT id, who, message, rollback_of, description, lock, plan,
                            CASE state WHEN 'undoing' THEN coalesce(failure, '') END
                         FROM apply WHERE finished IS NULL ORDER BY id DESC LIMIT 1",
                        [],
                        |row| {
                            Ok(Row {
                                id: ApplyId(unsigned(row, 0)?),
                                who: row.get(1)?,
                                message: row.get(2)?,
                                rollback_of: row.get::<_, Option<i64>>(3)?.map(i64::unsigned_abs),
                                texts: Texts {
                                    description: row.get(4)?,
                                    lock: row.get(5)?,
                                },
                                plan: row.get(6)?,
                                undoing: row.get(7)?,
                            })
                        },
                    )
                    .optional()?;
                let Some(row) = row else { return Ok(None) };
                let steps = db
                    .prepare("SELECT id, state, result FROM step WHERE apply = ?1")?
                    .query_map([signed(row.id.0)], |step| {
                        Ok((StepId(step.get(0)?), step.get(1)?, step.get(2)?))
                    })?
                    .collect::<Result<Vec<StepRow>, _>>()?;
                Ok(Some((row, steps)))
            })
            .await?;
        found.map(|(row, steps)| row.understand(steps)).transpose()
    }

    /// What the last apply left undone or half done; none when it ended in order.
    pub(crate) async fn last_trouble(&self) -> Result<Option<String>, DatabaseError> {
        self.database
            .read("reading the last apply", |db| {
                let last = db
                    .query_row(
                        "SELECT state, failure FROM apply ORDER BY id DESC LIMIT 1",
                        [],
                        |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)),
                    )
                    .optional()?;
                Ok(last.and_then(|(state, failure)| match state.as_str() {
                    "partly" => Some(format!(
                        "The last apply was done in part: {}.",
                        failure.unwrap_or_else(|| "no reason is known".to_owned())
                    )),
                    _ => None,
                }))
            })
            .await
    }
}

type StepRow = (StepId, String, Option<String>);

struct Row {
    id: ApplyId,
    who: String,
    message: String,
    rollback_of: Option<u64>,
    texts: Texts,
    plan: String,
    undoing: Option<String>,
}

impl Row {
    fn understand(self, steps: Vec<StepRow>) -> Result<Unfinished, DatabaseError> {
        let of = format!("apply {}", self.id);
        let (description, lock): (Description, Lock) = self.texts.parse(&of)?;
        let damaged = |what: String| DatabaseError::Damaged(format!("{what} of {of}"));
        let plan: Plan = serde_json::from_str(&self.plan)
            .map_err(|error| damaged(format!("the plan ({error})")))?;
        let mut states = BTreeMap::new();
        let mut results = BTreeMap::new();
        for (id, name, result) in steps {
            let state = StepState::ALL
                .into_iter()
                .find(|state| state.name() == name);
            states.insert(id, state.ok_or_else(|| damaged(format!("state `{name}`")))?);
            results.extend(result.map(|result| (id, result)));
        }
        Ok(Unfinished {
            id: self.id,
            candidate: Candidate {
                who: self.who,
                message: self.message,
                rollback_of: self.rollback_of,
                description: Arc::new(description),
            },
            lock,
            plan,
            undoing: self.undoing,
            states,
            results,
        })
    }
}

fn record(
    tx: &rusqlite::Transaction<'_>,
    apply: ApplyId,
    step: StepId,
    state: StepState,
    result: Option<String>,
    now: u64,
) -> Result<(), rusqlite::Error> {
    tx.execute(
        "INSERT INTO step (apply, id, state, at, result) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (apply, id) DO UPDATE
         SET state = excluded.state, at = excluded.at, result = coalesce(excluded.result, result)",
        params![signed(apply.0), step.0, state.name(), signed(now), result],
    )?;
    Ok(())
}
