//! Values that are of the right type and yet cannot be.
//!
//! Lengths of what a guest reads are those of its store: `wire/qubesdb.md`, sections 3 and 5.

use crate::device::{DOM0, Device, DeviceClass, DeviceProblem};
use crate::diagnostic::{Problem, Problems};
use crate::property::QubeProperty as P;
use crate::qube::{QubeKind, VirtMode};
use crate::resolve::{Resolved, ResolvedQube, ResolvedRemote, WORD_RULE, is_word};

/// Longest name of a service, in bytes: its path in the guest's store has 63.
pub const SERVICE_NAME_MAX: usize = 48;

/// Longest name behind `vm-config.`, in bytes, for the same reason.
pub const VM_CONFIG_NAME_MAX: usize = 52;

/// Longest name of a feature, in bytes: a file name on every system.
pub const FEATURE_NAME_MAX: usize = 255;

/// Longest value of a feature, in bytes: the longest value of the guest's store.
pub const FEATURE_VALUE_MAX: usize = 3071;

/// Longest addition to the kernel command line, in bytes: half of what Linux reads, the other
/// half is ours.
pub const KERNELOPTS_MAX: usize = 1024;

/// Longest user name, in bytes, as in Linux.
pub const USER_NAME_MAX: usize = 32;

/// A remote qube: its words end up in policy lines and in calls of the relay.
pub(super) fn check_remote(of: &ResolvedRemote, problems: &mut Problems) {
    let name = &of.remote.name;
    let transport = &of.remote.transport_rpc;
    if !is_word(transport) {
        let message = format!("transport_rpc of `{name}` is `{transport}`, which is no service");
        problems.push(Problem::error(of.transport_at, message).help(WORD_RULE));
    }
    for (at, tag) in of.tags_at.iter().filter(|(_, tag)| !is_word(tag)) {
        let message = format!("`{tag}` of `{name}` is no tag");
        problems.push(Problem::error(*at, message).help(WORD_RULE));
    }
}

pub(super) fn check(of: &ResolvedQube, resolved: &Resolved, problems: &mut Problems) {
    let mut check = Check { of, problems };
    check.memory();
    check.features();
    check.services();
    check.devices(resolved);
    check.processors();
    check.texts();
}

struct Check<'r> {
    of: &'r ResolvedQube,
    problems: &'r mut Problems,
}

impl Check<'_> {
    fn report(&mut self, property: P, message: String, help: impl Into<String>) {
        let problem = self.of.places.error(&self.of.qube.name, property, message);
        self.problems.push(problem.help(help));
    }

    fn memory(&mut self) {
        let (qube, memory) = (&self.of.qube, self.of.qube.memory);
        if memory.initial > memory.maximum {
            let message = format!(
                "`{}` starts with {} of memory, more than its maximum of {}",
                qube.name, memory.initial, memory.maximum
            );
            self.report(
                P::Memory,
                message,
                "`maximum` is at least `initial`; `maximum: None` makes them the same",
            );
        }
    }

    fn processors(&mut self) {
        let qube = &self.of.qube;
        if let Some(most) = qube.maxvcpus.filter(|most| qube.vcpus > *most) {
            let message = format!(
                "`{}` has {} vcpus, more than its `maxvcpus` of {most}",
                qube.name, qube.vcpus
            );
            self.report(
                P::Maxvcpus,
                message,
                "`maxvcpus` is at least `vcpus`; `maxvcpus: None` makes them the same",
            );
        }
    }

    fn features(&mut self) {
        for (name, value) in &self.of.qube.features {
            let of = &self.of.qube.name;
            let what = format!("feature `{name}` of `{of}`");
            if name.starts_with("service.") {
                let service = name.trim_start_matches("service.");
                let help = format!("write `services: {{\"{service}\": true}}`");
                self.report(P::Features, format!("{what} is a service"), help);
            } else if name.is_empty()
                || name.len() > FEATURE_NAME_MAX
                || !name.bytes().all(|b| b.is_ascii_graphic())
            {
                let help = format!("1 to {FEATURE_NAME_MAX} visible ASCII characters are allowed");
                self.report(
                    P::Features,
                    format!("{what} has a name that is not allowed"),
                    help,
                );
            } else if let Some(rest) = name.strip_prefix("vm-config.")
                && !(is_store_name(rest, VM_CONFIG_NAME_MAX)
                    && rest.starts_with(|c: char| c.is_ascii_alphabetic()))
            {
                let help = format!(
                    "behind `vm-config.` stands a letter, then letters, digits, `_`, `.`, `:`, `@`, `-`; at most {VM_CONFIG_NAME_MAX} in all"
                );
                self.report(
                    P::Features,
                    format!("{what} has a name that a guest cannot read"),
                    help,
                );
            }
            if value.len() > FEATURE_VALUE_MAX || value.contains('\0') {
                let help = format!("at most {FEATURE_VALUE_MAX} bytes without NUL are allowed");
                self.report(
                    P::Features,
                    format!("{what} has a value of {} bytes", value.len()),
                    help,
                );
            }
        }
    }

    fn services(&mut self) {
        for name in self.of.qube.services.keys() {
            if !is_store_name(name, SERVICE_NAME_MAX) {
                let of = &self.of.qube.name;
                let help = format!(
                    "letters, digits, `_`, `.`, `:`, `@` and `-` are allowed, at most {SERVICE_NAME_MAX}"
                );
                self.report(
                    P::Services,
                    format!("service `{name}` of `{of}` has a name that a guest cannot read"),
                    help,
                );
            }
        }
    }

    fn devices(&mut self, resolved: &Resolved) {
        let qube = &self.of.qube;
        for device in &qube.devices {
            let Device { class, backend, .. } = match Device::parse(device) {
                Ok(parsed) => parsed,
                Err(problem @ (DeviceProblem::Form | DeviceProblem::Pci)) => {
                    let what = match problem {
                        DeviceProblem::Pci => "no address of a PCI device",
                        _ => "not `class:backend:ident`",
                    };
                    let message = format!("device `{device}` of `{}` is {what}", qube.name);
                    self.report(P::Devices, message, "for example \"pci:dom0:00_14.0\"");
                    continue;
                }
                Err(DeviceProblem::Class) => {
                    let message = format!(
                        "device `{device}` of `{}` is of an unknown class",
                        qube.name
                    );
                    let classes = DeviceClass::ALL.map(|(name, _)| name).join(", ");
                    self.report(P::Devices, message, format!("classes are {classes}"));
                    continue;
                }
            };
            if backend != DOM0 && resolved.complete && !resolved.qubes.contains_key(backend) {
                let message = format!(
                    "device `{device}` of `{}` comes from `{backend}`, which does not exist",
                    qube.name
                );
                self.report(P::Devices, message, "the middle part names a qube, or dom0");
            }
            if class == DeviceClass::Pci && qube.virt_mode == VirtMode::Pvh {
                let message = format!(
                    "`{}` has PCI device `{device}`, which a `Pvh` qube cannot use",
                    qube.name
                );
                self.report(
                    P::Devices,
                    message,
                    "add `virt_mode: Hvm` or `virt_mode: Pv`",
                );
            }
        }
    }

    fn texts(&mut self) {
        let qube = &self.of.qube;
        for tag in qube.tags.iter().filter(|tag| !is_word(tag)) {
            self.report(
                P::Tags,
                format!("`{tag}` of `{}` is no tag", qube.name),
                WORD_RULE,
            );
        }
        let user = qube.default_user.as_str();
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
        let start = user.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        if !start || user.len() > USER_NAME_MAX || !user.bytes().all(allowed) {
            let message = format!("`{user}` cannot be the user of `{}`", qube.name);
            let help = format!(
                "small letters, digits, `_` and `-` are allowed, a letter first, at most {USER_NAME_MAX}"
            );
            self.report(P::DefaultUser, message, help);
        }
        let visible = |b: u8| b == b' ' || b.is_ascii_graphic();
        if qube.kernelopts.len() > KERNELOPTS_MAX || !qube.kernelopts.bytes().all(visible) {
            let message = format!("kernelopts of `{}` cannot be passed to a kernel", qube.name);
            self.report(
                P::Kernelopts,
                message,
                format!("at most {KERNELOPTS_MAX} printable ASCII characters are allowed"),
            );
        }
        if let Some(kernel) = &qube.kernel
            && !is_word(kernel)
        {
            let message = format!("`{kernel}` of `{}` is no name of a kernel", qube.name);
            self.report(P::Kernel, message, WORD_RULE);
        }
        if qube.kind == QubeKind::Template && qube.provides_network {
            let message = format!("template `{}` provides network", qube.name);
            self.report(
                P::ProvidesNetwork,
                message,
                "make an app qube from it, and let that one provide network",
            );
        }
    }
}

/// Characters of a path in the guest's store, but for the slash.
fn is_store_name(name: &str, longest: usize) -> bool {
    let allowed =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'@' | b'-');
    (1..=longest).contains(&name.len()) && name.bytes().all(allowed)
}
