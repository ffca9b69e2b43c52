//! Names in rules that nothing on the machine has.

use std::collections::BTreeSet;

use bulkhead_model::qube::Description;

use super::{Findings, LintKind};
use crate::error::nearest;
use crate::rule::Rule;
use crate::token::{QubeRef, RedirectToken, SourceToken, TargetToken};
use crate::view::SystemView;

/// Services that agents answer or that Qubes defines; others are somebody's own.
const SERVICES: &[&str] = &[
    "admin.Events",
    "bulkhead.Filecopy",
    "policy.Ask",
    "policy.EvalSimple",
    "policy.Notify",
    "policy.RegisterArgument",
    "qubes.Backup",
    "qubes.ClipboardPaste",
    "qubes.ConnectTCP",
    "qubes.FeaturesRequest",
    "qubes.Filecopy",
    "qubes.Gpg",
    "qubes.Gpg2",
    "qubes.GetAppmenus",
    "qubes.GetDate",
    "qubes.GetImageRGBA",
    "qubes.GetRandomizedTime",
    "qubes.InputKeyboard",
    "qubes.InputMouse",
    "qubes.InputTablet",
    "qubes.InstallUpdatesGUI",
    "qubes.Notifications",
    "qubes.NotifyTools",
    "qubes.NotifyUpdates",
    "qubes.OpenInVM",
    "qubes.OpenURL",
    "qubes.PdfConvert",
    "qubes.PostInstall",
    "qubes.ReceiveUpdates",
    "qubes.ResizeDisk",
    "qubes.Restore",
    "qubes.SetDateTime",
    "qubes.SetMonitorLayout",
    "qubes.StartApp",
    "qubes.SuspendPost",
    "qubes.SuspendPre",
    "qubes.SyncAppMenus",
    "qubes.SyncClock",
    "qubes.TemplateDownload",
    "qubes.UpdatesProxy",
    "qubes.USB",
    "qubes.VMExec",
    "qubes.VMExecGUI",
    "qubes.VMRootShell",
    "qubes.VMShell",
    "qubes.WindowIconUpdater",
];

/// Classes that a qube can have.
const CLASSES: [&str; 6] = [
    "AdminVM",
    "AppVM",
    "DispVM",
    "RemoteVM",
    "StandaloneVM",
    "TemplateVM",
];

/// What exists.
#[derive(Debug)]
pub(super) struct Names<'a> {
    view: &'a SystemView,
    qubes: Vec<&'a str>,
    tags: BTreeSet<&'a str>,
    templates: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    pub(super) fn new(description: &'a Description, view: &'a SystemView) -> Self {
        let tags = view.qubes().iter().flat_map(|qube| &qube.tags);
        Self {
            view,
            qubes: view.qubes().iter().map(|qube| &*qube.name).collect(),
            tags: tags.map(|tag| &**tag).collect(),
            templates: description
                .templates
                .keys()
                .map(|name| name.as_str())
                .collect(),
        }
    }

    pub(super) fn check(&self, rule: &Rule, findings: &mut Findings<'_>) {
        if let Some(service) = &rule.service {
            service_is_known(service, findings);
        }
        match &rule.source {
            SourceToken::Qube(qube) => self.qube(qube, findings),
            SourceToken::Type(class) => self.class(class, findings),
            SourceToken::Tag(tag) => self.tag(tag, findings),
            SourceToken::Wildcard
            | SourceToken::AnyVm
            | SourceToken::AdminVm
            | SourceToken::Disposable(_) => {}
        }
        match &rule.target {
            TargetToken::Qube(qube) => self.qube(qube, findings),
            TargetToken::Type(class) => self.class(class, findings),
            TargetToken::Tag(tag) | TargetToken::DispvmTag(tag) => self.tag(tag, findings),
            TargetToken::DispvmOf(base) => self.base(base, findings),
            TargetToken::Wildcard
            | TargetToken::AnyVm
            | TargetToken::AdminVm
            | TargetToken::Default
            | TargetToken::Dispvm => {}
        }
        let preselected = match &rule.action {
            crate::rule::Action::Ask { default_target, .. } => default_target.as_ref(),
            _ => None,
        };
        for token in rule.action.redirect().into_iter().chain(preselected) {
            match token {
                RedirectToken::Qube(qube) => self.qube(qube, findings),
                RedirectToken::DispvmOf(base) => self.base(base, findings),
                RedirectToken::AdminVm | RedirectToken::Dispvm => {}
            }
        }
    }

    /// UUIDs are given by the machine and are in no description, and disposables are named as they
    /// are made: neither can be judged here.
    fn cannot_know(name: &str) -> bool {
        let numbered = name.strip_prefix("disp");
        let is_disposable = numbered
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
        name.starts_with("uuid:") || is_disposable
    }

    fn qube(&self, qube: &QubeRef, findings: &mut Findings<'_>) {
        let name = qube.as_str();
        if qube.is_dom0() || Self::cannot_know(name) || self.view.find(name).is_some() {
            return;
        }
        if self.templates.contains(name) {
            let message = format!("`{name}` is a template image, which takes part in no call");
            let remedy = "name a qube, for example one of kind `Template` made of it";
            return findings.warn(LintKind::UnknownQube, message, remedy);
        }
        let message = format!("there is no qube `{name}`");
        let remedy = match nearest_of(name, &self.qubes) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "describe such a qube, or remove the rule".to_owned(),
        };
        findings.warn(LintKind::UnknownQube, message, remedy);
    }

    fn base(&self, base: &QubeRef, findings: &mut Findings<'_>) {
        let name = base.as_str();
        let Some(found) = self.view.find(name) else {
            return self.qube(base, findings);
        };
        if !self.view.get(found).template_for_dispvms {
            findings.warn(
                LintKind::NotADisposableTemplate,
                format!("no disposable can be made of `{name}`"),
                format!("give `{name}` `kind: DisposableTemplate`, or name a qube of that kind"),
            );
        }
    }

    fn tag(&self, tag: &str, findings: &mut Findings<'_>) {
        if !self.tags.contains(tag) {
            let known: Vec<&str> = self.tags.iter().copied().collect();
            let message = format!("no qube has the tag `{tag}`");
            let remedy = match nearest_of(tag, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "give it to a qube, or remove the rule".to_owned(),
            };
            findings.warn(LintKind::UnknownTag, message, remedy);
        }
    }

    fn class(&self, class: &str, findings: &mut Findings<'_>) {
        if !CLASSES.contains(&class) {
            let message = format!("there is no class `{class}`");
            let remedy = match nearest_of(class, &CLASSES) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the classes are {}", CLASSES.join(", ")),
            };
            findings.warn(LintKind::UnknownClass, message, remedy);
        }
    }
}

/// A service of one's own is no mistake; a slip in the name of a known one is.
fn service_is_known(service: &str, findings: &mut Findings<'_>) {
    if SERVICES.contains(&service) || service.starts_with("admin.") {
        return;
    }
    let Some(near) = SERVICES.iter().find(|known| is_slip(service, known)) else {
        let message = format!("`{service}` is no service of Bulkhead or Qubes");
        let remedy = "nothing, if a qube brings it; otherwise check its name";
        return findings.note(LintKind::UnknownService, message, remedy);
    };
    let message = format!("there is no service `{service}`");
    findings.warn(
        LintKind::UnknownService,
        message,
        format!("did you mean `{near}`?"),
    );
}

/// Whether one is the other but for capitals or a letter: farther off, it may be another's own.
fn is_slip(word: &str, known: &str) -> bool {
    let (word, known) = (word.to_lowercase(), known.to_lowercase());
    strsim::damerau_levenshtein(&word, &known) <= 1
}

fn nearest_of<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let exact = known.iter().find(|known| known.eq_ignore_ascii_case(word));
    exact.copied().or_else(|| nearest(word, known))
}
