//! The properties of a qube as values of one kind, so that they can be listed and compared.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::QubeName;
use crate::qube::{Mib, Qube};

/// A property of [`Qube`]. The names are those of the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the field of `Qube` of the same name")]
pub enum QubeProperty {
    Kind,
    Label,
    Template,
    Netvm,
    ProvidesNetwork,
    Memory,
    Vcpus,
    Maxvcpus,
    CpuWeight,
    Autostart,
    Volumes,
    Kernel,
    Kernelopts,
    VirtMode,
    Devices,
    Features,
    Services,
    Tags,
    DefaultDispvm,
    Restart,
    DefaultUser,
    Audiovm,
    Guivm,
    ManagementDispvm,
    ShutdownTimeout,
    ProvidesAudio,
    ProvidesGui,
    ProvidesManagement,
}

/// The value of a property, or of one key of a property that is a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PropertyValue {
    /// Nothing, as in `netvm: None`.
    None,
    /// `true` or `false`.
    Bool(bool),
    /// A count; seconds where the property says so.
    Number(u64),
    /// A text or a name.
    Text(String),
    /// A list in its order.
    List(Vec<String>),
    /// A map; nested keys are joined with a dot (`private.size`).
    Map(BTreeMap<String, PropertyValue>),
}

impl fmt::Display for PropertyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Bool(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(value) if value.is_empty() => f.write_str("\"\""),
            Self::Text(value) => f.write_str(value),
            Self::List(items) => write!(f, "[{}]", items.join(", ")),
            Self::Map(map) => {
                f.write_str("{")?;
                for (index, (key, value)) in map.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{key}: {value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

impl From<bool> for PropertyValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for PropertyValue {
    fn from(value: u32) -> Self {
        Self::Number(value.into())
    }
}

impl From<&str> for PropertyValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Mib> for PropertyValue {
    /// Sizes are text with a unit (`2 GiB`): nobody has to know that a number is in MiB.
    fn from(value: Mib) -> Self {
        Self::Text(value.to_string())
    }
}

impl From<Option<&QubeName>> for PropertyValue {
    fn from(value: Option<&QubeName>) -> Self {
        value.map_or(Self::None, |name| name.as_str().into())
    }
}

impl QubeProperty {
    /// Every property, in the order in which it is documented and shown.
    pub const ALL: [Self; 28] = [
        Self::Kind,
        Self::Label,
        Self::Template,
        Self::Netvm,
        Self::ProvidesNetwork,
        Self::Memory,
        Self::Vcpus,
        Self::Maxvcpus,
        Self::CpuWeight,
        Self::Autostart,
        Self::Volumes,
        Self::Kernel,
        Self::Kernelopts,
        Self::VirtMode,
        Self::Devices,
        Self::Features,
        Self::Services,
        Self::Tags,
        Self::DefaultDispvm,
        Self::Restart,
        Self::DefaultUser,
        Self::Audiovm,
        Self::Guivm,
        Self::ManagementDispvm,
        Self::ShutdownTimeout,
        Self::ProvidesAudio,
        Self::ProvidesGui,
        Self::ProvidesManagement,
    ];

    /// The name as the description writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Label => "label",
            Self::Template => "template",
            Self::Netvm => "netvm",
            Self::ProvidesNetwork => "provides_network",
            Self::Memory => "memory",
            Self::Vcpus => "vcpus",
            Self::Maxvcpus => "maxvcpus",
            Self::CpuWeight => "cpu_weight",
            Self::Autostart => "autostart",
            Self::Volumes => "volumes",
            Self::Kernel => "kernel",
            Self::Kernelopts => "kernelopts",
            Self::VirtMode => "virt_mode",
            Self::Devices => "devices",
            Self::Features => "features",
            Self::Services => "services",
            Self::Tags => "tags",
            Self::DefaultDispvm => "default_dispvm",
            Self::Restart => "restart",
            Self::DefaultUser => "default_user",
            Self::Audiovm => "audiovm",
            Self::Guivm => "guivm",
            Self::ManagementDispvm => "management_dispvm",
            Self::ShutdownTimeout => "shutdown_timeout",
            Self::ProvidesAudio => "provides_audio",
            Self::ProvidesGui => "provides_gui",
            Self::ProvidesManagement => "provides_management",
        }
    }

    /// Whether it has another value in `a` than in `b`. Says nothing of what they are, so that it
    /// makes none.
    pub fn differs(self, a: &Qube, b: &Qube) -> bool {
        match self {
            Self::Kind => a.kind != b.kind,
            Self::Label => a.label != b.label,
            Self::Template => a.template != b.template,
            Self::Netvm => a.netvm != b.netvm,
            Self::ProvidesNetwork => a.provides_network != b.provides_network,
            Self::Memory => a.memory != b.memory,
            Self::Vcpus => a.vcpus != b.vcpus,
            Self::Maxvcpus => a.maxvcpus != b.maxvcpus,
            Self::CpuWeight => a.cpu_weight != b.cpu_weight,
            Self::Autostart => a.autostart != b.autostart,
            Self::Volumes => a.volumes != b.volumes,
            Self::Kernel => a.kernel != b.kernel,
            Self::Kernelopts => a.kernelopts != b.kernelopts,
            Self::VirtMode => a.virt_mode != b.virt_mode,
            Self::Devices => a.devices != b.devices,
            Self::Features => a.features != b.features,
            Self::Services => a.services != b.services,
            Self::Tags => a.tags != b.tags,
            Self::DefaultDispvm => a.default_dispvm != b.default_dispvm,
            Self::Restart => a.restart != b.restart,
            Self::DefaultUser => a.default_user != b.default_user,
            Self::Audiovm => a.audiovm != b.audiovm,
            Self::Guivm => a.guivm != b.guivm,
            Self::ManagementDispvm => a.management_dispvm != b.management_dispvm,
            Self::ShutdownTimeout => a.shutdown_timeout != b.shutdown_timeout,
            Self::ProvidesAudio => a.provides_audio != b.provides_audio,
            Self::ProvidesGui => a.provides_gui != b.provides_gui,
            Self::ProvidesManagement => a.provides_management != b.provides_management,
        }
    }

    /// Its value in `qube`.
    pub fn of(self, qube: &Qube) -> PropertyValue {
        match self {
            Self::Kind => qube.kind.name().into(),
            Self::Label => qube.label.as_str().into(),
            Self::Template => qube.template.as_ref().into(),
            Self::Netvm => qube.netvm.as_ref().into(),
            Self::ProvidesNetwork => qube.provides_network.into(),
            Self::Memory => map([
                ("initial", qube.memory.initial.into()),
                ("maximum", qube.memory.maximum.into()),
            ]),
            Self::Vcpus => qube.vcpus.into(),
            Self::Maxvcpus => qube.maxvcpus.map_or(PropertyValue::None, Into::into),
            Self::CpuWeight => qube.cpu_weight.into(),
            Self::Autostart => qube.autostart.into(),
            Self::Volumes => PropertyValue::Map(
                (qube.volumes.iter())
                    .flat_map(|(name, volume)| {
                        let kept = volume.revisions_to_keep.into();
                        [
                            (format!("{name}.size"), volume.size.into()),
                            (format!("{name}.revisions_to_keep"), kept),
                        ]
                    })
                    .collect(),
            ),
            Self::Kernel => (qube.kernel.as_deref()).map_or(PropertyValue::None, Into::into),
            Self::Kernelopts => qube.kernelopts.as_str().into(),
            Self::VirtMode => qube.virt_mode.name().into(),
            Self::Devices => PropertyValue::List(qube.devices.clone()),
            Self::Features => map((qube.features.iter()).map(|(k, v)| (k, v.as_str().into()))),
            Self::Services => map((qube.services.iter()).map(|(k, v)| (k, (*v).into()))),
            Self::Tags => PropertyValue::List(qube.tags.iter().cloned().collect()),
            Self::DefaultDispvm => qube.default_dispvm.as_ref().into(),
            Self::Restart => qube.restart.name().into(),
            Self::DefaultUser => qube.default_user.as_str().into(),
            Self::Audiovm => qube.audiovm.as_ref().into(),
            Self::Guivm => qube.guivm.as_ref().into(),
            Self::ManagementDispvm => qube.management_dispvm.as_ref().into(),
            Self::ShutdownTimeout => qube.shutdown_timeout.into(),
            Self::ProvidesAudio => qube.provides_audio.into(),
            Self::ProvidesGui => qube.provides_gui.into(),
            Self::ProvidesManagement => qube.provides_management.into(),
        }
    }
}

impl fmt::Display for QubeProperty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

fn map<K: ToString>(entries: impl IntoIterator<Item = (K, PropertyValue)>) -> PropertyValue {
    PropertyValue::Map(
        (entries.into_iter())
            .map(|(key, value)| (key.to_string(), value))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qube::{QubeKind, Volume};

    #[test]
    fn every_field_of_a_qube_is_a_property() {
        let qube = Qube::new(QubeName::new("work").unwrap(), QubeKind::App, "blue");
        let json = serde_json::to_value(&qube).unwrap();
        let mut fields: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        fields.retain(|field| field != "name");
        let mut names: Vec<_> = QubeProperty::ALL
            .iter()
            .map(|p| p.name().to_owned())
            .collect();
        names.sort();
        fields.sort();
        assert_eq!(names, fields);
    }

    #[test]
    fn a_property_differs_when_its_value_does() {
        let plain = Qube::new(QubeName::new("work").unwrap(), QubeKind::App, "blue");
        let other = |value: &serde_json::Value| match value {
            serde_json::Value::Bool(value) => (!value).into(),
            serde_json::Value::Number(value) => (value.as_u64().unwrap() + 1).into(),
            serde_json::Value::Array(_) => serde_json::json!(["other"]),
            _ => serde_json::json!("other"),
        };
        let whole = serde_json::to_value(&plain).unwrap();
        for property in QubeProperty::ALL {
            let mut json = whole.clone();
            let value = &mut json[property.name()];
            *value = match property {
                QubeProperty::Kind => "standalone".into(),
                QubeProperty::VirtMode => "hvm".into(),
                QubeProperty::Restart => "always".into(),
                QubeProperty::Maxvcpus => 8.into(),
                QubeProperty::Memory => serde_json::json!({"initial": 1, "maximum": 2}),
                QubeProperty::Volumes => {
                    serde_json::json!({"private": {"size": 1, "revisions_to_keep": 1}})
                }
                QubeProperty::Features => serde_json::json!({"other": "1"}),
                QubeProperty::Services => serde_json::json!({"other": true}),
                _ => other(value),
            };
            let changed: Qube = serde_json::from_value(json).unwrap();
            let differ: Vec<_> = (QubeProperty::ALL.into_iter())
                .filter(|one| one.differs(&plain, &changed))
                .collect();
            assert_eq!(differ, [property]);
            assert_ne!(property.of(&plain), property.of(&changed));
        }
    }

    #[test]
    fn what_was_written_down_without_newer_properties_has_the_usual_ones() {
        let qube = Qube::new(QubeName::new("work").unwrap(), QubeKind::App, "blue");
        let mut old = serde_json::to_value(&qube).unwrap();
        for newer in ["cpu_weight", "maxvcpus"] {
            assert!(old.as_object_mut().unwrap().remove(newer).is_some());
        }
        assert_eq!(serde_json::from_value::<Qube>(old).unwrap(), qube);
    }

    #[test]
    fn a_property_is_serialised_under_its_name() {
        for property in QubeProperty::ALL {
            assert_eq!(serde_json::to_value(property).unwrap(), property.name());
        }
    }

    #[test]
    fn values_read_as_a_person_would_write_them() {
        let mut qube = Qube::new(QubeName::new("work").unwrap(), QubeKind::App, "blue");
        qube.volumes
            .insert("private".into(), Volume::private_default());
        qube.services.insert("clocksync".into(), true);
        qube.tags.extend(["a".to_owned(), "b".to_owned()]);
        let shown: Vec<_> = [
            QubeProperty::Netvm,
            QubeProperty::Memory,
            QubeProperty::Volumes,
            QubeProperty::Services,
            QubeProperty::Tags,
            QubeProperty::Kernelopts,
        ]
        .iter()
        .map(|p| format!("{p} = {}", p.of(&qube)))
        .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        netvm = none
        memory = {initial: 400 MiB, maximum: 4000 MiB}
        volumes = {private.revisions_to_keep: 1, private.size: 2 GiB}
        services = {clocksync: true}
        tags = [a, b]
        kernelopts = ""
        "#);
    }
}
