//! What a prompt for a call would offer, and which rules put each choice there or took it away.

use crate::ask::{NamedChoices, named_by, runs};
use crate::decision::{Decision, DenyReason, Destination};
use crate::engine::{Engine, destination_of, disposable_of};
use crate::explain::Fit;
use crate::request::{Call, Request};
use crate::rule::{Action, Rule};
use crate::view::{OwnBase, QubeIndex, SystemView};

/// Something that rules name as a choice for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What would be chosen.
    pub target: Destination,
    /// Whether it is offered, and if not, why.
    pub fate: Fate,
    /// Number of the rule that says so: the first that names it.
    pub by: usize,
    /// Later rules that name it too, and are not heard.
    pub overruled: Vec<usize>,
}

/// What becomes of a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is offered.
    Offered,
    /// The rule is a deny.
    Removed,
    /// It is the caller itself.
    Caller,
    /// It is hidden from prompts (feature `internal`).
    Internal,
    /// The rule that asks has `autostart=no`, and it does not run.
    NotRunning,
}

impl Fate {
    /// A word for it, as JSON has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Removed => "removed",
            Self::Caller => "caller",
            Self::Internal => "internal",
            Self::NotRunning => "not_running",
        }
    }
}

/// What rules say about one choice so far.
#[derive(Debug, Clone, Default)]
struct Spoken {
    first: Option<(usize, bool)>,
    later: Vec<usize>,
}

impl Spoken {
    fn say(slot: Option<&mut Self>, number: usize, offers: bool) {
        match slot {
            Some(slot) if slot.first.is_none() => slot.first = Some((number, offers)),
            Some(slot) => slot.later.push(number),
            None => {}
        }
    }

    fn is_yes(&self) -> bool {
        matches!(self.first, Some((_, true)))
    }
}

/// Every possible choice.
struct Table {
    qubes: Vec<Spoken>,
    disposables: Vec<Spoken>,
    own_disposable: Spoken,
    adminvm: Spoken,
}

impl Table {
    fn new(count: usize) -> Self {
        Self {
            qubes: vec![Spoken::default(); count],
            disposables: vec![Spoken::default(); count],
            own_disposable: Spoken::default(),
            adminvm: Spoken::default(),
        }
    }

    fn say(&mut self, named: &NamedChoices, number: usize, offers: bool) {
        for qube in &named.qubes {
            Spoken::say(self.qubes.get_mut(qube.number()), number, offers);
        }
        for base in &named.disposables {
            Spoken::say(self.disposables.get_mut(base.number()), number, offers);
        }
        if named.own_disposable {
            Spoken::say(Some(&mut self.own_disposable), number, offers);
        }
        if named.adminvm {
            Spoken::say(Some(&mut self.adminvm), number, offers);
        }
    }

    /// `@dispvm` and `@adminvm` become what they mean for this caller.
    fn settle(&mut self, source: QubeIndex, view: &SystemView) {
        let own = match view.own_base(source) {
            OwnBase::Is(_, base) => base,
            OwnBase::None | OwnBase::Malformed => None,
        };
        if let (true, Some(base)) = (self.own_disposable.is_yes(), own)
            && let Some(slot) = self.disposables.get_mut(base.number())
        {
            *slot = self.own_disposable.clone();
        }
        if let (true, Some(dom0)) = (self.adminvm.is_yes(), view.dom0())
            && let Some(slot) = self.qubes.get_mut(dom0.number())
        {
            *slot = self.adminvm.clone();
        }
    }
}

impl Engine {
    /// What rules say about each choice of a prompt for this call, sorted by how it is displayed;
    /// empty if the call is not decided by an ask rule.
    pub fn choices(&self, request: &Request<'_>, view: &SystemView) -> Vec<Choice> {
        let decision = self.decide(request, view);
        let number = decision.number();
        let Some((number, rule)) = number.and_then(|n| Some((n, self.rules().get(n)?))) else {
            return Vec::new();
        };
        let Action::Ask {
            target, autostart, ..
        } = &rule.action
        else {
            return Vec::new();
        };
        let Ok(call) = Call::resolve(request, view) else {
            return Vec::new();
        };
        let mut choices = match (target, call.source.index) {
            (Some(_), _) => only_choice(&decision, number),
            (None, Some(source)) => self.gathered(request, source, view).unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        for choice in &mut choices {
            if choice.fate == Fate::Offered && !autostart && !runs(&choice.target, view) {
                choice.fate = Fate::NotRunning;
            }
        }
        choices.sort_by_cached_key(|choice| choice.target.to_string());
        choices
    }

    fn gathered(
        &self,
        request: &Request<'_>,
        source: QubeIndex,
        view: &SystemView,
    ) -> Result<Vec<Choice>, DenyReason> {
        let mut table = Table::new(view.qubes().len());
        for (number, (rule, fit)) in self.fits(request, view)?.enumerate() {
            if fits_but_target(fit) {
                table.say(&named_by(rule, view)?, number, offers(rule));
            }
        }
        table.settle(source, view);
        let mut choices = Vec::new();
        let mut add = |target, spoken: &Spoken, index: QubeIndex, own: bool| {
            let Some((by, offers)) = spoken.first else {
                return;
            };
            let fate = match offers {
                false => Fate::Removed,
                true if view.get(index).internal => Fate::Internal,
                true if own => Fate::Caller,
                true => Fate::Offered,
            };
            choices.push(Choice {
                target,
                fate,
                by,
                overruled: spoken.later.clone(),
            });
        };
        for ((index, qube), base) in (view.indices().zip(&table.qubes)).zip(&table.disposables) {
            add(destination_of(index, view), qube, index, index == source);
            add(disposable_of(index, view), base, index, false);
        }
        Ok(choices)
    }
}

/// The one of an ask rule with `target=`.
fn only_choice(decision: &Decision, by: usize) -> Vec<Choice> {
    let Decision::Ask(ask) = decision else {
        return Vec::new();
    };
    let choice = |target: &Destination| Choice {
        target: target.clone(),
        fate: Fate::Offered,
        by,
        overruled: Vec::new(),
    };
    ask.targets.iter().map(choice).collect()
}

fn offers(rule: &Rule) -> bool {
    !matches!(rule.action, Action::Deny { .. })
}

fn fits_but_target(fit: Fit) -> bool {
    matches!(fit, Fit::Matches | Fit::OtherTarget | Fit::Incomparable(_))
}
