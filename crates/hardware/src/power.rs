//! Sleep, and the security chip.

use serde::Serialize;

use crate::tree::Tree;

/// A trusted platform module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tpm {
    /// Version of the specification: `1.2` or `2.0`; none where the kernel does not say.
    pub version: Option<String>,
}

/// How the machine can sleep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suspend {
    /// Ways to suspend to memory: `s2idle`, `shallow`, `deep` (S3).
    pub modes: Vec<String>,
    /// Whether it can be suspended to disk.
    pub disk: bool,
}

pub(crate) fn tpm(tree: &Tree) -> Option<Tpm> {
    let name = tree.names("sys/class/tpm").into_iter().next()?;
    let major = tree.text(&format!("sys/class/tpm/{name}/tpm_version_major"));
    let version = match major.as_deref() {
        Some("1") => Some("1.2".to_owned()),
        Some("2") => Some("2.0".to_owned()),
        _ => None,
    };
    Some(Tpm { version })
}

pub(crate) fn suspend(tree: &Tree) -> Suspend {
    let words = |path| {
        let text = tree.text(path).unwrap_or_default();
        // The one in use stands in brackets.
        let plain = |word: &str| word.trim_matches(['[', ']']).to_owned();
        text.split_whitespace().map(plain).collect::<Vec<_>>()
    };
    let states = words("sys/power/state");
    let mut modes = words("sys/power/mem_sleep");
    if modes.is_empty() && states.iter().any(|state| state == "freeze") {
        modes.push("s2idle".to_owned());
    }
    Suspend {
        modes,
        disk: states.iter().any(|state| state == "disk"),
    }
}
