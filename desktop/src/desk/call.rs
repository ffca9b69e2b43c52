//! One call that waits: what is shown of it, and what the person has chosen so far.

use std::time::Duration;

use bulkhead_api::call::Ask;

use super::arming::Arming;
use super::look::{Look, Qubes, none_chosen};
use crate::{text, words};

/// Targets of one call that are listed. A machine has dozens of qubes; more would be a mistake
/// that makes every prompt slow. Those left out can be chosen with `bulkhead ask`.
pub(crate) const TARGETS_MAX: usize = 1000;

/// Longest search text that is looked at; names are shorter.
const SEARCH_MAX: usize = 64;

/// A target that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// As the answer has to name it; never shown.
    pub(crate) name: String,
    pub(crate) look: Look,
}

/// How far the answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The person has the word.
    Open,
    /// Sent to the daemon.
    Sent,
}

/// A waiting call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    ask: Ask,
    pub(crate) targets: Vec<Target>,
    left_out: usize,
    search: String,
    chosen: Option<usize>,
    pub(crate) arming: Arming,
    /// When the call is refused unanswered.
    pub(crate) deadline: Option<Duration>,
    pub(crate) stage: Stage,
    trouble: Option<String>,
}

impl Call {
    /// `now` is the time of the model, `wall` the same in seconds since the epoch.
    pub(crate) fn new(ask: Ask, qubes: &Qubes, now: Duration, wall: u64) -> Self {
        let left = ask.expires.map(|expires| expires.saturating_sub(wall));
        let mut call = Self {
            targets: Vec::new(),
            left_out: ask.targets.len().saturating_sub(TARGETS_MAX),
            search: String::new(),
            chosen: None,
            arming: Arming::default(),
            deadline: left.map(|left| now + Duration::from_secs(left)),
            stage: Stage::Open,
            trouble: None,
            ask,
        };
        call.draw(qubes);
        let default = call.ask.default_target.as_ref();
        call.chosen =
            default.and_then(|default| call.targets.iter().position(|t| t.name == *default));
        call
    }

    /// Takes over what is known of the qubes now.
    pub(crate) fn draw(&mut self, qubes: &Qubes) {
        let listed = self.ask.targets.iter().take(TARGETS_MAX);
        self.targets = listed
            .map(|name| Target {
                name: name.clone(),
                look: qubes.look(name),
            })
            .collect();
    }

    pub(crate) fn id(&self) -> u64 {
        self.ask.id
    }

    /// Names the qube that calls; not to be shown.
    pub(crate) fn source(&self) -> &str {
        &self.ask.source
    }

    pub(crate) fn search(&mut self, text: &str) {
        self.search = text
            .trim()
            .chars()
            .take(SEARCH_MAX)
            .collect::<String>()
            .to_lowercase();
        // What is not seen must not be what is allowed.
        if self.chosen.is_some_and(|index| !self.is_listed(index)) {
            self.chosen = None;
        }
    }

    fn is_listed(&self, index: usize) -> bool {
        let found = |text: &str| text.to_lowercase().contains(&self.search);
        let target = self.targets.get(index);
        target.is_some_and(|target| found(&target.look.title) || found(&target.look.label))
    }

    /// Chooses a target that the list shows.
    pub(crate) fn choose(&mut self, index: usize) {
        if self.is_listed(index) {
            self.chosen = Some(index);
        }
    }

    /// The target that Allow would let the call through to.
    pub(crate) fn chosen(&self) -> Option<&Target> {
        self.targets.get(self.chosen?)
    }

    /// Whether Allow may be pressed.
    pub(crate) fn may_allow(&self, now: Duration) -> bool {
        self.stage == Stage::Open
            && self.chosen().is_some()
            && self.deadline.is_none_or(|deadline| now < deadline)
            && self.arming.is_armed(now)
    }

    /// The answer has been sent.
    pub(crate) fn sent(&mut self) {
        self.stage = Stage::Sent;
        self.trouble = None;
    }

    /// The answer did not arrive; the person has the word again.
    pub(crate) fn failed(&mut self, why: &str, now: Duration) {
        self.trouble = Some(text::line(why));
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            // The daemon refuses it by itself; to try again and again would be noise.
            return;
        }
        self.stage = Stage::Open;
        self.arming.restart(now);
    }

    pub(crate) fn view(&self, qubes: &Qubes, now: Duration) -> CallView {
        let ask = &self.ask;
        let (service, argument) = (text::name(&ask.service), text::line(&ask.argument));
        let target = self
            .chosen()
            .map_or_else(none_chosen, |target| target.look.clone());
        let source = qubes.look(&ask.source);
        // Numbers only, whatever was sent; and whose they are is said with them.
        let said = ask.announced.as_ref();
        let claim = said.map(|said| format!("{} says: {said}", source.title));
        CallView {
            id: ask.id,
            source,
            target,
            doing: match ask.pasted {
                Some(load) => words::pasting(load),
                None => words::doing(&service, &argument),
            },
            meaning: self.meaning(),
            claim: claim.unwrap_or_default(),
            details: self.details(service, argument),
            targets: self
                .targets
                .iter()
                .map(|target| target.look.clone())
                .collect(),
            listed: (0..self.targets.len())
                .map(|index| self.is_listed(index))
                .collect(),
            chosen: self.chosen,
            left_out: self.left_out,
            may_allow: self.may_allow(now),
            may_deny: self.stage == Stage::Open,
            status: self.status(now),
            left: self.deadline.map(|deadline| deadline.saturating_sub(now)),
        }
    }

    /// What the person is to know besides.
    fn meaning(&self) -> &'static str {
        match words::of(&self.ask.service) {
            Some(_) if self.ask.announced.is_some() && self.ask.copies_files() => {
                words::ONLY_CLAIMED
            }
            Some(known) => known.meaning,
            None => "This service is not one that Bulkhead knows.",
        }
    }

    fn details(&self, service: String, argument: String) -> Vec<(&'static str, String)> {
        let mut details = vec![("Service", service)];
        if !argument.is_empty() {
            details.push(("Argument", argument));
        }
        if !matches!(self.ask.requested_target.as_str(), "" | "@default") {
            details.push(("Asked for", text::name(&self.ask.requested_target)));
        }
        details.push(("Asked by rule", text::line(&self.ask.rule)));
        details
    }

    /// What stands between the person and Allow.
    fn status(&self, now: Duration) -> String {
        if let Some(trouble) = &self.trouble {
            return format!("The answer did not arrive: {trouble}");
        }
        let arming = &self.arming;
        let text = if self.stage == Stage::Sent {
            "Answered"
        } else if self.chosen().is_none() {
            "Choose a target to be able to allow this"
        } else if arming.due().is_none_or(|due| now < due) {
            "Allow can be pressed in a moment"
        } else if !arming.moved() {
            "Move the pointer here or press a key to be able to allow this"
        } else {
            "Allow can be pressed now"
        };
        text.to_owned()
    }
}

/// What a prompt shows. All texts are safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallView {
    pub(crate) id: u64,
    pub(crate) source: Look,
    pub(crate) target: Look,
    /// What the call does, up to the target: `copy files to`.
    pub(crate) doing: String,
    pub(crate) meaning: &'static str,
    /// What the source says it will send: `work says: 3 files, 12.4 MiB`; empty if it says nothing.
    pub(crate) claim: String,
    pub(crate) details: Vec<(&'static str, String)>,
    pub(crate) targets: Vec<Look>,
    /// For each target whether the search finds it.
    pub(crate) listed: Vec<bool>,
    pub(crate) chosen: Option<usize>,
    pub(crate) left_out: usize,
    pub(crate) may_allow: bool,
    pub(crate) may_deny: bool,
    pub(crate) status: String,
    /// Time until it is refused unanswered.
    pub(crate) left: Option<Duration>,
}
