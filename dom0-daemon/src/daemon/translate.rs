//! From errors of the daemon's parts to errors that clients get: kind, message, causes, hints.

use bulkhead_api::{ApiError, ErrorKind};
use bulkhead_model::diagnostic::Color;

use crate::db::DatabaseError;
use crate::hypervisor::HypervisorError;
use crate::machine::MachineError;
use crate::ops::OperationsError;
use crate::runtime::RuntimeError;
use crate::storage::StorageError;

/// An operation was refused.
pub(super) fn operations(error: &OperationsError) -> ApiError {
    let kind = match error {
        OperationsError::Description { .. }
        | OperationsError::Expectations { .. }
        | OperationsError::Plan(_) => ErrorKind::Description,
        OperationsError::Busy { .. } | OperationsError::Preparing => ErrorKind::Busy,
        OperationsError::NeedsAllowDestroy(_) => ErrorKind::NeedsAllowDestroy,
        OperationsError::PlanChanged => ErrorKind::PlanChanged,
        OperationsError::NoSuchGeneration(_) => ErrorKind::NotFound,
        OperationsError::NoGeneration
        | OperationsError::NothingEarlier
        | OperationsError::GenerationInUse { .. } => ErrorKind::WrongState,
        OperationsError::Database(DatabaseError::Damaged(_)) | OperationsError::BrokeOff(_) => {
            ErrorKind::Internal
        }
        OperationsError::Database(_)
        | OperationsError::Observe(_)
        | OperationsError::Storage(_) => ErrorKind::Host,
    };
    let mut made = ApiError::from_error(kind, error);
    if let OperationsError::Description { diagnostics, .. }
    | OperationsError::Expectations { diagnostics, .. } = error
    {
        made.causes.push(diagnostics.render(Color::Never));
    }
    made.hints.extend(error.hint());
    made
}

/// Something about a qube was refused.
pub(super) fn machine(error: &MachineError) -> ApiError {
    let kind = match error {
        MachineError::NoSuchQube(_) => ErrorKind::NotFound,
        MachineError::NotRunning(_)
        | MachineError::Runs(_)
        | MachineError::InUse { .. }
        | MachineError::NoNetwork { .. }
        | MachineError::NotStartable { .. } => ErrorKind::WrongState,
        MachineError::Policy(_) => ErrorKind::Description,
        MachineError::NoTemplateQube(_) => ErrorKind::Invalid,
        MachineError::Hypervisor { source, .. } => hypervisor(source),
        MachineError::Storage {
            source: StorageError::NoSuchRevision { .. } | StorageError::NothingEarlier(_),
            ..
        } => ErrorKind::NotFound,
        MachineError::Storage { .. } | MachineError::Io { .. } => ErrorKind::Host,
    };
    let made = ApiError::from_error(kind, error);
    match error {
        MachineError::NoSuchQube(_) => made.hint("List them with `bulkhead ls`."),
        MachineError::NotRunning(name) => {
            made.hint(format!("start it with `bulkhead start {name}`"))
        }
        MachineError::Runs(name) => made.hint(format!("stop it with `bulkhead stop {name}`")),
        MachineError::Storage {
            name,
            source: StorageError::NoSuchRevision { .. } | StorageError::NothingEarlier(_),
        } => made.hint(format!("list them with `bulkhead info {name}`")),
        MachineError::InUse { .. } => made
            .hint("stop those first; `bulkhead stop` takes several and knows the order")
            .hint("or cut them off: the same command with `--force`"),
        MachineError::NoNetwork { netvm, .. } => {
            made.hint(format!("the console of that: `bulkhead logs {netvm}`"))
        }
        MachineError::Hypervisor {
            source: HypervisorError::Unsupported { remedy, .. },
            ..
        } => made.hint(remedy.clone()),
        MachineError::Hypervisor {
            name,
            source: HypervisorError::OutOfMemory { .. },
        } => made.hint("stop a qube with `bulkhead stop`").hint(format!(
            "or give `{name}` or another less `memory` in the description"
        )),
        MachineError::Hypervisor {
            name,
            source: HypervisorError::StartFailed { .. },
        } => made.hint(format!("its console: `bulkhead logs {name}`")),
        _ => made,
    }
}

fn hypervisor(error: &HypervisorError) -> ErrorKind {
    match error {
        HypervisorError::Unsupported { .. } | HypervisorError::NotPossible { .. } => {
            ErrorKind::Unsupported
        }
        HypervisorError::NoSuchDomain(_) => ErrorKind::WrongState,
        HypervisorError::OutOfMemory { .. } => ErrorKind::Limit,
        HypervisorError::StartFailed { .. }
        | HypervisorError::Device { .. }
        | HypervisorError::Full { .. }
        | HypervisorError::Io { .. } => ErrorKind::Host,
    }
}

/// The runtime could not do it.
pub(super) fn runtime(error: &RuntimeError) -> ApiError {
    let kind = match error {
        RuntimeError::Machine(error) => return machine(error),
        RuntimeError::AgentTimeout { .. } => ErrorKind::Timeout,
        RuntimeError::Ended(_) | RuntimeError::NoAgent(_) => ErrorKind::WrongState,
        RuntimeError::NoFreePort(_) | RuntimeError::TooManyDisposables => ErrorKind::Limit,
        RuntimeError::Unreachable(..) => ErrorKind::Host,
        RuntimeError::NoSuchAsk(_) => ErrorKind::NotFound,
        RuntimeError::TargetMissing(_)
        | RuntimeError::NotATarget { .. }
        | RuntimeError::NotADisposableTemplate(_)
        | RuntimeError::WhichDisposableTemplate
        | RuntimeError::Unusable { .. } => ErrorKind::Invalid,
    };
    let made = ApiError::from_error(kind, error);
    match error {
        RuntimeError::AgentTimeout { name, .. } | RuntimeError::Ended(name) => {
            made.hint(format!("its console: `bulkhead logs {name}`"))
        }
        RuntimeError::NoAgent(_) => made.hint("If it has one, set its feature `qrexec` to `1`."),
        RuntimeError::NoSuchAsk(_) => made.hint("List what waits with `bulkhead ask list`."),
        RuntimeError::TargetMissing(_) => made.hint("Name one with --target."),
        _ => made,
    }
}
