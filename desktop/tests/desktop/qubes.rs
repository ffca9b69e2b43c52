//! Prompts about calls of real qubes, with a real `bulkheadd`.

use std::process::Command;
use std::thread::JoinHandle;

use bulkhead_testing::{Ended, TestDaemon, ended, wait_for};

use crate::atspi::{Node, Reader};
use crate::input::Input;
use crate::session::{Desktop, Session};

const SYSTEM: &str = r#"(
    defaults: (template: "host", memory: (initial: 128, maximum: 512), vcpus: 1),
    templates: { "host": (source: Host) },
    qubes: {
        "work": (kind: App, label: "blue"),
        "vault": (kind: App, label: "black"),
        "personal": (kind: App, label: "yellow"),
    },
    policy: [
        "qubes.Filecopy * work vault ask default_target=vault\n\
         qubes.Filecopy * work personal ask\n\
         qubes.Filecopy * work @default ask\n\
         qubes.GetDate * work vault deny\n\
         * * work vault ask default_target=vault\n",
    ],
)
"#;

/// A machine with nothing running, and a session that asks for it.
struct Machine {
    reader: Reader,
    input: Input,
    _desktop: Desktop,
    session: Session,
    daemon: TestDaemon,
}

impl Machine {
    fn start(ask_timeout: &str) -> Self {
        let mut daemon = TestDaemon::new();
        std::fs::write(daemon.path("system.ron"), SYSTEM).unwrap();
        let mut command = daemon.daemon("system.ron");
        command.args(["--stop-qubes-on-exit", "--ask-timeout", ask_timeout]);
        daemon.start(command);
        daemon.must(&["apply", "--yes"]);
        let session = Session::start();
        let reader = Reader::start(&session);
        let input = Input::start(&session);
        input.point(1279, 1023);
        let desktop = session.desktop(&daemon.path("run/bus"));
        daemon.must(&["start", "work"]);
        Self {
            reader,
            input,
            _desktop: desktop,
            session,
            daemon,
        }
    }

    /// Runs a script in `work` beside the test.
    fn in_work(&self, script: &str) -> JoinHandle<Ended> {
        let command: Command = self.daemon.client(&["run", "work", "--", script]);
        std::thread::spawn(move || ended(command))
    }

    fn states(&self) -> Vec<(String, String)> {
        let rows = self.daemon.json(&["ls", "--json"]);
        let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap().to_owned();
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| (text(row, "name"), text(row, "state")))
            .collect()
    }

    /// Nothing runs but the qube that asked, and nothing has ever arrived in another.
    #[track_caller]
    fn assert_nothing_came_of_it(&self) {
        for (name, state) in self.states() {
            let expected = if name == "work" { "running" } else { "stopped" };
            assert_eq!(state, expected, "{name}\n{}", self.daemon.log());
        }
        let allowed = self.daemon.must(&["audit", "--decision", "allow"]);
        assert!(!allowed.contains("work ->"), "{allowed}");
        for qube in ["vault", "personal"] {
            let command = "ls -A QubesIncoming 2>/dev/null; true";
            assert_eq!(self.daemon.must(&["run", qube, "--", command]), "");
            self.daemon.must(&["stop", qube]);
        }
    }

    /// Goes to a widget of the only prompt with the pointer.
    #[track_caller]
    fn point(&self, node: &Node) {
        let (x, y, width, height) = self.reader.place(node);
        let (_, left, top) = wait_for("its window", || {
            self.input.windows("Call of work").first().copied()
        });
        self.input
            .point(left + x + width / 2 - 5, top + y + height / 2);
        self.input.point(left + x + width / 2, top + y + height / 2);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.session.keep_screen();
            eprintln!("bulkheadd said:\n{}", self.daemon.log());
        }
    }
}

#[test]
fn what_is_denied_leaves_nothing_and_what_is_allowed_arrives_where_it_was_sent() {
    let machine = Machine::start("120");
    let copying = machine.in_work("echo secret >f; qvm-copy-to-vm vault f; echo $?");
    let prompt = machine.reader.prompt();
    assert!(
        prompt.says("work wants to copy files to vault"),
        "{}",
        prompt.outline()
    );
    assert!(
        prompt.says("work says: 1 file, 7 bytes"),
        "{}",
        prompt.outline()
    );
    machine.reader.press(prompt.button("Deny"));
    assert_eq!(copying.join().unwrap().out.trim(), "126");
    machine.reader.wait_until_gone();
    machine.assert_nothing_came_of_it();

    // Another target than the one that was asked for, with the mouse.
    let copying = machine.in_work("qvm-copy f; echo $?");
    let prompt = machine.reader.prompt();
    let list = prompt.find("list", |_| true).unwrap();
    let offered: Vec<&str> = list.children.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(offered, ["personal", "vault"], "what policy allows");
    assert!(
        list.children.iter().all(|row| !row.is_selected()),
        "the rule names no default"
    );
    machine.point(&list.children[0]);
    machine.input.click();
    machine.point(prompt.button("Allow"));
    let armed = machine.reader.wait_until("an armed prompt", |prompts| {
        let prompt = prompts.first()?;
        let ready = prompt.says("copy files to personal") && prompt.button("Allow").is_sensitive();
        ready.then(|| prompt.clone())
    });
    machine.point(armed.button("Allow"));
    machine.input.click();
    assert_eq!(copying.join().unwrap().out.trim(), "0");
    machine.reader.wait_until_gone();
    let arrived = machine
        .daemon
        .must(&["run", "personal", "--", "cat QubesIncoming/work/f"]);
    assert_eq!(arrived, "secret\n");
    let vault = machine
        .states()
        .into_iter()
        .find(|(name, _)| name == "vault");
    assert_eq!(vault.unwrap().1, "stopped");
}

#[test]
fn a_call_that_nobody_answers_or_waits_for_leaves_nothing() {
    let machine = Machine::start("20");
    // The caller is killed.
    // With its helper: as when a terminal is closed on it.
    let script = "echo x >f; setsid qvm-copy-to-vm vault f & \
                  until [ -e go ]; do sleep 0.1; done; kill -9 -$!";
    let killing = machine.in_work(script);
    let prompt = machine.reader.prompt();
    machine.daemon.must(&["run", "work", "--", "touch go"]);
    machine.reader.wait_until_gone();
    killing.join().unwrap();
    // A button of a prompt that is gone does nothing.
    machine.reader.press(prompt.button("Allow"));
    let denied = machine.daemon.must(&["audit", "--decision", "deny"]);
    assert!(denied.contains("its caller went away"), "{denied}");
    machine.assert_nothing_came_of_it();

    // Nobody answers.
    let copying = machine.in_work("qvm-copy-to-vm vault f; echo $?");
    let prompt = machine.reader.prompt();
    assert!(prompt.says("Refused in 0:"), "{}", prompt.outline());
    assert_eq!(copying.join().unwrap().out.trim(), "126");
    machine.reader.wait_until_gone();
    machine.assert_nothing_came_of_it();

    // The qube itself is killed.
    let copying = machine.in_work("qvm-copy-to-vm vault f");
    machine.reader.prompt();
    machine.daemon.must(&["kill", "work"]);
    machine.reader.wait_until_gone();
    copying.join().unwrap();
}

#[test]
fn ten_hostile_calls_at_once_are_bounded_clean_and_denied_together() {
    let machine = Machine::start("120");
    // Whatever a qube may put into a name: control characters, markup, direction, length.
    let script = r#"for n in 1 2 3 4 5 6 7 8 9 10; do
        name="$(printf 'corp.\033[2J<b>x</b>\342\200\256evil')+$(printf '\302\233%0200d\n' $n)"
        qrexec-client-vm vault "$name" </dev/null & pids="$pids $!"
    done
    for pid in $pids; do wait $pid; echo $?; done"#;
    let calling = machine.in_work(script);
    let prompts = machine
        .reader
        .wait_until("two prompts and eight that wait", |prompts| {
            let all = prompts.len() == 2 && prompts.iter().all(|p| p.says("8 more calls wait"));
            all.then(|| prompts.to_vec())
        });
    for text in prompts.iter().flat_map(Node::texts) {
        let ours = |c: char| (' '..='~').contains(&c) || c == '\u{2192}';
        assert!(text.chars().all(ours), "{text:?}");
        assert!(text.len() < 300, "{text:?}");
    }
    machine
        .reader
        .press(prompts[0].button("Deny all 10 of work"));
    let codes = calling.join().unwrap();
    assert_eq!(codes.out, "126\n".repeat(10), "{codes:?}");
    machine.reader.wait_until_gone();
    machine.assert_nothing_came_of_it();
}

#[test]
fn a_real_daemon_that_is_killed_takes_its_prompts_along_and_a_new_one_asks_anew() {
    let mut machine = Machine::start("120");
    let _copying = machine.in_work("echo x >f; qvm-copy-to-vm vault f");
    machine.reader.prompt();
    machine.daemon.kill();
    machine.reader.wait_until_gone();
    let mut command = machine.daemon.daemon("system.ron");
    command.arg("--stop-qubes-on-exit");
    machine.daemon.start(command);
    wait_for("the qube to be adopted", || {
        let states = machine.states();
        let is_up = states.contains(&("work".to_owned(), "running".to_owned()));
        is_up.then_some(())
    });
    let copying = machine.in_work("qvm-copy-to-vm vault f; echo $?");
    let prompt = machine
        .reader
        .wait_until("the new prompt", |prompts| prompts.first().cloned());
    machine.reader.press(prompt.button("Deny"));
    assert_eq!(copying.join().unwrap().out.trim(), "126");
}
