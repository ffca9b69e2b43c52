//! The lock: which image each declared template is, exactly.
//!
//! A template keeps its image until its source is declared otherwise or an update is asked for, so
//! that the same description gives the same machine next year. A generation keeps its lock, so a
//! rollback brings back the images as well.

use std::collections::BTreeMap;

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Description, Qube, QubeKind, Template, TemplateSource};
use serde::{Deserialize, Serialize};

use crate::storage::ImageDigest;

/// One locked template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// What the image was made from.
    pub source: TemplateSource,
    /// The image.
    pub digest: ImageDigest,
}

/// The image of each template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lock(pub BTreeMap<QubeName, Locked>);

impl Lock {
    /// The part of this lock that still holds for `description`: templates whose source is the same.
    pub fn carry(&self, description: &Description) -> Self {
        let holds = |name: &QubeName, template: &Template| {
            let locked = self.0.get(name)?;
            (locked.source == template.source).then(|| (name.clone(), locked.clone()))
        };
        Self(
            (description.templates.iter())
                .filter_map(|(name, template)| holds(name, template))
                .collect(),
        )
    }

    /// The image of a template.
    pub fn image(&self, template: &QubeName) -> Option<&ImageDigest> {
        self.0.get(template).map(|locked| &locked.digest)
    }

    /// Template names and images alone.
    pub fn images(&self) -> BTreeMap<QubeName, ImageDigest> {
        (self.0.iter())
            .map(|(name, locked)| (name.clone(), locked.digest.clone()))
            .collect()
    }
}

/// The template that a qube's root comes from in the end: a disposable's template is an app qube,
/// whose template is the one. None for a qube with a root of its own.
pub fn template_of<'a>(description: &'a Description, qube: &Qube) -> Option<&'a Template> {
    let mut name = qube.template.as_ref()?;
    // A chain longer than there are qubes would be a cycle, which validation refuses.
    for _ in 0..=description.qubes.len() {
        if let Some(template) = description.templates.get(name) {
            return Some(template);
        }
        name = description.qubes.get(name)?.template.as_ref()?;
    }
    None
}

/// The qube whose root a qube's own comes from: the first of kind `Template` on its way to an
/// image. None where that is an image's alone.
pub fn template_qube_of<'a>(description: &'a Description, qube: &Qube) -> Option<&'a QubeName> {
    let mut name = qube.template.as_ref()?;
    // As above.
    for _ in 0..=description.qubes.len() {
        let (key, next) = description.qubes.get_key_value(name)?;
        if next.kind == QubeKind::Template {
            return Some(key);
        }
        name = next.template.as_ref()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> QubeName {
        QubeName::new(text).unwrap()
    }

    fn template(text: &str, source: TemplateSource) -> (QubeName, Template) {
        let name = name(text);
        let template = Template {
            name: name.clone(),
            source,
            label: "black".into(),
        };
        (name, template)
    }

    #[test]
    fn a_lock_holds_until_the_source_is_another() {
        let locked = |source| Locked {
            source,
            digest: "a".repeat(64).parse().unwrap(),
        };
        let lock = Lock(BTreeMap::from([
            (name("same"), locked(TemplateSource::Host)),
            (name("moved"), locked(TemplateSource::Folder("/old".into()))),
            (name("gone"), locked(TemplateSource::Host)),
        ]));
        let description = Description {
            templates: BTreeMap::from([
                template("same", TemplateSource::Host),
                template("moved", TemplateSource::Folder("/new".into())),
                template("fresh", TemplateSource::Host),
            ]),
            ..Description::default()
        };
        let carried = lock.carry(&description);
        assert_eq!(carried.0.keys().collect::<Vec<_>>(), [&name("same")]);
    }

    #[test]
    fn the_template_of_a_disposable_is_that_of_its_app_qube_and_a_cycle_ends() {
        let mut description = Description {
            templates: BTreeMap::from([template("debian", TemplateSource::Host)]),
            ..Description::default()
        };
        let mut add = |qube: &str, template: &str| {
            let mut made = Qube::new(name(qube), QubeKind::App, "red");
            made.template = Some(name(template));
            description.qubes.insert(name(qube), made.clone().into());
            made
        };
        let app = add("dvm", "debian");
        let disposable = add("disp1", "dvm");
        let cycle = add("x", "y");
        add("y", "x");
        for qube in [&app, &disposable] {
            assert_eq!(
                template_of(&description, qube).unwrap().name,
                name("debian")
            );
        }
        assert!(template_of(&description, &cycle).is_none());
    }

    #[test]
    fn a_root_comes_from_the_nearest_template_qube() {
        let mut description = Description {
            templates: BTreeMap::from([template("debian", TemplateSource::Host)]),
            ..Description::default()
        };
        let mut add = |qube: &str, kind, template: &str| {
            let mut made = Qube::new(name(qube), kind, "red");
            made.template = Some(name(template));
            description.qubes.insert(name(qube), made.clone().into());
            made
        };
        let of_image = add("plain", QubeKind::App, "debian");
        let template = add("tools", QubeKind::Template, "debian");
        let app = add("app", QubeKind::App, "tools");
        add("dvm", QubeKind::DisposableTemplate, "tools");
        let disposable = add("disp1", QubeKind::NamedDisposable, "dvm");
        let cycle = add("x", QubeKind::App, "y");
        add("y", QubeKind::App, "x");
        let tools = name("tools");
        for (qube, expect) in [
            (of_image, None),
            (template, None),
            (app, Some(&tools)),
            (disposable, Some(&tools)),
            (cycle, None),
        ] {
            assert_eq!(
                template_qube_of(&description, &qube),
                expect,
                "{}",
                qube.name
            );
        }
    }
}
