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
use std::path::PathBuf;

use bulkhead_testing::{Ended, TestDaemon};

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

struct Machine(TestDaemon);

impl std::ops::Deref for Machine {
    type Target = TestDaemon;

    fn deref(&self) -> &TestDaemon {
        &self.0
    }
}

impl Machine {
    fn start() -> Self {
        let mut daemon = TestDaemon::new();
        fs::write(daemon.path("system.ron"), SYSTEM).unwrap();
        let mut command = daemon.daemon("system.ron");
        // Else trees of another run would be found.
        command.env("CACHE_DIRECTORY", daemon.path("cache"));
        daemon.start(command);
        Self(daemon)
    }

    fn run(&self, words: &[&str]) -> Ended {
        let ended = self.0.run(words);
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

    /// Says where the only template comes from.
    fn source(&self, source: &str) {
        let text = SYSTEM.replace("suite: \"bookworm\"", source);
        fs::write(self.path("system.ron"), text).unwrap();
    }

    fn entries(&self, folder: &str) -> BTreeSet<PathBuf> {
        fs::read_dir(self.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
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
    fs::write(machine.path("system.ron"), again).unwrap();
    let applied = machine.must(&["apply", "--yes", "--restart"]);
    let told = "prepare template again: taking the tree that was built before";
    assert!(applied.err.contains(told), "{}", applied.err);
    assert_eq!(machine.entries("state/templates"), both);
    machine.must(&["run", "one", "--", "true"]);
}
