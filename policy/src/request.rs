//! A call as it was asked for, and what its words mean on this machine.

use crate::decision::DenyReason;
use crate::token::{RequestToken, is_dom0};
use crate::view::{OwnBase, QubeIndex, SystemView};

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

/// A qube that has a part in a call: the word used for it, and which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Party<'a> {
    pub(crate) word: &'a str,
    /// None only for a caller that is in no list.
    pub(crate) index: Option<QubeIndex>,
}

impl<'a> Party<'a> {
    fn find(word: &'a str, view: &SystemView) -> Self {
        Self {
            word,
            index: view.find(word),
        }
    }

    pub(crate) fn is_dom0(&self) -> bool {
        is_dom0(self.word)
    }

    /// Its name, where it has one.
    pub(crate) fn name<'b>(&self, view: &'b SystemView) -> &'b str
    where
        'a: 'b,
    {
        match self.index {
            Some(index) => &view.get(index).name,
            None => self.word,
        }
    }

    /// The base of its disposables.
    pub(crate) fn own_base<'b>(&self, view: &'b SystemView) -> OwnBase<'b> {
        match self.index {
            Some(index) => view.own_base(index),
            None => OwnBase::None,
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted<'a> {
    Default,
    /// dom0 by its keyword, which classes and tags do not speak of.
    AdminVm,
    Dispvm,
    /// A disposable of this base, which is a disposable template.
    DispvmOf(QubeIndex),
    Qube(&'a str, QubeIndex),
}

impl Wanted<'_> {
    pub(crate) fn is_dom0(&self) -> bool {
        match self {
            Self::AdminVm => true,
            Self::Qube(word, _) => is_dom0(word),
            Self::Default | Self::Dispvm | Self::DispvmOf(_) => false,
        }
    }
}

/// A request whose names were looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) service: &'a str,
    pub(crate) argument: &'a str,
    /// Whose rules apply: the caller, or the remote qube it relays for.
    pub(crate) source: Party<'a>,
    /// The qube that is really connected.
    pub(crate) caller: Party<'a>,
    pub(crate) wanted: Wanted<'a>,
    /// The target as requested, `@default` where that means nothing.
    pub(crate) requested_target: &'a str,
}

impl<'a> Call<'a> {
    pub(crate) fn resolve(request: &Request<'a>, view: &SystemView) -> Result<Self, DenyReason> {
        let caller = Party::find(request.source, view);
        if caller.index.is_none() && !view.judges_strangers() {
            return Err(DenyReason::UnknownSource);
        }
        let token = RequestToken::parse(request.target).ok_or(DenyReason::ForbiddenTarget)?;
        let wanted = match token {
            RequestToken::AdminVm => Wanted::AdminVm,
            RequestToken::Default => Wanted::Default,
            RequestToken::Dispvm => Wanted::Dispvm,
            RequestToken::DispvmOf(base) => view
                .find(base)
                .filter(|base| view.get(*base).template_for_dispvms)
                .map(Wanted::DispvmOf)
                .ok_or(DenyReason::NotADisposableTemplate)?,
            RequestToken::Qube(word) => view
                .find(word)
                .map_or(Wanted::Default, |index| Wanted::Qube(word, index)),
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
fn claimed_source<'a>(
    request: &Request<'a>,
    caller: Party<'a>,
    view: &SystemView,
) -> Result<Party<'a>, DenyReason> {
    if request.requested_source.is_empty() {
        return Ok(caller);
    }
    let claimed = Party::find(request.requested_source, view);
    let remote = view.get(claimed.index.ok_or(DenyReason::ClaimUnknown)?);
    if &*remote.class != REMOTE_CLASS {
        return Err(DenyReason::ClaimNotRemote);
    }
    if remote.relayvm.as_deref() == Some(caller.word) {
        Ok(claimed)
    } else {
        Err(DenyReason::ClaimNotRelay)
    }
}

/// Class of qubes on other machines.
pub(crate) const REMOTE_CLASS: &str = "RemoteVM";
