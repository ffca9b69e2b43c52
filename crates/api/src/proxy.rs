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

    /// Asks a qube to stop and waits; 0 seconds means its own shutdown timeout. Without `force` it
    /// is refused while others that run have their network from it.
    fn stop(&self, qube: &str, timeout_seconds: u32, force: bool) -> Result<(), ApiError>;

    /// Ends a qube at once; `force` as for `stop`.
    fn kill(&self, qube: &str, force: bool) -> Result<(), ApiError>;

    /// Freezes a qube.
    fn pause(&self, qube: &str) -> Result<(), ApiError>;

    /// Lets a frozen qube go on.
    fn unpause(&self, qube: &str) -> Result<(), ApiError>;

    /// Stops and starts a qube; the rest as for `stop`: who has its network from it does not have it
    /// from what comes back.
    fn restart(&self, qube: &str, timeout_seconds: u32, force: bool) -> Result<(), ApiError>;

    /// Takes the root of a template qube that does not run back to an earlier revision; 0 means the
    /// one before the newest ([`crate::qube::Reverted`]).
    fn revert(&self, qube: &str, revision: u64) -> Result<String, ApiError>;

    /// Runs a command in a qube, with the caller at the other end.
    fn run(&self, request: &RunRequest) -> Result<DataConnection, ApiError>;

    /// Calls a service in a qube as dom0, with the caller at the other end.
    fn call(&self, request: &CallRequest) -> Result<DataConnection, ApiError>;

    /// Makes and starts a disposable that lives until it is killed; returns its name.
    fn create_disposable(&self, template: &str) -> Result<String, ApiError>;

    /// What an apply would do ([`crate::change::PlanReply`]) for a
    /// [`crate::change::PlanRequest`].
    fn plan(&self, request_json: &str) -> Result<String, ApiError>;

    /// Makes the machine what the description says ([`crate::change::ApplyReport`]) for a
    /// [`crate::change::ApplyRequest`]. Returns when it is over; signals tell how far it is. Goes
    /// on if the caller goes away.
    fn apply(&self, request_json: &str) -> Result<String, ApiError>;

    /// How the machine is ([`crate::change::Status`]).
    fn status(&self) -> Result<String, ApiError>;

    /// What the hypervisor found on this machine ([`crate::host::HostReport`]). Since version 2.
    fn host(&self) -> Result<String, ApiError>;

    /// All generations, oldest first (list of [`crate::change::GenerationInfo`]).
    fn generations(&self) -> Result<String, ApiError>;

    /// One generation, whole (JSON with `number` and `description`); 0 means the current one.
    fn generation(&self, number: u64) -> Result<String, ApiError>;

    /// What is different in `to` from `from` ([`crate::change::DiffReply`]); 0 as `to` means the
    /// current generation, 0 as `from` the one before `to`.
    fn diff(&self, from: u64, to: u64) -> Result<String, ApiError>;

    /// Goes back to a generation ([`crate::change::ApplyReport`]) for a
    /// [`crate::change::RollbackRequest`].
    fn rollback(&self, request_json: &str) -> Result<String, ApiError>;

    /// Removes what nobody needs ([`crate::change::GcReport`]) for a
    /// [`crate::change::GcRequest`].
    fn gc(&self, request_json: &str) -> Result<String, ApiError>;

    /// Calls that wait for an answer (list of [`crate::call::Ask`]).
    fn asks(&self) -> Result<String, ApiError>;

    /// Answers one; an empty target means the default one.
    fn answer(&self, ask: u64, answer: Answer, target: &str) -> Result<(), ApiError>;

    /// What is carried between clipboards ([`crate::clipboard::Carried`] or null).
    fn clipboard(&self) -> Result<String, ApiError>;

    /// Wipes it; what it was, likewise.
    fn clear_clipboard(&self) -> Result<String, ApiError>;

    /// Shows the windows of qubes on an X display of this machine (`:0`) that an Xauthority file of
    /// these bytes opens (none where it is open), as long as this connection lasts.
    fn show_windows(&self, display: &str, authority: &[u8]) -> Result<(), ApiError>;

    /// Shows notifications of qubes from now on, as long as this connection lasts: orders come as
    /// the signal `NotificationOrdered`. Of several sessions, the newest does.
    fn show_notifications(&self) -> Result<(), ApiError>;

    /// What became of the notification of that number, which this connection was to show
    /// ([`crate::notification::NotificationNews`]).
    fn notification_news(&self, number: u64, news_json: &str) -> Result<(), ApiError>;

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

    /// An apply begins.
    #[zbus(signal)]
    fn apply_started(&self, apply: u64, who: &str, steps: u32) -> zbus::Result<()>;

    /// A step begins.
    #[zbus(signal)]
    fn step_started(&self, apply: u64, step: u32, text: &str) -> zbus::Result<()>;

    /// A long step tells how far it is.
    #[zbus(signal)]
    fn step_progress(&self, apply: u64, step: u32, text: &str) -> zbus::Result<()>;

    /// A step is over; an empty error means that it is done.
    #[zbus(signal)]
    fn step_finished(&self, apply: u64, step: u32, error: &str) -> zbus::Result<()>;

    /// Steps are being undone.
    #[zbus(signal)]
    fn undoing(&self, apply: u64, because: &str) -> zbus::Result<()>;

    /// A step was undone; an error says why it could not be.
    #[zbus(signal)]
    fn step_undone(&self, apply: u64, step: u32, error: &str) -> zbus::Result<()>;

    /// An apply ended ([`crate::change::ApplyOutcome`] names).
    #[zbus(signal)]
    fn apply_finished(&self, apply: u64, outcome: &str) -> zbus::Result<()>;

    /// Another generation is the current one.
    #[zbus(signal)]
    fn generation_changed(&self, number: u64) -> zbus::Result<()>;

    /// Other rules are in force, or what is wrong with them changed; each error is
    /// `file:line:column: what`.
    #[zbus(signal)]
    fn policy_changed(&self, ok: bool, rules: u64, errors: Vec<String>) -> zbus::Result<()>;

    /// A decision was recorded ([`crate::call::AuditRecord`]).
    #[zbus(signal)]
    fn audit_recorded(&self, record_json: &str) -> zbus::Result<()>;

    /// Something was copied, pasted or wiped ([`crate::clipboard::ClipboardNews`]).
    #[zbus(signal)]
    fn clipboard_changed(&self, news_json: &str) -> zbus::Result<()>;

    /// To the session that shows notifications alone: what it is to do
    /// ([`crate::notification::NotificationOrder`]).
    #[zbus(signal)]
    fn notification_ordered(&self, order_json: &str) -> zbus::Result<()>;

    /// This client was too slow and has missed this many signals: it must read everything again.
    #[zbus(signal)]
    fn signals_lost(&self, count: u64) -> zbus::Result<()>;
}
