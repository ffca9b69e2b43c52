//! Qubes of other machines.

use crate::diagnostic::{At, Problem, Problems};
use crate::name::QubeName;
use crate::qube::Remote;
use crate::written::RemoteOptions;

#[derive(Debug)]
pub(crate) struct ResolvedRemote {
    pub(crate) remote: Remote,
    pub(crate) label_at: At,
    pub(crate) relayvm_at: At,
    pub(crate) transport_at: At,
    pub(crate) tags_at: Vec<(At, String)>,
}

/// None if something that must be given is not; that is reported.
pub(super) fn resolve(
    name: &QubeName,
    name_at: At,
    options: &RemoteOptions,
    problems: &mut Problems,
) -> Option<ResolvedRemote> {
    let mut missing = |given: bool, what: &str, help: &str| {
        if !given && !options.incomplete {
            let message = format!("remote qube `{name}` has no {what}");
            problems.push(Problem::error(name_at, message).help(help));
        }
    };
    missing(options.label.is_some(), "label", "add `label: \"gray\"`");
    missing(
        options.relayvm.is_some(),
        "relay",
        "add `relayvm: \"NAME\"`, the qube through which it is reached",
    );
    missing(
        options.transport_rpc.is_some(),
        "transport",
        "add `transport_rpc: \"SERVICE\"`, the service in its relay that carries calls",
    );
    let label = options.label.as_ref()?;
    let relayvm = options.relayvm.as_ref()?;
    let transport = options.transport_rpc.as_ref()?;
    let tags = options.tags.as_ref().map_or(&[][..], |tags| &tags.value);
    let remote_name = options.remote_name.as_ref();
    Some(ResolvedRemote {
        remote: Remote {
            name: name.clone(),
            label: label.value.clone(),
            relayvm: relayvm.value.clone(),
            transport_rpc: transport.value.clone(),
            remote_name: remote_name.map_or_else(|| name.clone(), |name| name.value.clone()),
            tags: tags.iter().map(|tag| tag.value.clone()).collect(),
        },
        label_at: label.at,
        relayvm_at: relayvm.at,
        transport_at: transport.at,
        tags_at: tags.iter().map(|tag| (tag.at, tag.value.clone())).collect(),
    })
}
