//! Why an operation failed.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::config::ConfigError;
use super::names::{DomId, HostPath, Mib, NicId, Vdev, XenVersion};
use super::{DomainConfig, Operation, REQUESTS_MAX};

/// Lines of libxl's log that an error carries at most: the last ones say what failed, the ones
/// before what it was about.
pub const LOG_LINES_MAX: usize = 20;

/// Bytes of each of them at most.
pub const LOG_LINE_MAX: usize = 400;

/// Why there is nothing that serves.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum ConnectError {
    /// No libxl of the version that we are bound to.
    #[error("`{library}` cannot be loaded: {why}")]
    NoLibrary {
        /// Its file name.
        library: String,
        /// What the loader says.
        why: String,
    },
    /// There is no Xen, or not for us.
    #[error("Xen does not answer: {why}")]
    NoXen {
        /// What libxl says.
        why: String,
    },
    /// Another Xen.
    #[error("Xen {running} runs, but this program is for Xen {bound}")]
    WrongVersion {
        /// What we are bound to.
        bound: XenVersion,
        /// What runs.
        running: XenVersion,
    },
    /// xenstore does not answer, or not as it should.
    #[error("xenstore does not answer: {why}")]
    NoXenstore {
        /// What it says.
        why: String,
    },
}

/// An operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("cannot {operation}{}", of(*domid))]
pub struct XlError {
    /// Which.
    pub operation: OperationKind,
    /// Of which domain, where it was of one.
    pub domid: Option<DomId>,
    /// Why.
    #[source]
    pub failure: Failure,
    /// The last lines that libxl said during it, at most [`LOG_LINES_MAX`] of [`LOG_LINE_MAX`].
    pub log: Vec<String>,
}

fn of(domid: Option<DomId>) -> String {
    domid.map_or_else(String::new, |domid| format!(" domain {domid}"))
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Failure {
    /// The request makes no sense.
    #[error("the configuration is wrong")]
    Config(#[source] ConfigError),
    /// There is no such domain, or it is another one.
    #[error("there is no such domain")]
    NoSuchDomain,
    /// A domain has this number already.
    #[error("another domain has this number or UUID")]
    DomainExists,
    /// The domain was not made by us.
    #[error("the domain was not made by Bulkhead")]
    Foreign,
    /// Not enough memory.
    #[error("{needed} MiB of memory are needed, {free} MiB are free")]
    OutOfMemory {
        /// What it takes, with what Xen itself needs for it.
        needed: Mib,
        /// What no domain has.
        free: Mib,
    },
    /// More than the domain's maximum.
    #[error("{wanted} is more than the domain's maximum of {maximum}")]
    OverMaximum {
        /// MiB or processors.
        wanted: u64,
        /// MiB or processors.
        maximum: u64,
    },
    /// The disk's backend does not serve it.
    #[error("disk `{vdev}` is not served: {why}")]
    Disk {
        /// Which.
        vdev: Vdev,
        /// What was found.
        why: String,
    },
    /// The domain that an interface leads to does not serve it.
    #[error("domain {backend} does not serve network interface {nic}: {why}")]
    Nic {
        /// Which.
        nic: NicId,
        /// Where it leads.
        backend: DomId,
        /// What was found.
        why: String,
    },
    /// There is no such device.
    #[error("there is no such device")]
    NoSuchDevice,
    /// What HVM domains need is not there.
    #[error("HVM domains need `{0}` (Debian package qemu-system-xen)")]
    NoDeviceModel(HostPath),
    /// [`REQUESTS_MAX`] requests are not done yet.
    #[error("{REQUESTS_MAX} requests are not done yet")]
    Busy,
    /// libxl refused.
    #[error("libxl says {0}")]
    Libxl(LibxlCode),
    /// The operation itself broke; a bug.
    #[error("the operation broke off: {0}")]
    Broken(String),
}

macro_rules! codes {
    ($($variant:ident = $number:literal $text:literal),* $(,)?) => {
        /// What libxl answers, by its own names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[allow(missing_docs, reason = "the names are libxl's")]
        pub enum LibxlCode {
            $($variant,)*
            /// One that is newer than us.
            Unknown(i32),
        }

        impl LibxlCode {
            /// From the number that libxl returned.
            #[must_use]
            pub const fn from_number(number: i32) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl fmt::Display for LibxlCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)*
                    Self::Unknown(number) => write!(f, "error {number}"),
                }
            }
        }
    };
}

codes! {
    Nonspecific = -1 "ERROR_NONSPECIFIC",
    Version = -2 "ERROR_VERSION",
    Fail = -3 "ERROR_FAIL",
    NotImplemented = -4 "ERROR_NI",
    NoMemory = -5 "ERROR_NOMEM",
    Invalid = -6 "ERROR_INVAL",
    BadFail = -7 "ERROR_BADFAIL",
    GuestTimedOut = -8 "ERROR_GUEST_TIMEDOUT",
    TimedOut = -9 "ERROR_TIMEDOUT",
    NoParavirt = -10 "ERROR_NOPARAVIRT",
    NotReady = -11 "ERROR_NOT_READY",
    EventRegistration = -12 "ERROR_OSEVENT_REG_FAIL",
    BufferFull = -13 "ERROR_BUFFERFULL",
    UnknownChild = -14 "ERROR_UNKNOWN_CHILD",
    Lock = -15 "ERROR_LOCK_FAIL",
    NoJsonConfig = -16 "ERROR_JSON_CONFIG_EMPTY",
    DeviceExists = -17 "ERROR_DEVICE_EXISTS",
    CheckpointDevops = -18 "ERROR_CHECKPOINT_DEVOPS_DOES_NOT_MATCH",
    CheckpointDevice = -19 "ERROR_CHECKPOINT_DEVICE_NOT_SUPPORTED",
    Vnuma = -20 "ERROR_VNUMA_CONFIG_INVALID",
    DomainNotFound = -21 "ERROR_DOMAIN_NOTFOUND",
    Aborted = -22 "ERROR_ABORTED",
    NotFound = -23 "ERROR_NOTFOUND",
    DomainDestroyed = -24 "ERROR_DOMAIN_DESTROYED",
    FeatureRemoved = -25 "ERROR_FEATURE_REMOVED",
    QmpProtocol = -26 "ERROR_PROTOCOL_ERROR_QMP",
    QmpUnknown = -27 "ERROR_UNKNOWN_QMP_ERROR",
    QmpGeneric = -28 "ERROR_QMP_GENERIC_ERROR",
    QmpCommand = -29 "ERROR_QMP_COMMAND_NOT_FOUND",
    QmpInactive = -30 "ERROR_QMP_DEVICE_NOT_ACTIVE",
    QmpDevice = -31 "ERROR_QMP_DEVICE_NOT_FOUND",
    QemuApi = -32 "ERROR_QEMU_API",
}

/// An operation without its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is the operation of its name")]
pub enum OperationKind {
    Create,
    Pause,
    Unpause,
    Shutdown,
    Destroy,
    SetMemory,
    SetVcpus,
    SetWeight,
    AttachDisk,
    DetachDisk,
    AttachNic,
    DetachNic,
    List,
    Host,
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Shutdown => "shut down",
            Self::Destroy => "destroy",
            Self::SetMemory => "change the memory of",
            Self::SetVcpus => "change the processors of",
            Self::SetWeight => "change the share of processor time of",
            Self::AttachDisk => "attach a disk to",
            Self::DetachDisk => "detach a disk from",
            Self::AttachNic => "attach a network interface to",
            Self::DetachNic => "detach a network interface from",
            Self::List => "list the domains",
            Self::Host => "describe the machine",
        })
    }
}

impl Operation {
    /// Which operation it is.
    #[must_use]
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Create(_) => OperationKind::Create,
            Self::Pause(_) => OperationKind::Pause,
            Self::Unpause(_) => OperationKind::Unpause,
            Self::Shutdown(_) => OperationKind::Shutdown,
            Self::Destroy(_) => OperationKind::Destroy,
            Self::SetMemory { .. } => OperationKind::SetMemory,
            Self::SetVcpus { .. } => OperationKind::SetVcpus,
            Self::SetWeight { .. } => OperationKind::SetWeight,
            Self::AttachDisk { .. } => OperationKind::AttachDisk,
            Self::DetachDisk { .. } => OperationKind::DetachDisk,
            Self::AttachNic { .. } => OperationKind::AttachNic,
            Self::DetachNic { .. } => OperationKind::DetachNic,
            Self::List { .. } => OperationKind::List,
            Self::Host => OperationKind::Host,
        }
    }

    /// The domain that it is about; none for those about the machine.
    #[must_use]
    pub fn domid(&self) -> Option<DomId> {
        match self {
            Self::Create(config) => {
                let DomainConfig { domid, .. } = **config;
                Some(domid)
            }
            Self::Pause(target)
            | Self::Unpause(target)
            | Self::Shutdown(target)
            | Self::Destroy(target)
            | Self::SetMemory { target, .. }
            | Self::SetVcpus { target, .. }
            | Self::SetWeight { target, .. }
            | Self::AttachDisk { target, .. }
            | Self::DetachDisk { target, .. }
            | Self::AttachNic { target, .. }
            | Self::DetachNic { target, .. } => Some(target.domid),
            Self::List { .. } | Self::Host => None,
        }
    }
}
