//! The interface, as a client calls it.

use crate::ApiError;
use crate::call::{Answer, CallRequest, DataConnection, RunRequest};
use crate::qube::{QubeRow, QubeState};

/// `org.bulkhead.Manager1`.
///
/// Every method fails with an error named `org.bulkhead.Error.<kind>` whose arguments are a
/// message, its causes and hints (`s`, `as`, `as`). Texts called `..._json` are JSON of the type
/// named beside them. Subscribe first, read second: then nothing is missed.
#[zbus::proxy(
    interface = "org.bulkhead.Manager1",
    default_service = "org.bulkhead.Manager1",
    default_path = "/org/bulkhead/Manager1"
)]
pub trait Manager1 {
    /// Version of the daemon and of the interface.
    fn version(&self) -> Result<(String, u32), ApiError>;

    /// Chooses the signals that this connection gets ([`crate::event::Topic`] names).
    fn subscribe(&self, topics: &[&str]) -> Result<(), ApiError>;

    /// Every qube, sorted by name.
    fn list(&self) -> Result<Vec<QubeRow>, ApiError>;

    /// One qube ([`crate::qube::QubeInfo`]).
    fn info(&self, qube: &str) -> Result<String, ApiError>;

    /// Starts a qube and what it needs; returns once its agent has connected.
    fn start(&self, qube: &str) -> Result<(), ApiError>;

    /// Asks a qube to stop and waits; 0 seconds means its own shutdown timeout.
    fn stop(&self, qube: &str, timeout_seconds: u32) -> Result<(), ApiError>;

    /// Ends a qube at once.
    fn kill(&self, qube: &str) -> Result<(), ApiError>;

    /// Freezes a qube.
    fn pause(&self, qube: &str) -> Result<(), ApiError>;

    /// Lets a frozen qube go on.
    fn unpause(&self, qube: &str) -> Result<(), ApiError>;

    /// Stops and starts a qube; 0 seconds means its own shutdown timeout.
    fn restart(&self, qube: &str, timeout_seconds: u32) -> Result<(), ApiError>;

    /// Runs a command in a qube, with the caller at the other end.
    fn run(&self, request: &RunRequest) -> Result<DataConnection, ApiError>;

    /// Calls a service in a qube as dom0, with the caller at the other end.
    fn call(&self, request: &CallRequest) -> Result<DataConnection, ApiError>;

    /// Makes and starts a disposable that lives until it is killed; returns its name.
    fn create_disposable(&self, template: &str) -> Result<String, ApiError>;

    /// What an apply would do ([`crate::change::Plan`]).
    fn plan(&self) -> Result<String, ApiError>;

    /// Begins to apply ([`crate::change::ApplyRequest`]); returns the job.
    fn apply(&self, request_json: &str) -> Result<u64, ApiError>;

    /// Waits until a job has ended ([`crate::change::ApplyOutcome`]).
    fn wait(&self, job: u64) -> Result<String, ApiError>;

    /// How the machine is ([`crate::change::Status`]).
    fn status(&self) -> Result<String, ApiError>;

    /// All generations, newest first (list of [`crate::change::GenerationRow`]).
    fn generations(&self) -> Result<String, ApiError>;

    /// What differs between two generations ([`crate::change::Diff`]); 0 as `to` means what the
    /// description on disk says.
    fn diff(&self, from: u64, to: u64) -> Result<String, ApiError>;

    /// What a rollback would do ([`crate::change::Plan`]); 0 means the one before the current.
    fn plan_rollback(&self, generation: u64) -> Result<String, ApiError>;

    /// Begins to go back to a generation; 0 means the one before the current. Returns the job.
    fn rollback(&self, generation: u64, request_json: &str) -> Result<u64, ApiError>;

    /// Removes generations and images that nobody needs; keeps the last `keep`
    /// ([`crate::change::GcReport`]). With `dry_run` only says what it would do.
    fn gc(&self, keep: u32, dry_run: bool) -> Result<String, ApiError>;

    /// Calls that wait for an answer (list of [`crate::call::Ask`]).
    fn asks(&self) -> Result<String, ApiError>;

    /// Answers one; an empty target means the default one.
    fn answer(&self, ask: u64, answer: Answer, target: &str) -> Result<(), ApiError>;

    /// The newest audit records, oldest of them first (list of [`crate::call::AuditRecord`]) for a
    /// [`crate::call::AuditFilter`].
    fn audit_tail(&self, filter_json: &str) -> Result<String, ApiError>;

    /// A descriptor to read a qube's console log from; with an empty name, the daemon's own log.
    fn open_log(&self, qube: &str) -> Result<zbus::OwnedFd, ApiError>;

    /// A qube is new or differs from before.
    #[zbus(signal)]
    fn qube_changed(&self, name: &str, state: QubeState, row: QubeRow) -> zbus::Result<()>;

    /// A qube is gone.
    #[zbus(signal)]
    fn qube_removed(&self, name: &str) -> zbus::Result<()>;

    /// A call waits for the person ([`crate::call::Ask`]).
    #[zbus(signal)]
    fn ask_added(&self, id: u64, ask_json: &str) -> zbus::Result<()>;

    /// A call no longer waits.
    #[zbus(signal)]
    fn ask_removed(&self, id: u64, outcome: &str) -> zbus::Result<()>;

    /// A step of a job began ([`crate::change::Progress`]).
    #[zbus(signal)]
    fn step_started(&self, job: u64, progress_json: &str) -> zbus::Result<()>;

    /// A step of a job ended ([`crate::change::Progress`]).
    #[zbus(signal)]
    fn step_finished(&self, job: u64, progress_json: &str) -> zbus::Result<()>;

    /// A job ended ([`crate::change::ApplyOutcome`]).
    #[zbus(signal)]
    fn apply_finished(&self, job: u64, outcome_json: &str) -> zbus::Result<()>;

    /// Another generation is the current one.
    #[zbus(signal)]
    fn generation_changed(&self, number: u64) -> zbus::Result<()>;

    /// A decision was recorded ([`crate::call::AuditRecord`]).
    #[zbus(signal)]
    fn audit_recorded(&self, record_json: &str) -> zbus::Result<()>;

    /// This client was too slow and has missed this many signals: it must read everything again.
    #[zbus(signal)]
    fn signals_lost(&self, count: u64) -> zbus::Result<()>;
}
