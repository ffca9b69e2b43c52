//! `bulkhead policy`: what is for people who write policy.

use std::path::Path;

use serde_json::json;

use crate::common::fake::{Fake, Script};
use crate::common::{bulkhead, told};

const SYSTEM: &str = r#"(
    templates: {"debian": (source: Host)},
    defaults: (template: "debian"),
    qubes: {
        "work": (label: "blue", default_dispvm: "fresh"),
        "vault": (label: "black"),
        "fresh": (label: "red", kind: DisposableTemplate),
    },
    policy: [
        Rule(service: "qubes.Filecopy", source: "vault", target: "@anyvm", action: Deny),
        Rule(
            service: "qubes.Filecopy",
            source: "work",
            target: "vault",
            action: Ask(default_target: "vault"),
        ),
        File("more.policy"),
    ],
    policy_tests: ["work -> vault qubes.Filecopy is ask", File("*.expect")],
)
"#;

const MORE: &str = "\
qubes.Filecopy * work fresh deny
qubes.Filecopy * @anyvm @anyvm allow
qubes.OpenURL +x work @dispvm allow
";

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.write("system.ron", SYSTEM);
        desk.write("more.policy", MORE);
        desk.write("a.expect", "vault -> work qubes.Filecopy is deny\n");
        desk
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn tell(&self, words: &[&str]) -> String {
        let words = [&["policy"], words].concat();
        let command = bulkhead(&words)
            .env("BULKHEAD_SOCKET", self.0.path().join("no-daemon"))
            .current_dir(&self.0)
            .output();
        told(&command.unwrap(), Some(Path::new(self.0.path())))
    }
}

fn system(words: &[&'static str]) -> Vec<&'static str> {
    [words, &["--system", "system.ron"]].concat()
}

#[test]
fn list_names_sources_and_rules_in_one_order() {
    let desk = Desk::new();
    insta::assert_snapshot!(desk.tell(&system(&["list"])), @r"
    SOURCE         RULES  NUMBERS
    system.ron:10      2  1 to 2
    more.policy:1      3  3 to 5
    ");
    insta::assert_snapshot!(desk.tell(&system(&["list", "--effective"])), @r"
    #  WHERE          RULE
    1  system.ron:10  qubes.Filecopy * vault @anyvm deny
    2  system.ron:11  qubes.Filecopy * work vault ask default_target=vault
    3  more.policy:1  qubes.Filecopy * work fresh deny
    4  more.policy:2  qubes.Filecopy * @anyvm @anyvm allow
    5  more.policy:3  qubes.OpenURL +x work @dispvm allow
    ");
    let json = desk.tell(&system(&["list", "--effective", "--json"]));
    let first = json.split('}').next().unwrap();
    insta::assert_snapshot!(first, @r#"
    [
      {
        "number": 1,
        "file": "system.ron",
        "line": 10,
        "rule": "qubes.Filecopy * vault @anyvm deny"
    "#);
}

#[test]
fn list_is_about_the_current_generation_unless_told_otherwise() {
    let desk = Desk::new();
    insta::assert_snapshot!(desk.tell(&["list", "--effective"]), @r"
    [stderr]
    error: no daemon answers at `$TEST/no-daemon`
    caused by: No such file or directory (os error 2)
    hint: Start it with `systemctl start bulkheadd`, or `bulkheadd --system FILE` by hand.
    hint: If it listens elsewhere, say where with --socket or $BULKHEAD_SOCKET.
    hint: With --system FILE it is about a description, without a daemon.
    [exit 1]
    ");
}

#[test]
fn explain_goes_through_the_rules_and_the_choices() {
    let desk = Desk::new();
    let words = system(&["explain", "work", "qubes.Filecopy", "vault"]);
    insta::assert_snapshot!(desk.tell(&words), @r"
         1  system.ron:10: qubes.Filecopy * vault @anyvm deny
             source: `work` is not `vault`
    =>   2  system.ron:11: qubes.Filecopy * work vault ask default_target=vault
             every column matches

    ask: @dispvm:fresh, vault; vault is preselected

    The prompt offers:
      @dispvm:fresh: offered by 4 at more.policy:2
      vault: offered by 2 at system.ron:11; not heard: 4
    It does not offer:
      fresh: removed by 3 at more.policy:1; not heard: 4
      work: it is the caller; named by 4 at more.policy:2
    Judged by `system.ron` with nothing running: no daemon answers.
    [exit 4]
    ");
    let words = system(&["explain", "work", "qubes.OpenURL+y", "ghost"]);
    insta::assert_snapshot!(desk.tell(&words), @r"
         1  system.ron:10: qubes.Filecopy * vault @anyvm deny
             service: it is for `qubes.Filecopy`, not `qubes.OpenURL`
         2  system.ron:11: qubes.Filecopy * work vault ask default_target=vault
             service: it is for `qubes.Filecopy`, not `qubes.OpenURL`
         3  more.policy:1: qubes.Filecopy * work fresh deny
             service: it is for `qubes.Filecopy`, not `qubes.OpenURL`
         4  more.policy:2: qubes.Filecopy * @anyvm @anyvm allow
             service: it is for `qubes.Filecopy`, not `qubes.OpenURL`
         5  more.policy:3: qubes.OpenURL +x work @dispvm allow
             argument: it is for `+x`, not `+y`

    deny: no rule matches
    Judged by `system.ron` with nothing running: no daemon answers.
    [exit 1]
    ");
    let words = system(&["explain", "nobody", "qubes.Filecopy", "vault"]);
    insta::assert_snapshot!(desk.tell(&words), @r"
    No rule is looked at.

    deny: the calling qube is unknown
    Judged by `system.ron` with nothing running: no daemon answers.
    [exit 1]
    ");
}

#[test]
fn explain_says_the_same_as_json() {
    let desk = Desk::new();
    let words = system(&["explain", "work", "qubes.Filecopy", "vault", "--json"]);
    insta::assert_snapshot!(desk.tell(&words), @r#"
    {
      "source": "work",
      "service": "qubes.Filecopy",
      "argument": "+",
      "target": "vault",
      "rules": [
        {
          "number": 1,
          "file": "system.ron",
          "line": 10,
          "rule": "qubes.Filecopy * vault @anyvm deny",
          "matches": false,
          "failed": "source",
          "why": "source: `work` is not `vault`"
        },
        {
          "number": 2,
          "file": "system.ron",
          "line": 11,
          "rule": "qubes.Filecopy * work vault ask default_target=vault",
          "matches": true,
          "failed": null,
          "why": "every column matches"
        }
      ],
      "decision": {
        "kind": "ask",
        "targets": [
          "@dispvm:fresh",
          "vault"
        ],
        "default_target": "vault",
        "user": null,
        "notify": false,
        "autostart": true,
        "rule": "system.ron:11"
      },
      "choices": [
        {
          "target": "@dispvm:fresh",
          "fate": "offered",
          "number": 4,
          "at": "more.policy:2",
          "rule": "qubes.Filecopy * @anyvm @anyvm allow",
          "overruled": []
        },
        {
          "target": "fresh",
          "fate": "removed",
          "number": 3,
          "at": "more.policy:1",
          "rule": "qubes.Filecopy * work fresh deny",
          "overruled": [
            4
          ]
        },
        {
          "target": "vault",
          "fate": "offered",
          "number": 2,
          "at": "system.ron:11",
          "rule": "qubes.Filecopy * work vault ask default_target=vault",
          "overruled": [
            4
          ]
        },
        {
          "target": "work",
          "fate": "caller",
          "number": 4,
          "at": "more.policy:2",
          "rule": "qubes.Filecopy * @anyvm @anyvm allow",
          "overruled": []
        }
      ],
      "live": false
    }
    [exit 4]
    "#);
}

#[test]
fn lint_tells_with_place_and_remedy() {
    let desk = Desk::new();
    insta::assert_snapshot!(desk.tell(&system(&["lint"])), @r"
    warning: every qube may call every other, and nobody is asked
      --> more.policy:2: qubes.Filecopy * @anyvm @anyvm allow
      = help: name sources or targets, or let it `ask`

    1 warning, 0 notes
    [exit 1]
    ");
    desk.write("more.policy", "qubes.OpenURL +x wrok @dispvm allow\n");
    insta::assert_snapshot!(desk.tell(&system(&["lint", "--json"])), @r#"
    [
      {
        "severity": "warning",
        "kind": "unknown-qube",
        "file": "more.policy",
        "line": 1,
        "rule": "qubes.OpenURL +x wrok @dispvm allow",
        "message": "there is no qube `wrok`",
        "remedy": "did you mean `work`?"
      }
    ]
    [exit 1]
    "#);
    desk.write("more.policy", "");
    insta::assert_snapshot!(desk.tell(&system(&["lint"])), @r"Nothing to say about 2 rules.");
}

#[test]
fn simulate_compares_two_descriptions_without_a_daemon() {
    let desk = Desk::new();
    let new = SYSTEM.replace("action: Deny", "action: Allow");
    desk.write("new.ron", &new.replace("File(\"*.expect\")", ""));
    let words = ["simulate", "--from", "system.ron", "--system", "new.ron"];
    insta::assert_snapshot!(desk.tell(&words), @r"
    From `system.ron` to `new.ron`:
    qubes.Filecopy
      + vault -> @dispvm:fresh, fresh, work
          was deny: a rule denies it
              by system.ron:10: qubes.Filecopy * vault @anyvm deny
          is  allow
              by new.ron:10: qubes.Filecopy * vault @anyvm allow
    3 of 84 decisions change.
    [exit 5]
    ");
    insta::assert_snapshot!(desk.tell(&[&words[..], &["--json", "--service", "qubes.OpenURL"]].concat()), @r#"
    {
      "from": "`system.ron`",
      "to": "`new.ron`",
      "calls": 42,
      "differing": 0,
      "changes": []
    }
    "#);
    insta::assert_snapshot!(desk.tell(&["simulate", "--generation", "last", "--from", "new.ron"]), @r"
    [stderr]
    error: `last` is no generation
    hint: Write its number, or `next`.
    [exit 2]
    ");
    insta::assert_snapshot!(desk.tell(&["simulate"]), @r"
    [stderr]
    error: no daemon answers at `$TEST/no-daemon`
    caused by: No such file or directory (os error 2)
    hint: Start it with `systemctl start bulkheadd`, or `bulkheadd --system FILE` by hand.
    hint: If it listens elsewhere, say where with --socket or $BULKHEAD_SOCKET.
    hint: With --from FILE it compares with a description, without a daemon.
    [exit 1]
    ");
}

#[test]
fn graph_draws_dot_and_svg() {
    let desk = Desk::new();
    let words = system(&["graph", "--service", "qubes.OpenURL", "--format", "dot"]);
    insta::assert_snapshot!(desk.tell(&words), @r##"
    digraph policy {
      rankdir=LR;
      node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif"];
      edge [fontname="sans-serif", fontsize=10];
      "work" [label="work", color="#3465a4", penwidth=2];
      "vault" [label="vault", color="#000000", penwidth=2, fontcolor=gray];
      subgraph cluster_disposables {
        label="new disposables";
        "@dispvm:fresh" [label="new fresh", color="#cc0000", penwidth=2, style="rounded,dashed"];
      }
      "work" -> "@dispvm:fresh" [style=solid, color="#3465a4", label="qubes.OpenURL+x"];
    }
    "##);
    assert_eq!(desk.tell(&system(&["graph", "-o", "policy.svg"])), "");
    let svg = std::fs::read_to_string(desk.0.path().join("policy.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
}

#[test]
fn test_says_what_holds_and_what_does_not() {
    let desk = Desk::new();
    insta::assert_snapshot!(desk.tell(&system(&["test"])), @r"2 expectations hold.");
    desk.write(
        "b",
        "# more\nwork -> vault qubes.Filecopy is allow\nwork -> @dispvm qubes.OpenURL+x is allow\n",
    );
    insta::assert_snapshot!(desk.tell(&system(&["test", "b"])), @r"
    [stderr]
    failed: work -> vault qubes.Filecopy is allow
      --> b:2
      expected allow, got ask: @dispvm:fresh, vault; vault is preselected
      by system.ron:11: qubes.Filecopy * work vault ask default_target=vault

    error: 1 of 2 expectations do not hold
    [exit 1]
    ");
    insta::assert_snapshot!(desk.tell(&system(&["test", "b", "--json"])), @r#"
    {
      "ok": false,
      "expectations": [
        {
          "file": "b",
          "line": 2,
          "expectation": "work -> vault qubes.Filecopy is allow",
          "expected": "allow",
          "got": "ask: @dispvm:fresh, vault; vault is preselected",
          "at": "system.ron:11",
          "rule": "qubes.Filecopy * work vault ask default_target=vault",
          "met": false
        },
        {
          "file": "b",
          "line": 3,
          "expectation": "work -> @dispvm qubes.OpenURL+x is allow",
          "expected": "allow",
          "got": "allow to @dispvm:fresh",
          "at": "more.policy:3",
          "rule": "qubes.OpenURL +x work @dispvm allow",
          "met": true
        }
      ],
      "errors": []
    }
    [exit 1]
    "#);
    desk.write("b", "work -> vualt qubes.Filecopy is ask\n");
    insta::assert_snapshot!(desk.tell(&system(&["test", "b"])), @r"
    [stderr]
    error: there is no qube `vualt`
      --> b:1:9
      = help: did you mean `vault`?

    error: 1 line expects nothing that can be checked
    [exit 1]
    ");
    insta::assert_snapshot!(desk.tell(&system(&["test", "none"])), @r"
    [stderr]
    error: `none` cannot be read
    caused by: No such file or directory (os error 2)
    [exit 1]
    ");
}

#[test]
fn check_refuses_what_is_not_as_expected() {
    let desk = Desk::new();
    desk.write("a.expect", "vault -> work qubes.Filecopy is ask\n");
    let output = bulkhead(&["check", "system.ron"])
        .current_dir(&desk.0)
        .output();
    insta::assert_snapshot!(told(&output.unwrap(), None), @r"
    [stderr]
    error: expected ask, got deny: a rule denies it
     --> a.expect:1:1
      |
    1 | vault -> work qubes.Filecopy is ask
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = note: by system.ron:10: qubes.Filecopy * vault @anyvm deny

    1 error
    error: the description `system.ron` has 1 error
    [exit 1]
    ");
    insta::assert_snapshot!(desk.tell(&system(&["test"])), @r"
    [stderr]
    failed: vault -> work qubes.Filecopy is ask
      --> a.expect:1
      expected ask, got deny: a rule denies it
      by system.ron:10: qubes.Filecopy * vault @anyvm deny

    error: 1 of 2 expectations do not hold
    [exit 1]
    ");
}

#[test]
fn convert_prints_one_text_and_warns_of_the_rest() {
    let desk = Desk::new();
    std::fs::create_dir(desk.0.path().join("old")).unwrap();
    desk.write(
        "old/a.B+x",
        "# note\nwork $default ask,default_target=vault\n",
    );
    desk.write("old/a.B.rpmnew", "");
    insta::assert_snapshot!(desk.tell(&["convert", "old"]), @r"
    # From old/a.B+x
    # note
    a.B +x work @default ask default_target=vault
    # Implied: what the file for this argument does not list is denied.
    a.B +x @anyvm @anyvm deny
    # Implied: what the file for this argument does not list is denied.
    a.B +x @anyvm @adminvm deny
    [stderr]
    warning: `old/a.B.rpmnew` is no file for a service and is left out
    ");
    desk.write("old/c.D", "work vault alow\n");
    insta::assert_snapshot!(desk.tell(&["convert", "old/c.D"]), @r"
    [stderr]
    error: the files cannot be converted
    caused by: old/c.D:1:12: unknown action `alow`; did you mean `allow`?
    [exit 1]
    ");
    insta::assert_snapshot!(desk.tell(&["convert", "old/c.D", "more.policy"]), @r"
    [stderr]
    error: the files lie in more than one folder
    hint: Convert each folder by itself.
    [exit 1]
    ");
}

#[test]
fn a_generation_is_asked_of_the_daemon() {
    let policy = json!([{"origin": "a.policy", "first_line": 3, "text": "a.B * work vault ask"}]);
    let description = json!({"labels": {}, "templates": {}, "qubes": {}, "policy": policy});
    let reply = json!({"number": 7, "description": description}).to_string();
    let fake = Fake::start(Script::default().reply("generation", reply));
    insta::assert_snapshot!(fake.tell(&["policy", "list", "--effective"]), @r"
    #  WHERE       RULE
    1  a.policy:3  a.B * work vault ask
    ");
}
