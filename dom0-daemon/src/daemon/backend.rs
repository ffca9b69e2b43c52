//! The parts of the daemon, as the bus calls them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_api::call::{
    Answer, Ask, AuditFilter, AuditRecord, CallRequest, DataConnection, RunRequest,
};
use bulkhead_api::clipboard::Carried;
use bulkhead_api::qube::{QubeInfo, QubeRow, Reverted};
use bulkhead_api::{ApiError, ErrorKind};
use bulkhead_model::name::QubeName;
use serde::Serialize;
use serde_json::Value;

use super::translate;
use crate::bus::{Backend, Caller};
use crate::hypervisor::HostReport;
use crate::notifications::NotificationOffer;
use crate::ops::{
    ApplyReport, ApplyRequest, GcRequest, Operations, OperationsError, PlanReply, PlanRequest,
    RollbackRequest,
};
use crate::plan::render::{Colour, render};
use crate::runtime::{Dependents, Runtime};
use crate::windows::DisplayOffer;

/// The assembled daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) operations: Operations,
    pub(super) runtime: Runtime,
    pub(super) host: HostReport,
    pub(super) log: PathBuf,
}

/// A plan with what a client needs to know without knowing steps.
#[derive(Debug, Serialize)]
struct ShownPlan {
    #[serde(flatten)]
    reply: PlanReply,
    steps: usize,
}

/// A report with the plan as text: a rollback that is only shown has it nowhere else.
#[derive(Debug, Serialize)]
struct ShownReport {
    #[serde(flatten)]
    report: ApplyReport,
    text: String,
    steps: usize,
}

/// A status with what the hypervisor says about itself.
#[derive(Debug, Serialize)]
struct ShownStatus<'a> {
    #[serde(flatten)]
    status: crate::ops::Status,
    hypervisor: &'a str,
    notices: &'a [String],
    without_effect: BTreeMap<String, Vec<String>>,
    policy: bulkhead_api::policy::PolicyStatus,
}

fn json(value: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(value).map_err(|error| {
        ApiError::new(ErrorKind::Internal, "a reply could not be written as JSON").because(&error)
    })
}

fn report(report: ApplyReport) -> Result<Value, ApiError> {
    json(&ShownReport {
        text: render(&report.plan, Colour::Off),
        steps: report.plan.steps.len(),
        report,
    })
}

fn refused(error: OperationsError) -> ApiError {
    translate::operations(&error)
}

#[async_trait]
impl Backend for Daemon {
    async fn list(&self) -> Result<Vec<QubeRow>, ApiError> {
        Ok(self.runtime.list())
    }

    async fn info(&self, qube: &QubeName) -> Result<QubeInfo, ApiError> {
        self.runtime
            .info(qube)
            .map_err(|error| translate::machine(&error))
    }

    async fn start(&self, qube: &QubeName) -> Result<(), ApiError> {
        let done = self.runtime.start_qube(qube).await;
        done.map_err(|error| translate::runtime(&error))
    }

    async fn stop(
        &self,
        qube: &QubeName,
        timeout: Option<Duration>,
        dependents: Dependents,
    ) -> Result<(), ApiError> {
        let done = self.runtime.stop_qube(qube, timeout, dependents).await;
        done.map_err(|error| translate::machine(&error))
    }

    async fn kill(&self, qube: &QubeName, dependents: Dependents) -> Result<(), ApiError> {
        let done = self.runtime.kill_qube(qube, dependents).await;
        done.map_err(|error| translate::machine(&error))
    }

    async fn pause(&self, qube: &QubeName) -> Result<(), ApiError> {
        let done = self.runtime.set_paused(qube, true).await;
        done.map_err(|error| translate::machine(&error))
    }

    async fn unpause(&self, qube: &QubeName) -> Result<(), ApiError> {
        let done = self.runtime.set_paused(qube, false).await;
        done.map_err(|error| translate::machine(&error))
    }

    async fn revert(&self, qube: &QubeName, to: Option<u64>) -> Result<Reverted, ApiError> {
        let done = self.runtime.revert_root(qube, to).await;
        done.map_err(|error| translate::machine(&error))
    }

    async fn restart(
        &self,
        qube: &QubeName,
        timeout: Option<Duration>,
        dependents: Dependents,
    ) -> Result<(), ApiError> {
        let done = self.runtime.restart_qube(qube, timeout, dependents).await;
        done.map_err(|error| translate::runtime(&error))
    }

    async fn run(&self, request: RunRequest, caller: &Caller) -> Result<DataConnection, ApiError> {
        let done = self.runtime.run_command(request, &caller.name).await;
        done.map_err(|error| translate::runtime(&error))
    }

    async fn call(
        &self,
        request: CallRequest,
        caller: &Caller,
    ) -> Result<DataConnection, ApiError> {
        let done = self.runtime.call_service(request, &caller.name).await;
        done.map_err(|error| translate::runtime(&error))
    }

    async fn create_disposable(&self, template: Option<&QubeName>) -> Result<String, ApiError> {
        match self.runtime.create_disposable(template).await {
            Ok(name) => Ok(name.into()),
            Err(error) => Err(translate::runtime(&error)),
        }
    }

    async fn plan(&self, request: PlanRequest) -> Result<Value, ApiError> {
        let reply = self.operations.plan(&request).await.map_err(refused)?;
        json(&ShownPlan {
            steps: reply.plan.steps.len(),
            reply,
        })
    }

    async fn apply(&self, request: ApplyRequest, caller: &Caller) -> Result<Value, ApiError> {
        let done = self.operations.apply(&request, &caller.name).await;
        report(done.map_err(refused)?)
    }

    async fn status(&self) -> Result<Value, ApiError> {
        json(&ShownStatus {
            status: self.operations.status().await.map_err(refused)?,
            hypervisor: &self.host.hypervisor,
            notices: &self.host.warnings,
            without_effect: self.runtime.without_effect(),
            policy: self.runtime.policy_status(),
        })
    }

    async fn host(&self) -> Result<HostReport, ApiError> {
        Ok(self.host.clone())
    }

    async fn generations(&self) -> Result<Value, ApiError> {
        json(&self.operations.generations().await.map_err(refused)?)
    }

    async fn generation(&self, number: Option<u64>) -> Result<Value, ApiError> {
        json(&self.operations.generation(number).await.map_err(refused)?)
    }

    async fn diff(&self, from: Option<u64>, to: Option<u64>) -> Result<Value, ApiError> {
        json(&self.operations.diff(from, to).await.map_err(refused)?)
    }

    async fn rollback(&self, request: RollbackRequest, caller: &Caller) -> Result<Value, ApiError> {
        let done = self.operations.rollback(&request, &caller.name).await;
        report(done.map_err(refused)?)
    }

    async fn gc(&self, request: GcRequest) -> Result<Value, ApiError> {
        json(&self.operations.gc(&request).await.map_err(refused)?)
    }

    async fn asks(&self) -> Result<Vec<Ask>, ApiError> {
        Ok(self.runtime.asks())
    }

    async fn answer(
        &self,
        ask: u64,
        answer: Answer,
        target: Option<&str>,
        caller: &Caller,
    ) -> Result<(), ApiError> {
        self.runtime
            .answer(ask, answer, target, &caller.name)
            .map_err(|error| translate::runtime(&error))
    }

    async fn clipboard(&self) -> Result<Option<Carried>, ApiError> {
        Ok(self.runtime.clipboard())
    }

    async fn clear_clipboard(&self) -> Result<Option<Carried>, ApiError> {
        Ok(self.runtime.clear_clipboard())
    }

    async fn offer_display(&self, name: &str, authority: &[u8]) -> Result<DisplayOffer, ApiError> {
        let offered = self.runtime.offer_display(name, authority);
        offered.map_err(|error| ApiError::from_error(ErrorKind::Invalid, &error))
    }

    async fn offer_notifications(&self) -> Result<NotificationOffer, ApiError> {
        Ok(self.runtime.offer_notifications())
    }

    async fn audit_tail(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, ApiError> {
        let runtime = self.runtime.clone();
        let read = tokio::task::spawn_blocking(move || runtime.audit().tail(&filter)).await;
        let read = read.map_err(io::Error::other).and_then(|read| read);
        read.map_err(|error| {
            ApiError::new(ErrorKind::Host, "the audit log cannot be read").because(&error)
        })
    }

    async fn open_log(&self, qube: Option<&QubeName>) -> Result<OwnedFd, ApiError> {
        let path = match qube {
            Some(qube) => {
                // Only of qubes that are known: a name must not lead to any other file.
                if let Err(error) = self.runtime.info(qube) {
                    return Err(translate::machine(&error));
                }
                self.runtime.console_log(qube)
            }
            None => self.log.clone(),
        };
        match File::open(&path) {
            Ok(file) => Ok(file.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ApiError::new(ErrorKind::NotFound, "there is no log yet"))
            }
            Err(error) => {
                Err(ApiError::new(ErrorKind::Host, "the log cannot be opened").because(&error))
            }
        }
    }
}
