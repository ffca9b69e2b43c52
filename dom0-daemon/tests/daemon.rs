//! The whole daemon as a process, with the programs it starts and `bulkhead` as its client.
//!
//! Needs all programs of the workspace beside `bulkheadd`: `cargo build --workspace --bins`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what a test's helper cannot do ends the test, as in the test itself"
)]

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Long enough for a loaded machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program of the workspace.
#[track_caller]
fn program(name: &str) -> PathBuf {
    let daemon = Path::new(env!("CARGO_BIN_EXE_bulkheadd"));
    let path = daemon.with_file_name(name);
    assert!(
        path.is_file(),
        "`{}` is not built; run `cargo build --workspace --bins` with the same profile",
        path.display()
    );
    path
}

/// A machine of its own: folders, a description, and a daemon that may be started again.
struct Machine {
    folder: TempDir,
    daemon: Child,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whatever the test did, the last daemon stops what still runs.
        if self.daemon.try_wait().is_ok_and(|ended| ended.is_some()) {
            self.start();
        }
        self.signal(nix_term());
        let _ = self.daemon.wait();
    }
}

fn nix_term() -> rustix::process::Signal {
    rustix::process::Signal::TERM
}

impl Machine {
    fn new() -> Self {
        Self::with(&[])
    }

    /// With these in the daemon's environment; `$TEST` in a value stands for the folder.
    fn with(environment: &[(&str, &str)]) -> Self {
        for name in [
            "bulkhead",
            "bulkhead-launch",
            "bulkhead-relay",
            "qube-agent",
        ] {
            program(name);
        }
        // Not TMPDIR, which may be too long for sockets below it.
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        std::fs::write(folder.path().join("system.ron"), SYSTEM).unwrap();
        let mut command = command(folder.path());
        let test = folder.path().display().to_string();
        for (name, value) in environment {
            command.env(name, value.replace("$TEST", &test));
        }
        let daemon = command.arg("--stop-qubes-on-exit").spawn().unwrap();
        let machine = Self { folder, daemon };
        machine.wait_for_socket();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&mut self) {
        self.daemon = spawn(self.folder.path(), None, true);
        self.wait_for_socket();
    }

    fn wait_for_socket(&self) {
        let socket = self.path("run/bus");
        let end = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < end, "the daemon did not begin to serve");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, signal);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("bulkhead"));
        command
            .args(arguments)
            .env("BULKHEAD_SOCKET", self.path("run/bus"))
            .stdin(Stdio::null());
        command
    }

    fn bulkhead(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a command that must succeed.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.bulkhead(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Name and state of every qube.
    #[track_caller]
    fn states(&self) -> Vec<(String, String)> {
        let rows: serde_json::Value = serde_json::from_str(&self.ok(&["ls", "--json"])).unwrap();
        let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap().to_owned();
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| (text(row, "name"), text(row, "state")))
            .collect()
    }
}

/// A daemon on `folder`, not yet started.
fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkheadd"));
    command
        .arg("--system")
        .arg(folder.join("system.ron"))
        .arg("--state-dir")
        .arg(folder.join("state"))
        .arg("--runtime-dir")
        .arg(folder.join("run"))
        .arg("--no-system-bus")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn spawn(folder: &Path, notify: Option<&Path>, stop_qubes: bool) -> Child {
    let mut command = command(folder);
    if stop_qubes {
        command.arg("--stop-qubes-on-exit");
    }
    if let Some(path) = notify {
        command.env("NOTIFY_SOCKET", path);
    }
    command.spawn().unwrap()
}

const SYSTEM: &str = r#"(
    defaults: (template: "host", memory: (initial: 128, maximum: 512), vcpus: 1),
    templates: { "host": (source: Host) },
    qubes: {
        "one": (kind: App, label: "blue"),
        "two": (kind: App, label: "green"),
        "spare": (kind: DisposableTemplate, label: "red"),
    },
    policy: ["qubes.GetDate * one two ask default_target=two\n"],
)
"#;

#[test]
fn a_command_in_a_qube_and_in_a_disposable_ends_as_it_does_there() {
    let machine = Machine::new();
    machine.ok(&["apply", "--yes"]);
    let script = "cat; echo err >&2; exit 42";
    let mut command = machine.command(&["run", "one", "--", script]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::Write;
    child.stdin.take().unwrap().write_all(b"in").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(42));
    assert_eq!(output.stdout, b"in");
    assert_eq!(output.stderr, b"err\n");

    let name = machine.ok(&["run", "--dispvm", "spare", "--", "hostname"]);
    assert!(name.starts_with("disp"), "{name}");
    let states = machine.states();
    assert!(
        states.iter().all(|(qube, _)| *qube != name.trim()),
        "{states:?}"
    );
    assert!(states.contains(&("one".to_owned(), "running".to_owned())));
    let socket = machine.path("run").join(format!("qrexec.{}", name.trim()));
    assert!(!socket.exists(), "`{}` stays behind", socket.display());
}

#[test]
fn a_call_is_asked_about_and_allowed_or_refused() {
    let machine = Machine::new();
    machine.ok(&["apply", "--yes"]);
    machine.ok(&["start", "one", "two"]);
    for (answer, code) in [("allow", 0), ("deny", 126)] {
        let call = "qrexec-client-vm two qubes.GetDate";
        let mut caller = machine.command(&["run", "one", "--", call]);
        let child = caller
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + PATIENCE;
        let id = loop {
            let asks = machine.ok(&["ask", "list", "--json"]);
            let asks: serde_json::Value = serde_json::from_str(&asks).unwrap();
            if let Some(id) = asks[0]["id"].as_u64() {
                break id.to_string();
            }
            assert!(Instant::now() < end, "nothing was asked");
            std::thread::sleep(Duration::from_millis(20));
        };
        machine.ok(&["ask", answer, &id]);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{answer}");
        assert_eq!(output.stdout.is_empty(), answer == "deny");
    }
    let audit = machine.ok(&["audit"]);
    assert!(audit.contains("allow") && audit.contains("deny"), "{audit}");
}

#[test]
fn qubes_outlive_a_daemon_that_is_killed_and_the_next_takes_them_over() {
    let mut machine = Machine::new();
    machine.ok(&["apply", "--yes"]);
    machine.ok(&["run", "one", "--", "echo mark > /tmp/mark"]);
    machine.signal(rustix::process::Signal::KILL);
    machine.daemon.wait().unwrap();
    let output = machine.bulkhead(&["ls"]);
    assert_eq!(output.status.code(), Some(1), "nobody serves");
    machine.start();
    assert!(
        machine
            .states()
            .contains(&("one".to_owned(), "running".to_owned()))
    );
    // The same life of the qube: its temporary files are still there.
    assert_eq!(machine.ok(&["run", "one", "--", "cat /tmp/mark"]), "mark\n");
}

#[test]
fn the_service_manager_is_told_and_the_socket_goes_at_the_end() {
    let mut machine = Machine::new();
    machine.signal(rustix::process::Signal::TERM);
    assert!(machine.daemon.wait().unwrap().success());
    assert!(!machine.path("run/bus").exists());
    let address = machine.path("notify");
    let manager = UnixDatagram::bind(&address).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    machine.daemon = spawn(machine.folder.path(), Some(&address), true);
    let mut said = [0; 64];
    let count = manager.recv(&mut said).unwrap();
    assert_eq!(&said[..count], b"READY=1");
    machine.signal(rustix::process::Signal::INT);
    let count = manager.recv(&mut said).unwrap();
    assert_eq!(&said[..count], b"STOPPING=1");
    assert!(machine.daemon.wait().unwrap().success());
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let machine = Machine::new();
    let mut second = Command::new(env!("CARGO_BIN_EXE_bulkheadd"))
        .arg("--system")
        .arg(machine.path("system.ron"))
        .arg("--state-dir")
        .arg(machine.path("state"))
        .arg("--runtime-dir")
        .arg(machine.path("other"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    second
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(1));
    assert!(
        said.starts_with("error: another bulkheadd (process "),
        "{said}"
    );
    assert!(said.contains("\nhint: "), "{said}");
    machine.ok(&["ls"]);
}

#[test]
fn a_second_apply_during_the_first_is_refused_and_the_first_goes_on() {
    let machine = Machine::with(&[("BULKHEAD_HOLD_AT", "1:$TEST/hold")]);
    std::fs::write(machine.path("hold"), "").unwrap();
    let mut first = machine
        .command(&["apply", "--yes", "-m", "first"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = || -> serde_json::Value {
        serde_json::from_str(&machine.ok(&["status", "--json"])).unwrap()
    };
    let end = Instant::now() + PATIENCE;
    while status()["applying"].is_null() {
        assert!(Instant::now() < end, "the first apply did not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    for words in [
        &["apply", "--yes", "-m", "second"][..],
        &["gc", "--yes"],
        &["rollback", "1", "--yes"],
    ] {
        let refused = machine.bulkhead(words);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{words:?}: {said}");
        if words[0] != "rollback" {
            assert!(
                said.contains("has been applying since"),
                "{words:?}: {said}"
            );
        }
    }
    std::fs::remove_file(machine.path("hold")).unwrap();
    assert!(first.wait().unwrap().success());
    let generations = machine.ok(&["generations", "--json"]);
    let generations: serde_json::Value = serde_json::from_str(&generations).unwrap();
    assert_eq!(generations.as_array().unwrap().len(), 1, "{generations}");
    assert_eq!(generations[0]["message"], "first");
    assert!(machine.ok(&["apply", "--yes"]).contains("Nothing to do"));
}

#[test]
fn a_broken_description_is_shown_and_changes_nothing() {
    let machine = Machine::new();
    machine.ok(&["apply", "--yes", "-m", "first"]);
    let broken = SYSTEM.replace("label: \"blue\"", "lable: \"blue\"");
    std::fs::write(machine.path("system.ron"), broken).unwrap();
    let output = machine.bulkhead(&["apply", "--yes"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("did you mean") && said.contains("system.ron"),
        "{said}"
    );
    let generations = machine.ok(&["generations", "--json"]);
    let generations: serde_json::Value = serde_json::from_str(&generations).unwrap();
    assert_eq!(generations.as_array().unwrap().len(), 1);
    assert_eq!(machine.states().len(), 3);
}
