//! What a prompt offers, and what becomes of the answer.

use std::sync::Arc;

use crate::decision::{Allow, Ask, Deny, DenyReason, Destination};
use crate::engine::{Grant, Matching, Place, deny_by};
use crate::request::Call;
use crate::rule::{Action, Rule};
use crate::token::{RedirectToken, TargetToken};
use crate::view::{QubeIndex, SystemView};

/// The prompt for `call`, for which the ask rule `rule` spoke. `matching` yields the rules that
/// match all of the call but its target.
pub(crate) fn ask<'a>(
    rule: &Rule,
    call: &Call<'_>,
    view: &SystemView,
    matching: impl FnOnce() -> Matching<'a>,
) -> Result<Ask, DenyReason> {
    let Action::Ask {
        target,
        default_target,
        user,
        notify,
        autostart,
    } = &rule.action
    else {
        return Err(DenyReason::NoChoice);
    };
    let mut targets = match target {
        Some(only) => only_choice(only, *autostart, view),
        None => {
            let mut choices = collect(matching(), call, view);
            choices.retain(|place| *autostart || place.is_running(view));
            choices
                .into_iter()
                .map(|place| place.destination(view))
                .collect()
        }
    };
    if targets.is_empty() {
        return Err(DenyReason::NoChoice);
    }
    targets.sort_by_cached_key(ToString::to_string);
    let preselected = default_target
        .as_ref()
        .and_then(|token| place_of(token, call.source, view))
        .map(|place| place.destination(view))
        .filter(|wanted| targets.contains(wanted));
    let source = view.get(call.source);
    Ok(Ask {
        rule: rule.origin.clone(),
        source: Arc::clone(&source.name),
        guivm: source.guivm.clone(),
        targets,
        default_target: preselected,
        user: user.clone(),
        notify: *notify,
        autostart: *autostart,
        requested_target: call.requested_target.to_owned(),
        source_uuid: source.uuid,
        caller_uuid: view.get(call.caller).uuid,
        service: call.service.to_owned(),
        argument: call.argument.to_owned(),
    })
}

/// `target=` of an ask rule is offered as it stands: not checked, `@dispvm` not expanded.
fn only_choice(token: &RedirectToken, autostart: bool, view: &SystemView) -> Vec<Destination> {
    let place = match token {
        RedirectToken::Dispvm => None,
        RedirectToken::AdminVm => Some(Place::Qube(QubeIndex::DOM0)),
        RedirectToken::Qube(qube) => view.find_ref(qube).map(Place::Qube),
        RedirectToken::DispvmOf(base) => view
            .find_ref(base)
            .filter(|base| view.get(*base).template_for_dispvms)
            .map(Place::Disposable),
    };
    if !autostart && !place.is_some_and(|place| place.is_running(view)) {
        return Vec::new();
    }
    vec![match place {
        Some(place) => place.destination(view),
        None => Destination::Nothing {
            text: token.to_string().into(),
        },
    }]
}

fn place_of(token: &RedirectToken, source: QubeIndex, view: &SystemView) -> Option<Place> {
    match token {
        RedirectToken::AdminVm => Some(Place::Qube(QubeIndex::DOM0)),
        RedirectToken::Qube(qube) => view.find_ref(qube).map(Place::Qube),
        RedirectToken::Dispvm => view.disposable_base(source).map(Place::Disposable),
        RedirectToken::DispvmOf(base) => view.find_ref(base).map(Place::Disposable),
    }
}

/// What has been said about one possible choice. The first rule that names it says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Yes,
    No,
}

/// Every possible choice, and what the rules so far said about it.
struct Choices<'a> {
    view: &'a SystemView,
    qubes: Vec<Said>,
    disposables: Vec<Said>,
    /// `@dispvm`, which is one choice of its own until the end.
    own_disposable: Said,
}

impl<'a> Choices<'a> {
    fn new(view: &'a SystemView) -> Self {
        let count = view.qubes().len();
        Self {
            view,
            qubes: vec![Said::Nothing; count],
            disposables: vec![Said::Nothing; count],
            own_disposable: Said::Nothing,
        }
    }

    fn say_slot(slot: Option<&mut Said>, said: Said) {
        if let Some(slot) = slot.filter(|slot| **slot == Said::Nothing) {
            *slot = said;
        }
    }

    fn say_qube(&mut self, qube: QubeIndex, said: Said) {
        Self::say_slot(self.qubes.get_mut(qube.number()), said);
    }

    fn say_disposable(&mut self, base: QubeIndex, said: Said) {
        if self.view.get(base).template_for_dispvms {
            Self::say_slot(self.disposables.get_mut(base.number()), said);
        }
    }

    fn say_redirect(&mut self, token: &RedirectToken, said: Said) {
        match token {
            RedirectToken::AdminVm => self.say_qube(QubeIndex::DOM0, said),
            RedirectToken::Dispvm => Self::say_slot(Some(&mut self.own_disposable), said),
            RedirectToken::Qube(qube) => {
                if let Some(qube) = self.view.find_ref(qube) {
                    self.say_qube(qube, said);
                }
            }
            RedirectToken::DispvmOf(base) => {
                if let Some(base) = self.view.find_ref(base) {
                    self.say_disposable(base, said);
                }
            }
        }
    }

    fn say_target(&mut self, token: &TargetToken, said: Said) {
        let view = self.view;
        match token {
            TargetToken::Wildcard | TargetToken::AnyVm => {
                for qube in view.indices() {
                    if !qube.is_dom0() || *token == TargetToken::Wildcard {
                        self.say_qube(qube, said);
                    }
                    self.say_disposable(qube, said);
                }
                Self::say_slot(Some(&mut self.own_disposable), said);
            }
            TargetToken::AdminVm => self.say_qube(QubeIndex::DOM0, said),
            TargetToken::Default => {}
            TargetToken::Qube(qube) => {
                if let Some(qube) = view.find_ref(qube) {
                    self.say_qube(qube, said);
                }
            }
            TargetToken::Type(class) => {
                for qube in view
                    .indices()
                    .filter(|qube| view.get(*qube).class.as_ref() == class.as_ref())
                {
                    self.say_qube(qube, said);
                }
            }
            TargetToken::Tag(tag) => {
                for qube in view.indices().filter(|qube| view.get(*qube).has_tag(tag)) {
                    self.say_qube(qube, said);
                }
            }
            TargetToken::Dispvm => Self::say_slot(Some(&mut self.own_disposable), said),
            TargetToken::DispvmOf(base) => {
                if let Some(base) = view.find_ref(base) {
                    self.say_disposable(base, said);
                }
            }
            TargetToken::DispvmTag(tag) => {
                for base in view.indices().filter(|base| view.get(*base).has_tag(tag)) {
                    self.say_disposable(base, said);
                }
            }
        }
    }

    fn offered(&self, source: QubeIndex) -> Vec<Place> {
        let own = (self.own_disposable == Said::Yes)
            .then(|| self.view.disposable_base(source))
            .flatten();
        let yes = |list: &[Said], index: QubeIndex| list.get(index.number()) == Some(&Said::Yes);
        let mut places = Vec::new();
        for index in self.view.indices() {
            if self.view.get(index).internal {
                continue;
            }
            if index != source && yes(&self.qubes, index) {
                places.push(Place::Qube(index));
            }
            if own == Some(index) || yes(&self.disposables, index) {
                places.push(Place::Disposable(index));
            }
        }
        places
    }
}

/// What may be chosen: for each choice the first rule that names it says whether it is offered.
///
/// The Qubes engine walks the rules backwards, adding and removing; the last word there is the
/// first rule here.
fn collect(matching: Matching<'_>, call: &Call<'_>, view: &SystemView) -> Vec<Place> {
    let mut choices = Choices::new(view);
    for rule in matching {
        let said = match rule.action {
            Action::Deny { .. } => Said::No,
            Action::Allow { .. } | Action::Ask { .. } => Said::Yes,
        };
        match rule.action.redirect() {
            Some(redirect) => choices.say_redirect(redirect, said),
            None => choices.say_target(&rule.target, said),
        }
    }
    choices.offered(call.source)
}

impl Ask {
    /// The person chose `target`, as one of [`Ask::targets`] displays. `view` is a snapshot of
    /// now: what went away since the question is refused.
    pub fn answer(&self, target: &str, view: &SystemView) -> Result<Allow, Deny> {
        let refuse = |reason| deny_by(&self.rule, reason);
        let chosen = self
            .targets
            .iter()
            .find(|choice| choice.to_string() == target)
            .ok_or_else(|| refuse(DenyReason::NotAChoice))?;
        let gone = || refuse(DenyReason::Gone);
        let place = match chosen {
            Destination::Dom0 => Place::Qube(QubeIndex::DOM0),
            Destination::Qube { uuid, .. } => Place::Qube(view.find_uuid(*uuid).ok_or_else(gone)?),
            Destination::NewDisposable { uuid, .. } => view
                .find_uuid(*uuid)
                .filter(|base| view.get(*base).template_for_dispvms)
                .map(Place::Disposable)
                .ok_or_else(gone)?,
            Destination::Nothing { .. } => return Err(refuse(DenyReason::NoDestination)),
        };
        Grant {
            rule: &self.rule,
            user: self.user.as_ref(),
            notify: self.notify,
            autostart: self.autostart,
            source: view.find_uuid(self.source_uuid).ok_or_else(gone)?,
            caller: view.find_uuid(self.caller_uuid).ok_or_else(gone)?,
            requested_target: &self.requested_target,
            service: &self.service,
            argument: &self.argument,
        }
        .to(place, view)
    }

    /// The person said no, or did not answer in time.
    pub fn refuse(&self) -> Deny {
        Deny {
            notify: self.notify,
            ..deny_by(&self.rule, DenyReason::Refused)
        }
    }
}
