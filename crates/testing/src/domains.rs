//! Clearing up behind daemons that left their qubes running.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::PAUSE;

/// How often a cgroup is tried: its processes need a moment to be gone.
const TRIES: usize = 50;

/// Ends every domain that the records below a runtime folder tell of.
pub fn end_domains(runtime_dir: &Path) {
    let domains = fs::read_dir(runtime_dir.join("domains"));
    for domain in domains.into_iter().flatten().flatten() {
        let text = fs::read_to_string(domain.path().join("record.json"));
        let record: Value = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
        let pid = record["process"]["pid"].as_i64().unwrap_or_default();
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1);
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        // Who would have removed its cgroups may be gone with the daemon.
        let groups = record["group"]["folders"].as_object();
        for (_, group) in groups.into_iter().flatten() {
            remove(Path::new(group["path"].as_str().unwrap_or_default()));
        }
    }
}

fn remove(cgroup: &Path) {
    for _ in 0..TRIES {
        if fs::remove_dir(cgroup).is_ok() || !cgroup.exists() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}
