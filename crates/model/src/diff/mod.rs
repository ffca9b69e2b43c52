//! What differs between two descriptions, in terms of qubes, properties and rules.
//!
//! Pure and symmetric: `diff(a, b)` read backwards is `diff(b, a)`.

mod policy;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::QubeName;
use crate::property::{PropertyValue, QubeProperty};
use crate::qube::{Description, Label, Qube, Remote, Template, TemplateSource};

/// Everything that differs; empty when the descriptions mean the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DescriptionDiff {
    /// Labels, by name.
    pub labels: Vec<EntryDiff<String, String>>,
    /// Templates, by name.
    pub templates: Vec<EntryDiff<QubeName, String>>,
    /// Qubes, by name.
    pub qubes: Vec<EntryDiff<QubeName, QubeProperty>>,
    /// Qubes of other machines, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<EntryDiff<QubeName, String>>,
    /// What dom0 does for qubes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dom0: Vec<PropertyDiff<String>>,
    /// Policy rules, in the order of the longer description.
    pub policy: Vec<RuleDiff>,
    /// What policy must decide, line by line, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_tests: Vec<RuleDiff>,
}

/// What happened to one named thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum EntryDiff<N, P> {
    /// Only the new description has it.
    Added {
        /// Its name.
        name: N,
    },
    /// Only the old description has it.
    Removed {
        /// Its name.
        name: N,
    },
    /// Both have it, with other properties.
    Changed {
        /// Its name.
        name: N,
        /// What differs; never empty.
        properties: Vec<PropertyDiff<P>>,
    },
}

/// One property that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyDiff<P> {
    /// Which.
    pub property: P,
    /// Which key of it, where the property is a map (`private.size` of `volumes`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// Value before; none when the key was absent.
    pub old: PropertyValue,
    /// Value after; none when the key is absent.
    pub new: PropertyValue,
}

/// A policy rule, or an expectation, that only one description has, or has at another place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum RuleDiff {
    /// Only the new description has it here.
    Added(Rule),
    /// Only the old description has it here.
    Removed(Rule),
}

/// A policy rule, or an expectation, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The rule, with single blanks and without comments.
    pub text: String,
    /// `file:line`.
    pub place: String,
}

impl<N, P> EntryDiff<N, P> {
    /// The name of what differs.
    pub fn name(&self) -> &N {
        match self {
            Self::Added { name } | Self::Removed { name } | Self::Changed { name, .. } => name,
        }
    }
}

impl<P: AsRef<str>> PropertyDiff<P> {
    fn path(&self) -> String {
        match &self.key {
            Some(key) => format!("{}.{key}", self.property.as_ref()),
            None => self.property.as_ref().to_owned(),
        }
    }
}

impl AsRef<str> for QubeProperty {
    fn as_ref(&self) -> &str {
        self.name()
    }
}

impl DescriptionDiff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
            && self.templates.is_empty()
            && self.qubes.is_empty()
            && self.remotes.is_empty()
            && self.dom0.is_empty()
            && self.policy.is_empty()
            && self.policy_tests.is_empty()
    }
}

/// Compares two descriptions.
pub fn diff(old: &Description, new: &Description) -> DescriptionDiff {
    DescriptionDiff {
        templates: entries(&old.templates, &new.templates, template_properties),
        qubes: entries(&old.qubes, &new.qubes, |old, new| qube_properties(old, new)),
        ..diff_around_qubes(old, new)
    }
}

/// The same without qubes and templates, for those who look at each of these anyway.
pub fn diff_around_qubes(old: &Description, new: &Description) -> DescriptionDiff {
    DescriptionDiff {
        templates: Vec::new(),
        qubes: Vec::new(),
        labels: entries(&old.labels, &new.labels, label_properties),
        remotes: entries(&old.remotes, &new.remotes, remote_properties),
        dom0: dom0_properties(old, new),
        policy: policy::rules(old, new),
        policy_tests: policy::expectations(old, new),
    }
}

/// The properties that differ between two versions of the same qube, in documented order.
pub fn qube_properties(old: &Qube, new: &Qube) -> Vec<PropertyDiff<QubeProperty>> {
    if old == new {
        return Vec::new();
    }
    (QubeProperty::ALL.into_iter())
        .filter(|property| property.differs(old, new))
        .flat_map(|property| values(property, property.of(old), property.of(new)))
        .collect()
}

fn entries<N: Ord + Clone, T: PartialEq, P>(
    old: &BTreeMap<N, T>,
    new: &BTreeMap<N, T>,
    properties: impl Fn(&T, &T) -> Vec<PropertyDiff<P>>,
) -> Vec<EntryDiff<N, P>> {
    let mut found: Vec<EntryDiff<N, P>> = Vec::new();
    for (name, entry) in old {
        let name = name.clone();
        match new.get(&name) {
            None => found.push(EntryDiff::Removed { name }),
            Some(other) if other != entry => {
                let properties = properties(entry, other);
                found.push(EntryDiff::Changed { name, properties });
            }
            Some(_) => {}
        }
    }
    for name in new.keys().filter(|name| !old.contains_key(name)) {
        found.push(EntryDiff::Added { name: name.clone() });
    }
    found.sort_by(|a, b| a.name().cmp(b.name()));
    found
}

fn dom0_properties(old: &Description, new: &Description) -> Vec<PropertyDiff<String>> {
    let user = |description: &Description| {
        let user = description.dom0.service_user.as_deref();
        user.map_or(PropertyValue::None, PropertyValue::from)
    };
    let confirm = |description: &Description| description.dom0.confirm_paste.into();
    let mut found = values("service_user".to_owned(), user(old), user(new));
    found.extend(values(
        "confirm_paste".to_owned(),
        confirm(old),
        confirm(new),
    ));
    found
}

fn label_properties(old: &Label, new: &Label) -> Vec<PropertyDiff<String>> {
    let pair = |name: &str, old: &str, new: &str| {
        values(
            name.to_owned(),
            PropertyValue::from(old),
            PropertyValue::from(new),
        )
    };
    let mut found = pair("color", &old.color, &new.color);
    found.extend(pair("icon", &old.icon, &new.icon));
    found
}

fn template_properties(old: &Template, new: &Template) -> Vec<PropertyDiff<String>> {
    let mut found = values(
        "source".to_owned(),
        source_value(&old.source),
        source_value(&new.source),
    );
    found.extend(values(
        "label".to_owned(),
        PropertyValue::from(old.label.as_str()),
        PropertyValue::from(new.label.as_str()),
    ));
    found
}

fn remote_properties(old: &Remote, new: &Remote) -> Vec<PropertyDiff<String>> {
    let texts = [
        ("label", old.label.as_str(), new.label.as_str()),
        ("relayvm", old.relayvm.as_str(), new.relayvm.as_str()),
        ("transport_rpc", &old.transport_rpc, &new.transport_rpc),
        (
            "remote_name",
            old.remote_name.as_str(),
            new.remote_name.as_str(),
        ),
    ];
    let mut found: Vec<_> = (texts.into_iter())
        .flat_map(|(name, old, new)| values(name.to_owned(), old.into(), new.into()))
        .collect();
    let tags = |of: &Remote| PropertyValue::List(of.tags.iter().cloned().collect());
    found.extend(values("tags".to_owned(), tags(old), tags(new)));
    found
}

/// A template source as a value.
fn source_value(source: &TemplateSource) -> PropertyValue {
    match source {
        TemplateSource::Host => "Host".into(),
        TemplateSource::Folder(path) => format!("Folder({path})").as_str().into(),
        TemplateSource::Image(path) => format!("Image({path})").as_str().into(),
        TemplateSource::Debian { suite, packages } => {
            let packages = packages.join(" ");
            format!("Debian({suite}: {packages})").as_str().into()
        }
    }
}

fn values<P: Clone>(property: P, old: PropertyValue, new: PropertyValue) -> Vec<PropertyDiff<P>> {
    match (old, new) {
        (old, new) if old == new => Vec::new(),
        (PropertyValue::Map(old), PropertyValue::Map(new)) => keys(property, old, new),
        (old, new) => vec![PropertyDiff {
            property,
            key: None,
            old,
            new,
        }],
    }
}

fn keys<P: Clone>(
    property: P,
    old: BTreeMap<String, PropertyValue>,
    mut new: BTreeMap<String, PropertyValue>,
) -> Vec<PropertyDiff<P>> {
    let diff = |key, old, new| PropertyDiff {
        property: property.clone(),
        key: Some(key),
        old,
        new,
    };
    let mut found = Vec::new();
    for (key, old) in old {
        let new = new.remove(&key).unwrap_or(PropertyValue::None);
        if old != new {
            found.push(diff(key, old, new));
        }
    }
    let added = new.into_iter();
    found.extend(added.map(|(key, new)| diff(key, PropertyValue::None, new)));
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

#[cfg(test)]
mod tests;
