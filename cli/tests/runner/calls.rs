//! `run`, `call`, `ask` and `audit`.

use bulkhead_api::call::{Announced, Ask, AuditRecord};
use bulkhead_api::event::Event;
use bulkhead_api::{ApiError, ErrorKind, to_json};

use crate::common::fake::{Fake, Script};
use crate::common::terminal::Terminal;
use crate::common::{told, with_input};

fn fake() -> Fake {
    Fake::start(Script::default())
}

#[test]
fn run_relays_input_output_errors_and_the_exit_code() {
    let fake = fake();
    let command = fake.bulkhead(&["run", "work", "--", "cat; echo oops >&2; exit 7"]);
    let output = with_input(command, b"in\0put\n");
    assert_eq!(output.stdout, b"in\0put\n");
    assert_eq!(output.stderr, b"oops\n");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(
        fake.asked(),
        ["run \"work\" \"\" false true cat; echo oops >&2; exit 7"]
    );
}

#[test]
fn run_carries_much_in_both_directions() {
    let fake = fake();
    let input: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let output = with_input(fake.bulkhead(&["run", "work", "--", "cat"]), &input);
    assert!(
        output.stdout == input,
        "{} bytes came back",
        output.stdout.len()
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn run_does_not_wait_for_input_that_the_command_does_not_want() {
    let fake = fake();
    // A terminal never ends its input by itself.
    let terminal = Terminal::run(fake.bulkhead(&["run", "work", "--", "echo done; exit 4"]));
    let (seen, status) = terminal.end();
    assert_eq!((seen.as_str(), status.code()), ("done\n", Some(4)));
}

#[test]
fn words_arrive_as_they_are() {
    let fake = fake();
    let words = [
        "run", "work", "--", "printf", "%s|", "a b", "$HOME", "it's", "",
    ];
    assert_eq!(fake.tell(&words), "a b|$HOME|it's||");
}

#[test]
fn options_of_run_reach_the_daemon() {
    let fake = fake();
    let _ = fake.tell(&["run", "-u", "root", "-n", "work", "--", "true"]);
    let _ = fake.tell(&["run", "--dispvm", "untrusted", "--", "true"]);
    let _ = fake.tell(&["run", "--dispvm=untrusted", "--", "true"]);
    let _ = fake.tell(&["run", "-D", "--", "true"]);
    let mut asked = fake.asked();
    asked.retain(|what| what.starts_with("run "));
    assert_eq!(
        asked,
        [
            "run \"work\" \"root\" false false true",
            "run \"untrusted\" \"\" true true true",
            "run \"untrusted\" \"\" true true true",
            "run \"\" \"\" true true true",
        ]
    );
}

#[test]
fn call_names_the_service_and_the_disposable() {
    let fake = fake();
    assert_eq!(
        fake.tell(&["call", "work", "qubes.StartApp+x"]),
        "qubes.StartApp+x\n"
    );
    let _ = fake.tell(&["call", "@dispvm:untrusted", "qubes.GetDate"]);
    let asked = fake.asked();
    assert!(
        asked[0].contains("qube: \"work\", service: \"qubes.StartApp+x\""),
        "{asked:?}"
    );
    assert!(asked[1].contains("qube: \"untrusted\"") && asked[1].contains("disposable: true"));
}

#[test]
fn a_qube_cannot_act_on_the_terminal() {
    let fake = fake();
    let hostile = r"printf 'a\033]0;x\007b\n'; printf '\033[2J\n' >&2";
    let (seen, _) = Terminal::run(fake.bulkhead(&["run", "work", "--", hostile])).end();
    assert!(!seen.contains('\x1b'), "{seen:?}");
    assert!(seen.contains("a_]0;x"), "{seen:?}");
    // Elsewhere bytes are bytes, unless asked otherwise.
    let output = fake
        .bulkhead(&["run", "work", "--", hostile])
        .output()
        .unwrap();
    assert!(output.stdout.contains(&0x1b));
    let output = fake
        .bulkhead(&["run", "-t", "work", "--", hostile])
        .output()
        .unwrap();
    assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b));
    let mut raw = fake.bulkhead(&["run", "--no-filter-escape-chars", "work", "--", hostile]);
    raw.env("TERM", "dumb");
    let (seen, _) = Terminal::run(raw).end();
    assert!(seen.contains('\x1b'), "{seen:?}");
}

#[test]
fn what_keeps_a_command_from_running_has_codes_of_its_own() {
    let refused = ApiError::new(ErrorKind::Denied, "policy refuses it");
    let fake = Fake::start(Script::default().fail("run", refused));
    insta::assert_snapshot!(fake.tell(&["run", "work", "--", "true"]), @r"
    [stderr]
    error: policy refuses it
    [exit 126]
    ");
    let missing = ApiError::new(ErrorKind::NotFound, "qube `work` does not exist");
    let fake = Fake::start(Script::default().fail("run", missing));
    insta::assert_snapshot!(fake.tell(&["run", "work", "--", "true"]), @r"
    [stderr]
    error: qube `work` does not exist
    [exit 125]
    ");
    let fake = Fake::start(Script {
        refuse_connection: Some("its agent is gone".into()),
        ..Script::default()
    });
    insta::assert_snapshot!(fake.tell(&["run", "work", "--", "true"]), @r"
    [stderr]
    error: qube `work` did not start it
    caused by: its agent is gone
    [exit 125]
    ");
    let fake = Fake::start(Script {
        break_off: true,
        ..Script::default()
    });
    insta::assert_snapshot!(fake.tell(&["run", "work", "--", "true"]), @r"
    [stderr]
    error: qube `work` went away before it ended
    caused by: the qube was killed
    [exit 255]
    ");
}

#[test]
fn a_command_that_is_too_long_is_refused_here() {
    let fake = fake();
    let at = "x".repeat(bulkhead_api::call::COMMAND_MAX);
    let _ = fake.tell(&["run", "work", "--", &format!("#{}", &at[1..])]);
    assert_eq!(fake.asked().len(), 1, "the longest is sent");
    insta::assert_snapshot!(fake.tell(&["run", "work", "--", &format!("{at}x")]), @r"
    [stderr]
    error: the command has 65001 bytes; a qube takes at most 65000
    hint: Send long input on standard input instead.
    [exit 125]
    ");
    assert_eq!(fake.asked().len(), 1);
}

fn waiting(id: u64, default: Option<&str>) -> Ask {
    Ask {
        id,
        source: "work".into(),
        source_label: "blue".into(),
        service: "qubes.Filecopy".into(),
        argument: String::new(),
        requested_target: "vault".into(),
        targets: vec!["vault".into(), "personal".into()],
        default_target: default.map(Into::into),
        asked: 1_709_210_096,
        expires: None,
        guivm: None,
        rule: "30-desktop.policy:8".into(),
        announced: Some(Announced {
            files: 3,
            folders: 1,
            bytes: 13_002_342,
            at_least: false,
        }),
        pasted: None,
    }
}

fn asks(list: &[Ask]) -> Script {
    Script::default().reply("asks", to_json(&list).unwrap())
}

#[test]
fn ask_without_a_terminal_says_what_to_do() {
    insta::assert_snapshot!(fake().tell(&["ask"]), @r"
    [stderr]
    error: there is no terminal to ask on
    hint: List waiting calls with `bulkhead ask list`.
    hint: Answer one with `bulkhead ask allow ID` or `bulkhead ask deny ID`.
    [exit 1]
    ");
}

#[test]
fn ask_can_be_scripted() {
    let fake = Fake::start(asks(&[waiting(3, Some("vault"))]));
    insta::assert_snapshot!(fake.tell(&["ask", "list", "--json"]), @r#"
    [
      {
        "announced": {
          "at_least": false,
          "bytes": 13002342,
          "files": 3,
          "folders": 1
        },
        "argument": "",
        "asked": 1709210096,
        "default_target": "vault",
        "id": 3,
        "requested_target": "vault",
        "rule": "30-desktop.policy:8",
        "service": "qubes.Filecopy",
        "source": "work",
        "source_label": "blue",
        "targets": [
          "vault",
          "personal"
        ]
      }
    ]
    "#);
    assert_eq!(fake.tell(&["ask", "allow", "3"]), "Call 3 is allowed\n");
    assert_eq!(
        fake.tell(&["ask", "allow", "3", "--target", "personal"]),
        "Call 3 is allowed\n"
    );
    assert_eq!(fake.tell(&["ask", "deny", "3"]), "Call 3 is denied\n");
    let expected = [
        "asks",
        "answer 3 Allow",
        "answer 3 Allow personal",
        "answer 3 Deny",
    ];
    assert_eq!(fake.asked(), expected);
    insta::assert_snapshot!(Fake::start(asks(&[])).tell(&["ask", "list"]), @"No call waits.");
}

#[test]
fn ask_talks_with_the_person() {
    let list = [
        waiting(3, Some("vault")),
        waiting(4, None),
        waiting(5, None),
    ];
    let fake = Fake::start(asks(&list));
    let mut terminal = Terminal::run(fake.bulkhead(&["ask"]));
    terminal.expect("Call 3 waits");
    terminal.expect("3 files and 1 folder, 12.4 MiB (the word of work, not checked)");
    terminal.expect("[s]kip: ");
    terminal.say("");
    terminal.expect("Type one of the answers");
    terminal.expect("[s]kip: ");
    terminal.say("a");
    terminal.expect("Call 4 waits");
    terminal.expect("[s]kip: ");
    terminal.say("a");
    terminal.expect("Say where to");
    terminal.expect("[s]kip: ");
    terminal.say("2");
    terminal.expect("Call 5 waits");
    terminal.expect("[s]kip: ");
    terminal.say("d");
    let (seen, status) = terminal.end();
    assert!(
        status.success() && seen.contains("No call waits."),
        "{seen}"
    );
    let answers = [
        "answer 3 Allow vault",
        "answer 4 Allow personal",
        "answer 5 Deny",
    ];
    assert_eq!(fake.asked()[2..], answers);
}

#[test]
fn ask_forgets_a_call_that_is_gone_and_takes_new_ones() {
    let script = Script {
        events: vec![
            Event::AskRemoved {
                id: 3,
                outcome: "withdrawn".into(),
            },
            Event::AskAdded(waiting(9, None)),
        ],
        ..asks(&[waiting(3, Some("vault"))])
    };
    let fake = Fake::start(script);
    let mut terminal = Terminal::run(fake.bulkhead(&["ask", "--watch"]));
    terminal.expect("Call 9 waits");
    terminal.expect("[s]kip: ");
    terminal.say("vault");
    terminal.expect("Waiting for calls");
    assert_eq!(fake.asked().last().unwrap(), "answer 9 Allow vault");
}

fn record(decision: &str, service: &str) -> AuditRecord {
    AuditRecord {
        time: 1_709_210_096_123,
        source: "work".into(),
        requested_target: "vault".into(),
        target: if decision == "allow" { "vault" } else { "" }.into(),
        service: service.into(),
        decision: decision.into(),
        by: "policy".into(),
        rule: "30-desktop.policy:8".into(),
        notify: false,
        count: 1,
        since: None,
    }
}

#[test]
fn audit_shows_what_was_decided() {
    let records = [
        record("allow", "qubes.Filecopy"),
        record("deny", "qubes.VMShell"),
    ];
    let fake = Fake::start(Script::default().reply("audit_tail", to_json(&records).unwrap()));
    insta::assert_snapshot!(fake.tell(&["audit"]), @r"
    2024-02-29 12:34:56  allow  qubes.Filecopy  work -> vault  by policy (30-desktop.policy:8)
    2024-02-29 12:34:56  deny   qubes.VMShell  work -> vault  by policy (30-desktop.policy:8)
    ");
    insta::assert_snapshot!(fake.tell(&["audit", "--json", "-n", "1", "--decision", "deny"]), @r#"
    {"time":1709210096123,"source":"work","requested_target":"vault","target":"vault","service":"qubes.Filecopy","decision":"allow","by":"policy","rule":"30-desktop.policy:8","count":1}
    {"time":1709210096123,"source":"work","requested_target":"vault","target":"","service":"qubes.VMShell","decision":"deny","by":"policy","rule":"30-desktop.policy:8","count":1}
    "#);
    insta::assert_snapshot!(fake.asked().join("\n"), @r#"
    audit_tail {"last":50,"qube":null,"service":null,"decision":null}
    audit_tail {"last":1,"qube":null,"service":null,"decision":"deny"}
    "#);
}

#[test]
fn audit_follows_without_telling_anything_twice() {
    let known = record("allow", "qubes.Filecopy");
    let script = Script {
        events: vec![
            Event::AuditRecorded(known.clone()),
            Event::AuditRecorded(record("allow", "other.Service")),
            Event::AuditRecorded(record("deny", "qubes.Filecopy")),
        ],
        ..Script::default().reply("audit_tail", to_json(&[known]).unwrap())
    };
    let fake = Fake::start(script);
    let words = [
        "audit",
        "-f",
        "--service",
        "qubes.Filecopy",
        "--color",
        "never",
    ];
    let mut terminal = Terminal::run(fake.bulkhead(&words));
    let seen = terminal.expect("deny ");
    assert_eq!(seen.matches("allow").count(), 1, "{seen}");
    assert!(!seen.contains("other.Service"), "{seen}");
}

#[test]
fn a_daemon_that_goes_away_ends_what_follows_it() {
    let fake = fake();
    drop(fake.folder().to_owned());
    let output = fake.bulkhead(&["audit", "-n", "0"]).output().unwrap();
    assert_eq!(told(&output, None), "");
}
