//! What the face needs from the rest of the daemon.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_api::ApiError;
use bulkhead_api::call::{
    Answer, Ask, AuditFilter, AuditRecord, CallRequest, DataConnection, RunRequest,
};
use bulkhead_api::clipboard::Carried;
use bulkhead_api::qube::{QubeInfo, QubeRow, Reverted};
use bulkhead_model::name::QubeName;
use serde_json::Value;
use std::os::fd::OwnedFd;

use crate::hypervisor::HostReport;
use crate::notifications::NotificationOffer;
use crate::ops::{ApplyRequest, GcRequest, PlanRequest, RollbackRequest};
use crate::runtime::Dependents;
use crate::windows::DisplayOffer;

/// Who asks, as the kernel or the bus daemon says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// User name, or the number where it has none.
    pub name: String,
    /// Root or the daemon's own user: may name files for the daemon to read.
    pub owner: bool,
}

/// Every method of the interface, over checked values. Replies that the daemon alone defines are
/// JSON values of the types in [`crate::ops`].
#[async_trait]
pub trait Backend: Debug + Send + Sync + 'static {
    /// Every qube, sorted by name.
    async fn list(&self) -> Result<Vec<QubeRow>, ApiError>;
    /// One qube.
    async fn info(&self, qube: &QubeName) -> Result<QubeInfo, ApiError>;
    /// Starts it; returns once its agent has connected.
    async fn start(&self, qube: &QubeName) -> Result<(), ApiError>;
    /// Asks it to stop and waits; no timeout means its own.
    async fn stop(
        &self,
        qube: &QubeName,
        timeout: Option<Duration>,
        dependents: Dependents,
    ) -> Result<(), ApiError>;
    /// Ends it at once.
    async fn kill(&self, qube: &QubeName, dependents: Dependents) -> Result<(), ApiError>;
    /// Freezes it.
    async fn pause(&self, qube: &QubeName) -> Result<(), ApiError>;
    /// Lets it go on.
    async fn unpause(&self, qube: &QubeName) -> Result<(), ApiError>;
    /// Takes its root back to a revision, or to the one before the newest.
    async fn revert(&self, qube: &QubeName, to: Option<u64>) -> Result<Reverted, ApiError>;
    /// Stops and starts it; no timeout means its own.
    async fn restart(
        &self,
        qube: &QubeName,
        timeout: Option<Duration>,
        dependents: Dependents,
    ) -> Result<(), ApiError>;
    /// Runs a command with the caller at the other end.
    async fn run(&self, request: RunRequest, caller: &Caller) -> Result<DataConnection, ApiError>;
    /// Calls a service as dom0 with the caller at the other end.
    async fn call(&self, request: CallRequest, caller: &Caller)
    -> Result<DataConnection, ApiError>;
    /// Makes a disposable that lives until it is killed; none means the default template.
    async fn create_disposable(&self, template: Option<&QubeName>) -> Result<String, ApiError>;
    /// What an apply would do.
    async fn plan(&self, request: PlanRequest) -> Result<Value, ApiError>;
    /// Makes the machine what the description says.
    async fn apply(&self, request: ApplyRequest, caller: &Caller) -> Result<Value, ApiError>;
    /// How the machine is.
    async fn status(&self) -> Result<Value, ApiError>;
    /// What the hypervisor found on this machine.
    async fn host(&self) -> Result<HostReport, ApiError>;
    /// All generations, oldest first.
    async fn generations(&self) -> Result<Value, ApiError>;
    /// One, whole; none means the current one.
    async fn generation(&self, number: Option<u64>) -> Result<Value, ApiError>;
    /// What is different; none as `to` means the current one, none as `from` the one before `to`.
    async fn diff(&self, from: Option<u64>, to: Option<u64>) -> Result<Value, ApiError>;
    /// Goes back to a generation.
    async fn rollback(&self, request: RollbackRequest, caller: &Caller) -> Result<Value, ApiError>;
    /// Removes what nobody needs.
    async fn gc(&self, request: GcRequest) -> Result<Value, ApiError>;
    /// Calls that wait for an answer.
    async fn asks(&self) -> Result<Vec<Ask>, ApiError>;
    /// Answers one; no target means its default one.
    async fn answer(
        &self,
        ask: u64,
        answer: Answer,
        target: Option<&str>,
        caller: &Caller,
    ) -> Result<(), ApiError>;
    /// What is carried between clipboards.
    async fn clipboard(&self) -> Result<Option<Carried>, ApiError>;
    /// Wipes it; what it was.
    async fn clear_clipboard(&self) -> Result<Option<Carried>, ApiError>;
    /// Shows windows on a display, as long as what is returned is kept.
    async fn offer_display(&self, name: &str, authority: &[u8]) -> Result<DisplayOffer, ApiError>;
    /// Shows notifications, as long as what is returned is kept.
    async fn offer_notifications(&self) -> Result<NotificationOffer, ApiError>;
    /// The newest audit records.
    async fn audit_tail(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, ApiError>;
    /// A qube's console log, or the daemon's own, opened for reading.
    async fn open_log(&self, qube: Option<&QubeName>) -> Result<OwnedFd, ApiError>;
}
