//! Deciding one call.

use std::path::Path;
use std::sync::Arc;

use bulkhead_model::qube::PolicyText;

use crate::ask::{self, Offers};
use crate::decision::{Allow, Decision, Deny, DenyReason, Destination};
use crate::error::PolicyError;
use crate::folders::{Layout, NoFolders, PolicyFolders};
use crate::index::Index;
use crate::read::{self, Read};
use crate::request::{Call, Party, REMOTE_CLASS, Request, Wanted};
use crate::rule::{Action, Rule};
use crate::token::{RedirectToken, TargetToken};
use crate::view::{OwnBase, QubeIndex, SystemView};

/// A policy, ready to decide. It never changes: a new policy is a new engine.
#[derive(Debug, Clone)]
pub struct Engine {
    rules: Arc<[Rule]>,
    index: Arc<Index>,
    /// What prompts offer, as far as it was worked out.
    offers: Arc<Offers>,
    /// Why everything is denied, if it is.
    broken: Option<Vec<PolicyError>>,
}

impl Engine {
    /// Parses `texts` in order, which include nothing. On failure every error in every text is
    /// returned.
    pub fn parse(texts: &[PolicyText]) -> Result<Self, Vec<PolicyError>> {
        Self::parse_with(texts, &NoFolders, Path::new(""))
    }

    /// The same for texts that may include files. Paths count from the folder of the text that
    /// includes; origins of texts count from `from`.
    pub fn parse_with(
        texts: &[PolicyText],
        folders: &dyn PolicyFolders,
        from: &Path,
    ) -> Result<Self, Vec<PolicyError>> {
        read::texts(texts, folders, from).and_then(Self::of)
    }

    /// Reads the policy files of some folders. On failure every error in every file is returned,
    /// the one that ends the Qubes engine first.
    pub fn read(folders: &dyn PolicyFolders, layout: &Layout) -> Result<Self, Vec<PolicyError>> {
        read::folders(folders, layout).and_then(Self::of)
    }

    pub(crate) fn of(read: Read) -> Result<Self, Vec<PolicyError>> {
        Ok(Self::of_rules(read.rules))
    }

    /// An engine of rules that are parsed already.
    pub fn of_rules(rules: Vec<Rule>) -> Self {
        Self {
            index: Arc::new(Index::new(&rules)),
            rules: rules.into(),
            offers: Arc::default(),
            broken: None,
        }
    }

    /// An engine for policy that could not be loaded: it denies every call. `errors` is empty
    /// where the text could not even be read.
    pub fn broken(errors: Vec<PolicyError>) -> Self {
        Self {
            broken: Some(errors),
            ..Self::of_rules(Vec::new())
        }
    }

    /// Parses `texts`; an engine that denies everything if that fails.
    pub fn load(texts: &[PolicyText]) -> Self {
        Self::parse(texts).unwrap_or_else(Self::broken)
    }

    /// The errors because of which everything is denied; none for a policy that parsed.
    pub fn errors(&self) -> Option<&[PolicyError]> {
        self.broken.as_deref()
    }

    /// The rules in the order in which they are tried.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Decides one call against one snapshot of the machine.
    pub fn decide(&self, request: &Request<'_>, view: &SystemView) -> Decision {
        if self.broken.is_some() {
            return Decision::Deny(Deny::without_rule(DenyReason::BrokenPolicy));
        }
        let call = match Call::resolve(request, view) {
            Ok(call) => call,
            Err(reason) => return Decision::Deny(Deny::without_rule(reason)),
        };
        let first = self.index.first(&call, view);
        match first.and_then(|number| Some((number, self.rules.get(number)?))) {
            Some((number, rule)) => {
                let spoken = Spoken {
                    rules: &self.rules,
                    number,
                    rule,
                };
                self.apply(spoken, &call, view)
                    .unwrap_or_else(Decision::Deny)
            }
            None => Decision::Deny(Deny::without_rule(DenyReason::NoRule)),
        }
    }

    fn apply(
        &self,
        spoken: Spoken<'_>,
        call: &Call<'_>,
        view: &SystemView,
    ) -> Result<Decision, Deny> {
        if let Some(reason) = incomparable(&spoken.rule.target, call, view) {
            return Err(spoken.deny(reason));
        }
        match &spoken.rule.action {
            Action::Deny { notify } => Err(Deny {
                notify: *notify,
                ..spoken.deny(DenyReason::Rule)
            }),
            Action::Allow { target, .. } => {
                let (word, place) = destination(target.as_ref(), call, view)
                    .map_err(|reason| spoken.deny(reason))?;
                let grant = Grant {
                    spoken,
                    source: call.source,
                    requested_target: call.requested_target,
                    service: call.service,
                    argument: call.argument,
                };
                grant.to(word, place, view).map(Decision::Allow)
            }
            Action::Ask { .. } => {
                let offered = |named, source: &Party<'_>| {
                    let positions = self.index.all_but_target(named, source, view);
                    ask::collect(
                        positions.iter().filter_map(|at| self.rules.get(*at)),
                        source,
                        view,
                    )
                };
                let named = self.index.named(call);
                ask::ask(spoken, call, view, || {
                    self.offers
                        .find(named, call.source, view, || offered(named, &call.source))
                })
                .map(Decision::Ask)
                .map_err(|reason| spoken.deny(reason))
            }
        }
    }
}

/// The rule that matched a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spoken<'a> {
    pub(crate) rules: &'a Arc<[Rule]>,
    pub(crate) number: usize,
    pub(crate) rule: &'a Rule,
}

impl Spoken<'_> {
    /// Refuses for a reason of which the person is told.
    pub(crate) fn deny(&self, reason: DenyReason) -> Deny {
        Deny {
            rule: Some(self.rule.origin.clone()),
            number: Some(self.number),
            notify: true,
            reason,
        }
    }
}

/// Why a target column and a call cannot be compared at all: the call is for a disposable whose
/// base is unknown, and the column speaks of bases.
pub(crate) fn incomparable(
    token: &TargetToken,
    call: &Call<'_>,
    view: &SystemView,
) -> Option<DenyReason> {
    if call.wanted != Wanted::Dispvm {
        return None;
    }
    match (token, call.source.own_base(view)) {
        (TargetToken::DispvmOf(_) | TargetToken::DispvmTag(_), OwnBase::Malformed) => {
            Some(DenyReason::BaseMalformed)
        }
        (TargetToken::DispvmOf(_), OwnBase::None) => Some(DenyReason::BaseIncomparable),
        (TargetToken::DispvmTag(_), OwnBase::Is(_, None)) => Some(DenyReason::BaseUnknown),
        _ => None,
    }
}

/// A place that a call can go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Dom0,
    Qube(QubeIndex),
    Disposable(QubeIndex),
    /// A disposable whose base does not exist.
    Baseless,
}

impl Place {
    /// A qube by the word that was used for it.
    pub(crate) fn of(word: &str, index: QubeIndex) -> Self {
        if crate::token::is_dom0(word) {
            Self::Dom0
        } else {
            Self::Qube(index)
        }
    }

    pub(crate) fn is_running(self, view: &SystemView) -> bool {
        match self {
            Self::Dom0 => true,
            Self::Qube(qube) => view.get(qube).running,
            Self::Disposable(_) | Self::Baseless => false,
        }
    }
}

pub(crate) fn destination_of(qube: QubeIndex, view: &SystemView) -> Destination {
    if view.dom0() == Some(qube) {
        return Destination::Dom0;
    }
    Destination::Qube {
        name: Arc::clone(&view.get(qube).name),
        uuid: view.get(qube).uuid,
    }
}

pub(crate) fn disposable_of(base: QubeIndex, view: &SystemView) -> Destination {
    Destination::NewDisposable {
        base: Arc::clone(&view.get(base).name),
        uuid: view.get(base).uuid,
    }
}

/// Where an allow rule sends this call, with the word for it.
fn destination(
    redirect: Option<&RedirectToken>,
    call: &Call<'_>,
    view: &SystemView,
) -> Result<(String, Place), DenyReason> {
    let own_disposable = || match call.source.own_base(view) {
        OwnBase::None => Err(DenyReason::NoDisposableBase),
        OwnBase::Malformed => Err(DenyReason::BaseMalformed),
        OwnBase::Is(word, base) => Ok((
            format!("@dispvm:{word}"),
            base.map_or(Place::Baseless, Place::Disposable),
        )),
    };
    match redirect {
        None => match call.wanted {
            Wanted::Default => Err(DenyReason::NoDestination),
            Wanted::AdminVm => Ok(("dom0".into(), Place::Dom0)),
            Wanted::Dispvm => own_disposable(),
            Wanted::DispvmOf(base) => Ok((call.requested_target.into(), Place::Disposable(base))),
            Wanted::Qube(word, qube) => Ok((word.into(), Place::of(word, qube))),
        },
        Some(RedirectToken::AdminVm) => Ok(("dom0".into(), Place::Dom0)),
        Some(RedirectToken::Dispvm) => own_disposable(),
        Some(RedirectToken::DispvmOf(base)) => view
            .find_ref(base)
            .filter(|found| view.get(*found).template_for_dispvms)
            .map(|found| (format!("@dispvm:{base}"), Place::Disposable(found)))
            .ok_or(DenyReason::NotADisposableTemplate),
        Some(RedirectToken::Qube(qube)) => view
            .find_ref(qube)
            .map(|found| (qube.to_string(), Place::of(qube.as_str(), found)))
            .ok_or(DenyReason::NoDestination),
    }
}

/// What a rule, or a rule and a person, grant to a call.
#[derive(Debug)]
pub(crate) struct Grant<'a> {
    pub(crate) spoken: Spoken<'a>,
    pub(crate) source: Party<'a>,
    pub(crate) requested_target: &'a str,
    pub(crate) service: &'a str,
    pub(crate) argument: &'a str,
}

impl Grant<'_> {
    /// The last checks before a call is connected to `place`, for which `word` stands.
    pub(crate) fn to(&self, word: String, place: Place, view: &SystemView) -> Result<Allow, Deny> {
        let spoken = self.spoken;
        let (user, notify, autostart) = match &spoken.rule.action {
            Action::Allow {
                user,
                notify,
                autostart,
                ..
            }
            | Action::Ask {
                user,
                notify,
                autostart,
                ..
            } => (user.clone(), *notify, *autostart),
            Action::Deny { .. } => return Err(spoken.deny(DenyReason::Rule)),
        };
        if !autostart && !place.is_running(view) {
            return Err(Deny {
                notify,
                ..spoken.deny(DenyReason::WouldAutostart)
            });
        }
        if word == self.source.word {
            return Err(spoken.deny(DenyReason::Loopback));
        }
        let mut allow = Allow {
            rule: spoken.rule.origin.clone(),
            number: spoken.number,
            source: self.source.name(view).into(),
            target: Destination::Dom0,
            named: word,
            // An empty `user=` is the default user.
            user: user.filter(|user| !user.is_empty()),
            notify,
            autostart,
            requested_target: self.requested_target.to_owned(),
            relayed_service: None,
        };
        match place {
            Place::Dom0 => {}
            Place::Baseless => return Err(spoken.deny(DenyReason::BaseUnknown)),
            Place::Disposable(base) => allow.target = disposable_of(base, view),
            Place::Qube(qube) if *view.get(qube).class == *REMOTE_CLASS => {
                let (relay, service) = self
                    .relay(qube, view)
                    .map_err(|reason| spoken.deny(reason))?;
                allow.target = destination_of(relay, view);
                allow.relayed_service = Some(service);
                // The user of a remote qube is the other machine's business.
                allow.user = None;
            }
            Place::Qube(qube) => allow.target = destination_of(qube, view),
        }
        if self.is_loopback(place, view) {
            return Err(spoken.deny(DenyReason::Loopback));
        }
        Ok(allow)
    }

    /// Whether the call would go from a qube to itself, however each is spelled.
    fn is_loopback(&self, place: Place, view: &SystemView) -> bool {
        match place {
            Place::Dom0 => {
                let listed = self.source.index.is_some() && self.source.index == view.dom0();
                self.source.is_dom0() || listed
            }
            Place::Qube(qube) => self.source.index == Some(qube),
            Place::Disposable(_) | Place::Baseless => false,
        }
    }

    /// The relay of a remote qube and what is called there.
    fn relay(&self, qube: QubeIndex, view: &SystemView) -> Result<(QubeIndex, String), DenyReason> {
        let remote = view.get(qube);
        let given = |word: &'_ Option<Arc<str>>| word.clone().filter(|word| !word.is_empty());
        let relay = given(&remote.relayvm).ok_or(DenyReason::NoRelay)?;
        let transport = given(&remote.transport_rpc).ok_or(DenyReason::NoTransport)?;
        let relay = view.find(&relay).ok_or(DenyReason::RelayUnknown)?;
        let service = format!(
            "{transport}+{}+{}{}",
            self.requested_target, self.service, self.argument
        );
        Ok((relay, service))
    }
}
