//! The whole daemon as a process, with the programs it starts and `bulkhead` as its client.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what a test's helper cannot do ends the test, as in the test itself"
)]

use std::ops::Deref;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use bulkhead_testing::{Ended, PATIENCE, TestDaemon, ended, wait_for};
use rustix::process::Signal;

/// A machine that a daemon serves; its qubes stop when it does.
struct Machine(TestDaemon);

impl Deref for Machine {
    type Target = TestDaemon;

    fn deref(&self) -> &TestDaemon {
        &self.0
    }
}

impl Machine {
    fn new() -> Self {
        Self::with(&[])
    }

    /// With these in the daemon's environment; `$TEST` in a value stands for the folder.
    fn with(environment: &[(&str, &str)]) -> Self {
        let mut machine = Self(TestDaemon::new());
        std::fs::write(machine.path("system.ron"), SYSTEM).unwrap();
        let mut command = machine.command();
        let test = machine.folder().display().to_string();
        for (name, value) in environment {
            command.env(name, value.replace("$TEST", &test));
        }
        machine.0.start(command);
        machine
    }

    fn command(&self) -> Command {
        let mut command = self.daemon("system.ron");
        command.arg("--stop-qubes-on-exit");
        command
    }

    /// Name and state of every qube.
    #[track_caller]
    fn states(&self) -> Vec<(String, String)> {
        let rows = self.json(&["ls", "--json"]);
        let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap().to_owned();
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| (text(row, "name"), text(row, "state")))
            .collect()
    }
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
fn a_daemon_is_not_taken_for_the_one_before() {
    let mut machine = Machine(TestDaemon::new());
    std::fs::write(machine.path("system.ron"), SYSTEM).unwrap();
    std::fs::create_dir(machine.path("run")).unwrap();
    // As what a killed daemon was starting holds its socket for a moment.
    let _left = UnixListener::bind(machine.path("run/bus")).unwrap();
    let command = machine.command();
    machine.0.start(command);
    machine.must(&["status"]);
}

#[test]
fn a_command_in_a_qube_and_in_a_disposable_ends_as_it_does_there() {
    let machine = Machine::new();
    machine.must(&["apply", "--yes"]);
    let script = "cat; echo err >&2; exit 42";
    let mut command = machine.client(&["run", "one", "--", script]);
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

    let name = machine.must(&["run", "--dispvm", "spare", "--", "hostname"]);
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
fn what_is_declared_and_changes_nothing_here_is_named() {
    let machine = Machine::new();
    let one = r#""one": (kind: App, label: "blue""#;
    let system = SYSTEM.replace(one, &format!(r#"{one}, kernelopts: "quiet""#));
    std::fs::write(machine.path("system.ron"), system).unwrap();
    machine.must(&["apply", "--yes"]);
    let status = machine.json(&["status", "--json"]);
    let all = ["one", "spare", "two"];
    let expect = serde_json::json!({
        "kernelopts": ["one"],
        "volumes.private.revisions_to_keep": all,
        "volumes.private.size": all,
    });
    assert_eq!(status["without_effect"], expect);
    let said = machine.must(&["status"]);
    assert!(said.contains("  kernelopts: one\n"), "{said}");
    let info = machine.json(&["info", "one", "--json"]);
    assert_eq!(info["without_effect"][0], "kernelopts");
    let said = machine.must(&["info", "two"]);
    let line = "without effect:       volumes.private.size, volumes.private.revisions_to_keep";
    assert!(said.contains(line), "{said}");
}

#[test]
fn a_qube_that_runs_on_an_older_root_of_its_template_is_named() {
    let machine = Machine::new();
    let tools = r#"qubes: {
        "tools": (kind: Template, label: "black", template: "host"),
        "app": (kind: App, label: "blue", template: "tools"),"#;
    let system = SYSTEM.replace("qubes: {", tools);
    std::fs::write(machine.path("system.ron"), system).unwrap();
    machine.must(&["apply", "--yes"]);
    let found = |qube| machine.must(&["run", qube, "--", "cat /usr/installed || echo none"]);
    assert_eq!(found("app"), "none\n");
    machine.must(&["run", "tools", "--", "echo one > /usr/installed"]);
    machine.must(&["stop", "tools"]);
    let pending = machine.json(&["status", "--json"])["pending"].take();
    let expect = serde_json::json!([{"qube": "app", "properties": ["root of its template"]}]);
    assert_eq!(pending, expect);
    let said = machine.must(&["status"]);
    assert!(said.contains("  app: root of its template\n"), "{said}");
    let info = machine.json(&["info", "app", "--json"]);
    let expect = serde_json::json!({
        "template": "tools", "revision": null, "newest": 1, "outdated": true
    });
    assert_eq!(info["template_root"], expect);
    let said = machine.must(&["info", "app"]);
    let line = "root:                 older than revision 1 of tools; restart it to use that";
    assert!(said.contains(line), "{said}");
    let said = machine.must(&["info", "tools"]);
    assert!(said.contains("revisions:            1 ("), "{said}");
    assert!(!said.contains("volumes.root.revisions_to_keep"), "{said}");
    machine.must(&["apply", "--yes", "--restart"]);
    assert_eq!(found("app"), "one\n");
    let status = machine.json(&["status", "--json"]);
    assert_eq!(status["pending"], serde_json::json!([]));
    // What it lies over stays, and so does the way there.
    machine.must(&["gc"]);
    machine.must(&["restart", "app"]);
    assert_eq!(found("app"), "one\n");
}

#[test]
fn a_call_is_asked_about_and_allowed_or_refused() {
    let machine = Machine::new();
    machine.must(&["apply", "--yes"]);
    machine.must(&["start", "one", "two"]);
    for (answer, code) in [("allow", 0), ("deny", 126)] {
        let call = "qrexec-client-vm two qubes.GetDate";
        let mut caller = machine.client(&["run", "one", "--", call]);
        let child = caller
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let id = machine.wait_for_ask();
        machine.must(&["ask", answer, &id]);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{answer}");
        assert_eq!(output.stdout.is_empty(), answer == "deny");
    }
    let audit = machine.must(&["audit"]);
    assert!(audit.contains("allow") && audit.contains("deny"), "{audit}");
}

#[test]
fn qubes_outlive_a_daemon_that_is_killed_and_the_next_takes_them_over() {
    let mut machine = Machine::new();
    machine.must(&["apply", "--yes"]);
    machine.must(&["run", "one", "--", "echo mark > /tmp/mark"]);
    machine.0.kill();
    assert_eq!(machine.run(&["ls"]).code, 1, "nobody serves");
    machine.0.start(machine.command());
    // It starts, as far as the new daemon knows, until its agent has connected again.
    let running = ("one".to_owned(), "running".to_owned());
    wait_for("the qube to run", || {
        machine.states().contains(&running).then_some(())
    });
    // The same life of the qube: its temporary files are still there.
    assert_eq!(
        machine.must(&["run", "one", "--", "cat /tmp/mark"]),
        "mark\n"
    );
}

#[test]
fn the_service_manager_is_told_and_the_socket_goes_at_the_end() {
    let mut machine = Machine::new();
    machine.signal(Signal::TERM);
    assert!(machine.0.process().wait().unwrap().success());
    assert!(!machine.path("run/bus").exists());
    let address = machine.path("notify");
    let manager = UnixDatagram::bind(&address).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = machine.command();
    command.env("NOTIFY_SOCKET", &address);
    machine.0.start(command);
    let mut said = [0; 64];
    let count = manager.recv(&mut said).unwrap();
    assert_eq!(&said[..count], b"READY=1");
    machine.signal(Signal::INT);
    let count = manager.recv(&mut said).unwrap();
    assert_eq!(&said[..count], b"STOPPING=1");
    assert!(machine.0.process().wait().unwrap().success());
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let machine = Machine::new();
    let Ended {
        code, err: said, ..
    } = ended({
        let mut second = machine.daemon_at("system.ron", "other");
        second.stderr(Stdio::piped());
        second
    });
    assert_eq!(code, 1);
    assert!(
        said.starts_with("error: another bulkheadd (process "),
        "{said}"
    );
    assert!(said.contains("\nhint: "), "{said}");
    machine.must(&["ls"]);
}

#[test]
fn a_second_apply_during_the_first_is_refused_and_the_first_goes_on() {
    let machine = Machine::with(&[("BULKHEAD_HOLD_AT", "1:$TEST/hold")]);
    std::fs::write(machine.path("hold"), "").unwrap();
    let mut first = machine
        .client(&["apply", "--yes", "-m", "first"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the first apply to begin", || {
        let status = machine.json(&["status", "--json"]);
        (!status["applying"].is_null()).then_some(())
    });
    for words in [
        &["apply", "--yes", "-m", "second"][..],
        &["gc", "--yes"],
        &["rollback", "1", "--yes"],
    ] {
        let Ended {
            code, err: said, ..
        } = machine.run(words);
        assert_eq!(code, 1, "{words:?}: {said}");
        if words[0] != "rollback" {
            assert!(
                said.contains("has been applying since"),
                "{words:?}: {said}"
            );
        }
    }
    std::fs::remove_file(machine.path("hold")).unwrap();
    assert!(first.wait().unwrap().success());
    let generations = machine.json(&["generations", "--json"]);
    assert_eq!(generations.as_array().unwrap().len(), 1, "{generations}");
    assert_eq!(generations[0]["message"], "first");
    assert!(machine.must(&["apply", "--yes"]).contains("Nothing to do"));
}

/// Descriptions with an error each, where it is shown, and what is said of it.
fn broken() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let but = |from: &str, to: &str| {
        let text = SYSTEM.replacen(from, to, 1);
        assert_ne!(text, SYSTEM);
        text.into_bytes()
    };
    vec![
        (
            but("label: \"blue\"", "lable: \"blue\""),
            "system.ron:5:",
            "did you mean `label`",
        ),
        (
            but("label: \"green\"", "label: \"green\", netvm: \"gone\""),
            "system.ron:6:",
            "gone",
        ),
        (but("two ask", "two perhaps"), "system.ron:9:", "perhaps"),
        (SYSTEM.as_bytes()[..120].to_vec(), "system.ron:3:", "error"),
        (Vec::new(), "system.ron:1:", "error"),
        (
            b"(qubes: {\"\xff\xfe\": ()})".to_vec(),
            "system.ron",
            "UTF-8",
        ),
    ]
}

#[test]
fn a_broken_description_is_shown_and_changes_nothing() {
    let mut machine = Machine::new();
    machine.must(&["apply", "--yes", "-m", "first"]);
    machine.must(&["run", "one", "--", "echo mark > /tmp/mark"]);
    let generations = machine.must(&["generations", "--json"]);
    let states = machine.states();
    let intact = |machine: &Machine, after: &str| {
        let now = machine.must(&["generations", "--json"]);
        assert_eq!(now, generations, "{after}");
        // The same life of the qube, and its agent answers.
        let said = machine.must(&["run", "one", "--", "cat /tmp/mark"]);
        assert_eq!(said, "mark\n", "{after}");
        assert_eq!(machine.states(), states, "{after}");
        // And nothing else than the generation in force is wanted of the machine.
        let status = machine.json(&["status", "--json"]);
        assert_eq!(status["drift"], serde_json::json!([]), "{after}");
    };
    for (text, place, part) in broken() {
        std::fs::write(machine.path("system.ron"), text).unwrap();
        let said = machine.run(&["apply", "--yes"]);
        assert_eq!(said.code, 1, "{said:?}");
        for wanted in ["error: the description", place, part] {
            assert!(said.err.contains(wanted), "no `{wanted}` in {}", said.err);
        }
        intact(&machine, place);
    }
    // The next daemon goes by the generation in force, whatever the file says by now.
    machine.0.kill();
    machine.0.start(machine.command());
    wait_for("the qube to run", || {
        (machine.states() == states).then_some(())
    });
    intact(&machine, "a restart");
    std::fs::remove_file(machine.path("system.ron")).unwrap();
    let said = machine.run(&["apply", "--yes"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("system.ron"), "{}", said.err);
    intact(&machine, "no file");
    std::fs::write(machine.path("system.ron"), SYSTEM).unwrap();
    assert!(machine.must(&["apply", "--yes"]).contains("Nothing to do"));
}
