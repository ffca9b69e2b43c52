//! Templates that mmdebstrap really builds, from the machine's own archive mirror: built once,
//! used, changed, rolled back; and a build that fails. Takes minutes and needs the network, so it
//! runs with `cargo xtask test --all` only.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics has failed"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for the daemon to serve; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

const SYSTEM: &str = r#"(
    templates: { "small": (source: Debian(suite: "bookworm")) },
    qubes: {
        "one": (label: "blue", template: "small", autostart: true),
        "two": (label: "green", template: "small"),
    },
    policy: ["test.Hello * one two allow\n"],
)
"#;

/// A service of `two`.
const SERVICE: &str = "printf '#!/bin/sh\\necho hello from $(uname -n) to $QREXEC_REMOTE_DOMAIN\\n' \
    >/run/qubes-rpc/test.Hello && chmod 755 /run/qubes-rpc/test.Hello";

struct Machine {
    folder: tempfile::TempDir,
    daemon: Child,
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Machine {
    fn start() -> Self {
        // Short, because socket paths are; and open to pass through, because a qube of root's
        // daemon runs under a user of its own.
        let folder = tempfile::Builder::new()
            .prefix("bh")
            .tempdir_in("/tmp")
            .unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        fs::write(folder.path().join("system.ron"), SYSTEM).unwrap();
        let programs = Path::new(env!("CARGO_BIN_EXE_bulkhead")).parent().unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let daemon = Command::new(programs.join("bulkheadd"))
            .arg("--system")
            .arg(folder.path().join("system.ron"))
            .arg("--state-dir")
            .arg(folder.path().join("state"))
            .arg("--runtime-dir")
            .arg(folder.path().join("run"))
            .arg("--no-system-bus")
            .arg("--service-path")
            .arg(folder.path().join("rpc"))
            .env("BULKHEAD_LIBEXEC", programs)
            .env("CACHE_DIRECTORY", folder.path().join("cache"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut machine = Self { folder, daemon };
        let end = Instant::now() + PATIENCE;
        while machine.run(&["ls"]).code != 0 {
            let ended = machine.daemon.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "{}", machine.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        machine
    }

    fn run(&self, words: &[&str]) -> Ended {
        let output = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
            .args(words)
            .env_clear()
            .env("BULKHEAD_SOCKET", self.folder.path().join("run/bus"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let ended = Ended {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        // A run of minutes shows how far it is.
        eprintln!("$ bulkhead {}: {}", words.join(" "), ended.code);
        ended
    }

    /// Runs a command that must succeed.
    #[track_caller]
    fn must(&self, words: &[&str]) -> Ended {
        let ended = self.run(words);
        let (out, err, log) = (&ended.out, &ended.err, self.log());
        assert_eq!(ended.code, 0, "{words:?}: {out}{err}\n{log}");
        ended
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Says where the only template comes from.
    fn source(&self, source: &str) {
        let text = SYSTEM.replace("suite: \"bookworm\"", source);
        fs::write(self.folder.path().join("system.ron"), text).unwrap();
    }

    fn entries(&self, folder: &str) -> BTreeSet<PathBuf> {
        fs::read_dir(self.folder.path().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.run(&["stop", "--all", "--timeout", "5"]);
        let id = self.daemon.id().to_string();
        let _ = Command::new("kill").arg(id).status();
        let _ = self.daemon.wait();
    }
}

#[test]
#[ignore = "builds Debian trees from the archive, which takes minutes"]
fn a_debian_template_is_built_used_changed_and_rolled_back() {
    let machine = Machine::start();
    let applied = machine.must(&["apply", "--yes", "-m", "minimal"]);
    let told = "prepare template small: installing essential packages...";
    assert!(applied.err.contains(told), "{}", applied.err);
    let (images, trees) = (
        machine.entries("state/templates"),
        machine.entries("cache/templates"),
    );
    assert_eq!((images.len(), trees.len()), (1, 1));

    // It is that Debian and not this machine, and its qubes reach each other.
    let version = machine.must(&["run", "one", "--", "cat /etc/debian_version"]);
    assert!(version.out.starts_with("12."), "{}", version.out);
    assert_eq!(machine.run(&["run", "one", "--", "hello"]).code, 127);
    machine.must(&["run", "two", "--", SERVICE]);
    let called = machine.must(&["run", "one", "--", "qrexec-client-vm two test.Hello"]);
    assert_eq!(called.out, "hello from two to one\n");
    let called = machine.must(&["call", "two", "test.Hello"]);
    assert_eq!(called.out, "hello from two to dom0\n");

    // An unknown package: the cause is told, and nothing is different from before.
    machine.source(r#"suite: "bookworm", packages: ["no-such-package"]"#);
    let failed = machine.run(&["apply", "--yes"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    for part in [
        "could not prepare template small",
        "Unable to locate package no-such-package\n",
        "nothing is different from before",
    ] {
        assert!(failed.err.contains(part), "{part}: {}", failed.err);
    }
    assert_eq!(machine.entries("state/templates"), images);
    assert_eq!(machine.entries("cache/templates"), trees);
    machine.must(&["run", "one", "--no-autostart", "--", "true"]);

    // One package more: another image, from which the qube starts anew.
    machine.source(r#"suite: "bookworm", packages: ["hello"]"#);
    let plan = machine.must(&["plan", "--restart"]).out;
    for part in [
        "~ template small  Debian bookworm with hello; its source is another",
        "one",
        "template image",
    ] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    machine.must(&["apply", "--yes", "--restart", "-m", "with hello"]);
    let both = machine.entries("state/templates");
    assert!(both.is_superset(&images) && both.len() == 2, "{both:?}");
    let greeted = machine.must(&["run", "one", "--", "hello"]);
    assert_eq!(greeted.out, "Hello, world!\n");

    // And back, without a build.
    let back = machine.must(&["rollback", "--yes", "--restart"]);
    assert!(!back.err.contains("prepare template"), "{}", back.err);
    assert_eq!(machine.run(&["run", "one", "--", "hello"]).code, 127);
    assert_eq!(machine.entries("state/templates"), both);

    // The same inputs under another name: the tree that is there, not built again.
    let again = SYSTEM.replace("\"small\"", "\"again\"");
    fs::write(machine.folder.path().join("system.ron"), again).unwrap();
    let applied = machine.must(&["apply", "--yes", "--restart"]);
    let told = "prepare template again: taking the tree that was built before";
    assert!(applied.err.contains(told), "{}", applied.err);
    assert_eq!(machine.entries("state/templates"), both);
    machine.must(&["run", "one", "--", "true"]);
}
