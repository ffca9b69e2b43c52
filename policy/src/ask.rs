//! What a prompt offers, and what becomes of the answer.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use crate::decision::{Allow, Ask, Deny, DenyReason, Destination, Kin};
use crate::engine::{Grant, Place, Spoken, destination_of, disposable_of};
use crate::index::Named;
use crate::request::{Call, Party};
use crate::rule::{Action, Rule};
use crate::token::{RedirectToken, TargetToken};
use crate::view::{OwnBase, QubeIndex, SystemView};

/// What may be chosen, sorted by how it is displayed, or why nothing can be offered.
pub(crate) type Offered = Result<Arc<[Destination]>, DenyReason>;

/// Most lists that are kept; each has up to two entries for each qube.
const OFFERS_MAX: usize = 4096;

/// The lists worked out for one view. They depend on what rules name of service and argument and
/// on the source, so that callers cannot make them many by calling odd services.
#[derive(Debug, Default)]
pub(crate) struct Offers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    view: u64,
    lists: HashMap<(Named, QubeIndex), Offered>,
}

impl Offers {
    pub(crate) fn find(
        &self,
        named: Named,
        source: Party<'_>,
        view: &SystemView,
        work_out: impl FnOnce() -> Offered,
    ) -> Offered {
        let index = source.index.ok_or(DenyReason::SourceIncomparable)?;
        // A list is whole before it is put in, so a panic elsewhere leaves nothing half done.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.view != view.number() || kept.lists.len() >= OFFERS_MAX {
            kept.lists.clear();
            kept.view = view.number();
        }
        (kept.lists.entry((named, index)))
            .or_insert_with(work_out)
            .clone()
    }
}

/// The prompt for `call`, for which the ask rule `spoken` spoke. `offered` is what may be chosen
/// if the rule itself does not say.
pub(crate) fn ask(
    spoken: Spoken<'_>,
    call: &Call<'_>,
    view: &SystemView,
    offered: impl FnOnce() -> Offered,
) -> Result<Ask, DenyReason> {
    let Action::Ask {
        target,
        default_target,
        user,
        notify,
        autostart,
    } = &spoken.rule.action
    else {
        return Err(DenyReason::NoChoice);
    };
    let targets = match target {
        Some(only) => only_choice(only, *autostart, view)?,
        None if *autostart => offered()?,
        None => (offered()?.iter())
            .filter(|target| runs(target, view))
            .cloned()
            .collect(),
    };
    if targets.is_empty() {
        return Err(DenyReason::NoChoice);
    }
    let preselected = match default_target {
        Some(token) => preselect(token, target.as_ref(), &targets, call, view)?,
        None => None,
    };
    let source = call.source.index.map(|source| view.get(source));
    Ok(Ask {
        rule: spoken.rule.origin.clone(),
        number: spoken.number,
        source: match source {
            Some(source) => Arc::clone(&source.name),
            None => call.source.word.into(),
        },
        guivm: source.and_then(|source| source.guivm.clone()),
        targets,
        default_target: preselected,
        user: user.clone().filter(|user| !user.is_empty()),
        notify: *notify,
        autostart: *autostart,
        requested_target: call.requested_target.to_owned(),
        source_uuid: source.map(|source| source.uuid),
        caller_uuid: call.caller.index.map(|caller| view.get(caller).uuid),
        service: call.service.to_owned(),
        argument: call.argument.to_owned(),
        rules: Kin(Arc::clone(spoken.rules)),
    })
}

/// Whether a choice runs already; a new disposable does not.
pub(crate) fn runs(target: &Destination, view: &SystemView) -> bool {
    match target {
        Destination::Dom0 => true,
        Destination::Qube { uuid, .. } => view
            .find_uuid(*uuid)
            .is_some_and(|qube| view.get(qube).running),
        Destination::NewDisposable { .. } | Destination::Nothing { .. } => false,
    }
}

/// `target=` of an ask rule is offered as it stands: not checked, `@dispvm` not expanded.
fn only_choice(token: &RedirectToken, autostart: bool, view: &SystemView) -> Offered {
    let nothing = || Destination::Nothing {
        text: token.to_string().into(),
    };
    let only = match token {
        RedirectToken::AdminVm => Destination::Dom0,
        RedirectToken::Qube(qube) if qube.is_dom0() => Destination::Dom0,
        RedirectToken::Qube(qube) => match view.find_ref(qube) {
            Some(found) => destination_of(found, view),
            None if autostart => nothing(),
            None => return Err(DenyReason::ChoiceUnknown),
        },
        RedirectToken::Dispvm => nothing(),
        RedirectToken::DispvmOf(base) => view
            .find_ref(base)
            .filter(|base| view.get(*base).template_for_dispvms)
            .map_or_else(nothing, |base| disposable_of(base, view)),
    };
    if autostart || runs(&only, view) {
        Ok([only].into())
    } else {
        Ok([].into())
    }
}

/// The choice that `default_target=` names, compared as words: a choice is shown by name, so a
/// UUID preselects only what the rule's own `target=` gives by UUID.
fn preselect(
    token: &RedirectToken,
    only: Option<&RedirectToken>,
    targets: &[Destination],
    call: &Call<'_>,
    view: &SystemView,
) -> Result<Option<Destination>, DenyReason> {
    let word = match token {
        RedirectToken::AdminVm => "dom0".to_owned(),
        RedirectToken::Qube(qube) if qube.is_dom0() => "dom0".to_owned(),
        RedirectToken::Dispvm => match call.source.own_base(view) {
            OwnBase::None => return Ok(None),
            OwnBase::Malformed => return Err(DenyReason::BaseMalformed),
            OwnBase::Is(word, _) => format!("@dispvm:{word}"),
        },
        RedirectToken::Qube(_) | RedirectToken::DispvmOf(_) => token.to_string(),
    };
    let shown = |target: &Destination| match (only, target) {
        (_, Destination::Dom0) | (None, _) => target.is_shown_as(&word),
        (Some(only), _) => only.to_string() == word,
    };
    Ok(targets.iter().find(|target| shown(target)).cloned())
}

/// What has been said about one possible choice. The first rule that names it says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Yes,
    No,
}

/// Every possible choice, and what the rules so far said about it.
#[derive(Debug)]
struct Choices<'a> {
    view: &'a SystemView,
    qubes: Vec<Said>,
    disposables: Vec<Said>,
    /// `@dispvm`, which is one choice of its own until the end.
    own_disposable: Said,
    /// `@adminvm`, which only its own word names; `dom0` is a qube like others.
    adminvm: Said,
}

impl<'a> Choices<'a> {
    fn new(view: &'a SystemView) -> Self {
        let count = view.qubes().len();
        Self {
            view,
            qubes: vec![Said::Nothing; count],
            disposables: vec![Said::Nothing; count],
            own_disposable: Said::Nothing,
            adminvm: Said::Nothing,
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

    /// `@dispvm:BASE`, whose base must exist.
    fn say_base(&mut self, base: &str, said: Said) -> Result<(), DenyReason> {
        let base = self.view.find(base).ok_or(DenyReason::BaseUnknown)?;
        self.say_disposable(base, said);
        Ok(())
    }

    fn say_word(&mut self, word: &str, said: Said) {
        if let Some(qube) = self.view.find(word) {
            self.say_qube(qube, said);
        }
    }

    fn say_redirect(&mut self, token: &RedirectToken, said: Said) -> Result<(), DenyReason> {
        match token {
            RedirectToken::AdminVm => Self::say_slot(Some(&mut self.adminvm), said),
            RedirectToken::Dispvm => Self::say_slot(Some(&mut self.own_disposable), said),
            RedirectToken::Qube(qube) => self.say_word(qube.as_str(), said),
            RedirectToken::DispvmOf(base) => self.say_base(base.as_str(), said)?,
        }
        Ok(())
    }

    fn say_target(&mut self, token: &TargetToken, said: Said) -> Result<(), DenyReason> {
        let view = self.view;
        match token {
            TargetToken::Wildcard | TargetToken::AnyVm => {
                for qube in view.indices() {
                    if *token == TargetToken::Wildcard || view.dom0() != Some(qube) {
                        self.say_qube(qube, said);
                    }
                    self.say_disposable(qube, said);
                }
                Self::say_slot(Some(&mut self.own_disposable), said);
            }
            TargetToken::AdminVm => Self::say_slot(Some(&mut self.adminvm), said),
            TargetToken::Default => {}
            TargetToken::Qube(qube) => self.say_word(qube.as_str(), said),
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
            TargetToken::DispvmOf(base) => self.say_base(base.as_str(), said)?,
            TargetToken::DispvmTag(tag) => {
                for base in view.indices().filter(|base| view.get(*base).has_tag(tag)) {
                    self.say_disposable(base, said);
                }
            }
        }
        Ok(())
    }

    /// What a rule names: its `target=`, else its target.
    fn say_rule(&mut self, rule: &Rule, said: Said) -> Result<(), DenyReason> {
        match rule.action.redirect() {
            Some(redirect) => self.say_redirect(redirect, said),
            None => self.say_target(&rule.target, said),
        }
    }

    fn offered(mut self, source: QubeIndex) -> Offered {
        if self.own_disposable == Said::Yes {
            match self.view.own_base(source) {
                OwnBase::None => {}
                OwnBase::Malformed => return Err(DenyReason::BaseMalformed),
                OwnBase::Is(_, base) => {
                    let base = base.ok_or(DenyReason::BaseUnknown)?;
                    if let Some(slot) = self.disposables.get_mut(base.number()) {
                        *slot = Said::Yes;
                    }
                }
            }
        }
        if self.adminvm == Said::Yes {
            let dom0 = self.view.dom0().ok_or(DenyReason::ChoiceUnknown)?;
            if let Some(slot) = self.qubes.get_mut(dom0.number()) {
                *slot = Said::Yes;
            }
        }
        let yes = |list: &[Said], index: QubeIndex| list.get(index.number()) == Some(&Said::Yes);
        let mut places = Vec::new();
        for index in self.view.indices() {
            if self.view.get(index).internal {
                continue;
            }
            if index != source && yes(&self.qubes, index) {
                places.push(destination_of(index, self.view));
            }
            if yes(&self.disposables, index) {
                places.push(disposable_of(index, self.view));
            }
        }
        places.sort_by_cached_key(ToString::to_string);
        Ok(places.into())
    }
}

/// What may be chosen, by the rules that match all of a call but its target: for each choice the
/// first rule that names it says whether it is offered.
///
/// The Qubes engine walks the rules backwards, adding and removing; the last word there is the
/// first rule here.
pub(crate) fn collect<'a>(
    matching: impl Iterator<Item = &'a Rule>,
    source: &Party<'_>,
    view: &SystemView,
) -> Offered {
    let source = source.index.ok_or(DenyReason::SourceIncomparable)?;
    let mut choices = Choices::new(view);
    for rule in matching {
        let said = match rule.action {
            Action::Deny { .. } => Said::No,
            Action::Allow { .. } | Action::Ask { .. } => Said::Yes,
        };
        choices.say_rule(rule, said)?;
    }
    choices.offered(source)
}

impl Ask {
    /// The person chose `target`, as one of [`Ask::targets`] displays. `view` is a snapshot of
    /// now: what went away since the question is refused.
    pub fn answer(&self, target: &str, view: &SystemView) -> Result<Allow, Deny> {
        let refuse = |reason| self.deny(reason);
        let chosen = self
            .targets
            .iter()
            .find(|choice| choice.is_shown_as(target))
            .ok_or_else(|| refuse(DenyReason::NotAChoice))?;
        let gone = || refuse(DenyReason::Gone);
        let place = match chosen {
            Destination::Dom0 => Place::Dom0,
            Destination::Qube { uuid, .. } => Place::Qube(view.find_uuid(*uuid).ok_or_else(gone)?),
            Destination::NewDisposable { uuid, .. } => view
                .find_uuid(*uuid)
                .filter(|base| view.get(*base).template_for_dispvms)
                .map(Place::Disposable)
                .ok_or_else(gone)?,
            Destination::Nothing { .. } => return Err(refuse(DenyReason::NoDestination)),
        };
        let still = |uuid: Option<uuid::Uuid>| uuid.and_then(|uuid| view.find_uuid(uuid));
        let source = still(self.source_uuid).ok_or_else(gone)?;
        still(self.caller_uuid).ok_or_else(gone)?;
        let rule = self.rules.0.get(self.number).ok_or_else(gone)?;
        Grant {
            spoken: Spoken {
                rules: &self.rules.0,
                number: self.number,
                rule,
            },
            source: Party {
                word: &view.get(source).name,
                index: Some(source),
            },
            requested_target: &self.requested_target,
            service: &self.service,
            argument: &self.argument,
        }
        .to(chosen.to_string(), place, view)
    }

    /// The person said no, or did not answer in time.
    pub fn refuse(&self) -> Deny {
        Deny {
            notify: self.notify,
            ..self.deny(DenyReason::Refused)
        }
    }

    fn deny(&self, reason: DenyReason) -> Deny {
        Deny {
            rule: Some(self.rule.clone()),
            number: Some(self.number),
            notify: true,
            reason,
        }
    }
}

/// What one rule names as choices, whatever it says about them.
#[derive(Debug, Default)]
pub(crate) struct NamedChoices {
    pub(crate) qubes: Vec<QubeIndex>,
    /// Bases of disposables.
    pub(crate) disposables: Vec<QubeIndex>,
    /// `@dispvm`, the base of which depends on the caller.
    pub(crate) own_disposable: bool,
    /// `@adminvm` by that word.
    pub(crate) adminvm: bool,
}

/// The choices that `rule` names, as [`collect`] takes them.
pub(crate) fn named_by(rule: &Rule, view: &SystemView) -> Result<NamedChoices, DenyReason> {
    let mut choices = Choices::new(view);
    choices.say_rule(rule, Said::Yes)?;
    let named = |list: &[Said]| {
        (view.indices().zip(list))
            .filter(|(_, said)| **said == Said::Yes)
            .map(|(index, _)| index)
            .collect()
    };
    Ok(NamedChoices {
        qubes: named(&choices.qubes),
        disposables: named(&choices.disposables),
        own_disposable: choices.own_disposable == Said::Yes,
        adminvm: choices.adminvm == Said::Yes,
    })
}
