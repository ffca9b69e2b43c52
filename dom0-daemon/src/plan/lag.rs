//! When a property takes effect on a running qube, and how far a running qube lags behind what is declared.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_model::device::block_of_dom0;
use bulkhead_model::name::QubeName;
use bulkhead_model::property::QubeProperty;
use bulkhead_model::qube::{Description, Qube};

use crate::hypervisor::ROOT_VOLUME;
use crate::lock::template_qube_of;
use crate::machine::{LiveChange, LiveProperty, RunningQube};
use crate::storage::{ImageDigest, RevisionId};

/// When a property takes effect on a running qube.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// As soon as it is declared: dom0 alone looks at it.
    Declared,
    /// By a live update, on backends that can; else at the next start.
    Live(LiveProperty),
    /// When it starts next.
    Start,
}

/// The class of each property.
pub(crate) fn class(property: QubeProperty) -> Class {
    use QubeProperty as P;
    match property {
        P::Label
        | P::Autostart
        | P::Tags
        | P::DefaultDispvm
        | P::Restart
        | P::ManagementDispvm
        | P::ShutdownTimeout
        | P::ProvidesManagement => Class::Declared,
        P::Memory => Class::Live(LiveProperty::Memory),
        P::Vcpus => Class::Live(LiveProperty::Vcpus),
        P::CpuWeight => Class::Live(LiveProperty::CpuWeight),
        P::Netvm => Class::Live(LiveProperty::NetVm),
        P::Services => Class::Live(LiveProperty::Services),
        P::Features => Class::Live(LiveProperty::Features),
        P::Devices => Class::Live(LiveProperty::Devices),
        P::Kind
        | P::Maxvcpus
        | P::Template
        | P::ProvidesNetwork
        | P::Volumes
        | P::Kernel
        | P::Kernelopts
        | P::VirtMode
        | P::DefaultUser
        | P::Audiovm
        | P::Guivm
        | P::ProvidesAudio
        | P::ProvidesGui => Class::Start,
    }
}

/// The value of a live property in `qube`, as the change that sets it.
pub(crate) fn live_value(property: LiveProperty, qube: &Qube) -> LiveChange {
    match property {
        LiveProperty::Memory => LiveChange::Memory(qube.memory),
        LiveProperty::Vcpus => LiveChange::Vcpus(qube.vcpus),
        LiveProperty::CpuWeight => LiveChange::CpuWeight(qube.cpu_weight),
        LiveProperty::NetVm => LiveChange::NetVm(qube.netvm.clone()),
        LiveProperty::Services => LiveChange::Services(qube.services.clone()),
        LiveProperty::Features => LiveChange::Features(qube.features.clone()),
        LiveProperty::Devices => LiveChange::Devices(qube.devices.clone()),
    }
}

/// Sets a live property in `qube`.
pub fn set_live(qube: &mut Qube, change: &LiveChange) {
    match change {
        LiveChange::Memory(memory) => qube.memory = *memory,
        LiveChange::Vcpus(vcpus) => qube.vcpus = *vcpus,
        LiveChange::CpuWeight(weight) => qube.cpu_weight = *weight,
        LiveChange::NetVm(netvm) => qube.netvm.clone_from(netvm),
        LiveChange::Services(services) => qube.services.clone_from(services),
        LiveChange::Features(features) => qube.features.clone_from(features),
        LiveChange::Devices(devices) => qube.devices.clone_from(devices),
    }
}

/// How a running qube differs from what is declared for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Properties that a live update sets right.
    pub(crate) live: Vec<LiveProperty>,
    /// Properties that only a restart sets right.
    pub(crate) restart: Vec<&'static str>,
}

/// What the root of a running qube that keeps none should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ExpectedRoot<'a> {
    /// What its template qube's was at that one's last clean stop.
    Revision(&'a RevisionId),
    /// That of an image.
    Image(ExpectedImage<'a>),
}

/// What a running qube should have for a root.
pub(crate) fn expected_root<'a>(
    description: &Description,
    revisions: &'a BTreeMap<QubeName, RevisionId>,
    qube: &Qube,
    image: ExpectedImage<'a>,
) -> ExpectedRoot<'a> {
    let template = template_qube_of(description, qube);
    let newest = template.and_then(|template| revisions.get(template));
    newest.map_or(ExpectedRoot::Image(image), ExpectedRoot::Revision)
}

/// What the image of a running qube should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ExpectedImage<'a> {
    /// This, or none at all.
    Known(Option<&'a ImageDigest>),
    /// Not known yet, and surely another one: it is built during this apply.
    New,
    /// Not known yet, and probably the same: it is rebuilt because it vanished.
    Same,
}

/// Whether what is declared is within what a running qube was made for.
pub(crate) fn reaches(running: &RunningQube, property: LiveProperty, declared: &Qube) -> bool {
    let reach = running.reach;
    match property {
        LiveProperty::Memory => (reach.memory).is_none_or(|most| declared.memory.maximum <= most),
        LiveProperty::Vcpus => reach.vcpus.is_none_or(|most| declared.vcpus <= most),
        LiveProperty::Devices => at_start(&running.spec).eq(at_start(declared)),
        LiveProperty::CpuWeight
        | LiveProperty::NetVm
        | LiveProperty::Services
        | LiveProperty::Features => true,
    }
}

/// Devices that a qube has from its start or not at all.
fn at_start(qube: &Qube) -> impl Iterator<Item = &String> {
    let devices = qube.devices.iter();
    devices.filter(|text| block_of_dom0(text).is_none())
}

/// Compares a running qube with its declaration.
pub(crate) fn lag(
    running: &RunningQube,
    declared: &Qube,
    root: ExpectedRoot<'_>,
    live: &BTreeSet<LiveProperty>,
) -> Lag {
    let mut lag = Lag::default();
    if running.spec != *declared {
        for property in QubeProperty::ALL {
            let class = class(property);
            if class == Class::Declared || !differs(property, &running.spec, declared) {
                continue;
            }
            match class {
                Class::Live(which)
                    if live.contains(&which) && reaches(running, which, declared) =>
                {
                    lag.live.push(which);
                }
                _ => lag.restart.push(property.name()),
            }
        }
    }
    // A root that is kept has begun, and is its own from then on.
    if !declared.volumes.contains_key(ROOT_VOLUME) {
        lag.restart.extend(stale(running, root));
    }
    lag
}

/// What is newer than the root that a running qube has.
fn stale(running: &RunningQube, root: ExpectedRoot<'_>) -> Option<&'static str> {
    let image = match root {
        ExpectedRoot::Revision(newest) => {
            return (running.revision.as_ref() != Some(newest)).then_some("root of its template");
        }
        ExpectedRoot::Image(image) => image,
    };
    let stale = match image {
        ExpectedImage::Known(expected) => expected != running.image.as_ref(),
        ExpectedImage::New => true,
        ExpectedImage::Same => false,
    };
    stale.then_some("template image")
}

fn differs(property: QubeProperty, a: &Qube, b: &Qube) -> bool {
    match property {
        // Sizes are storage's business; what a start fixes is which volumes there are.
        QubeProperty::Volumes => !a.volumes.keys().eq(b.volumes.keys()),
        _ => property.differs(a, b),
    }
}
