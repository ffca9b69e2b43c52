//! What outlives the daemon: records of domains, and how bubblewrap said they ended.

use std::fs;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Group, Process, ProcessId};
use crate::hypervisor::DomainSpec;
use crate::whole_file::{self, Lasting};

const FILE: &str = "record.json";

/// How long bubblewrap may take to say how its child ended: it only has to wake up.
const EXIT_CODE_TIMEOUT: Duration = Duration::from_secs(30);

/// One domain, as found after a restart of the daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) spec: DomainSpec,
    /// Pids mean something within one boot only.
    pub(super) boot: String,
    /// None: it was being started when this was written.
    pub(super) process: Option<ProcessId>,
    pub(super) group: Group,
    /// Its host user, where it has one of its own.
    pub(super) host_id: Option<u32>,
    /// Paused by signals, which nothing else tells.
    pub(super) stopped: bool,
}

/// Changes with every boot of the machine.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

impl Record {
    pub(super) fn is_of_this_boot(&self) -> bool {
        self.boot == boot_id()
    }

    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let path = dir.join(FILE);
        Ok(whole_file::replace(&path, &text, 0o600, Lasting::ThisBoot)?)
    }
}

/// All records below `domains`; what cannot be read is reported and left.
pub(super) fn read_all(domains: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    for entry in fs::read_dir(domains).into_iter().flatten().flatten() {
        let path = entry.path().join(FILE);
        let read = fs::read(&path)
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from));
        match read {
            Ok(record) => records.push(record),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "record of a domain is unusable");
            }
        }
    }
    records
}

/// A number under `key` in what bubblewrap wrote: JSON objects, one after the other.
pub(super) fn number(text: &[u8], key: &str) -> Option<i64> {
    serde_json::Deserializer::from_slice(text)
        .into_iter::<serde_json::Value>()
        .map_while(Result::ok)
        .find_map(|value| value.get(key)?.as_i64())
}

/// The first process of a domain whose start was interrupted, if it has come into being.
pub(super) fn half_started(record: &Record, status: &Path) -> Option<Process> {
    if !record.is_of_this_boot() {
        return None;
    }
    let pid = i32::try_from(number(&fs::read(status).ok()?, "child-pid")?).ok()?;
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.split_whitespace().collect::<Vec<_>>())
    };
    // It is pid 1 somewhere below us and has the qube's user: not just anybody with that pid.
    let first_below =
        field("NSpid:").is_some_and(|pids| pids.len() > 1 && pids.last() == Some(&"1"));
    let user = record
        .host_id
        .unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let own_user = field("Uid:").is_some_and(|ids| ids.first() == Some(&user.to_string().as_str()));
    if !(first_below && own_user) {
        return None;
    }
    Process::open(pid).ok()
}

/// How the first process ended: from bubblewrap itself if it is our child, else from its file, opened
/// before so that nobody can take it away. None where neither tells.
pub(super) async fn exit_code(
    child: Option<tokio::process::Child>,
    status: Option<fs::File>,
) -> Option<i32> {
    if let Some(mut child) = child {
        let waited = tokio::time::timeout(EXIT_CODE_TIMEOUT, child.wait()).await;
        return waited.ok()?.ok()?.code();
    }
    let deadline = tokio::time::Instant::now() + EXIT_CODE_TIMEOUT;
    let mut status = status?;
    loop {
        let mut text = Vec::new();
        status.rewind().ok()?;
        status.read_to_end(&mut text).ok()?;
        if let Some(code) = number(&text, "exit-code") {
            return i32::try_from(code).ok();
        }
        if tokio::time::Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Removes a tree made by a guest.
pub(crate) async fn remove_tree(path: PathBuf) {
    let run = async |program: &str, arguments: &[&str]| {
        tokio::process::Command::new(program)
            .args(arguments)
            .arg("--")
            .arg(&path)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .await
            .is_ok_and(|status| status.success())
    };
    if run("rm", &["-rf", "--one-file-system"]).await {
        return;
    }
    // Folders without permissions: an ordinary user must take them back first.
    run("chmod", &["-R", "u+rwX"]).await;
    if !run("rm", &["-rf", "--one-file-system"]).await {
        tracing::warn!(folder = %path.display(), "what a qube wrote cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_among_several_objects() {
        let text = b"{ \"child-pid\": 42, \"net-namespace\": 7 }\n{ \"exit-code\": 0 }\n{ \"ex";
        assert_eq!(number(text, "child-pid"), Some(42));
        assert_eq!(number(text, "exit-code"), Some(0));
        assert_eq!(number(text, "other"), None);
        assert_eq!(number(b"", "child-pid"), None);
    }

    #[tokio::test]
    async fn folders_without_permissions_are_removed_too() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        let shut = tree.join("a/shut");
        fs::create_dir_all(shut.join("inner")).unwrap();
        fs::set_permissions(&shut, fs::Permissions::from_mode(0o0)).unwrap();
        remove_tree(tree.clone()).await;
        assert!(!tree.exists());
    }
}
