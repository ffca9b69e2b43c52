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
      = help: known here: kind, profiles, label, template, netvm, provides_network, memory, vcpus, autostart, volumes, kernel, kernelopts, virt_mode, devices, features, services, tags, default_dispvm, restart, default_user, audiovm, guivm, management_dispvm, shutdown_timeout, provides_audio, provides_gui, provides_management

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
    policy: [Text("x")],
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

    error: expected policy rules, found a variant with values
     --> system.ron:7:14
      |
    7 |     policy: [Text("x")],
      |              ^^^^^^^^^
      |
      = help: write rules as a text, or `File("policy/*.policy")`

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
