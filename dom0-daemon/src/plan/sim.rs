//! A machine that is only a value: applies actions to an [`Observed`] the way `apply` does.

use std::sync::Arc;

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Description, Label, Qube, QubeKind, Template, TemplateSource, Volume};

use crate::hypervisor::{DomId, DomainState, Reach};
use crate::lock::{Lock, Locked};
use crate::machine::{LiveProperty, RunningQube, Stopped};
use crate::observe::{Current, Observed};
use crate::plan::build::{PlanOptions, plan};
use crate::plan::lag::set_live;
use crate::plan::{Action, ImageRef, Inverse, Plan};
use crate::storage::{ImageDigest, VolumeId, VolumeInfo};

pub(crate) fn name(text: &str) -> QubeName {
    QubeName::new(text).unwrap()
}

pub(crate) fn digest(letter: char) -> ImageDigest {
    letter.to_string().repeat(64).parse().unwrap()
}

/// The image that this source gives here.
fn build(source: &TemplateSource) -> ImageDigest {
    match source {
        TemplateSource::Host => digest('a'),
        TemplateSource::Folder(path) => digest(if path == "/other" { 'b' } else { 'c' }),
        TemplateSource::Debian { .. } => digest('d'),
        TemplateSource::Image(_) => digest('e'),
    }
}

/// `sys-net` <- `sys-firewall` <- `work`, and `vault` without network; all on template `host`.
pub(crate) fn desktop() -> Description {
    let mut description = Description::default();
    for (label, color) in [
        ("red", "0xcc0000"),
        ("blue", "0x3465a4"),
        ("black", "0x000000"),
    ] {
        let label = Label {
            name: label.into(),
            color: color.into(),
            icon: format!("appvm-{label}"),
        };
        description.labels.insert(label.name.clone(), label);
    }
    let template = Template {
        name: name("host"),
        source: TemplateSource::Host,
        label: "black".into(),
    };
    description.templates.insert(name("host"), template);
    let mut add = |text: &str, label: &str, netvm: Option<&str>, autostart: bool| {
        let mut qube = Qube::new(name(text), QubeKind::App, label);
        qube.template = Some(name("host"));
        qube.netvm = netvm.map(name);
        qube.provides_network = text.starts_with("sys-");
        qube.autostart = autostart;
        qube.volumes
            .insert("private".into(), Volume::private_default());
        description.qubes.insert(qube.name.clone(), qube.into());
    };
    add("sys-net", "red", None, true);
    add("sys-firewall", "red", Some("sys-net"), true);
    add("work", "blue", Some("sys-firewall"), true);
    add("vault", "black", None, false);
    description
}

pub(crate) fn all_live() -> Observed {
    let mut observed = Observed::default();
    observed.machine.live = [
        LiveProperty::Memory,
        LiveProperty::Vcpus,
        LiveProperty::CpuWeight,
        LiveProperty::NetVm,
        LiveProperty::Services,
        LiveProperty::Features,
        LiveProperty::Devices,
    ]
    .into();
    observed
}

pub(crate) fn lock_of(observed: &Observed) -> Lock {
    observed
        .current
        .as_ref()
        .map(|current| current.lock.clone())
        .unwrap_or_default()
}

#[track_caller]
pub(crate) fn planned(desired: &Description, observed: &Observed, options: PlanOptions) -> Plan {
    plan(desired, &lock_of(observed), observed, options).expect("there is a plan")
}

/// A machine on which `description` was applied.
pub(crate) fn applied(description: &Description) -> Observed {
    let mut sim = Sim::new(all_live(), description);
    sim.run(&planned(description, &all_live(), PlanOptions::default()));
    sim.observed
}

#[derive(Debug)]
pub(crate) struct Sim<'a> {
    pub(crate) observed: Observed,
    desired: &'a Description,
    lock: Lock,
    retired: Vec<VolumeInfo>,
}

impl<'a> Sim<'a> {
    pub(crate) fn new(observed: Observed, desired: &'a Description) -> Self {
        let lock = lock_of(&observed).carry(desired);
        Self {
            observed,
            desired,
            lock,
            retired: Vec::new(),
        }
    }

    pub(crate) fn run(&mut self, plan: &Plan) {
        for step in &plan.steps {
            self.act(&step.action);
        }
    }

    /// Undoes every step up to the generation switch, last first.
    pub(crate) fn undo(&mut self, plan: &Plan) {
        for step in plan.steps.iter().rev() {
            if let Inverse::Action(action) = &step.inverse {
                self.act(action);
            }
        }
    }

    pub(crate) fn act(&mut self, action: &Action) {
        match action {
            Action::EnsureTemplate {
                template, source, ..
            } => {
                let digest = build(source);
                self.observed.images.insert(digest.clone());
                let locked = Locked {
                    source: source.clone(),
                    digest,
                };
                self.lock.0.insert(template.clone(), locked);
            }
            Action::CreateVolume { volume, size } => {
                let info = VolumeInfo {
                    id: volume.clone(),
                    size: *size,
                    path: "/".into(),
                    enforced: true,
                };
                let volumes = self
                    .observed
                    .volumes
                    .entry(volume.qube.clone())
                    .or_default();
                assert!(
                    volumes.insert(volume.volume.clone(), info).is_none(),
                    "{volume} twice"
                );
            }
            Action::DiscardVolume { volume } => {
                self.take(volume);
            }
            Action::ResizeVolume { volume, from, to } => {
                let volumes = self.observed.volumes.get_mut(&volume.qube).unwrap();
                let info = volumes.get_mut(&volume.volume).unwrap();
                assert_eq!(info.size, *from);
                info.size = *to;
            }
            Action::RetireVolume { volume, .. } => {
                assert!(
                    !self.observed.machine.running.contains_key(&volume.qube),
                    "in use"
                );
                let info = self.take(volume);
                self.retired.push(info);
            }
            Action::RestoreVolume { volume } => {
                let place = self
                    .retired
                    .iter()
                    .position(|info| info.id == *volume)
                    .unwrap();
                let info = self.retired.remove(place);
                let volumes = self
                    .observed
                    .volumes
                    .entry(volume.qube.clone())
                    .or_default();
                volumes.insert(volume.volume.clone(), info);
            }
            Action::PurgeVolume { volume } => {
                let before = self.retired.len();
                self.retired.retain(|info| info.id != *volume);
                assert_eq!(self.retired.len() + 1, before, "{volume} was not set aside");
            }
            Action::Declare | Action::DeclarePrevious => {}
            Action::LiveUpdate { qube, to, .. } => {
                let running = self.observed.machine.running.get_mut(qube).unwrap();
                set_live(&mut running.spec, to);
            }
            Action::StartQube { spec, image } => self.start(spec, image),
            Action::StopQube { qube, .. } => {
                let gone = self.observed.machine.running.remove(qube);
                assert!(gone.is_some(), "{qube} does not run");
                self.observed
                    .machine
                    .stopped
                    .insert(qube.clone(), Stopped::ByPerson);
            }
            Action::SwitchGeneration => {
                let number = self.observed.current.as_ref().map_or(1, |c| c.number + 1);
                self.observed.current = Some(Current {
                    number,
                    description: Arc::new(self.desired.clone()),
                    lock: self.lock.clone(),
                });
            }
        }
    }

    fn start(&mut self, spec: &Qube, image: &ImageRef) {
        let image = match image {
            ImageRef::None => None,
            ImageRef::Exact(digest) => Some(digest.clone()),
            ImageRef::Template(template) => self.lock.image(template).cloned(),
        };
        assert!(
            image
                .iter()
                .all(|image| self.observed.images.contains(image)),
            "no image"
        );
        for volume in spec.volumes.keys() {
            assert!(
                self.observed.volume(&spec.name, volume).is_some(),
                "no {volume}"
            );
        }
        let running = RunningQube {
            spec: spec.clone(),
            image,
            revision: None,
            domid: DomId(7),
            uuid: uuid::Uuid::nil(),
            state: DomainState::Running,
            reach: Reach::default(),
            disposable: false,
        };
        let old = self
            .observed
            .machine
            .running
            .insert(spec.name.clone(), running);
        assert!(old.is_none(), "{} runs already", spec.name);
        self.observed.machine.stopped.remove(&spec.name);
    }

    fn take(&mut self, volume: &VolumeId) -> VolumeInfo {
        let volumes = self.observed.volumes.get_mut(&volume.qube).unwrap();
        let info = volumes.remove(&volume.volume).unwrap();
        if volumes.is_empty() {
            self.observed.volumes.remove(&volume.qube);
        }
        info
    }
}
