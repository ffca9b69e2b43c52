//! Written form to resolved form: files joined, profiles and defaults merged in.
//!
//! Nothing is judged here but what stands in the way: names that are written twice, and what is
//! missing. [`check`](crate::check) looks at the whole.

pub(crate) mod catalog;
mod dom0;
mod layers;
mod places;
mod qube;
mod remote;

use std::collections::BTreeMap;

use crate::diagnostic::{At, Problem, Problems};
use crate::load::SourceUnit;
use crate::name::QubeName;
use crate::qube::{Label, Template, TemplateSource};
use crate::written::{LabelOptions, Source, TemplateOptions};

pub(crate) use catalog::{Catalog, WORD_RULE, is_word};
pub(crate) use places::Places;
pub(crate) use remote::ResolvedRemote;

/// The labels that always exist: name and colour, as in Qubes.
pub const PREDEFINED_LABELS: [(&str, &str); 8] = [
    ("red", "0xcc0000"),
    ("orange", "0xf57900"),
    ("yellow", "0xedd400"),
    ("green", "0x73d216"),
    ("gray", "0x555753"),
    ("blue", "0x3465a4"),
    ("purple", "0x75507b"),
    ("black", "0x000000"),
];

/// Everything resolved, each with its places.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) labels: BTreeMap<String, Label>,
    pub(crate) templates: BTreeMap<QubeName, ResolvedTemplate>,
    pub(crate) qubes: BTreeMap<QubeName, ResolvedQube>,
    pub(crate) remotes: BTreeMap<QubeName, ResolvedRemote>,
    pub(crate) dom0: crate::qube::Dom0,
    /// Whether all files could be read; if not, an unknown name is no error.
    pub(crate) complete: bool,
}

#[derive(Debug)]
pub(crate) struct ResolvedTemplate {
    pub(crate) template: Template,
    pub(crate) name_at: At,
    pub(crate) label_at: At,
}

#[derive(Debug)]
pub(crate) struct ResolvedQube {
    pub(crate) qube: std::sync::Arc<crate::qube::Qube>,
    pub(crate) places: Places,
    /// Whether something in it could not be read, so that what is missing was reported.
    pub(crate) incomplete: bool,
}

pub(crate) fn resolve(units: &[SourceUnit], complete: bool, problems: &mut Problems) -> Resolved {
    let catalog = Catalog::new(units, complete, problems);
    let mut resolved = Resolved {
        complete,
        dom0: dom0::dom0(units, problems),
        ..Resolved::default()
    };
    for (name, color) in PREDEFINED_LABELS {
        resolved
            .labels
            .insert(name.to_owned(), label(name, color, None));
    }
    for (name, (at, options)) in &catalog.labels {
        resolved.labels.insert(
            (*name).to_owned(),
            written_label(name, *at, options, problems),
        );
    }
    for (name, (at, unit, options)) in &catalog.templates {
        let template = template(name, *at, unit, options, problems);
        resolved.templates.insert((*name).clone(), template);
    }
    for (name, (at, options)) in &catalog.remotes {
        if let Some(remote) = remote::resolve(name, *at, options, problems) {
            resolved.remotes.insert((*name).clone(), remote);
        }
    }
    for (name, written) in &catalog.qubes {
        let qube = qube::resolve(name, written, &catalog, problems);
        resolved.qubes.insert(name.clone(), qube);
    }
    resolved
}

fn label(name: &str, color: &str, icon: Option<&str>) -> Label {
    Label {
        name: name.to_owned(),
        color: color.to_owned(),
        icon: icon.map_or_else(|| format!("appvm-{name}"), str::to_owned),
    }
}

fn written_label(name: &str, at: At, options: &LabelOptions, problems: &mut Problems) -> Label {
    if options.color.is_none() && !options.incomplete {
        let problem = Problem::error(at, format!("label `{name}` has no colour"));
        problems.push(problem.help("add `color: 0xcc0000`"));
    }
    let color = options
        .color
        .as_ref()
        .map_or("0x000000", |color| &color.value.0);
    label(
        name,
        color,
        options.icon.as_ref().map(|icon| icon.value.as_str()),
    )
}

fn template(
    name: &QubeName,
    name_at: At,
    unit: &SourceUnit,
    options: &TemplateOptions,
    problems: &mut Problems,
) -> ResolvedTemplate {
    if options.source.is_none() && !options.incomplete {
        let problem = Problem::error(name_at, format!("template `{name}` has no source"));
        problems.push(problem.help("add `source: Host` or `source: Debian(suite: \"trixie\")`"));
    }
    let source = match options.source.as_ref().map(|source| &source.value) {
        None | Some(Source::Host) => TemplateSource::Host,
        Some(Source::Folder(path)) => {
            TemplateSource::Folder(unit.folder.join(path).display().to_string())
        }
        Some(Source::Image(path)) => {
            TemplateSource::Image(unit.folder.join(path).display().to_string())
        }
        Some(Source::Debian(debian)) => TemplateSource::Debian {
            suite: debian
                .suite
                .as_ref()
                .map(|suite| suite.value.clone())
                .unwrap_or_default(),
            packages: (debian.packages.as_ref())
                .map(|packages| packages.value.clone())
                .unwrap_or_default(),
        },
    };
    let label = options.label.as_ref();
    ResolvedTemplate {
        template: Template {
            name: name.clone(),
            source,
            label: label.map_or_else(|| "black".to_owned(), |label| label.value.clone()),
        },
        name_at,
        label_at: label.map_or(name_at, |label| label.at),
    }
}

#[cfg(test)]
mod tests;
