//! Whether a condition fits a qube, and if not, which property is in the way.

use crate::decode::{Located, Maybe};
use crate::diagnostic::At;
use crate::name::QubeName;
use crate::property::QubeProperty as P;
use crate::qube::Qube;
use crate::resolve::{Resolved, ResolvedQube};
use crate::written::{Condition, OneOrMany, Selector};

/// A qube and what is needed to follow its references.
#[derive(Debug)]
pub(super) struct View<'r> {
    pub(super) qube: &'r ResolvedQube,
    pub(super) resolved: &'r Resolved,
}

/// Why a condition does not fit.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// The property that is in the way, if it is one.
    pub(super) property: Option<P>,
    /// The part of the condition.
    pub(super) rule: Option<At>,
    pub(super) message: String,
}

/// The first part of `condition` that does not fit; none when all fits.
pub(super) fn mismatch(condition: &Condition, view: &View<'_>) -> Option<Mismatch> {
    match condition {
        Condition::Fits(selector) => Fitting { view, found: None }.selector(selector),
        Condition::All(parts) => parts.iter().find_map(|part| mismatch(&part.value, view)),
        Condition::Any(parts) => {
            let first = parts.first();
            let fits = parts
                .iter()
                .any(|part| mismatch(&part.value, view).is_none());
            match (fits, parts.len()) {
                (true, _) => None,
                // With one alternative, its reason is the reason.
                (false, 1) => first.and_then(|part| mismatch(&part.value, view)),
                (false, _) => Some(whole("none of the alternatives fits")),
            }
        }
        Condition::Not(inner) => match mismatch(&inner.value, view) {
            Some(_) => None,
            None => Some(Mismatch {
                property: only_property(&inner.value),
                rule: Some(inner.at),
                message: "what is ruled out fits".to_owned(),
            }),
        },
    }
}

fn whole(message: &str) -> Mismatch {
    Mismatch {
        property: None,
        rule: None,
        message: message.to_owned(),
    }
}

/// The property that a condition asks about, when it is exactly one.
fn only_property(condition: &Condition) -> Option<P> {
    let Condition::Fits(selector) = condition else {
        return None;
    };
    let asked = [
        (selector.kind.is_some(), P::Kind),
        (selector.label.is_some(), P::Label),
        (selector.tag.is_some(), P::Tags),
        (selector.template.is_some(), P::Template),
        (
            selector.netvm.is_some() || selector.network_through.is_some(),
            P::Netvm,
        ),
        (selector.provides_network.is_some(), P::ProvidesNetwork),
        (selector.autostart.is_some(), P::Autostart),
        (selector.has_devices.is_some(), P::Devices),
        (selector.service.is_some(), P::Services),
        (selector.feature.is_some(), P::Features),
        (selector.virt_mode.is_some(), P::VirtMode),
        (selector.restart.is_some(), P::Restart),
        (selector.default_dispvm.is_some(), P::DefaultDispvm),
        (selector.audiovm.is_some(), P::Audiovm),
        (selector.guivm.is_some(), P::Guivm),
        (selector.management_dispvm.is_some(), P::ManagementDispvm),
        (selector.memory_at_most.is_some(), P::Memory),
        (selector.vcpus_at_most.is_some(), P::Vcpus),
    ];
    let mut asked = asked
        .into_iter()
        .filter_map(|(given, property)| given.then_some(property));
    match (asked.next(), asked.next()) {
        (Some(property), None) => Some(property),
        _ => None,
    }
}

struct Fitting<'v> {
    view: &'v View<'v>,
    found: Option<Mismatch>,
}

impl Fitting<'_> {
    fn selector(mut self, wanted: &Selector) -> Option<Mismatch> {
        let qube = &self.view.qube.qube;
        if let Some(names) = &wanted.name
            && !names.value.0.iter().any(|p| pattern(p, qube.name.as_str()))
        {
            self.found = Some(Mismatch {
                rule: Some(names.at),
                ..whole("its name does not fit")
            });
        }
        self.equal(P::Kind, wanted.kind.as_ref(), |kind| *kind == qube.kind);
        self.equal(P::Label, wanted.label.as_ref(), |label| {
            *label == qube.label
        });
        self.equal(P::Tags, wanted.tag.as_ref(), |tag| qube.tags.contains(tag));
        self.name(
            P::Template,
            wanted.template.as_ref(),
            qube.template.as_ref(),
        );
        self.name(P::Netvm, wanted.netvm.as_ref(), qube.netvm.as_ref());
        self.name(
            P::DefaultDispvm,
            wanted.default_dispvm.as_ref(),
            qube.default_dispvm.as_ref(),
        );
        self.name(P::Audiovm, wanted.audiovm.as_ref(), qube.audiovm.as_ref());
        self.name(P::Guivm, wanted.guivm.as_ref(), qube.guivm.as_ref());
        self.name(
            P::ManagementDispvm,
            wanted.management_dispvm.as_ref(),
            qube.management_dispvm.as_ref(),
        );
        self.flag(
            P::ProvidesNetwork,
            wanted.provides_network.as_ref(),
            qube.provides_network,
        );
        self.flag(P::Autostart, wanted.autostart.as_ref(), qube.autostart);
        self.flag(
            P::Devices,
            wanted.has_devices.as_ref(),
            !qube.devices.is_empty(),
        );
        self.equal(P::Services, wanted.service.as_ref(), |wanted| {
            qube.services
                .iter()
                .any(|(name, on)| *on && pattern(wanted, name))
        });
        self.equal(P::Features, wanted.feature.as_ref(), |wanted| {
            qube.features
                .iter()
                .any(|(name, value)| !value.is_empty() && pattern(wanted, name))
        });
        self.equal(P::VirtMode, wanted.virt_mode.as_ref(), |mode| {
            *mode == qube.virt_mode
        });
        self.equal(P::Restart, wanted.restart.as_ref(), |rule| {
            *rule == qube.restart
        });
        if let Some(most) = &wanted.memory_at_most
            && qube.memory.maximum > most.value.0
        {
            let message = format!(
                "its memory is at most {}, above {}",
                qube.memory.maximum, most.value.0
            );
            self.fail(P::Memory, most.at, message);
        }
        if let Some(most) = &wanted.vcpus_at_most
            && qube.vcpus > most.value.0
        {
            let message = format!("it has {} vcpus, above {}", qube.vcpus, most.value.0);
            self.fail(P::Vcpus, most.at, message);
        }
        if let Some(through) = &wanted.network_through {
            let passes =
                |name: &QubeName| through.value.0.iter().any(|p| pattern(p, name.as_str()));
            if !network_path(qube, self.view.resolved).any(passes) {
                self.fail(
                    P::Netvm,
                    through.at,
                    "its network does not pass there".to_owned(),
                );
            }
        }
        self.found
    }

    fn fail(&mut self, property: P, rule: At, message: String) {
        self.found.get_or_insert(Mismatch {
            property: Some(property),
            rule: Some(rule),
            message,
        });
    }

    /// "its netvm is sys-net" and the like.
    fn fail_with_value(&mut self, property: P, rule: At) {
        let value = property.of(&self.view.qube.qube);
        self.fail(property, rule, format!("its {property} is {value}"));
    }

    fn equal<T>(
        &mut self,
        property: P,
        wanted: Option<&Located<OneOrMany<T>>>,
        fits: impl Fn(&T) -> bool,
    ) {
        if let Some(wanted) = wanted
            && !wanted.value.0.iter().any(fits)
        {
            self.fail_with_value(property, wanted.at);
        }
    }

    fn flag(&mut self, property: P, wanted: Option<&Located<bool>>, is: bool) {
        if let Some(wanted) = wanted
            && wanted.value != is
        {
            self.fail_with_value(property, wanted.at);
        }
    }

    fn name(
        &mut self,
        property: P,
        wanted: Option<&Located<OneOrMany<Maybe<String>>>>,
        is: Option<&QubeName>,
    ) {
        self.equal(property, wanted, |wanted| match (wanted, is) {
            (Maybe::Nothing, None) => true,
            (Maybe::Just(wanted), Some(is)) => pattern(wanted, is.as_str()),
            _ => false,
        });
    }
}

/// The qubes that a qube's network passes through, nearest first. Ends in a cycle too.
fn network_path<'r>(qube: &'r Qube, resolved: &'r Resolved) -> impl Iterator<Item = &'r QubeName> {
    let next = |name: &&'r QubeName| resolved.qubes.get(*name)?.qube.netvm.as_ref();
    std::iter::successors(qube.netvm.as_ref(), next).take(resolved.qubes.len())
}

/// Whether `text` fits a pattern of `*` (any characters) and `?` (one); all else is itself.
pub(super) fn pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last `*` does not fit.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match (pattern.get(p), retry) {
            (Some(b'*'), _) => {
                retry = Some((p + 1, t));
                p += 1;
            }
            (Some(wanted), _) if wanted == byte || *wanted == b'?' => {
                p += 1;
                t += 1;
            }
            (_, Some((after, from))) => {
                retry = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (_, None) => return false,
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}
