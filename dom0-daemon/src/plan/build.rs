//! Makes a plan.
//!
//! The order of steps: images and volumes first (whatever may take long or fail, while everything
//! still runs as before), then the new description is declared, then running qubes are changed,
//! stopped and started (a netvm starts before and stops after the qubes that use it), then the
//! generation is switched, and only then is data destroyed. Everything up to the switch can be
//! undone.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_model::diff;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Description, Qube, Template};
use serde::{Deserialize, Serialize};

use super::graph::{Graph, Key, Node};
use super::lag::ExpectedImage;
use super::{Action, ChangeKind, Effect, ImageRef, Inverse, Plan, QubeChange, TemplateChange};
use crate::lock::{Lock, template_of};
use crate::machine::{LiveProperty, RunningQube};
use crate::observe::Observed;
use crate::storage::VolumeId;

mod qube;
mod volume;

/// What becomes of running qubes whose changes need a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restarts {
    /// They go on with the old values until they start next.
    #[default]
    Leave,
    /// They are restarted.
    Now,
}

/// What becomes of volumes that are no longer declared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undeclared {
    /// They are destroyed.
    #[default]
    Destroy,
    /// They stay, and belong to nobody.
    Keep,
}

/// What becomes of a volume that is declared smaller than before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shrink {
    /// No plan is made: the person believes in something that will not happen.
    #[default]
    Refuse,
    /// It stays as large as it is: a rollback must always be possible.
    Keep,
}

/// Which images templates get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Images {
    /// Those they are locked to.
    #[default]
    Locked,
    /// New ones, from their sources as those are now.
    Update,
}

/// How to plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanOptions {
    /// See [`Restarts`].
    pub restarts: Restarts,
    /// See [`Undeclared`].
    pub undeclared: Undeclared,
    /// See [`Shrink`].
    pub shrink: Shrink,
    /// See [`Images`].
    pub images: Images,
}

/// One reason why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum PlanProblem {
    /// A volume is declared smaller than it is.
    #[error("volume `{volume}` cannot shrink from {from} to {to}")]
    Shrink {
        /// Which.
        volume: VolumeId,
        /// Its size.
        from: bulkhead_model::qube::Mib,
        /// Declared size.
        to: bulkhead_model::qube::Mib,
    },
    /// A volume of a running qube would have to go.
    #[error("volume `{volume}` cannot be removed while qube `{}` runs", .volume.qube)]
    InUse {
        /// Which.
        volume: VolumeId,
    },
}

/// Why there is no plan: every reason at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct PlanError(pub Vec<PlanProblem>);

/// A plan under construction.
struct Draft<'a> {
    desired: &'a Description,
    observed: &'a Observed,
    options: PlanOptions,
    /// Whether the description is another than before.
    changed: bool,
    lock: Lock,
    graph: Graph<'a>,
    qubes: BTreeMap<&'a QubeName, QubeChange>,
    notes: Vec<String>,
    problems: Vec<PlanProblem>,
}

/// What leads from `observed` to `desired`. `lock` says which images the templates of `desired` are
/// locked to already.
pub fn plan(
    desired: &Description,
    lock: &Lock,
    observed: &Observed,
    options: PlanOptions,
) -> Result<Plan, PlanError> {
    let empty = Description::default();
    let before = observed.declared().unwrap_or(&empty);
    let changed = observed.current.is_none() || before != desired;
    let mut draft = Draft {
        desired,
        observed,
        options,
        changed,
        lock: match options.images {
            Images::Locked => lock.carry(desired),
            Images::Update => Lock::default(),
        },
        graph: Graph::default(),
        qubes: BTreeMap::new(),
        notes: Vec::new(),
        problems: Vec::new(),
    };
    let difference = if changed {
        diff::diff_around_qubes(before, desired)
    } else {
        diff::DescriptionDiff::default()
    };
    let templates = draft.templates(before);
    draft.qubes(before);
    if !draft.problems.is_empty() {
        return Err(PlanError(draft.problems));
    }
    let lock_changes = observed
        .current
        .as_ref()
        .is_some_and(|current| current.lock != draft.lock);
    draft.finish_order(changed || lock_changes);
    let (steps, stuck) = draft.graph.into_steps();
    debug_assert_eq!(stuck, 0, "steps wait for each other");
    Ok(Plan {
        base: observed.current.as_ref().map(|current| current.number),
        templates,
        qubes: draft.qubes.into_values().collect(),
        labels: difference.labels,
        remotes: difference.remotes,
        dom0: difference.dom0,
        policy: difference.policy,
        policy_tests: difference.policy_tests,
        steps,
        notes: draft.notes,
    })
}

impl<'a> Draft<'a> {
    fn templates(&mut self, before: &'a Description) -> Vec<TemplateChange> {
        let mut changes = Vec::new();
        let (desired, observed) = (self.desired, self.observed);
        for (name, template) in &desired.templates {
            let locked = self.lock.image(name).cloned();
            let old = before.templates.get(name);
            let (kind, reason): (_, Cow<'static, str>) = match (&locked, old) {
                (Some(digest), Some(_)) if observed.images.contains(digest) => continue,
                (Some(_), Some(_)) => (ChangeKind::Change, "its image has vanished".into()),
                (_, None) => (ChangeKind::Add, "new".into()),
                (None, Some(old)) if old.source != template.source => {
                    (ChangeKind::Change, "its source is another".into())
                }
                (None, Some(_)) => (ChangeKind::Change, "an update was asked for".into()),
            };
            changes.push(TemplateChange {
                template: name.clone(),
                kind,
                text: format!("{}; {reason}", describe_source(template)),
            });
            let node = Node {
                action: Action::EnsureTemplate {
                    template: name.clone(),
                    source: template.source.clone(),
                    locked,
                    anew: self.options.images == Images::Update,
                },
                reason,
                inverse: Inverse::Harmless("an image that nobody uses is collected by gc".into()),
                effect: Effect::NextStart,
                destroys_data: false,
                after: Vec::new(),
            };
            self.graph.insert(Key::Ensure(name), node);
        }
        for name in before
            .templates
            .keys()
            .filter(|name| !desired.templates.contains_key(*name))
        {
            changes.push(TemplateChange {
                template: name.clone(),
                kind: ChangeKind::Remove,
                text: "no longer declared; its image stays until gc".to_owned(),
            });
        }
        changes
    }

    fn qubes(&mut self, before: &'a Description) {
        let (desired, observed) = (self.desired, self.observed);
        for (name, qube) in &desired.qubes {
            match before.qubes.get(name) {
                None => self.added(name, qube),
                Some(old) => self.kept(name, old, qube),
            }
        }
        for (name, qube) in &before.qubes {
            if !desired.qubes.contains_key(name) {
                self.removed(name, qube);
            }
        }
        for (name, running) in &observed.machine.running {
            let declared = desired.qubes.contains_key(name) || before.qubes.contains_key(name);
            if !declared && !running.disposable {
                self.undeclared(name, running);
            }
        }
        self.start_needed_netvms();
    }

    /// The image that `qube` should run on, as far as it is known.
    fn expected_image(&self, qube: &Qube) -> ExpectedImage<'_> {
        let Some(template) = template_of(self.desired, qube) else {
            return ExpectedImage::Known(None);
        };
        let known = self.lock.image(&template.name);
        if !self.graph.contains(&Key::Ensure(&template.name)) {
            return ExpectedImage::Known(known);
        }
        if known.is_some() {
            ExpectedImage::Same
        } else {
            ExpectedImage::New
        }
    }

    fn runs(&self, name: &QubeName) -> Option<&'a RunningQube> {
        self.observed.machine.running.get(name)
    }

    fn start(&mut self, name: &'a QubeName, qube: &'a Arc<Qube>, reason: Cow<'static, str>) {
        let template = template_of(self.desired, qube);
        let mut after = vec![Key::Declare, Key::Stop(name)];
        after.extend(template.map(|template| Key::Ensure(&template.name)));
        after.extend(qube.netvm.as_ref().map(Key::Start));
        after.extend(qube.volumes.keys().map(|volume| Key::Volume(name, volume)));
        let node = Node {
            action: Action::StartQube {
                spec: Arc::clone(qube),
                image: template.map_or(ImageRef::None, |template| {
                    ImageRef::Template(template.name.clone())
                }),
            },
            reason,
            inverse: Inverse::Action(Action::StopQube {
                qube: name.clone(),
                timeout: qube.shutdown_timeout,
            }),
            effect: Effect::Now,
            destroys_data: false,
            after,
        };
        self.graph.insert(Key::Start(name), node);
    }

    fn stop(&mut self, name: &'a QubeName, running: &RunningQube, reason: Cow<'static, str>) {
        let mut after = vec![Key::Declare];
        after.extend(template_of(self.desired, &running.spec).map(|template| {
            // A restart waits until there is an image to start from.
            Key::Ensure(&template.name)
        }));
        let image = running.image.clone();
        let node = Node {
            action: Action::StopQube {
                qube: name.clone(),
                timeout: running.spec.shutdown_timeout,
            },
            reason,
            inverse: Inverse::Action(Action::StartQube {
                spec: Arc::new(running.spec.clone()),
                image: image.map_or(ImageRef::None, ImageRef::Exact),
            }),
            effect: Effect::Now,
            destroys_data: false,
            after,
        };
        self.graph.insert(Key::Stop(name), node);
    }

    /// A qube cannot start without the qube that provides its network, so that one starts first,
    /// however long the chain is.
    fn start_needed_netvms(&mut self) {
        let desired = self.desired;
        let mut starting: Vec<_> = (self.graph.keys())
            .filter_map(|key| match key {
                Key::Start(name) | Key::Live(name, LiveProperty::NetVm) => Some((key, name)),
                _ => None,
            })
            .collect();
        starting.sort();
        for (_, client) in starting {
            let mut user = client;
            while let Some(netvm) = desired.qubes.get(user).and_then(|qube| qube.netvm.as_ref()) {
                let Some(qube) = desired.qubes.get(netvm) else {
                    break;
                };
                if self.runs(netvm).is_some() || self.graph.contains(&Key::Start(netvm)) {
                    break;
                }
                let reason: Cow<'static, str> = format!("{user} needs its network").into();
                self.note_run(netvm, super::RunChange::Start, reason.clone());
                self.start(netvm, qube, reason);
                user = netvm;
            }
        }
    }

    /// Adds what depends on the whole: the declaration, the switch, and who waits for whom.
    fn finish_order(&mut self, changed: bool) {
        self.order_stops();
        let ensures = self.graph.keys().any(|key| matches!(key, Key::Ensure(_)));
        if !changed && !ensures {
            return;
        }
        let prepared: Vec<Key<'a>> = (self.graph.keys())
            .filter(|key| matches!(key, Key::Ensure(_) | Key::Volume(..)))
            .collect();
        let everything: Vec<Key<'a>> = self
            .graph
            .keys()
            .filter(|key| !matches!(key, Key::Purge(..)))
            .collect();
        let declare = Node {
            action: Action::Declare,
            reason: "labels, tags, policy and later starts follow the new description".into(),
            inverse: Inverse::Action(Action::DeclarePrevious),
            effect: Effect::Now,
            destroys_data: false,
            after: prepared,
        };
        self.graph.insert(Key::Declare, declare);
        let mut switch = Node {
            action: Action::SwitchGeneration,
            reason: "everything is as described".into(),
            inverse: Inverse::Never,
            effect: Effect::Now,
            destroys_data: false,
            after: everything,
        };
        switch.after.push(Key::Declare);
        self.graph.insert(Key::Switch, switch);
    }

    /// Qubes stop before the qube that provides their network. A qube that moves away from a netvm
    /// that is removed does so before that one stops; not so when anything restarts, because then
    /// the new network may have to wait for the old one, and the network is interrupted anyway.
    fn order_stops(&mut self) {
        let restarts = (self.graph.keys())
            .any(|key| matches!(key, Key::Stop(name) if self.graph.contains(&Key::Start(name))));
        let retired: Vec<Key<'a>> = self
            .graph
            .keys()
            .filter(|key| matches!(key, Key::Retire(..)))
            .collect();
        for key in retired {
            if let Key::Retire(name, _) = key {
                self.graph.add_dependency(&Key::Start(name), key);
            }
        }
        for (client, running) in &self.observed.machine.running {
            let Some(netvm) = running.spec.netvm.as_ref() else {
                continue;
            };
            self.graph
                .add_dependency(&Key::Stop(netvm), Key::Stop(client));
            if !restarts {
                let moves = Key::Live(client, LiveProperty::NetVm);
                self.graph.add_dependency(&Key::Stop(netvm), moves);
            }
        }
    }
}

fn describe_source(template: &Template) -> String {
    use bulkhead_model::qube::TemplateSource as S;
    match &template.source {
        S::Host => "this machine's own root".to_owned(),
        S::Folder(path) => format!("a copy of the tree in {path}"),
        S::Image(path) => format!("a copy of the disk in {path}"),
        S::Debian { suite, packages } if packages.is_empty() => format!("Debian {suite}"),
        S::Debian { suite, packages } => {
            format!("Debian {suite} with {}", packages.join(", "))
        }
    }
}
