//! The processor.

use serde::Serialize;

use crate::tree::Tree;

/// The processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Processor {
    /// What it calls itself.
    pub model: Option<String>,
    /// Threads of all cores.
    pub threads: Option<u32>,
    /// The microcode that it runs.
    pub microcode: Option<String>,
}

/// What it does for domains, as far as it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Virtualises {
    pub(crate) hvm: Option<bool>,
    pub(crate) hap: Option<bool>,
}

/// Reads `/proc/cpuinfo`; `threads` of the whole machine where the kernel has only some.
pub(crate) fn read(tree: &Tree, threads: Option<u32>) -> (Processor, Virtualises) {
    let text = tree.text("proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.split_whitespace().collect::<Vec<_>>())
        })
    };
    let words = |key| Some(value(key)?.join(" ")).filter(|text| !text.is_empty());
    let flags = value("flags");
    let has = |name: &str| flags.as_ref().map(|flags| flags.contains(&name));
    let either = |intel, amd| Some(has(intel)? || has(amd)?);
    let processor = Processor {
        model: words("model name"),
        threads: threads.or_else(|| online(tree)),
        microcode: words("microcode"),
    };
    let virtualises = Virtualises {
        hvm: either("vmx", "svm"),
        hap: either("ept", "npt"),
    };
    (processor, virtualises)
}

/// Threads of `/sys/devices/system/cpu/online`, as `0-3,8`.
fn online(tree: &Tree) -> Option<u32> {
    let text = tree.text("sys/devices/system/cpu/online")?;
    let mut all = 0_u32;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        all = all.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn threads_are_counted_in_ranges() {
        let dir = tempfile::tempdir().unwrap();
        let cpu = dir.path().join("sys/devices/system/cpu");
        fs::create_dir_all(&cpu).unwrap();
        let tree = Tree::at(dir.path());
        for (text, expect) in [
            ("0", Some(1)),
            ("0-3,8", Some(5)),
            ("3-0", None),
            ("0-4294967295", None),
            ("all", None),
        ] {
            fs::write(cpu.join("online"), text).unwrap();
            assert_eq!(online(&tree), expect, "{text}");
        }
    }
}
