//! A call as it was asked for, and what its words mean on this machine.

use crate::decision::DenyReason;
use crate::token::RequestToken;
use crate::view::{QubeIndex, SystemView};

/// One call to decide. Source page: policy format, "Building the request".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Service name.
    pub service: &'a str,
    /// Argument with its `+`; `+` alone is "no argument".
    pub argument: &'a str,
    /// The qube that calls, by name; from the transport, never from the caller.
    pub source: &'a str,
    /// What it asked for; empty means `@default`.
    pub target: &'a str,
    /// The remote qube on whose behalf it says it calls; empty for none.
    pub requested_source: &'a str,
}

impl<'a> Request<'a> {
    /// A call of `service+argument` (or `service`) from `source` to `target`.
    pub fn new(call: &'a str, source: &'a str, target: &'a str) -> Self {
        let (service, argument) = match call.find('+') {
            Some(plus) => call.split_at(plus),
            None => (call, "+"),
        };
        Self {
            service,
            argument,
            source,
            target,
            requested_source: "",
        }
    }

    /// The same call, relayed for the remote qube `source`.
    pub fn on_behalf_of(mut self, source: &'a str) -> Self {
        self.requested_source = source;
        self
    }
}

/// What was asked for, as an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Default,
    Dispvm,
    DispvmOf(QubeIndex),
    Qube(QubeIndex),
}

/// A request whose names were looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) service: &'a str,
    pub(crate) argument: &'a str,
    /// Whose rules apply: the caller, or the remote qube it relays for.
    pub(crate) source: QubeIndex,
    /// The qube that is really connected.
    pub(crate) caller: QubeIndex,
    pub(crate) wanted: Wanted,
    /// The target as requested, `@default` where that means nothing.
    pub(crate) requested_target: &'a str,
}

impl<'a> Call<'a> {
    pub(crate) fn resolve(request: &Request<'a>, view: &SystemView) -> Result<Self, DenyReason> {
        let caller = view.find(request.source).ok_or(DenyReason::UnknownSource)?;
        let token = RequestToken::parse(request.target).ok_or(DenyReason::ForbiddenTarget)?;
        let wanted = match token {
            RequestToken::AdminVm => Wanted::Qube(QubeIndex::DOM0),
            RequestToken::Default => Wanted::Default,
            RequestToken::Dispvm => Wanted::Dispvm,
            RequestToken::DispvmOf(base) => view
                .find(base)
                .filter(|base| view.get(*base).template_for_dispvms)
                .map(Wanted::DispvmOf)
                .ok_or(DenyReason::NotADisposableTemplate)?,
            RequestToken::Qube(name) => view.find(name).map_or(Wanted::Default, Wanted::Qube),
        };
        let requested_target = match wanted {
            Wanted::Default => "@default",
            _ => request.target,
        };
        Ok(Self {
            service: request.service,
            argument: request.argument,
            source: claimed_source(request, caller, view)?,
            caller,
            wanted,
            requested_target,
        })
    }
}

/// The source whose rules apply, once a claim to speak for another was checked.
fn claimed_source(
    request: &Request<'_>,
    caller: QubeIndex,
    view: &SystemView,
) -> Result<QubeIndex, DenyReason> {
    if request.requested_source.is_empty() {
        return Ok(caller);
    }
    let claimed = view
        .find(request.requested_source)
        .ok_or(DenyReason::ClaimUnknown)?;
    let remote = view.get(claimed);
    if &*remote.class != REMOTE_CLASS {
        return Err(DenyReason::ClaimNotRemote);
    }
    let relay = remote.relayvm.as_deref().and_then(|name| view.find(name));
    if relay == Some(caller) {
        Ok(claimed)
    } else {
        Err(DenyReason::ClaimNotRelay)
    }
}

/// Class of qubes on other machines.
pub(crate) const REMOTE_CLASS: &str = "RemoteVM";
