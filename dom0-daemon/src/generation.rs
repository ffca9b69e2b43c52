//! Generations: numbered, immutable, kept until collected.
//!
//! A row holds the resolved description and the lock, so that a rollback needs neither the
//! description's files nor a network. The table refuses changes; a digest shows those made behind
//! its back.

use std::sync::Arc;

use bulkhead_model::qube::Description;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::db::{Database, DatabaseError};
use crate::lock::Lock;
use crate::observe::Current;

/// Generations that a collection keeps, beside the current and the booted: a month of daily changes
/// is more than anybody remembers.
pub const KEEP_DEFAULT: u32 = 10;

/// Longest message kept; a longer one is cut.
pub const MESSAGE_MAX: usize = 4096;

/// A generation without its description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationInfo {
    /// Its number, from 1; never used again.
    pub number: u64,
    /// When it was made: seconds since 1970, UTC.
    pub created: u64,
    /// Who made it.
    pub who: String,
    /// Why, in that person's words.
    pub message: String,
    /// Digest of description and lock.
    pub digest: String,
    /// How many qubes it declares.
    pub qubes: u32,
    /// The generation that it is a rollback to.
    pub rollback_of: Option<u64>,
    /// Whether it is in force.
    pub current: bool,
    /// Whether this boot of the machine came up with it.
    pub booted: bool,
}

/// What a new generation is made of; also what an apply is made for.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) who: String,
    pub(crate) message: String,
    pub(crate) rollback_of: Option<u64>,
    pub(crate) description: Arc<Description>,
}

/// A description and lock as they are kept.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    pub(crate) description: String,
    pub(crate) lock: String,
}

impl Texts {
    pub(crate) fn of(description: &Description, lock: &Lock) -> Result<Self, DatabaseError> {
        let damaged = |error: serde_json::Error| DatabaseError::Damaged(error.to_string());
        Ok(Self {
            description: serde_json::to_string(description).map_err(damaged)?,
            lock: serde_json::to_string(lock).map_err(damaged)?,
        })
    }

    pub(crate) fn parse(&self, of: &str) -> Result<(Description, Lock), DatabaseError> {
        let damaged =
            |what: &str, error| DatabaseError::Damaged(format!("{what} of {of}: {error}"));
        Ok((
            serde_json::from_str(&self.description).map_err(|e| damaged("the description", e))?,
            serde_json::from_str(&self.lock).map_err(|e| damaged("the lock", e))?,
        ))
    }

    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update((self.description.len() as u64).to_le_bytes());
        hash.update(&self.description);
        hash.update(&self.lock);
        crate::storage::hex(&hash.finalize())
    }
}

const INFO: &str = "SELECT number, created, who, message, digest, qubes, rollback_of,
        number = (SELECT generation FROM current), number = (SELECT booted FROM current)
    FROM generation";

fn info(row: &Row<'_>) -> Result<GenerationInfo, rusqlite::Error> {
    Ok(GenerationInfo {
        number: unsigned(row, 0)?,
        created: unsigned(row, 1)?,
        who: row.get(2)?,
        message: row.get(3)?,
        digest: row.get(4)?,
        qubes: row.get(5)?,
        rollback_of: row.get::<_, Option<i64>>(6)?.map(i64::unsigned_abs),
        current: row.get::<_, Option<bool>>(7)?.unwrap_or(false),
        booted: row.get::<_, Option<bool>>(8)?.unwrap_or(false),
    })
}

/// SQLite has signed integers; ours are never negative.
pub(crate) fn unsigned(row: &Row<'_>, column: usize) -> Result<u64, rusqlite::Error> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// All generations, oldest first.
pub async fn list(database: &Database) -> Result<Vec<GenerationInfo>, DatabaseError> {
    database
        .read("listing generations", |db| {
            db.prepare(&format!("{INFO} ORDER BY number"))?
                .query_map([], info)?
                .collect()
        })
        .await
}

/// One generation with what it declares; none if there is none of that number.
pub async fn get(
    database: &Database,
    number: u64,
) -> Result<Option<(GenerationInfo, Description, Lock)>, DatabaseError> {
    let found = database
        .read("reading a generation", move |db| {
            let info = db
                .query_row(&format!("{INFO} WHERE number = ?1"), [signed(number)], info)
                .optional()?;
            info.map(|info| Ok((info, texts(db, number)?))).transpose()
        })
        .await?;
    let Some((info, texts)) = found else {
        return Ok(None);
    };
    if texts.digest() != info.digest {
        return Err(DatabaseError::Damaged(format!(
            "generation {number} is not what was recorded"
        )));
    }
    let (description, lock) = texts.parse(&format!("generation {number}"))?;
    Ok(Some((info, description, lock)))
}

/// The generation in force.
pub async fn current(database: &Database) -> Result<Option<Current>, DatabaseError> {
    let number = database
        .read("reading the current generation", |db| {
            db.query_row("SELECT generation FROM current", [], |row| {
                row.get::<_, Option<i64>>(0)
            })
        })
        .await?;
    let Some(number) = number.map(i64::unsigned_abs) else {
        return Ok(None);
    };
    let Some((_, description, lock)) = get(database, number).await? else {
        return Err(DatabaseError::Damaged(format!(
            "the current generation {number} is gone"
        )));
    };
    Ok(Some(Current {
        number,
        description: Arc::new(description),
        lock,
    }))
}

/// Notes that this boot of the machine came up with the current generation; does nothing when the
/// daemon merely restarts. Returns whether this is the first start since the machine booted.
pub async fn note_boot(database: &Database, boot_id: &str) -> Result<bool, DatabaseError> {
    let boot_id = boot_id.to_owned();
    database
        .write("noting the boot", move |tx| {
            let changed = tx.execute(
                "UPDATE current SET booted = generation, boot_id = ?1 WHERE boot_id IS NOT ?1",
                [boot_id],
            )?;
            Ok(changed > 0)
        })
        .await
}

/// Records a generation and puts it in force, inside the caller's transaction. What is in force
/// already is not recorded again.
pub(crate) fn switch(
    tx: &Transaction<'_>,
    candidate: &Candidate,
    texts: &Texts,
    now: u64,
) -> Result<u64, rusqlite::Error> {
    let digest = texts.digest();
    let current = tx
        .query_row(
            "SELECT number, digest FROM generation
             WHERE number = (SELECT generation FROM current)",
            [],
            |row| Ok((unsigned(row, 0)?, row.get::<_, String>(1)?)),
        )
        .optional()?;
    if let Some((number, _)) = current.filter(|(_, old)| *old == digest) {
        return Ok(number);
    }
    let message: String = candidate.message.chars().take(MESSAGE_MAX).collect();
    tx.execute(
        "INSERT INTO generation
            (created, who, message, rollback_of, qubes, description, lock, digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            signed(now),
            candidate.who,
            message,
            candidate.rollback_of.map(signed),
            u32::try_from(candidate.description.qubes.len()).unwrap_or(u32::MAX),
            texts.description,
            texts.lock,
            digest,
        ],
    )?;
    let number = tx.last_insert_rowid();
    tx.execute("UPDATE current SET generation = ?1", [number])?;
    Ok(number.unsigned_abs())
}

/// Removes generations. The current and the booted one are refused by the table itself.
pub(crate) async fn remove(database: &Database, numbers: Vec<u64>) -> Result<(), DatabaseError> {
    database
        .write("removing generations", move |tx| {
            for number in numbers {
                tx.execute("DELETE FROM generation WHERE number = ?1", [signed(number)])?;
            }
            Ok(())
        })
        .await
}

fn texts(db: &Connection, number: u64) -> Result<Texts, rusqlite::Error> {
    db.query_row(
        "SELECT description, lock FROM generation WHERE number = ?1",
        [signed(number)],
        |row| {
            Ok(Texts {
                description: row.get(0)?,
                lock: row.get(1)?,
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn make(database: &Database, message: &str, vcpus: u32) -> u64 {
        let mut description = Description::default();
        let name = bulkhead_model::name::QubeName::new("work").unwrap();
        let mut qube = bulkhead_model::qube::Qube::new(
            name.clone(),
            bulkhead_model::qube::QubeKind::App,
            "red",
        );
        qube.vcpus = vcpus;
        description.qubes.insert(name, Arc::new(qube));
        let texts = Texts::of(&description, &Lock::default()).unwrap();
        let candidate = Candidate {
            who: "alice".into(),
            message: message.into(),
            rollback_of: None,
            description: Arc::new(description),
        };
        database
            .write("testing", move |tx| switch(tx, &candidate, &texts, 7))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn numbers_rise_and_the_same_is_not_recorded_twice() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        assert!(current(&database).await.unwrap().is_none());
        assert_eq!(make(&database, "one", 1).await, 1);
        assert_eq!(make(&database, "same", 1).await, 1);
        assert_eq!(make(&database, "two", 2).await, 2);
        assert_eq!(current(&database).await.unwrap().unwrap().number, 2);
        remove(&database, vec![1]).await.unwrap();
        assert_eq!(
            make(&database, "three", 1).await,
            3,
            "a number is never used again"
        );
        let numbers: Vec<u64> = list(&database)
            .await
            .unwrap()
            .iter()
            .map(|info| info.number)
            .collect();
        assert_eq!(numbers, [2, 3]);
    }

    #[tokio::test]
    async fn a_generation_is_immutable() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        make(&database, "one", 1).await;
        let change = |trigger: bool| {
            database.write("testing", move |tx| {
                if !trigger {
                    tx.execute("DROP TRIGGER generation_is_immutable", [])?;
                }
                tx.execute("UPDATE generation SET lock = '{ }'", [])
            })
        };
        let refused = change(true).await.unwrap_err();
        let source = std::error::Error::source(&refused).unwrap().to_string();
        assert!(source.contains("a generation is immutable"), "{source}");
        change(false).await.unwrap();
        let damaged = get(&database, 1).await.unwrap_err();
        assert_eq!(
            damaged.to_string(),
            "the database is damaged: generation 1 is not what was recorded"
        );
    }

    #[tokio::test]
    async fn the_current_generation_cannot_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        make(&database, "one", 1).await;
        assert!(remove(&database, vec![1]).await.is_err());
        assert!(get(&database, 1).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn booted_is_what_the_machine_came_up_with() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        make(&database, "one", 1).await;
        assert!(note_boot(&database, "a").await.unwrap());
        make(&database, "two", 2).await;
        assert!(
            !note_boot(&database, "a").await.unwrap(),
            "only the daemon restarted"
        );
        let booted = |list: Vec<GenerationInfo>| -> Vec<u64> {
            list.iter()
                .filter(|info| info.booted)
                .map(|info| info.number)
                .collect()
        };
        assert_eq!(booted(list(&database).await.unwrap()), [1]);
        note_boot(&database, "b").await.unwrap();
        assert_eq!(booted(list(&database).await.unwrap()), [2]);
    }

    #[test]
    fn a_message_one_too_long_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let database = Database::open(dir.path()).unwrap();
            make(&database, &"m".repeat(MESSAGE_MAX + 1), 1).await;
            let list = list(&database).await.unwrap();
            assert_eq!(list[0].message.len(), MESSAGE_MAX);
        });
    }
}
