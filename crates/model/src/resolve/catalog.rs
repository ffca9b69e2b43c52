//! What all files define, by name.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::hash::Hash;

use crate::decode::{Located, Suggester, Table};
use crate::diagnostic::{At, Problem, Problems};
use crate::load::SourceUnit;
use crate::name::QubeName;
use crate::written::{LabelOptions, QubeOptions, RemoteOptions, TemplateOptions};

/// The written form of everything, each name once.
#[derive(Debug, Default)]
pub(crate) struct Catalog<'u> {
    pub(crate) labels: BTreeMap<&'u str, (At, &'u LabelOptions)>,
    pub(crate) templates: BTreeMap<&'u QubeName, (At, &'u SourceUnit, &'u TemplateOptions)>,
    pub(crate) remotes: BTreeMap<&'u QubeName, (At, &'u RemoteOptions)>,
    pub(crate) profiles: HashMap<&'u str, (At, &'u QubeOptions)>,
    pub(crate) qubes: BTreeMap<QubeName, WrittenQube<'u>>,
    /// Every file's `defaults`.
    pub(crate) defaults: Vec<&'u QubeOptions>,
    /// Whether all files could be read; if not, what is missing may well be written.
    pub(crate) complete: bool,
    pub(crate) suggester: Suggester,
}

/// A qube as written by hand, by tools, or both.
#[derive(Debug)]
pub(crate) struct WrittenQube<'u> {
    pub(crate) name_at: At,
    /// What tools set first, then what is written by hand.
    pub(crate) own: Vec<&'u QubeOptions>,
}

impl<'u> Catalog<'u> {
    pub(super) fn new(units: &'u [SourceUnit], complete: bool, problems: &mut Problems) -> Self {
        let mut catalog = Self {
            complete,
            ..Self::default()
        };
        let mut names: HashMap<&QubeName, At> = HashMap::new();
        let (mut labels, mut profiles) = (HashMap::new(), HashMap::new());
        for unit in units {
            let options = &unit.options;
            for (name, label) in entries(options.labels.as_ref()) {
                if first("label", &name.value, name.at, &mut labels, problems) {
                    check_word("label", name, problems);
                    catalog.labels.insert(&name.value, (name.at, label));
                }
            }
            for (name, profile) in entries(options.profiles.as_ref()) {
                if first("profile", &name.value, name.at, &mut profiles, problems) {
                    check_word("profile", name, problems);
                    refuse_profiles(profile, "a profile", problems);
                    catalog.profiles.insert(&name.value, (name.at, profile));
                }
            }
            for (name, template) in entries(options.templates.as_ref()) {
                if first("template", &name.value, name.at, &mut names, problems) {
                    catalog
                        .templates
                        .insert(&name.value, (name.at, unit, template));
                }
            }
            for (name, qube) in entries(options.qubes.as_ref()) {
                if unit.managed
                    && let Some(written) = catalog.qubes.get_mut(&name.value)
                {
                    written.own.insert(0, qube);
                } else if first("qube", &name.value, name.at, &mut names, problems) {
                    let (name_at, own) = (name.at, vec![qube]);
                    let written = WrittenQube { name_at, own };
                    catalog.qubes.insert(name.value.clone(), written);
                }
            }
            for (name, remote) in entries(options.remotes.as_ref()) {
                if first("remote qube", &name.value, name.at, &mut names, problems) {
                    catalog.remotes.insert(&name.value, (name.at, remote));
                }
            }
            if let Some(defaults) = &options.defaults {
                refuse_profiles(&defaults.value, "`defaults`", problems);
                catalog.defaults.push(&defaults.value);
            }
        }
        catalog
    }
}

fn entries<K, V>(table: Option<&Located<Table<K, V>>>) -> &[(Located<K>, V)] {
    table.map_or(&[][..], |table| &table.value.entries)
}

/// Whether this is the first of its name; if not, it is reported.
fn first<'u, N: Eq + Hash + Display + ?Sized>(
    what: &str,
    name: &'u N,
    at: At,
    names: &mut HashMap<&'u N, At>,
    problems: &mut Problems,
) -> bool {
    match names.get(name) {
        None => {
            names.insert(name, at);
            true
        }
        Some(earlier) => {
            let problem = Problem::error(at, format!("{what} `{name}` is defined a second time"));
            problems.push(problem.related(*earlier, "first defined here"));
            false
        }
    }
}

fn refuse_profiles(options: &QubeOptions, owner: &str, problems: &mut Problems) {
    if let Some(profiles) = &options.profiles {
        let message = format!("{owner} lists no profiles");
        let problem = Problem::error(profiles.at, message);
        problems.push(problem.help("list them in the qubes, in the order in which they count"));
    }
}

/// Longest name of a label or profile.
pub(crate) const WORD_MAX: usize = 63;

/// Names of labels, profiles and tags: they end up in policy lines, where blanks separate.
pub(crate) fn is_word(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=WORD_MAX).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with(['-', '.'])
}

/// What [`is_word`] allows, in words.
pub(crate) const WORD_RULE: &str =
    "letters, digits, `_`, `.` and `-` are allowed, at most 63 of them, and no `-` or `.` first";

fn check_word(what: &str, name: &Located<String>, problems: &mut Problems) {
    if !is_word(&name.value) {
        let message = format!("`{}` is no name of a {what}", name.value);
        problems.push(Problem::error(name.at, message).help(WORD_RULE));
    }
}
