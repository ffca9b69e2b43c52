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
