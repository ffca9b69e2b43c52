use std::path::Path;

use crate::diagnostic::{Color, Diagnostics};
use crate::load::load;
use crate::source::MemoryReader;

fn run(assertions: &str) -> Result<Diagnostics, Diagnostics> {
    let system = format!(
        r#"(
    defaults: (template: "debian", netvm: "fw"),
    profiles: {{"offline": (netvm: None, tags: ["offline"])}},
    templates: {{"debian": (source: Host)}},
    qubes: {{
        "net": (label: "red", netvm: None, provides_network: true, services: {{"clocksync": true}}),
        "fw": (label: "green", netvm: "net", provides_network: true, features: {{"gui": false}}),
        "work": (label: "blue", tags: ["office"], memory: (maximum: 2000)),
        "leak": (label: "black", tags: ["offline"]),
        "vault": (label: "black", profiles: ["offline"]),
    }},
    assertions: [{assertions}],
)"#
    );
    let reader = MemoryReader::new([("system.ron", system)]);
    load(Path::new("system.ron"), &reader).map(|loaded| loaded.warnings)
}

/// Which of the qubes break `must`, in the order of their places.
#[track_caller]
fn breaking(must: &str) -> Vec<String> {
    match run(&format!("(name: \"x\", must: {must})")) {
        Ok(_) => Vec::new(),
        Err(found) => {
            let name = |message: &str| message.split('`').nth(1).unwrap().to_owned();
            let mut names: Vec<_> = found
                .list
                .iter()
                .map(|error| name(&error.message))
                .collect();
            names.sort();
            names
        }
    }
}

#[test]
fn a_broken_assertion_names_the_qube_and_both_lines() {
    let rule =
        r#"(name: "what is offline has no network", where: (tag: "offline"), must: (netvm: None))"#;
    let found = run(rule).unwrap_err();
    insta::assert_snapshot!(found.render(Color::Never), @r#"
    error: qube `leak` breaks the assertion `what is offline has no network`: its netvm is fw
      --> system.ron:2:43
       |
     2 |     defaults: (template: "debian", netvm: "fw"),
       |                                           ^^^^
       |
      ::: system.ron:9:9
       |
     9 |         "leak": (label: "black", tags: ["offline"]),
       |         ------ inherited by `leak`
       |
      ::: system.ron:12:98
       |
    12 |     assertions: [(name: "what is offline has no network", where: (tag: "offline"), must: (netvm: None))],
       |                                                                                                  ---- required here

    1 error
    "#);
}

#[test]
fn one_that_holds_says_nothing() {
    let rule = r#"(name: "x", where: (label: "black"), must: (provides_network: false))"#;
    assert!(run(rule).unwrap().is_empty());
}

#[test]
fn conditions_ask_for_each_property() {
    for (must, expected) in [
        ("(kind: App)", vec![]),
        (
            "(kind: [Template, Standalone])",
            vec!["fw", "leak", "net", "vault", "work"],
        ),
        ("(netvm: [None, \"n*\"])", vec!["leak", "work"]),
        ("(network_through: \"net\")", vec!["net", "vault"]),
        ("(service: \"clock*\")", vec!["fw", "leak", "vault", "work"]),
        (
            "(feature: \"gui\")",
            vec!["fw", "leak", "net", "vault", "work"],
        ),
        ("(memory_at_most: 2000)", vec!["fw", "leak", "net", "vault"]),
        (
            "(vcpus_at_most: 2, autostart: false, has_devices: false)",
            vec![],
        ),
        (
            "(vcpus_at_most: 1)",
            vec!["fw", "leak", "net", "vault", "work"],
        ),
        ("(name: [\"?et\", \"f*\", \"*\"])", vec![]),
        ("(tag: [\"office\", \"offline\"])", vec!["fw", "net"]),
        (
            "(template: \"deb*\", virt_mode: Pvh, restart: Never)",
            vec![],
        ),
        (
            "(default_dispvm: None, audiovm: None, guivm: None, management_dispvm: None)",
            vec![],
        ),
        ("Not((label: \"black\"))", vec!["leak", "vault"]),
        (
            "Any([(netvm: None), (tag: \"office\")])",
            vec!["fw", "leak"],
        ),
        (
            "All([(netvm: None), Not((tag: \"offline\"))])",
            vec!["fw", "leak", "vault", "work"],
        ),
        ("()", vec![]),
    ] {
        assert_eq!(breaking(must), expected, "{must}");
    }
}

#[test]
fn a_rule_that_cannot_be_read_is_an_error() {
    let found = run(
        r#"(must: ()), (name: "a"), (name: "b", must: (netvn: None)), (name: "c", must: Nope(1)),
        (name: "d", must: Not()), (name: "e", must: Any(1))"#,
    );
    let found = found.unwrap_err();
    let messages: Vec<_> = found
        .list
        .iter()
        .map(|error| error.message.as_str())
        .collect();
    insta::assert_debug_snapshot!(messages, @r#"
    [
        "this assertion has no name",
        "assertion `a` says nothing",
        "unknown field `netvn`, did you mean `netvm`?",
        "`Nope` is no condition",
        "`Not` holds one condition",
        "expected a list of condition, found a number",
    ]
    "#);
}

#[test]
fn a_rule_about_no_qube_is_worth_a_warning() {
    let found = run(r#"(name: "x", where: (tag: "ofline"), must: (netvm: None))"#).unwrap();
    insta::assert_snapshot!(found.render(Color::Never), @r#"
    warning: assertion `x` is about no qube
      --> system.ron:12:37
       |
    12 |     assertions: [(name: "x", where: (tag: "ofline"), must: (netvm: None))],
       |                                     ^^^^^^^^^^^^^^^

    1 warning
    "#);
}

#[test]
fn a_qube_that_is_not_understood_may_be_the_one_that_is_meant() {
    let text = r#"(
    defaults: (template: "debian", netmv: None),
    templates: {"debian": (source: Host)},
    qubes: {"a": (label: "red", tags: ["offline"])},
    assertions: [(name: "x", where: (tag: "offline"), must: (netvm: None))],
)"#;
    let reader = MemoryReader::new([("system.ron", text.to_owned())]);
    let found = load(Path::new("system.ron"), &reader).unwrap_err();
    assert_eq!(found.warnings(), 0, "{found:?}");
    assert_eq!(found.errors(), 1);
}

proptest::proptest! {
    /// The pattern matcher agrees with a slower, simpler one.
    #[test]
    fn patterns_match_as_they_are_defined(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        fn simple(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern, text) {
                ([], []) => true,
                ([b'*', rest @ ..], _) => simple(rest, text) || (!text.is_empty() && simple(pattern, &text[1..])),
                ([b'?', rest @ ..], [_, after @ ..]) => simple(rest, after),
                ([a, rest @ ..], [b, after @ ..]) => a == b && simple(rest, after),
                _ => false,
            }
        }
        let expected = simple(pattern.as_bytes(), text.as_bytes());
        proptest::prop_assert_eq!(super::evaluate::pattern(&pattern, &text), expected);
    }
}
