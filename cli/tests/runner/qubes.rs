//! Commands about qubes.

use bulkhead_api::event::Event;
use bulkhead_api::qube::QubeState;
use bulkhead_api::{ApiError, ErrorKind};

use crate::common::fake::{Fake, Script, desktop, row};
use crate::common::terminal::Terminal;

fn fake() -> Fake {
    Fake::start(Script::default().qubes(desktop()))
}

#[test]
fn ls_is_an_even_table() {
    let fake = fake();
    insta::assert_snapshot!(fake.tell(&["ls"]), @r"
    NAME          STATE    LABEL   TEMPLATE  NETVM          MEMORY
    personal      stopped  yellow  debian    sys-firewall        -
    sys-firewall  running  green   debian    sys-net       400 MiB
    sys-net       failed   red     debian    -                   -
    untrusted     stopped  red     debian    sys-firewall        -
    vault         paused   black   debian    -             400 MiB
    work          running  blue    debian    sys-firewall  400 MiB
    ");
    assert_eq!(fake.asked(), ["list"], "one request is enough");
}

#[test]
fn ls_shows_some_or_only_names() {
    let fake = fake();
    insta::assert_snapshot!(fake.tell(&["ls", "--running", "--names"]), @r"
    sys-firewall
    vault
    work
    ");
    insta::assert_snapshot!(fake.tell(&["ls", "work", "nonesuch"]), @r"
    NAME  STATE    LABEL  TEMPLATE  NETVM          MEMORY
    work  running  blue   debian    sys-firewall  400 MiB
    [stderr]
    error: qube `nonesuch` does not exist
    hint: List qubes with `bulkhead ls`; declare new ones and run `bulkhead apply`.
    [exit 1]
    ");
    let json = fake.tell(&["ls", "--json", "work"]);
    insta::assert_snapshot!(json, @r#"
    [
      {
        "name": "work",
        "state": "running",
        "kind": "app",
        "label": "blue",
        "color": "0x3465a4",
        "template": "debian",
        "netvm": "sys-firewall",
        "memory": 400,
        "domid": 1
      }
    ]
    "#);
}

#[test]
fn ls_is_coloured_on_a_terminal_and_where_asked_for() {
    let fake = fake();
    let always = fake.tell(&["ls", "--color", "always", "work"]);
    assert!(
        always.contains("\x1b[1;38;2;52;101;164mblue\x1b[0m"),
        "{always:?}"
    );
    let (seen, status) = Terminal::run(fake.bulkhead(&["ls"])).end();
    assert!(status.success());
    assert!(
        seen.contains("\x1b[1;38;2;52;101;164mblue\x1b[0m"),
        "{seen:?}"
    );
    let mut plain = fake.bulkhead(&["ls"]);
    plain.env("NO_COLOR", "1");
    let (seen, _) = Terminal::run(plain).end();
    assert!(!seen.contains('\x1b'), "{seen:?}");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let fake = fake();
    let mut child = fake
        .bulkhead(&["ls"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn start_and_stop_say_nothing_when_all_went_well() {
    let fake = fake();
    assert_eq!(fake.tell(&["start", "work"]), "");
    assert_eq!(fake.tell(&["stop", "work", "--timeout", "7"]), "");
    assert_eq!(fake.tell(&["kill", "work"]), "");
    assert_eq!(fake.tell(&["pause", "work"]), "");
    assert_eq!(fake.tell(&["unpause", "work"]), "");
    assert_eq!(fake.tell(&["restart", "work"]), "");
    assert_eq!(fake.tell(&["kill", "--force", "sys-net"]), "");
    assert_eq!(fake.tell(&["restart", "--force", "sys-net"]), "");
    let expected = [
        "start work",
        "stop work 7",
        "kill work",
        "pause work",
        "unpause work",
        "restart work 0",
        "kill sys-net force",
        "restart sys-net 0 force",
    ];
    assert_eq!(fake.asked(), expected);
}

#[test]
fn kill_takes_the_network_away_last() {
    let fake = fake();
    assert_eq!(fake.tell(&["kill", "sys-firewall", "work"]), "");
    assert_eq!(fake.asked(), ["list", "kill work", "kill sys-firewall"]);
}

#[test]
fn stop_all_takes_the_network_away_last() {
    let fake = fake();
    assert_eq!(fake.tell(&["stop", "--all"]), "");
    let asked = fake.asked();
    let place = |what: &str| asked.iter().position(|entry| entry == what);
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(place("stop work").is_some() && place("stop vault").is_some());
    assert!(place("stop sys-firewall") > place("stop work"));
}

#[test]
fn several_are_stopped_in_order_and_force_is_passed_on() {
    let fake = fake();
    assert_eq!(fake.tell(&["stop", "sys-firewall", "work"]), "");
    assert_eq!(fake.tell(&["stop", "--force", "sys-firewall"]), "");
    let expected = [
        "list",
        "stop work",
        "stop sys-firewall",
        "stop sys-firewall force",
    ];
    assert_eq!(fake.asked(), expected);
}

#[test]
fn start_all_starts_what_a_person_uses() {
    let fake = fake();
    assert_eq!(fake.tell(&["start", "--all"]), "");
    let mut asked = fake.asked();
    asked.sort();
    assert_eq!(asked, ["list", "start personal", "start sys-net"]);
}

#[test]
fn one_failure_among_several_is_partly_done() {
    let error = ApiError::new(ErrorKind::WrongState, "qube `vault` does not run");
    let script = Script::default().fail("stop vault", error.clone());
    let fake = Fake::start(script.fail("stop work", error));
    insta::assert_snapshot!(fake.tell(&["stop", "vault", "personal"]), @r"
    [stderr]
    error: qube `vault` does not run
    [exit 3]
    ");
    insta::assert_snapshot!(fake.tell(&["stop", "vault"]), @r"
    [stderr]
    error: qube `vault` does not run
    [exit 1]
    ");
}

#[test]
fn some_qubes_or_all_but_not_both_nor_none() {
    let fake = fake();
    for words in [
        &["stop"][..],
        &["start"],
        &["stop", "--all", "work"],
        &["kill"],
    ] {
        let output = fake.bulkhead(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn logs_are_shown_without_what_acts_on_a_terminal() {
    let script = Script {
        log: b"first\r\nsecond \x1b[2J\xff\nthird\n".to_vec(),
        ..Script::default()
    };
    let fake = Fake::start(script);
    insta::assert_snapshot!(fake.tell(&["logs", "work"]), @r"
    first
    second �[2J�
    third
    ");
    assert_eq!(fake.tell(&["logs", "work", "-n", "1"]), "third\n");
    assert_eq!(fake.tell(&["logs", "-n", "0"]), "");
    assert_eq!(fake.asked(), ["open_log work", "open_log work", "open_log"]);
}

#[test]
fn logs_can_be_followed() {
    let script = Script {
        log: b"before\n".to_vec(),
        ..Script::default()
    };
    let fake = Fake::start(script);
    let mut terminal = Terminal::run(fake.bulkhead(&["logs", "-f", "work"]));
    terminal.expect("before\n");
    // The stand-in's log has gone from its folder, but what is open goes on.
}

#[test]
fn the_console_ends_with_its_qube() {
    let gone = row("work", QubeState::Stopped, ("blue", "0x3465a4"), "");
    let script = Script {
        log: b"booting\nlogin:".to_vec(),
        events: vec![Event::QubeChanged(gone)],
        ..Script::default().qubes(desktop())
    };
    let fake = Fake::start(script);
    insta::assert_snapshot!(fake.tell(&["console", "work"]), @r"
    booting
    login:[stderr]
    Qube `work` has stopped.
    ");
    insta::assert_snapshot!(fake.tell(&["console", "personal"]), @r"
    [stderr]
    error: qube `personal` does not run
    hint: See what it wrote with `bulkhead logs personal`.
    [exit 1]
    ");
}

#[test]
fn revert_tells_what_the_root_is_now() {
    let reply = r#"{"qube":"tools","to":3,"revision":6}"#;
    let fake = Fake::start(Script::default().reply("revert", reply));
    insta::assert_snapshot!(fake.tell(&["revert", "tools"]), @"tools is as it was at revision 3; that is revision 6 now.");
    insta::assert_snapshot!(fake.tell(&["revert", "tools", "3", "--json"]), @r#"
    {
      "qube": "tools",
      "revision": 6,
      "to": 3
    }
    "#);
    assert_eq!(fake.asked(), ["revert tools 0", "revert tools 3"]);
    let refused = fake.tell(&["revert", "tools", "0"]);
    assert!(refused.contains("[exit 2]"), "{refused}");
}
