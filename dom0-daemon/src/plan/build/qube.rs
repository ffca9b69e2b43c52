//! What happens to one qube.

use std::borrow::Cow;
use std::sync::Arc;

use bulkhead_model::diff::{PropertyDiff, qube_properties};
use bulkhead_model::name::QubeName;
use bulkhead_model::property::{PropertyValue, QubeProperty};
use bulkhead_model::qube::Qube;

use super::{Draft, Restarts, Undeclared};
use crate::machine::{LiveProperty, RunningQube, Stopped};
use crate::plan::graph::{Key, Node};
use crate::plan::lag::{Class, ExpectedImage, class, expected_root, lag, live_value, reaches};
use crate::plan::{Action, ChangeKind, Effect, Inverse, PropertyChange, QubeChange, RunChange};

impl<'a> Draft<'a> {
    pub(super) fn added(&mut self, name: &'a QubeName, qube: &'a Arc<Qube>) {
        let mut change = empty_change(name, ChangeKind::Add);
        change.properties = (telling(qube).into_iter())
            .map(|diff| PropertyChange {
                diff,
                effect: Effect::Now,
            })
            .collect();
        self.new_volumes(name, qube, &mut change);
        self.qubes.insert(name, change);
        match self.runs(name) {
            Some(running) => self.catch_up(name, qube, running),
            None if qube.autostart => self.start_noted(name, qube, "autostart".into()),
            None => {}
        }
    }

    pub(super) fn kept(&mut self, name: &'a QubeName, old: &'a Qube, qube: &'a Arc<Qube>) {
        let running = self.runs(name);
        if self.changed && *old != **qube {
            let mut change = empty_change(name, ChangeKind::Change);
            change.properties = (qube_properties(old, qube).into_iter())
                .filter(|diff| !is_volume_size(diff))
                .map(|diff| PropertyChange {
                    effect: self.effect(diff.property, qube, running),
                    diff,
                })
                .collect();
            self.qubes.insert(name, change);
        }
        self.kept_volumes(name, old, qube, running);
        match running {
            Some(running) => self.catch_up(name, qube, running),
            None if qube.autostart => {
                let stopped = self.observed.machine.stopped.get(name);
                let reason = match stopped {
                    _ if !old.autostart => Some("autostart"),
                    None => Some("autostart, and it does not run"),
                    Some(Stopped::Died) => Some("it died"),
                    Some(Stopped::ByPerson | Stopped::ByItself) => None,
                };
                if let Some(reason) = reason {
                    self.start_noted(name, qube, reason.into());
                }
            }
            None => {}
        }
    }

    pub(super) fn removed(&mut self, name: &'a QubeName, qube: &'a Qube) {
        self.qubes
            .insert(name, empty_change(name, ChangeKind::Remove));
        if let Some(running) = self.runs(name) {
            self.stop_noted(name, running, "no longer declared".into());
        }
        for volume in qube.volumes.keys() {
            self.drop_volume(name, volume);
        }
        if self.options.undeclared == Undeclared::Keep && self.observed.volumes.contains_key(name) {
            self.notes.push(format!(
                "The volumes of {name} are kept and belong to no qube; \
                 `bulkhead gc --orphan-volumes` destroys them."
            ));
        }
    }

    pub(super) fn undeclared(&mut self, name: &'a QubeName, running: &RunningQube) {
        self.stop_noted(name, running, "it runs and nobody declares it".into());
    }

    /// Brings a running qube up to its declaration, or says that it waits for its next start.
    fn catch_up(&mut self, name: &'a QubeName, qube: &'a Arc<Qube>, running: &'a RunningQube) {
        let image = self.expected_image(qube);
        let new_image = matches!(image, ExpectedImage::New);
        let revisions = &self.observed.machine.revisions;
        let root = expected_root(self.desired, revisions, qube, image);
        let lag = lag(running, qube, root, &self.observed.machine.live);
        if !lag.restart.is_empty() {
            let why = lag.restart.join(", ");
            match self.options.restarts {
                Restarts::Now => {
                    let reason: Cow<'static, str> = format!("for {why}").into();
                    self.stop(name, running, "to start with the new values".into());
                    self.start(name, qube, reason.clone());
                    self.note_run(name, RunChange::Restart, reason);
                    return;
                }
                Restarts::Leave if new_image || self.qubes.contains_key(name) => {
                    self.note_run(name, RunChange::Pending, why.into());
                }
                Restarts::Leave => self.notes.push(format!(
                    "Qube {name} runs with old values until its next start ({why}); --restart \
                     restarts it now."
                )),
            }
        }
        let mut before = None;
        for property in lag.live {
            self.live_update(name, qube, running, property);
            // One after the other, so that a machine changes a qube in one way at a time.
            let key = Key::Live(name, property);
            if let Some(before) = before.replace(key) {
                self.graph.add_dependency(&key, before);
            }
        }
    }

    fn live_update(
        &mut self,
        name: &'a QubeName,
        qube: &'a Qube,
        running: &RunningQube,
        property: LiveProperty,
    ) {
        let (from, to) = (
            live_value(property, &running.spec),
            live_value(property, qube),
        );
        let mut after = vec![Key::Declare];
        if property == LiveProperty::NetVm {
            after.extend(qube.netvm.as_ref().map(Key::Start));
        }
        let repair = !self.qubes.get(name).is_some_and(|change| {
            change
                .properties
                .iter()
                .any(|p| class(p.diff.property) == Class::Live(property))
        });
        if repair {
            // The description did not change: what runs has drifted from it.
            self.note_run(name, RunChange::None, "what runs is not as declared".into());
            let shown = drifted(property, &running.spec, qube);
            if let Some(change) = self.qubes.get_mut(name) {
                change.properties.extend(shown);
            }
        }
        let node = Node {
            action: Action::LiveUpdate {
                qube: name.clone(),
                from: from.clone(),
                to: to.clone(),
            },
            reason: if repair {
                "what runs is not as declared".into()
            } else {
                "it can be changed while the qube runs".into()
            },
            inverse: Inverse::Action(Action::LiveUpdate {
                qube: name.clone(),
                from: to,
                to: from,
            }),
            effect: Effect::Now,
            destroys_data: false,
            after,
        };
        self.graph.insert(Key::Live(name, property), node);
    }

    fn start_noted(&mut self, name: &'a QubeName, qube: &'a Arc<Qube>, reason: Cow<'static, str>) {
        self.note_run(name, RunChange::Start, reason.clone());
        self.start(name, qube, reason);
    }

    fn stop_noted(&mut self, name: &'a QubeName, running: &RunningQube, reason: Cow<'static, str>) {
        self.note_run(name, RunChange::Stop, reason.clone());
        self.stop(name, running, reason);
    }

    /// Records for people that a qube starts or stops, also one that does not change otherwise.
    pub(super) fn note_run(
        &mut self,
        name: &'a QubeName,
        run: RunChange,
        reason: Cow<'static, str>,
    ) {
        let change = self
            .qubes
            .entry(name)
            .or_insert_with(|| empty_change(name, ChangeKind::Change));
        if run != RunChange::None || change.reason.is_empty() {
            change.run = run;
            change.reason = reason;
        }
    }

    fn effect(&self, property: QubeProperty, qube: &Qube, running: Option<&RunningQube>) -> Effect {
        let Some(running) = running.filter(|_| self.options.restarts == Restarts::Leave) else {
            return Effect::Now;
        };
        let live = &self.observed.machine.live;
        match class(property) {
            Class::Declared => Effect::Now,
            Class::Live(which) if live.contains(&which) && reaches(running, which, qube) => {
                Effect::Now
            }
            // What earlier revisions are kept is storage's business.
            Class::Start if property == QubeProperty::Volumes => Effect::Now,
            Class::Live(_) | Class::Start => Effect::NextStart,
        }
    }
}

pub(super) fn empty_change(name: &QubeName, kind: ChangeKind) -> QubeChange {
    QubeChange {
        qube: name.clone(),
        kind,
        properties: Vec::new(),
        volumes: Vec::new(),
        run: RunChange::None,
        reason: Cow::Borrowed(""),
    }
}

fn is_volume_size(diff: &PropertyDiff<QubeProperty>) -> bool {
    // Whole volumes that come and go are told as volumes too.
    diff.property == QubeProperty::Volumes
        && (diff.old == PropertyValue::None
            || diff.new == PropertyValue::None
            || diff.key.as_ref().is_some_and(|key| key.ends_with(".size")))
}

fn drifted(property: LiveProperty, running: &Qube, declared: &Qube) -> Vec<PropertyChange> {
    (qube_properties(running, declared).into_iter())
        .filter(|diff| class(diff.property) == Class::Live(property))
        .map(|diff| PropertyChange {
            diff,
            effect: Effect::Now,
        })
        .collect()
}

/// What is worth telling about a new qube: its kind, label, template and netvm, and whatever is not
/// the default.
fn telling(qube: &Qube) -> Vec<PropertyDiff<QubeProperty>> {
    use QubeProperty as P;
    let set = |property: P| PropertyDiff {
        property,
        key: None,
        old: PropertyValue::None,
        new: property.of(qube),
    };
    let mut plain = Qube::new(qube.name.clone(), qube.kind, qube.label.as_str());
    plain.template.clone_from(&qube.template);
    plain.netvm.clone_from(&qube.netvm);
    plain.volumes.clone_from(&qube.volumes);
    let mut told = vec![set(P::Kind), set(P::Label), set(P::Template), set(P::Netvm)];
    told.extend(
        qube_properties(&plain, qube)
            .into_iter()
            .map(|diff| PropertyDiff {
                old: PropertyValue::None,
                ..diff
            }),
    );
    told
}
