//! Whether the resolved description makes sense as a whole.

mod network;
mod references;
mod values;

use crate::diagnostic::Problems;
use crate::resolve::Resolved;

pub use values::{
    FEATURE_NAME_MAX, FEATURE_VALUE_MAX, KERNELOPTS_MAX, SERVICE_NAME_MAX, USER_NAME_MAX,
    VM_CONFIG_NAME_MAX,
};

pub(crate) fn check(resolved: &Resolved, problems: &mut Problems) {
    references::check(resolved, problems);
    network::check(resolved, problems);
    for qube in resolved.qubes.values() {
        values::check(qube, resolved, problems);
    }
    for remote in resolved.remotes.values() {
        values::check_remote(remote, problems);
    }
}

#[cfg(test)]
mod tests;
