//! Names that must be those of something, and of something of the right kind.

use crate::decode::Suggester;
use crate::diagnostic::{Problem, Problems};
use crate::name::QubeName;
use crate::property::QubeProperty as P;
use crate::qube::{Qube, QubeKind};
use crate::resolve::{Resolved, ResolvedQube, ResolvedRemote};

pub(super) fn check(resolved: &Resolved, problems: &mut Problems) {
    let mut check = Check {
        resolved,
        suggester: Suggester::default(),
        problems,
    };
    for (name, template) in &resolved.templates {
        let label = &template.template.label;
        if let Some(message) = check.unknown_label("template", name, label) {
            check
                .problems
                .push(Problem::error(template.label_at, message));
        }
    }
    for remote in resolved.remotes.values() {
        check.remote(remote);
    }
    for qube in resolved.qubes.values() {
        check.qube(qube);
    }
}

struct Check<'r> {
    resolved: &'r Resolved,
    suggester: Suggester,
    problems: &'r mut Problems,
}

impl<'r> Check<'r> {
    fn qube(&mut self, of: &ResolvedQube) {
        let label = &of.qube.label;
        if !label.is_empty()
            && let Some(message) = self.unknown_label("qube", &of.qube.name, label)
        {
            let problem = of.places.error(&of.qube.name, P::Label, message);
            self.problems.push(problem);
        }
        self.template(of);
        let provides = |property: P| {
            move |name: &str| {
                (
                    format!("`{name}` does not provide it"),
                    format!("add `{property}: true` to it"),
                )
            }
        };
        self.reference(of, P::Netvm, of.qube.netvm.as_ref(), |other| {
            (!other.provides_network).then(|| provides(P::ProvidesNetwork)(other.name.as_str()))
        });
        self.reference(of, P::Audiovm, of.qube.audiovm.as_ref(), |other| {
            (!other.provides_audio).then(|| provides(P::ProvidesAudio)(other.name.as_str()))
        });
        self.reference(of, P::Guivm, of.qube.guivm.as_ref(), |other| {
            (!other.provides_gui).then(|| provides(P::ProvidesGui)(other.name.as_str()))
        });
        self.reference(
            of,
            P::DefaultDispvm,
            of.qube.default_dispvm.as_ref(),
            not_a_disposable_template,
        );
        self.reference(
            of,
            P::ManagementDispvm,
            of.qube.management_dispvm.as_ref(),
            |other| {
                not_a_disposable_template(other).or_else(|| {
                    (!other.provides_management)
                        .then(|| provides(P::ProvidesManagement)(other.name.as_str()))
                })
            },
        );
    }

    fn remote(&mut self, of: &ResolvedRemote) {
        let (name, relay) = (&of.remote.name, &of.remote.relayvm);
        if let Some(message) = self.unknown_label("remote qube", name, &of.remote.label) {
            self.problems.push(Problem::error(of.label_at, message));
        }
        if !self.resolved.complete || self.resolved.qubes.contains_key(relay) {
            return;
        }
        let mut message = format!("relayvm of `{name}` is `{relay}`, which does not exist");
        let mut help = None;
        let known = self.resolved.qubes.keys().map(QubeName::as_str);
        if let Some(near) = self.suggester.nearest(relay.as_str(), known) {
            message.push_str(&format!(", did you mean `{near}`?"));
        } else if self.resolved.remotes.contains_key(relay) {
            help = Some("it is a remote qube itself; a qube of this machine is needed here");
        }
        let problem = Problem::error(of.relayvm_at, message);
        self.problems.push(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }

    fn unknown_label(&self, what: &str, name: &QubeName, label: &str) -> Option<String> {
        if self.resolved.labels.contains_key(label) || !self.resolved.complete {
            return None;
        }
        let mut message = format!("{what} `{name}` has label `{label}`, which does not exist");
        let known = self.resolved.labels.keys().map(String::as_str);
        if let Some(near) = self.suggester.nearest(label, known) {
            message.push_str(&format!(", did you mean `{near}`?"));
        }
        Some(message)
    }

    /// Checks that `property` of a qube names a qube, and that `wrong` has nothing against it.
    fn reference(
        &mut self,
        of: &ResolvedQube,
        property: P,
        target: Option<&QubeName>,
        wrong: impl Fn(&Qube) -> Option<(String, String)>,
    ) {
        let Some(target) = target else {
            return;
        };
        let name = &of.qube.name;
        match self.resolved.qubes.get(target) {
            None => self.unknown(of, property, target),
            Some(other) if !other.incomplete => {
                if let Some((why, help)) = wrong(&other.qube) {
                    let message = format!("`{target}` cannot be the {property} of `{name}`: {why}");
                    let problem = of.places.error(name, property, message).help(help);
                    self.problems.push(
                        problem
                            .related(other.places.name(), format!("`{target}` is described here")),
                    );
                }
            }
            Some(_) => {}
        }
    }

    fn unknown(&mut self, of: &ResolvedQube, property: P, target: &QubeName) {
        if !self.resolved.complete {
            return;
        }
        let name = &of.qube.name;
        let mut message = format!("{property} of `{name}` is `{target}`, which does not exist");
        let qubes = self.resolved.qubes.keys().map(QubeName::as_str);
        let templates = self.resolved.templates.keys().map(QubeName::as_str);
        let is_template = property == P::Template;
        let known = qubes.chain(templates.filter(|_| is_template));
        let near = self.suggester.nearest(target.as_str(), known);
        let mut problem_help = None;
        if let Some(near) = near.filter(|near| *near != name.as_str()) {
            message.push_str(&format!(", did you mean `{near}`?"));
        } else if !is_template && self.resolved.templates.contains_key(target) {
            problem_help = Some("it is a template image; a qube is needed here");
        } else if self.resolved.remotes.contains_key(target) {
            problem_help = Some("it is a remote qube; one of this machine is needed here");
        }
        let mut problem = of.places.error(name, property, message);
        if let Some(help) = problem_help {
            problem = problem.help(help);
        }
        self.problems.push(problem);
    }

    fn template(&mut self, of: &ResolvedQube) {
        let Some(target) = &of.qube.template else {
            return;
        };
        let (name, kind) = (&of.qube.name, of.qube.kind);
        let image = self.resolved.templates.contains_key(target);
        let found = self.resolved.qubes.get(target);
        if found.is_some_and(|found| found.incomplete) {
            return;
        }
        let found_kind = found.map(|found| found.qube.kind);
        let help = match (kind, found_kind) {
            (_, None) if !image => return self.unknown(of, P::Template, target),
            (QubeKind::NamedDisposable, Some(QubeKind::DisposableTemplate)) => return,
            (QubeKind::NamedDisposable, _) => {
                "a named disposable starts from a qube of kind `DisposableTemplate`".to_owned()
            }
            (QubeKind::Template, None) => return,
            (QubeKind::Template, Some(_)) => {
                "a template's own root starts as an image from `templates`, not as a qube"
                    .to_owned()
            }
            (_, None | Some(QubeKind::Template)) => return,
            (_, Some(QubeKind::DisposableTemplate)) => format!(
                "use the template of `{target}`; if `{name}` is to keep nothing, give it `kind: NamedDisposable`"
            ),
            (_, Some(QubeKind::App)) => {
                format!("use the template of `{target}`, or give `{target}` `kind: Template`")
            }
            (_, Some(_)) => "use a name from `templates`, or a qube of kind `Template`".to_owned(),
        };
        let what = match found_kind {
            Some(found) => article(found),
            None => "a template image",
        };
        let message = format!("`{target}` cannot be the template of `{name}`: it is {what}");
        let mut problem = of.places.error(name, P::Template, message).help(help);
        let at = found.map(|found| found.places.name());
        let at = at.or_else(|| self.resolved.templates.get(target).map(|t| t.name_at));
        if let Some(at) = at {
            problem = problem.related(at, format!("`{target}` is described here"));
        }
        self.problems.push(problem);
    }
}

fn not_a_disposable_template(other: &Qube) -> Option<(String, String)> {
    (other.kind != QubeKind::DisposableTemplate).then(|| {
        (
            format!("it is {}", article(other.kind)),
            "a qube of kind `DisposableTemplate` is needed".to_owned(),
        )
    })
}

fn article(kind: QubeKind) -> &'static str {
    match kind {
        QubeKind::App => "an app qube",
        QubeKind::Template => "a template",
        QubeKind::Standalone => "a standalone qube",
        QubeKind::DisposableTemplate => "a disposable template",
        QubeKind::NamedDisposable => "a named disposable",
    }
}
