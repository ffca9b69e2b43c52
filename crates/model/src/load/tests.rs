use std::path::Path;

use super::*;
use crate::diagnostic::Color;
use crate::source::MemoryReader;

#[track_caller]
fn errors(files: &[(&str, &str)]) -> String {
    let reader = MemoryReader::new(files.iter().copied());
    match load(Path::new("system.ron"), &reader) {
        Ok(loaded) => panic!("accepted: {:#?}", loaded.description),
        Err(diagnostics) => diagnostics.render(Color::Never),
    }
}

#[track_caller]
fn loads(files: &[(&str, &str)]) -> Loaded {
    let reader = MemoryReader::new(files.iter().copied());
    match load(Path::new("system.ron"), &reader) {
        Ok(loaded) => loaded,
        Err(diagnostics) => panic!("{}", diagnostics.render(Color::Never)),
    }
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let system = r#"(
    templates: {"debian": (source: Host)},
    qubes: {
        "work": (
            label: "bleu",
            template: "debain",
            netmv: "sys-net",
            vcpus: 0,
        ),
        "sys-net": (label: "red", template: "debian", provides_network: true, netvm: "sys-fw"),
        "sys-fw": (label: "green", template: "debian", provides_network: true, netvm: "sys-net"),
        "mail": (label: "green", template: "debian"),
        "vault": (label: "black", template: "mail"),
        "dom0": (label: "black"),
        "a-name-that-is-far-longer-than-any-may-be": (label: "black"),
    },
)"#;
    insta::assert_snapshot!(errors(&[("system.ron", system)]), @r#"
    error: qube `work` has label `bleu`, which does not exist, did you mean `blue`?
     --> system.ron:5:20
      |
    5 |             label: "bleu",
      |                    ^^^^^^

    error: template of `work` is `debain`, which does not exist, did you mean `debian`?
     --> system.ron:6:23
      |
    6 |             template: "debain",
      |                       ^^^^^^^^

    error: unknown field `netmv`, did you mean `netvm`?
     --> system.ron:7:13
      |
    7 |             netmv: "sys-net",
      |             ^^^^^
      |
      = help: known here: kind, profiles, label, template, netvm, provides_network, memory, vcpus, maxvcpus, cpu_weight, autostart, volumes, kernel, kernelopts, virt_mode, devices, features, services, tags, default_dispvm, restart, default_user, audiovm, guivm, management_dispvm, shutdown_timeout, provides_audio, provides_gui, provides_management

    error: 0 is out of range
     --> system.ron:8:20
      |
    8 |             vcpus: 0,
      |                    ^
      |
      = help: from 1 to 128 is allowed

    error: the network of `sys-net` comes from itself: sys-net -> sys-fw -> sys-net
      --> system.ron:10:86
       |
    10 |         "sys-net": (label: "red", template: "debian", provides_network: true, netvm: "sys-fw"),
       |                                                                                      ^^^^^^^^
       |
      ::: system.ron:11:87
       |
    11 |         "sys-fw": (label: "green", template: "debian", provides_network: true, netvm: "sys-net"),
       |                                                                                       --------- netvm of `sys-fw`
       |
       = help: one of them has no netvm: the qube that holds the network device says `netvm: None`

    error: `mail` cannot be the template of `vault`: it is an app qube
      --> system.ron:13:45
       |
    13 |         "vault": (label: "black", template: "mail"),
       |                                             ^^^^^^
       |
      ::: system.ron:12:9
       |
    12 |         "mail": (label: "green", template: "debian"),
       |         ------ `mail` is described here
       |
       = help: use the template of `mail`, or give `mail` `kind: Template`

    error: qube name `dom0` is reserved
      --> system.ron:14:9
       |
    14 |         "dom0": (label: "black"),
       |         ^^^^^^

    error: qube name `a-name-that-is-far-longer-than-any-may-be` has 41 characters, at most 31 are allowed
      --> system.ron:15:9
       |
    15 |         "a-name-that-is-far-longer-than-any-may-be": (label: "black"),
       |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

    8 errors
    "#);
}

#[test]
fn errors_of_syntax_do_not_hide_others() {
    let system = r#"(
    imports: ["more.ron", "gone.ron", "x[.ron"],
    qubes: {
        "work": (label "blue", vcpus: 1_000),
        "mail": (label: "green", template: "debian"
    },
    policy: [Txt("x")],
)"#;
    let more =
        r#"(qubes: {"work": (label: 'x')}, labels: {"pink": (), "dark red": (color: "red")})"#;
    insta::assert_snapshot!(errors(&[("system.ron", system), ("more.ron", more)]), @r#"
    error: `gone.ron` does not exist
     --> system.ron:2:27
      |
    2 |     imports: ["more.ron", "gone.ron", "x[.ron"],
      |                           ^^^^^^^^^^

    error: `x[.ron` is not a file pattern: invalid range pattern
     --> system.ron:2:39
      |
    2 |     imports: ["more.ron", "gone.ron", "x[.ron"],
      |                                       ^^^^^^^^

    error: expected `:` and a value
     --> system.ron:4:23
      |
    4 |         "work": (label "blue", vcpus: 1_000),
      |                       ^

    error: 1000 is out of range
     --> system.ron:4:39
      |
    4 |         "work": (label "blue", vcpus: 1_000),
      |                                       ^^^^^
      |
      = help: from 1 to 128 is allowed

    error: this `(` is never closed
     --> system.ron:5:17
      |
    5 |         "mail": (label: "green", template: "debian"
      |                 ^
      |
     ::: system.ron:6:5
      |
    6 |     },
      |     - this closes something further out

    error: expected policy rules, found `Txt`, did you mean `Text`?
     --> system.ron:7:14
      |
    7 |     policy: [Txt("x")],
      |              ^^^^^^^^
      |
      = help: write rules as a text, as `Rule(service: …)`, `File("policy/*.policy")` or `Live()`

    error: qube `work` is defined a second time
     --> more.ron:1:10
      |
    1 | (qubes: {"work": (label: 'x')}, labels: {"pink": (), "dark red": (color: "red")})
      |          ^^^^^^
      |
     ::: system.ron:4:9
      |
    4 |         "work": (label "blue", vcpus: 1_000),
      |         ------ first defined here

    error: expected a text, found a character
     --> more.ron:1:26
      |
    1 | (qubes: {"work": (label: 'x')}, labels: {"pink": (), "dark red": (color: "red")})
      |                          ^^^

    error: label `pink` has no colour
     --> more.ron:1:42
      |
    1 | (qubes: {"work": (label: 'x')}, labels: {"pink": (), "dark red": (color: "red")})
      |                                          ^^^^^^
      |
      = help: add `color: 0xcc0000`

    error: `dark red` is no name of a label
     --> more.ron:1:54
      |
    1 | (qubes: {"work": (label: 'x')}, labels: {"pink": (), "dark red": (color: "red")})
      |                                                      ^^^^^^^^^^
      |
      = help: letters, digits, `_`, `.` and `-` are allowed, at most 63 of them, and no `-` or `.` first

    error: this is not a colour
     --> more.ron:1:74
      |
    1 | (qubes: {"work": (label: 'x')}, labels: {"pink": (), "dark red": (color: "red")})
      |                                                                          ^^^^^
      |
      = help: write red, green and blue as `0xRRGGBB`, for example 0xcc0000

    11 errors
    "#);
}

#[test]
fn the_smallest_description_is_empty() {
    let loaded = loads(&[("system.ron", "()")]);
    assert_eq!(loaded.description.labels.len(), 8);
    assert!(loaded.description.qubes.is_empty() && loaded.warnings.is_empty());
}

#[test]
fn imports_are_relative_and_each_file_is_read_once() {
    let loaded = loads(&[
        (
            "system.ron",
            r#"(imports: ["sub/a.ron", "./sub/../sub/a.ron", "**/*.ron"], policy: ["x.R * * * deny"])"#,
        ),
        (
            "sub/a.ron",
            r#"(imports: ["b.ron", "../system.ron"], policy: ["x.A * * * deny"])"#,
        ),
        (
            "sub/b.ron",
            r#"(policy: ["\n\nx.B * * * deny", File("*.policy"), r"x.C * * * deny"])"#,
        ),
        ("sub/2.policy", "x.2 * * * deny"),
        ("sub/1.policy", "x.1 * * * deny"),
        ("sub/.hidden.policy", "x.H * * * deny"),
    ]);
    let policy: Vec<_> = (loaded.description.policy.iter())
        .map(|policy| {
            format!(
                "{}:{} {}",
                policy.origin,
                policy.first_line,
                policy.text.trim()
            )
        })
        .collect();
    insta::assert_snapshot!(policy.join("\n"), @r#"
    system.ron:1 x.R * * * deny
    sub/a.ron:1 x.A * * * deny
    sub/b.ron:1 x.B * * * deny
    sub/1.policy:1 x.1 * * * deny
    sub/2.policy:1 x.2 * * * deny
    sub/b.ron:1 x.C * * * deny
    "#);
    let files: Vec<_> = loaded
        .files
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(
        files,
        [
            "system.ron",
            "sub/a.ron",
            "sub/b.ron",
            "sub/1.policy",
            "sub/2.policy"
        ]
    );
}

#[test]
fn inline_rules_know_their_line() {
    let loaded = loads(&[(
        "system.ron",
        "(\n    policy: [\n        r#\"\n            x.A * * * deny\n        \"#,\n    ],\n)",
    )]);
    let policy = &loaded.description.policy[0];
    let line = policy
        .text
        .lines()
        .position(|line| line.contains("x.A"))
        .unwrap();
    assert_eq!(policy.first_line as usize + line, 4);
}

#[test]
fn a_pattern_that_matches_nothing_is_worth_a_warning() {
    let loaded = loads(&[(
        "system.ron",
        r#"(imports: ["qube/*.ron"], policy: [File("*.policy")])"#,
    )]);
    assert_eq!(
        (loaded.warnings.warnings(), loaded.warnings.errors()),
        (2, 0)
    );
    insta::assert_snapshot!(loaded.warnings.render(Color::Never), @r#"
    warning: no file matches `qube/*.ron`
     --> system.ron:1:12
      |
    1 | (imports: ["qube/*.ron"], policy: [File("*.policy")])
      |            ^^^^^^^^^^^^
      |
      = note: looked in `.`

    warning: no file matches `*.policy`
     --> system.ron:1:41
      |
    1 | (imports: ["qube/*.ron"], policy: [File("*.policy")])
      |                                         ^^^^^^^^^^
      |
      = note: looked in `.`

    2 warnings
    "#);
}

#[test]
fn a_root_that_is_missing_is_one_error_without_a_place() {
    let found = load(Path::new("gone/system.ron"), &MemoryReader::default()).unwrap_err();
    insta::assert_snapshot!(found.render(Color::Never), @r#"
    error: `gone/system.ron` does not exist

    1 error
    "#);
}

#[test]
fn the_managed_fragment_may_not_import() {
    let shown = errors(&[
        ("system.ron", "()"),
        ("system.managed.ron", "(imports: [\"x.ron\"])"),
    ]);
    assert!(
        shown.contains("the managed fragment imports nothing"),
        "{shown}"
    );
    let shown = errors(&[("system.ron", "()"), ("system.managed.ron", "(qubes: ")]);
    assert!(shown.contains("system.managed.ron:1:1"), "{shown}");
}

#[test]
fn as_many_files_as_allowed_are_read_and_one_more_is_refused() {
    let files = |count: usize| {
        let mut reader = MemoryReader::new([("system.ron", r#"(imports: ["q/*.ron"])"#)]);
        for number in 1..count {
            reader.insert(format!("q/{number}.ron"), "()");
        }
        load(Path::new("system.ron"), &reader)
    };
    assert_eq!(files(FILES_MAX).unwrap().files.len(), FILES_MAX);
    let found = files(FILES_MAX + 1).unwrap_err();
    assert!(
        found.list[0].message.contains("more than 4096 files"),
        "{found:?}"
    );
}

#[test]
fn a_description_of_the_longest_length_is_read_and_one_byte_more_is_refused() {
    let part = crate::source::FILE_BYTES_MAX;
    let load_sizes = |last: usize| {
        let mut reader = MemoryReader::new([("system.ron", r#"(policy: [File("*.policy")])"#)]);
        for number in 0..3 {
            reader.insert(format!("{number}.policy"), vec![b'\n'; part]);
        }
        reader.insert("9.policy", vec![b'\n'; last]);
        load(Path::new("system.ron"), &reader)
    };
    let left = TOTAL_BYTES_MAX - 3 * part - r#"(policy: [File("*.policy")])"#.len();
    assert!(load_sizes(left).is_ok());
    let found = load_sizes(left + 1).unwrap_err();
    assert!(
        found.list[0].message.contains("longer than 67108864 bytes"),
        "{found:?}"
    );
}

#[test]
fn a_thousand_errors_are_shown_and_the_rest_counted() {
    use crate::diagnostic::DIAGNOSTICS_MAX;
    let qubes = |count: usize| {
        let qubes: String = (0..count)
            .map(|n| format!("\"q{n}\": (labl: 1),\n"))
            .collect();
        let reader = MemoryReader::new([("system.ron", format!("(qubes: {{{qubes}}})"))]);
        load(Path::new("system.ron"), &reader).unwrap_err()
    };
    let (all, more) = (qubes(DIAGNOSTICS_MAX), qubes(DIAGNOSTICS_MAX + 1));
    assert_eq!((all.list.len(), all.omitted), (DIAGNOSTICS_MAX, 0));
    assert_eq!((more.list.len(), more.omitted), (DIAGNOSTICS_MAX, 1));
    assert!(
        more.render(Color::Never)
            .ends_with("1000 errors, and 1 more not shown\n")
    );
}

const TYPED: &str = r#"(
    policy: [
        Rule(
            service: "qubes.Filecopy",
            source: "work",
            target: "vault",
            action: Ask(autostart: false, default_target: "vault", user: "u", notify: true),
        ),
        "x.A * * * deny",
        Rule(service: "*", argument: "*", source: "@anyvm", target: "@adminvm", action: Deny),
        Text("x.B * * * deny"),
        Rule(service: "x.C", argument: "+a", source: "a", target: "b", action: Allow(target: "c")),
        Rule(service: "x.D", source: "a", target: "b", action: Deny(notify: false)),
    ],
)"#;

#[test]
fn typed_rules_become_lines_that_know_their_own_line() {
    let loaded = loads(&[("system.ron", TYPED)]);
    let policy: Vec<_> = (loaded.description.policy.iter())
        .map(|policy| format!("{}:{} {}", policy.origin, policy.first_line, policy.text))
        .collect();
    insta::assert_snapshot!(policy.join("\n"), @r"
    system.ron:3 qubes.Filecopy * work vault ask default_target=vault user=u notify=yes autostart=no
    system.ron:9 x.A * * * deny
    system.ron:10 * * @anyvm @adminvm deny
    system.ron:11 x.B * * * deny
    system.ron:12 x.C +a a b allow target=c
    system.ron:13 x.D * a b deny notify=no
    ");
}

#[test]
fn typed_rules_are_refused_where_they_are_wrong() {
    let system = r#"(
    policy: [
        Rule(service: "a.B", source: "a", target: "b"),
        Rule(sevice: "a.B", source: "a", target: "b", action: Deny),
        Rule(source: "a", action: Alow(target: "x")),
        Rule(service: "a.B", source: "a", target: "b", action: Allow(default_target: "x")),
        Rule(service: "a.B", source: "a", target: "b", action: Ask(notfy: true, user: "a", user: "b")),
        Rule(service: "a.B", source: 1, target: "b", action: "ask"),
        Rul(service: "a.B"),
        File("a", "b"),
    ],
    policy_tests: [File(1), Rule()],
)"#;
    insta::assert_snapshot!(errors(&[("system.ron", system)]), @r#"
    error: the rule has no action
     --> system.ron:3:9
      |
    3 |         Rule(service: "a.B", source: "a", target: "b"),
      |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: add `action: Allow`, `action: Ask` or `action: Deny`

    error: unknown field `sevice`, did you mean `service`?
     --> system.ron:4:14
      |
    4 |         Rule(sevice: "a.B", source: "a", target: "b", action: Deny),
      |              ^^^^^^
      |
      = help: known here: service, argument, source, target, action

    error: `Alow` is no action, did you mean `Allow`?
     --> system.ron:5:35
      |
    5 |         Rule(source: "a", action: Alow(target: "x")),
      |                                   ^^^^
      |
      = help: write `Allow`, `Ask` or `Deny`

    error: `Allow` has no `default_target`
     --> system.ron:6:70
      |
    6 |         Rule(service: "a.B", source: "a", target: "b", action: Allow(default_target: "x")),
      |                                                                      ^^^^^^^^^^^^^^
      |
      = help: it takes target, user, notify, autostart

    error: `Ask` has no `notfy`, did you mean `notify`?
     --> system.ron:7:68
      |
    7 |         Rule(service: "a.B", source: "a", target: "b", action: Ask(notfy: true, user: "a", user: "b")),
      |                                                                    ^^^^^
      |
      = help: it takes target, default_target, user, notify, autostart

    error: `user` is written twice
     --> system.ron:7:92
      |
    7 |         Rule(service: "a.B", source: "a", target: "b", action: Ask(notfy: true, user: "a", user: "b")),
      |                                                                                            ^^^^
      |
     ::: system.ron:7:87
      |
    7 |         Rule(service: "a.B", source: "a", target: "b", action: Ask(notfy: true, user: "a", user: "b")),
      |                                                                                       --- first written here

    error: expected a text, found a number
     --> system.ron:8:38
      |
    8 |         Rule(service: "a.B", source: 1, target: "b", action: "ask"),
      |                                      ^

    error: expected `Allow`, `Ask` or `Deny`, found a text
     --> system.ron:8:62
      |
    8 |         Rule(service: "a.B", source: 1, target: "b", action: "ask"),
      |                                                              ^^^^^

    error: expected policy rules, found `Rul`, did you mean `Rule`?
     --> system.ron:9:9
      |
    9 |         Rul(service: "a.B"),
      |         ^^^^^^^^^^^^^^^^^^^
      |
      = help: write rules as a text, as `Rule(service: …)`, `File("policy/*.policy")` or `Live()`

    error: `File` holds one path or pattern
      --> system.ron:10:9
       |
    10 |         File("a", "b"),
       |         ^^^^^^^^^^^^^^

    error: expected a text, found a number
      --> system.ron:12:25
       |
    12 |     policy_tests: [File(1), Rule()],
       |                         ^

    error: expected expectations, found a variant with values
      --> system.ron:12:29
       |
    12 |     policy_tests: [File(1), Rule()],
       |                             ^^^^^^
       |
       = help: write them as a text, `"work -> vault qubes.Filecopy is ask"`, or `File("policy/*.expect")`

    12 errors
    "#);
}

#[test]
fn a_word_of_a_typed_rule_stays_one_word_of_its_line() {
    let system = r##"(
    policy: [
        Rule(service: "a.B", source: "a b", target: "", action: Ask(user: "x\ny * * * allow")),
        Rule(service: "#", source: "a", target: "b", action: Allow),
        Rule(service: "!include", source: "a", target: "b", action: Allow),
        Rule(service: "a.B+x", source: "a", target: "b", action: Allow),
    ],
)"##;
    insta::assert_snapshot!(errors(&[("system.ron", system)]), @r##"
    error: the source must be one word
     --> system.ron:3:38
      |
    3 |         Rule(service: "a.B", source: "a b", target: "", action: Ask(user: "x\ny * * * allow")),
      |                                      ^^^^^

    error: the target must be one word
     --> system.ron:3:53
      |
    3 |         Rule(service: "a.B", source: "a b", target: "", action: Ask(user: "x\ny * * * allow")),
      |                                                     ^^

    error: `user` must be one word
     --> system.ron:3:75
      |
    3 |         Rule(service: "a.B", source: "a b", target: "", action: Ask(user: "x\ny * * * allow")),
      |                                                                           ^^^^^^^^^^^^^^^^^^

    error: service `#` contains `#`
     --> system.ron:4:23
      |
    4 |         Rule(service: "#", source: "a", target: "b", action: Allow),
      |                       ^^^
      |
      = help: use letters, digits, `-`, `.` and `_`, or `*` for every service

    error: service `!include` contains `!`
     --> system.ron:5:23
      |
    5 |         Rule(service: "!include", source: "a", target: "b", action: Allow),
      |                       ^^^^^^^^^^
      |
      = help: use letters, digits, `-`, `.` and `_`, or `*` for every service

    error: service `a.B+x` contains `+`
     --> system.ron:6:23
      |
    6 |         Rule(service: "a.B+x", source: "a", target: "b", action: Allow),
      |                       ^^^^^^^
      |
      = help: write the argument as `argument: "+ARGUMENT"`

    6 errors
    "##);
}

#[test]
fn every_word_of_the_policy_is_found_where_it_was_written() {
    let system = "(\n    policy: [\n        Rule(service: \"a.B\", source: \"wörk\", target: \"b\",\n            \
                  action: Ask(user: \"u\")),\n        \"x.A * *\n   * deny\", \"\\ta.B * c d deny\",\n    ],\n)";
    let reader = MemoryReader::new([("system.ron", system)]);
    let mut told = Vec::new();
    let loaded = load_with(Path::new("system.ron"), &reader, |written| {
        for (index, line, columns) in [
            (0, 0, 1..4),
            (0, 0, 5..6),
            (0, 0, 7..11),
            (0, 0, 14..17),
            (0, 0, 18..24),
            (1, 0, 5..6),
            (1, 1, 4..5),
            (2, 0, 2..5),
        ] {
            let place = written.place_in_policy(index, line, &columns).unwrap();
            let (from, to) = (place.column as usize - 1, place.end_column as usize - 1);
            let shown: String = place.excerpt.chars().skip(from).take(to - from).collect();
            told.push(format!("{index} {line} {columns:?}: {place} {shown}"));
        }
        Vec::new()
    });
    assert!(loaded.is_ok());
    insta::assert_snapshot!(told.join("\n"), @r#"
    0 0 1..4: system.ron:3:23 "a.B"
    0 0 5..6: system.ron:3:9 Rule(service: "a.B", source: "wörk", target: "b",
    0 0 7..11: system.ron:3:38 "wörk"
    0 0 14..17: system.ron:4:21 Ask(user: "u")
    0 0 18..24: system.ron:4:31 "u"
    1 0 5..6: system.ron:5:14 *
    1 1 4..5: system.ron:6:4 *
    2 0 2..5: system.ron:6:13 "\ta.B * c d deny"
    "#);
}

#[test]
fn qubes_of_other_machines_are_declared() {
    let loaded = loads(&[(
        "system.ron",
        r#"(
    templates: {"debian": (source: Host)},
    qubes: {"net": (label: "red", template: "debian", netvm: None)},
    remotes: {
        "far": (label: "gray", relayvm: "net", transport_rpc: "my.Tunnel", tags: ["office"]),
        "near": (label: "gray", relayvm: "net", transport_rpc: "my.Tunnel", remote_name: "work"),
    },
)"#,
    )]);
    let remotes = loaded.description.remotes.values();
    let names: Vec<_> = remotes.map(|remote| remote.remote_name.as_str()).collect();
    assert_eq!(names, ["far", "work"]);
}

#[test]
fn what_is_wrong_with_remote_qubes_is_told() {
    let system = r#"(
    templates: {"debian": (source: Host)},
    qubes: {"net": (label: "red", template: "debian", netvm: Some("far"))},
    remotes: {
        "far": (),
        "net": (label: "red", relayvm: "net", transport_rpc: "my.Tunnel"),
        "off": (label: "grey", relayvm: "nett", transport_rpc: "my Tunnel", tags: ["a b"]),
        "on": (label: "gray", relayvm: "off", transport_rpc: "my.Tunnel"),
    },
)"#;
    insta::assert_snapshot!(errors(&[("system.ron", system)]), @r#"
    error: netvm of `net` is `far`, which does not exist
     --> system.ron:3:62
      |
    3 |     qubes: {"net": (label: "red", template: "debian", netvm: Some("far"))},
      |                                                              ^^^^^^^^^^^

    error: remote qube `far` has no label
     --> system.ron:5:9
      |
    5 |         "far": (),
      |         ^^^^^
      |
      = help: add `label: "gray"`

    error: remote qube `far` has no relay
     --> system.ron:5:9
      |
    5 |         "far": (),
      |         ^^^^^
      |
      = help: add `relayvm: "NAME"`, the qube through which it is reached

    error: remote qube `far` has no transport
     --> system.ron:5:9
      |
    5 |         "far": (),
      |         ^^^^^
      |
      = help: add `transport_rpc: "SERVICE"`, the service in its relay that carries calls

    error: remote qube `net` is defined a second time
     --> system.ron:6:9
      |
    6 |         "net": (label: "red", relayvm: "net", transport_rpc: "my.Tunnel"),
      |         ^^^^^
      |
     ::: system.ron:3:13
      |
    3 |     qubes: {"net": (label: "red", template: "debian", netvm: Some("far"))},
      |             ----- first defined here

    error: remote qube `off` has label `grey`, which does not exist, did you mean `gray`?
     --> system.ron:7:24
      |
    7 |         "off": (label: "grey", relayvm: "nett", transport_rpc: "my Tunnel", tags: ["a b"]),
      |                        ^^^^^^

    error: relayvm of `off` is `nett`, which does not exist, did you mean `net`?
     --> system.ron:7:41
      |
    7 |         "off": (label: "grey", relayvm: "nett", transport_rpc: "my Tunnel", tags: ["a b"]),
      |                                         ^^^^^^

    error: transport_rpc of `off` is `my Tunnel`, which is no service
     --> system.ron:7:64
      |
    7 |         "off": (label: "grey", relayvm: "nett", transport_rpc: "my Tunnel", tags: ["a b"]),
      |                                                                ^^^^^^^^^^^
      |
      = help: letters, digits, `_`, `.` and `-` are allowed, at most 63 of them, and no `-` or `.` first

    error: `a b` of `off` is no tag
     --> system.ron:7:84
      |
    7 |         "off": (label: "grey", relayvm: "nett", transport_rpc: "my Tunnel", tags: ["a b"]),
      |                                                                                    ^^^^^
      |
      = help: letters, digits, `_`, `.` and `-` are allowed, at most 63 of them, and no `-` or `.` first

    error: relayvm of `on` is `off`, which does not exist
     --> system.ron:8:40
      |
    8 |         "on": (label: "gray", relayvm: "off", transport_rpc: "my.Tunnel"),
      |                                        ^^^^^
      |
      = help: it is a remote qube itself; a qube of this machine is needed here

    10 errors
    "#);
}

#[test]
fn expectations_are_kept_with_the_description() {
    let files = [
        (
            "system.ron",
            r#"(policy_tests: ["a -> b c is ask", File("t/*.expect")], imports: ["more.ron"])"#,
        ),
        ("t/1.expect", "# one\n"),
        ("more.ron", "(policy_tests: [\n\"x\"])"),
    ];
    let loaded = loads(&files);
    let tests: Vec<_> = (loaded.description.policy_tests.iter())
        .map(|text| format!("{}:{} {}", text.origin, text.first_line, text.text.trim()))
        .collect();
    assert_eq!(
        tests,
        [
            "system.ron:1 a -> b c is ask",
            "t/1.expect:1 # one",
            "more.ron:2 x"
        ]
    );
    assert!(loaded.files.contains(&PathBuf::from("t/1.expect")));
    let json = serde_json::to_string(&loaded.description).unwrap();
    let again: Description = serde_json::from_str(&json).unwrap();
    assert_eq!(again, loaded.description);
    // What was kept before there were expectations is still read.
    let old = json.split(",\"policy_tests\"").next().unwrap().to_owned() + "}";
    assert!(
        serde_json::from_str::<Description>(&old)
            .unwrap()
            .policy_tests
            .is_empty()
    );
}

#[test]
fn live_policy_folders_keep_their_place_in_the_order() {
    let loaded = loads(&[
        (
            "system.ron",
            r#"(imports: ["sub/a.ron"], policy: ["x.A * * * deny", Live(), "x.B * * * deny"])"#,
        ),
        (
            "sub/a.ron",
            r#"(policy: [
                Live(folder: "policy.d"),
                Live(runtime: "/r", folder: "../f", legacy: "l"),
            ])"#,
        ),
    ]);
    let folders = loaded.description.policy_folders.iter();
    let folders: Vec<String> = folders
        .map(|f| {
            let (at, folders) = (format!("{}:{}", f.origin, f.line), &f.folders);
            format!("{at} after {}: {folders:?}, {:?}", f.after, f.legacy)
        })
        .collect();
    insta::assert_snapshot!(folders.join("\n"), @r#"
    system.ron:1 after 1: ["/run/qubes/policy.d", "/etc/qubes/policy.d"], "/etc/qubes-rpc/policy"
    sub/a.ron:2 after 2: ["sub/policy.d"], "sub/policy.d/compat"
    sub/a.ron:3 after 2: ["/r", "f"], "sub/l"
    "#);
}

#[test]
fn one_live_entry_too_many_is_refused() {
    let system = |count: usize| format!("(policy: [{}])", "Live(),".repeat(count));
    loads(&[("system.ron", &system(LIVE_FOLDERS_MAX))]);
    let said = errors(&[("system.ron", &system(LIVE_FOLDERS_MAX + 1))]);
    assert!(said.contains("more than 16 `Live` entries"), "{said}");
    let said = errors(&[("system.ron", "(policy: [Live(foldr: \"x\")])")]);
    assert!(said.contains("did you mean `folder`?"), "{said}");
}
