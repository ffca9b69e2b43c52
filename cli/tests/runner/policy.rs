//! `bulkhead policy`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use crate::common::{bulkhead, told};

const SYSTEM: &str = r#"(
    templates: {"debian": (source: Host)},
    qubes: {
        "work": (label: "blue", template: "debian"),
        "vault": (label: "black", template: "debian"),
    },
    policy: [
        "test.Show * work @anyvm ask default_target=vault
!include extra",
        "test.Stop * work vault allow autostart=no",
    ],
)
"#;

fn tell(words: &[&str]) -> String {
    tell_of(SYSTEM, words)
}

fn tell_of(system: &str, words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("system.ron"), system).unwrap();
    std::fs::write(
        folder.path().join("extra"),
        "# more\ntest.Open * work vault allow user=u\n",
    )
    .unwrap();
    let words = [&["policy", "eval", "--system", "system.ron"], words].concat();
    let none = folder.path().join("no-daemon");
    let command = bulkhead(&words)
        .env("BULKHEAD_SOCKET", none)
        .current_dir(&folder)
        .output();
    told(&command.unwrap(), Some(Path::new(folder.path())))
}

#[test]
fn eval_says_what_is_decided_and_by_which_rule() {
    insta::assert_snapshot!(tell(&["work", "test.Open", "vault"]), @r"
    allow: in vault as user u
      by extra:2: test.Open * work vault allow user=u
      judged by `system.ron` with nothing running: no daemon answers
    ");
    insta::assert_snapshot!(tell(&["work", "test.Show+x", ""]), @r"
    ask: vault; vault is preselected
      by system.ron:8: test.Show * work @anyvm ask default_target=vault
      judged by `system.ron` with nothing running: no daemon answers
    [exit 4]
    ");
    insta::assert_snapshot!(tell(&["work", "test.Stop", "vault"]), @r"
    deny: the target does not run and the rule does not start it
      by system.ron:10: test.Stop * work vault allow autostart=no
      judged by `system.ron` with nothing running: no daemon answers
    [exit 1]
    ");
    insta::assert_snapshot!(tell(&["vault", "test.Open", "work"]), @r"
    deny: no rule matches
      judged by `system.ron` with nothing running: no daemon answers
    [exit 1]
    ");
    insta::assert_snapshot!(tell(&["work", "test.Show", "vault", "--json"]), @r#"
    {
      "kind": "ask",
      "targets": [
        "vault"
      ],
      "default_target": "vault",
      "user": null,
      "notify": false,
      "autostart": true,
      "rule": "system.ron:8",
      "live": false
    }
    [exit 4]
    "#);
}

#[test]
fn a_description_with_errors_is_not_asked() {
    let broken = SYSTEM.replace("test.Stop * work", "test.Stop work");
    insta::assert_snapshot!(tell_of(&broken, &["work", "test.Open", "vault"]), @r#"
    [stderr]
    error: argument `work` does not start with `+`
      --> system.ron:10:20
       |
    10 |         "test.Stop work vault allow autostart=no",
       |                    ^^^^
       |
       = help: write `+work`, `+` for no argument or `*` for any

    error: unknown action `autostart=no`
      --> system.ron:10:37
       |
    10 |         "test.Stop work vault allow autostart=no",
       |                                     ^^^^^^^^^^^^
       |
       = help: write `allow`, `ask` or `deny`

    2 errors
    error: the description `system.ron` has errors, so its policy denies every call
    [exit 1]
    "#);
}

#[test]
fn a_batch_answers_each_line_before_the_next_is_written() {
    let mut child = bulkhead(&["policy", "eval", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let line = r#"{"files":{"etc/a.policy":"* * a b allow"},"system_info":{"domains":{"a":{"type":"AppVM"},"b":{"type":"AppVM"}}},"request":{"service":"s.A","argument":"+","source":"a","target":"b"}}"#;
    for _ in 0..3 {
        writeln!(input, "{line}").unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        assert!(
            answer.starts_with(r#"{"kind":"allow","target":"b""#),
            "{answer}"
        );
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}
