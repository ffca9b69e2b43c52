//! Running things in qubes, questions to the person, and the audit log.

use serde::{Deserialize, Serialize};
use zbus::{OwnedFd, Type};

pub use announced::Announced;

use crate::clipboard::Load;

mod announced;

/// Longest command line that is passed on, as in qrexec: 65,535 bytes less `user:` and the NUL.
pub const COMMAND_MAX: usize = 65_000;

/// What is to be run by `Run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct RunRequest {
    /// The qube, or with `disposable` the template of the disposable (empty: the default one).
    pub qube: String,
    /// User in the qube; empty means its default user.
    pub user: String,
    /// The command, as the qube's shell reads it.
    pub command: Vec<u8>,
    /// Run it in a new disposable, which is gone when the command ends.
    pub disposable: bool,
    /// Start the qube if it does not run.
    pub autostart: bool,
}

/// What is to be called by `Call`, with dom0 as the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct CallRequest {
    /// The qube, or with `disposable` the template of the disposable (empty: the default one).
    pub qube: String,
    /// Service with `+argument` if there is one.
    pub service: String,
    /// User in the qube; empty means its default user.
    pub user: String,
    /// Call it in a new disposable, which is gone when the service ends.
    pub disposable: bool,
    /// Start the qube if it does not run.
    pub autostart: bool,
}

/// One end of a data connection that the caller of `Run` or `Call` now serves.
///
/// The caller accepts exactly one connection on `listener` and speaks the qrexec data protocol as
/// the requesting side. It keeps `life` and watches it: end of file there, before anyone has
/// connected, means that nobody will.
#[derive(Debug, Serialize, Deserialize, Type)]
pub struct DataConnection {
    /// Name of the qube that runs the command: a disposable's is known only now.
    pub qube: String,
    /// Domain that will connect.
    pub domain: u32,
    /// Port of the connection.
    pub port: u32,
    /// A listening Unix stream socket; with `rings`, their event channel instead.
    pub listener: OwnedFd,
    /// Where the channel is of rings on Xen, the server's end of it, once; else nothing.
    pub rings: Vec<RingEnd>,
    /// Readable end of a pipe: a text saying why, then end of file, when the connection is over
    /// and a disposable that was made for it is gone.
    pub life: OwnedFd,
}

/// The server's end of rings that a qube is to come to, prepared by the daemon.
#[derive(Debug, Serialize, Deserialize, Type)]
pub struct RingEnd {
    /// `/dev/xen/gntalloc`, which shares the memory.
    pub memory: OwnedFd,
    /// Where on it the memory is.
    pub index: u64,
    /// Grant reference of the shared page.
    pub page: u32,
    /// Number of the event channel.
    pub event_port: u32,
    /// Logarithms of the sizes of the rings: from the qube, and to it.
    pub orders: (u16, u16),
}

/// A call that waits for the person's answer. Every text is sanitised by the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Names it in the answer.
    pub id: u64,
    /// The qube that calls.
    pub source: String,
    /// Label of that qube.
    pub source_label: String,
    /// The service, without its argument.
    pub service: String,
    /// The argument without its `+`.
    pub argument: String,
    /// The target that the caller asked for.
    pub requested_target: String,
    /// Targets among which the person may choose.
    pub targets: Vec<String>,
    /// The one that is chosen where none is named; must be typed where there is none.
    pub default_target: Option<String>,
    /// Seconds since the epoch at which it was asked.
    pub asked: u64,
    /// Seconds since the epoch at which it is refused if nobody has answered; none where the
    /// daemon does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// The qube that shows the caller's windows, and so this question too; none means dom0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guivm: Option<String>,
    /// The rule that asks, as `file:line`.
    pub rule: String,
    /// What the source says it will send; none where it says nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<Announced>,
    /// What is to be pasted; none for any other call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pasted: Option<Load>,
}

impl Ask {
    /// Whether the service copies files, and its callers may be expected to say how many.
    #[must_use]
    pub fn copies_files(&self) -> bool {
        matches!(
            self.service.as_str(),
            "qubes.Filecopy" | "bulkhead.Filecopy"
        )
    }
}

/// The person's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
#[zbus(signature = "s")]
pub enum Answer {
    /// Let it through, this once.
    Allow,
    /// Refuse it.
    Deny,
}

/// Which records `AuditTail` returns. Empty fields match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFilter {
    /// How many, counted from the newest; at most [`AUDIT_MAX`].
    pub last: u32,
    /// Only where this qube is source or target.
    pub qube: Option<String>,
    /// Only this service.
    pub service: Option<String>,
    /// Only this outcome (`allow`, `deny`).
    pub decision: Option<String>,
}

/// Most audit records in one reply, so that it stays a few MiB.
pub const AUDIT_MAX: u32 = 10_000;

/// One recorded decision, or several that differ in nothing but their time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Milliseconds since the epoch; of the last one, where there are several.
    pub time: u64,
    /// The qube that called. Disposables that make too many calls for a line each are told of
    /// under the name of their template.
    pub source: String,
    /// The target that it asked for.
    pub requested_target: String,
    /// The target that it got; empty if it was refused.
    pub target: String,
    /// The service with its argument.
    pub service: String,
    /// `allow` or `deny`.
    pub decision: String,
    /// Who decided: `policy` or `user`.
    pub by: String,
    /// The rule, as `file:line`, or why there is none.
    pub rule: String,
    /// Whether the person is to be told, as the rule says.
    #[serde(default, skip_serializing_if = "is_false")]
    pub notify: bool,
    /// How many decisions this record stands for: 1, but where a source makes so many calls that
    /// they are counted.
    #[serde(default = "one")]
    pub count: u64,
    /// Milliseconds since the epoch of the first one, where they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// Records of earlier versions have no count.
fn one() -> u64 {
    1
}

/// Most records are of calls that nobody has to be told of.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !*value
}
