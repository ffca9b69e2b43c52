//! The main job, against a real `bulkheadd` on the embedded backend: two qubes are declared,
//! started, used, asked about, changed and rolled back. Nothing is shared between tests: each has
//! a daemon with folders of its own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics has failed"
)]

use std::fs;
use std::io::Read;
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use bulkhead_testing::{Ended, TestDaemon, ended, wait_for};

struct Machine(TestDaemon);

impl Deref for Machine {
    type Target = TestDaemon;

    fn deref(&self) -> &TestDaemon {
        &self.0
    }
}

const SYSTEM: &str = "description/system.ron";

impl Machine {
    /// A daemon that serves the example desktop.
    fn start() -> Self {
        let mut daemon = TestDaemon::new();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/desktop");
        copy(&example, &daemon.path("description"));
        daemon.start(daemon.daemon(SYSTEM));
        Self(daemon)
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path("description").join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn the_policy_of_generations_is_listed_and_compared_and_expectations_stop_an_apply() {
    let machine = Machine::start();
    machine.must(&["apply", "--yes"]);
    let listed = machine.must(&["policy", "list", "--effective"]);
    assert!(listed.contains("system.ron:"), "{listed}");
    assert!(listed.contains("policy/30-desktop.policy:8"), "{listed}");
    let system = machine.path(SYSTEM);
    let simulate = ["policy", "simulate", "--system", system.to_str().unwrap()];
    let same = machine.run(&simulate);
    assert_eq!(same.code, 0, "{same:?}");

    // Personal files to the vault: expected to be denied.
    let policy = "policy/30-desktop.policy";
    let (deny, ask) = ("personal  vault     deny", "personal  vault     ask");
    machine.edit(policy, deny, ask);
    let changed = machine.run(&simulate);
    assert_eq!(changed.code, 5, "{changed:?}");
    assert!(changed.out.contains("personal -> vault"), "{changed:?}");
    for change in [&["plan"][..], &["apply", "--yes"]] {
        let refused = machine.run(change);
        assert_eq!(refused.code, 1, "{refused:?}");
        let said = "expected deny, got ask: ";
        assert!(refused.err.contains(said), "{refused:?}");
        assert!(refused.err.contains("desktop.expect:9"), "{refused:?}");
        assert!(
            refused.err.contains("by policy/30-desktop.policy:11"),
            "{refused:?}"
        );
    }
    let again = machine.must(&["policy", "list", "--effective"]);
    assert_eq!(again, listed);

    // With the expectation changed too it is applied; going back is still possible.
    let expected = "personal -> vault qubes.Filecopy is";
    let (denied, asked) = (format!("{expected} deny"), format!("{expected} ask"));
    machine.edit("policy/desktop.expect", &denied, &asked);
    machine.must(&["apply", "--yes"]);
    assert_ne!(machine.must(&["policy", "list", "--effective"]), listed);
    let back = ["policy", "simulate", "--from", "2", "--generation", "1"];
    assert_eq!(machine.run(&back).code, 5);
    machine.must(&["rollback", "1", "--yes"]);
    assert_eq!(machine.must(&["policy", "list", "--effective"]), listed);
}

#[test]
fn a_desktop_is_applied_used_changed_and_rolled_back() {
    let machine = Machine::start();
    machine.must(&["apply", "--yes", "-m", "first"]);
    let listed = machine.must(&["ls"]);
    for name in [
        "sys-net",
        "sys-firewall",
        "work",
        "personal",
        "vault",
        "untrusted",
    ] {
        assert!(listed.contains(name), "{listed}");
    }

    // Input, output, errors and the exit code.
    let command = machine.client(&["run", "work", "--", "cat; echo oops >&2; exit 7"]);
    let ran = with_input(command, b"hello\n");
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (7, "hello\n", "oops\n")
    );

    // A copy that is asked about and allowed, and one that is asked about and denied.
    for (answer, code) in [("allow", "0"), ("deny", "126")] {
        let script = format!("echo {answer} >{answer}; qvm-copy-to-vm vault {answer}; echo $?");
        let copying = machine.client(&["run", "work", "--", &script]);
        let copying = std::thread::spawn(move || ended(copying));
        let id = machine.wait_for_ask();
        machine.must(&["ask", answer, &id]);
        let copied = copying.join().unwrap();
        assert_eq!(
            copied.out.trim(),
            code,
            "{answer}: {copied:?}\n{}",
            machine.log()
        );
    }
    let arrived = machine.must(&["run", "vault", "--", "ls QubesIncoming/work"]);
    assert_eq!(arrived, "allow\n");

    // One that policy denies unasked.
    let script = "echo x >x; qvm-copy-to-vm vault x";
    let refused = machine.run(&["run", "personal", "--", script]);
    assert_eq!(refused.code, 126, "{refused:?}");
    let audit = machine.must(&["audit", "--decision", "deny"]);
    assert!(audit.contains("personal -> vault"), "{audit}");

    // A disposable that is gone after its command.
    let ran = machine.run(&["run", "--dispvm", "untrusted", "--", "exit 5"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    let listed = machine.must(&["ls", "--names"]);
    assert_eq!(listed.lines().count(), 6, "{listed}");

    // A change, applied and taken back.
    machine.edit("qubes/people.ron", "\"office\"", "\"office\", \"mail\"");
    let plan = machine.must(&["plan"]);
    assert!(
        plan.contains("~ qube work") && plan.contains("[mail, office]"),
        "{plan}"
    );
    machine.must(&["apply", "--yes", "-m", "mail"]);
    let again = machine.must(&["apply", "--yes"]);
    assert!(!again.contains("generation 3"), "applied twice: {again}");
    let tags =
        |machine: &Machine| machine.json(&["info", "work", "--json"])["declared"]["tags"].clone();
    assert_eq!(tags(&machine), serde_json::json!(["mail", "office"]));
    machine.must(&["rollback", "--yes"]);
    assert_eq!(tags(&machine), serde_json::json!(["office"]));
    let generations = machine.json(&["generations", "--json"]);
    let numbers: Vec<_> = generations
        .as_array()
        .unwrap()
        .iter()
        .map(|g| &g["number"])
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(machine.must(&["diff", "1", "2"]).contains("mail"));
    assert!(machine.must(&["status"]).contains("generation 3"));
}

fn with_input(mut command: Command, input: &[u8]) -> Ended {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The same command with signals as a person's shell leaves them: who runs tests in the background
/// ignores `SIGINT`, and so would all that is started here.
fn unignored(command: &Command) -> Command {
    let mut same = Command::new("env");
    same.arg("--default-signal=INT,TERM,HUP")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => same.env(name, value),
            None => same.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        same.current_dir(folder);
    }
    same
}

#[test]
fn an_interrupted_command_ends_in_its_qube_too() {
    let machine = Machine::start();
    machine.must(&["apply", "--yes", "-m", "first"]);
    for (signal, code) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        let client = machine.client(&["run", "work", "--", "echo begun; exec sleep 7654"]);
        let mut running = unignored(&client).stdout(Stdio::piped()).spawn().unwrap();
        let mut begun = [0; 6];
        running
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut begun)
            .unwrap();
        let id = running.id().to_string();
        let killed = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(killed.unwrap().success());
        // What a shell shows as 128 and the number of the signal.
        let ended = wait_for("the client to end", || running.try_wait().unwrap());
        assert_eq!(ended.signal(), Some(code));
        wait_for("the sleep in the qube to end", || {
            let found = machine.run(&["run", "work", "--", "pgrep -x sleep"]);
            (found.code != 0).then_some(())
        });
    }
}

#[test]
fn a_broken_description_changes_nothing() {
    let machine = Machine::start();
    machine.must(&["apply", "--yes"]);
    machine.edit("qubes/people.ron", "label: \"blue\"", "lable: \"blue\"");
    let refused = machine.run(&["apply", "--yes"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    for part in [
        "unknown field `lable`",
        "did you mean `label`",
        "people.ron:5",
        "^^^^^",
    ] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    let generations = machine.json(&["generations", "--json"]);
    assert_eq!(generations.as_array().unwrap().len(), 1);
}

#[test]
fn a_second_daemon_refuses_and_the_first_goes_on() {
    let machine = Machine::start();
    let second = machine.daemon(SYSTEM).status().unwrap();
    assert!(!second.success());
    machine.must(&["ls"]);
}

#[test]
fn a_second_apply_is_refused_or_comes_after_the_first() {
    let machine = Machine::start();
    let applies: Vec<_> = (0..4)
        .map(|_| {
            let apply = machine.client(&["apply", "--yes"]);
            std::thread::spawn(move || ended(apply))
        })
        .collect();
    let mut done = 0;
    for apply in applies {
        let ended = apply.join().unwrap();
        match ended.code {
            0 => done += 1,
            1 => {
                let told = ended.err.contains("busy") || ended.err.contains("plan");
                assert!(told, "{ended:?}");
            }
            _ => panic!("{ended:?}"),
        }
    }
    assert!(done > 0, "{}", machine.log());
    let generations = machine.json(&["generations", "--json"]);
    assert_eq!(generations.as_array().unwrap().len(), 1);
}
