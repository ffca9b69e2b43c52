//! One qube from what is written about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::WrittenQube;
use super::layers::{Layers, Origin};
use super::{Catalog, Places, ResolvedQube};
use crate::decode::{Maybe, Size};
use crate::diagnostic::{Problem, Problems};
use crate::name::QubeName;
use crate::property::QubeProperty as P;
use crate::qube::{
    DEFAULT_MEMORY_MAXIMUM, DEFAULT_PRIVATE_SIZE, DEFAULT_REVISIONS_TO_KEEP, DEFAULT_ROOT_SIZE,
    Qube, QubeKind, VirtMode, Volume,
};
use crate::written::{QubeOptions, VolumeOptions};

pub(super) fn resolve(
    name: &QubeName,
    written: &WrittenQube<'_>,
    catalog: &Catalog<'_>,
    problems: &mut Problems,
) -> ResolvedQube {
    let mut incomplete = !catalog.complete;
    let layers = layers(name, &written.own, catalog, problems, &mut incomplete);
    let places = Places::new(written.name_at);
    let mut resolver = Resolver {
        places,
        layers,
        qube: Qube::new(name.clone(), QubeKind::App, ""),
    };
    resolver.identity();
    resolver.scalars();
    resolver.references();
    resolver.memory();
    resolver.volumes(problems);
    resolver.collections();
    incomplete |= (resolver.layers.list.iter()).any(|(_, options)| options.incomplete);
    let resolved = ResolvedQube {
        qube: Arc::new(resolver.qube),
        places: resolver.places,
        incomplete,
    };
    missing(&resolved, problems);
    resolved
}

/// What is written about a qube: its own, its profiles from the last to the first, defaults.
fn layers<'u>(
    name: &QubeName,
    own: &[&'u QubeOptions],
    catalog: &Catalog<'u>,
    problems: &mut Problems,
    incomplete: &mut bool,
) -> Layers<'u> {
    let mut list: Vec<_> = own.iter().map(|options| (Origin::Own, *options)).collect();
    let profiles = own.iter().find_map(|options| options.profiles.as_ref());
    for profile in profiles
        .iter()
        .flat_map(|profiles| profiles.value.iter().rev())
    {
        if let Some((_, options)) = catalog.profiles.get(profile.value.as_str()) {
            list.push((Origin::Profile, *options));
            continue;
        }
        *incomplete = true;
        if catalog.complete {
            let mut message = format!(
                "qube `{name}` lists profile `{}`, which does not exist",
                profile.value
            );
            let known = catalog.profiles.keys().copied();
            if let Some(near) = catalog.suggester.nearest(&profile.value, known) {
                message.push_str(&format!(", did you mean `{near}`?"));
            }
            problems.push(Problem::error(profile.at, message));
        }
    }
    list.extend(
        catalog
            .defaults
            .iter()
            .map(|options| (Origin::Defaults, *options)),
    );
    Layers { list }
}

/// What has no default and was given nowhere.
fn missing(resolved: &ResolvedQube, problems: &mut Problems) {
    if resolved.incomplete {
        return;
    }
    let (qube, at) = (&resolved.qube, resolved.places.name());
    if qube.label.is_empty() {
        let problem = Problem::error(at, format!("qube `{}` has no label", qube.name));
        problems.push(
            problem.help("add `label: \"red\"`, or another label that shows how far it is trusted"),
        );
    }
    let bare_metal = qube.kind == QubeKind::Standalone && qube.virt_mode == VirtMode::Hvm;
    if qube.template.is_none() && !bare_metal {
        let problem = Problem::error(at, format!("qube `{}` has no template", qube.name));
        problems.push(match qube.kind {
            QubeKind::NamedDisposable => {
                problem.help("add `template`, with a qube of kind `DisposableTemplate`")
            }
            _ => problem.help("add `template`, with a name from `templates`"),
        });
    }
}

struct Resolver<'u> {
    layers: Layers<'u>,
    places: Places,
    qube: Qube,
}

/// Takes the strongest value of an option over into the qube.
macro_rules! take {
    ($self:ident, $($property:ident $field:ident => |$value:ident| $read:expr;)*) => {$(
        if let Some($value) = $self.layers.take(P::$property, &mut $self.places, |o| o.$field.as_ref()) {
            $self.qube.$field = $read;
        }
    )*};
}

impl Resolver<'_> {
    /// Kind first: it decides which defaults count.
    fn identity(&mut self) {
        take!(self,
            Kind kind => |value| *value;
            Label label => |value| value.clone();
        );
        let weakest = match self.qube.kind {
            QubeKind::App | QubeKind::DisposableTemplate => Origin::Defaults,
            _ => Origin::Profile,
        };
        if let Some((origin, template)) = self.layers.pick(weakest, |o| o.template.as_ref()) {
            self.qube.template = Some(template.value.clone());
            self.places
                .set(P::Template, template.at, origin != Origin::Own);
        }
    }

    fn scalars(&mut self) {
        take!(self,
            ProvidesNetwork provides_network => |value| *value;
            Vcpus vcpus => |value| value.0;
            Maxvcpus maxvcpus => |value| value.just().map(|most| most.0);
            CpuWeight cpu_weight => |value| value.0;
            Autostart autostart => |value| *value;
            Kernel kernel => |value| value.just().cloned();
            Kernelopts kernelopts => |value| value.clone();
            VirtMode virt_mode => |value| *value;
            Restart restart => |value| *value;
            DefaultUser default_user => |value| value.clone();
            ShutdownTimeout shutdown_timeout => |value| value.0;
            ProvidesAudio provides_audio => |value| *value;
            ProvidesGui provides_gui => |value| *value;
            ProvidesManagement provides_management => |value| *value;
        );
    }

    fn references(&mut self) {
        take!(self,
            DefaultDispvm default_dispvm => |value| value.just().cloned();
            ManagementDispvm management_dispvm => |value| value.just().cloned();
        );
        let weakest = match self.qube.kind {
            QubeKind::Template => Origin::Profile,
            _ => Origin::Defaults,
        };
        if let Some((origin, netvm)) = self.layers.pick(weakest, |o| o.netvm.as_ref()) {
            self.qube.netvm = netvm.value.just().cloned();
            self.places.set(P::Netvm, netvm.at, origin != Origin::Own);
        }
        // The qube that serves all others by default does not serve itself.
        let name = &self.qube.name;
        let other = |origin, value: &Maybe<QubeName>| {
            let value = value.just();
            value
                .filter(|value| origin == Origin::Own || *value != name)
                .cloned()
        };
        let audiovm = self.layers.pick(Origin::Defaults, |o| o.audiovm.as_ref());
        let guivm = self.layers.pick(Origin::Defaults, |o| o.guivm.as_ref());
        let (audio, gui) = (
            audiovm.and_then(|(origin, value)| other(origin, &value.value)),
            guivm.and_then(|(origin, value)| other(origin, &value.value)),
        );
        (self.qube.audiovm, self.qube.guivm) = (audio, gui);
        for (property, picked) in [(P::Audiovm, audiovm), (P::Guivm, guivm)] {
            if let Some((origin, located)) = picked {
                self.places.set(property, located.at, origin != Origin::Own);
            }
        }
    }

    fn memory(&mut self) {
        let initial = self.layers.pick(Origin::Defaults, |o| {
            o.memory.as_ref()?.value.initial.as_ref()
        });
        let maximum = self.layers.pick(Origin::Defaults, |o| {
            o.memory.as_ref()?.value.maximum.as_ref()
        });
        if let Some((_, located)) = initial {
            self.qube.memory.initial = located.value.0;
        }
        let start = self.qube.memory.initial;
        self.qube.memory.maximum = match maximum.map(|(_, located)| located.value) {
            None => DEFAULT_MEMORY_MAXIMUM.max(start),
            Some(Maybe::Nothing) => start,
            Some(Maybe::Just(Size(maximum))) => maximum,
        };
        // An upper bound below the start is reported where the stronger of the two stands.
        let at = match (initial, maximum) {
            (Some((a, initial)), Some((b, _))) if a < b => Some((a, initial.at)),
            (_, Some((b, maximum))) => Some((b, maximum.at)),
            (Some((a, initial)), None) => Some((a, initial.at)),
            (None, None) => None,
        };
        if let Some((origin, at)) = at {
            self.places.set(P::Memory, at, origin != Origin::Own);
        }
    }

    fn volumes(&mut self, problems: &mut Problems) {
        let kind = self.qube.kind;
        let mut default = BTreeMap::new();
        if kind != QubeKind::NamedDisposable {
            default.insert("private", DEFAULT_PRIVATE_SIZE);
        }
        if matches!(kind, QubeKind::Template | QubeKind::Standalone) {
            default.insert("root", DEFAULT_ROOT_SIZE);
        }
        for (name, size) in &default {
            let volume = Volume {
                size: *size,
                revisions_to_keep: DEFAULT_REVISIONS_TO_KEEP,
            };
            self.qube.volumes.insert((*name).to_owned(), volume);
        }
        let written = self
            .layers
            .join(P::Volumes, &mut self.places, |o| o.volumes.as_ref());
        for (origin, table) in written {
            for (name, options) in &table.entries {
                if let Some(volume) = self.qube.volumes.get_mut(&name.value) {
                    set_volume(volume, options);
                } else if origin == Origin::Own
                    || !matches!(name.value.as_str(), "private" | "root")
                {
                    // `private` in `defaults` is no mistake of a qube that has none.
                    problems.push(no_such_volume(&self.qube, name, default.keys().copied()));
                }
            }
        }
    }

    fn collections(&mut self) {
        for (_, table) in self
            .layers
            .join(P::Features, &mut self.places, |o| o.features.as_ref())
        {
            for (name, value) in &table.entries {
                match value {
                    Maybe::Just(value) => self
                        .qube
                        .features
                        .insert(name.value.clone(), value.0.clone()),
                    Maybe::Nothing => self.qube.features.remove(&name.value),
                };
            }
        }
        for (_, table) in self
            .layers
            .join(P::Services, &mut self.places, |o| o.services.as_ref())
        {
            for (name, value) in &table.entries {
                match value {
                    Maybe::Just(value) => self.qube.services.insert(name.value.clone(), *value),
                    Maybe::Nothing => self.qube.services.remove(&name.value),
                };
            }
        }
        for (_, tags) in self
            .layers
            .join(P::Tags, &mut self.places, |o| o.tags.as_ref())
        {
            self.qube
                .tags
                .extend(tags.iter().map(|tag| tag.value.clone()));
        }
        for (_, devices) in self
            .layers
            .join(P::Devices, &mut self.places, |o| o.devices.as_ref())
        {
            for device in devices {
                if !self.qube.devices.contains(&device.value) {
                    self.qube.devices.push(device.value.clone());
                }
            }
        }
    }
}

fn set_volume(volume: &mut Volume, options: &VolumeOptions) {
    if let Some(size) = &options.size {
        volume.size = size.value.0;
    }
    if let Some(kept) = &options.revisions_to_keep {
        volume.revisions_to_keep = kept.value.0;
    }
}

fn no_such_volume<'a>(
    qube: &Qube,
    name: &crate::decode::Located<String>,
    known: impl Iterator<Item = &'a str>,
) -> Problem {
    let message = format!("qube `{}` has no volume `{}`", qube.name, name.value);
    let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
    let problem = Problem::error(name.at, message);
    match known.is_empty() {
        true => problem.help("a named disposable keeps no volume"),
        false => problem.help(format!(
            "a qube of kind {} has {}",
            qube.kind.name(),
            known.join(" and ")
        )),
    }
}
