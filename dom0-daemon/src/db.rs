//! The daemon's one database: generations, the journal, domain numbers.
//!
//! SQLite in WAL mode with `synchronous = FULL`. With NORMAL a power cut may lose the last commits:
//! a journal that forgets that a step began would be no journal. FULL costs one fsync per commit,
//! about as much as one step's own work on disk; a plan with nothing to do commits nothing.
//!
//! SQLite keeps the index of its log in a file, for other processes that look inside. A daemon starts
//! on a full disk too: where there is no room for that file, it has the database for itself alone and
//! the index in memory.
//!
//! One thread owns the connection and runs closures in turn, so no lock is held across an await and
//! no async worker waits for a disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::hypervisor::DomId;

/// Version of the tables, in `user_version`.
pub const SCHEMA_VERSION: i64 = 1;

/// Name of the file in the state folder.
pub const FILE_NAME: &str = "bulkhead.db";

/// Closures waiting for the thread at most; callers wait beyond that.
const QUEUE: usize = 64;

/// How long a statement waits for a lock that a foreign process (a backup, a look inside) holds.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

const SCHEMA: &str = include_str!("schema.sql");

/// Why the database could not do something.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It cannot be opened.
    #[error("cannot open the database `{}`", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// Made by a newer daemon.
    #[error("the database `{}` has version {found}, this daemon knows {SCHEMA_VERSION}", .path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// No space is left; the transaction did not happen.
    #[error(
        "no space left for the database `{}` while {doing}; free some on that disk, then try again",
        .path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// What was being done, as a gerund with its object.
        doing: &'static str,
    },
    /// A statement failed; the transaction did not happen.
    #[error("the database failed while {doing}")]
    Statement {
        /// What was being done, as a gerund with its object.
        doing: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A row is not what was written.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The thread is gone: the daemon is ending.
    #[error("the database is closed")]
    Closed,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The database. Cheap to clone; closed, and waited for, when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Database {
    thread: Arc<Thread>,
    /// For errors.
    path: Arc<Path>,
}

#[derive(Debug)]
struct Thread {
    /// None only while this is dropped.
    jobs: Option<mpsc::SyncSender<Job>>,
    handle: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        // The thread ends when nobody can send any more; it writes the log back into the database
        // then, and whoever opens the file next must not meet it at that.
        drop(self.jobs.take());
        if let Some(handle) = self.handle.take() {
            // A thread that panicked has said so.
            let _ = handle.join();
        }
    }
}

impl Database {
    /// Opens or creates the database in `state_dir`.
    pub fn open(state_dir: &Path) -> Result<Self, DatabaseError> {
        let path = state_dir.join(FILE_NAME);
        let mut connection = connect(&path)?;
        let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE);
        let handle = std::thread::Builder::new()
            .name("database".into())
            .spawn(move || {
                for job in queue {
                    job(&mut connection);
                }
            })
            .map_err(|_| DatabaseError::Closed)?;
        let thread = Thread {
            jobs: Some(jobs),
            handle: Some(handle),
        };
        Ok(Self {
            thread: Arc::new(thread),
            path: path.into(),
        })
    }

    /// Runs `job` in a transaction, which is committed if it returns `Ok`.
    pub async fn write<T, F>(&self, doing: &'static str, job: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Transaction<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
    {
        self.call(move |connection| {
            // Immediate: a write lock that cannot be had fails here and not half way.
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let value = job(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await?
        .map_err(|error| explain(&self.path, doing, error))
    }

    /// Runs `job` on a consistent view.
    pub async fn read<T, F>(&self, doing: &'static str, job: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            job(&transaction)
        })
        .await?
        .map_err(|error| explain(&self.path, doing, error))
    }

    /// A domain number that was never given out before.
    pub async fn allocate_domid(&self) -> Result<DomId, DatabaseError> {
        self.write("allocating a domain number", |tx| {
            tx.query_row(
                "UPDATE counter SET value = value + 1 WHERE name = 'domid' RETURNING value",
                [],
                |row| row.get(0).map(DomId),
            )
        })
        .await
    }

    async fn call<T, F>(&self, job: F) -> Result<Result<T, rusqlite::Error>, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // The asker may have gone away; the work is done all the same.
            let _ = reply.send(job(connection));
        });
        let mut job = job;
        let Some(jobs) = &self.thread.jobs else {
            return Err(DatabaseError::Closed);
        };
        loop {
            match jobs.try_send(job) {
                Ok(()) => break,
                Err(mpsc::TrySendError::Full(back)) => {
                    job = back;
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                Err(mpsc::TrySendError::Disconnected(_)) => return Err(DatabaseError::Closed),
            }
        }
        answer.await.map_err(|_| DatabaseError::Closed)
    }
}

fn explain(path: &Path, doing: &'static str, error: rusqlite::Error) -> DatabaseError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => DatabaseError::Full {
            path: path.to_owned(),
            doing,
        },
        _ => DatabaseError::Statement {
            doing,
            source: error,
        },
    }
}

fn connect(path: &Path) -> Result<Connection, DatabaseError> {
    match connect_as(path, "NORMAL") {
        Err(DatabaseError::Open { source, .. }) if is_without_index(&source) => {
            tracing::warn!(path = %path.display(), error = %source,
                "no room to share the database; nobody else can read it until the next start");
            connect_as(path, "EXCLUSIVE")
        }
        done => done,
    }
}

/// The file with the index of the log could not be made.
fn is_without_index(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SHMOPEN, SQLITE_IOERR_SHMSIZE};
    let index = [
        SQLITE_IOERR_SHMMAP,
        SQLITE_IOERR_SHMOPEN,
        SQLITE_IOERR_SHMSIZE,
    ];
    matches!(error, rusqlite::Error::SqliteFailure(e, _) if index.contains(&e.extended_code))
}

fn connect_as(path: &Path, locking: &str) -> Result<Connection, DatabaseError> {
    let open = |source| match explain(path, "opening it", source) {
        DatabaseError::Statement { source, .. } => DatabaseError::Open {
            path: path.to_owned(),
            source,
        },
        full => full,
    };
    let mut connection = Connection::open(path).map_err(open)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(open)?;
    connection
        .pragma_update_and_check(None, "locking_mode", locking, |_| Ok(()))
        .map_err(open)?;
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
        .map_err(open)?;
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(open)?;
    connection
        .pragma_update(None, "foreign_keys", "ON")
        .map_err(open)?;
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(open)?;
    match found {
        SCHEMA_VERSION => {}
        0 => {
            let transaction = connection.transaction().map_err(open)?;
            transaction.execute_batch(SCHEMA).map_err(open)?;
            transaction
                .pragma_update(None, "user_version", SCHEMA_VERSION)
                .map_err(open)?;
            transaction.commit().map_err(open)?;
        }
        _ => {
            return Err(DatabaseError::TooNew {
                path: path.to_owned(),
                found,
            });
        }
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn domain_numbers_are_never_given_out_twice_even_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = Database::open(dir.path()).unwrap();
        assert_eq!(first.allocate_domid().await.unwrap(), DomId(1));
        assert_eq!(first.allocate_domid().await.unwrap(), DomId(2));
        drop(first);
        let second = Database::open(dir.path()).unwrap();
        assert_eq!(second.allocate_domid().await.unwrap(), DomId(3));
    }

    #[tokio::test]
    async fn a_database_of_a_newer_daemon_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(Database::open(dir.path()).unwrap());
        let file = dir.path().join(FILE_NAME);
        Connection::open(&file)
            .unwrap()
            .pragma_update(None, "user_version", SCHEMA_VERSION + 1)
            .unwrap();
        assert!(matches!(
            Database::open(dir.path()),
            Err(DatabaseError::TooNew { found, .. }) if found == SCHEMA_VERSION + 1
        ));
    }

    #[tokio::test]
    async fn a_failed_transaction_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        let failed = database
            .write("testing", |tx| {
                tx.execute("UPDATE counter SET value = 77 WHERE name = 'domid'", [])?;
                Err::<(), _>(rusqlite::Error::QueryReturnedNoRows)
            })
            .await;
        assert!(failed.is_err());
        assert_eq!(database.allocate_domid().await.unwrap(), DomId(1));
    }

    #[tokio::test]
    async fn child() {
        let Some(small) = bulkhead_testing::small_disk() else {
            return;
        };
        let first = Database::open(&small).unwrap();
        assert_eq!(first.allocate_domid().await.unwrap(), DomId(1));
        drop(first);
        let filler = bulkhead_testing::fill(&small);
        let database = Database::open(&small).unwrap();
        let refused = database.allocate_domid().await.unwrap_err();
        assert!(matches!(refused, DatabaseError::Full { .. }), "{refused}");
        println!("refused: {refused}");
        std::fs::remove_file(filler).unwrap();
        assert_eq!(database.allocate_domid().await.unwrap(), DomId(2));
    }

    #[test]
    fn it_opens_on_a_full_disk() {
        bulkhead_testing::on_a_small_disk("db::tests::child");
    }
}
