//! Assertions: what is said when one does not hold.

use crate::{loaded, refused_in, system};

const QUBES: &str = r#"qubes: {
    "net": (label: "red", template: "debian", provides_network: true),
    "a": (label: "blue", template: "debian", netvm: "net", tags: ["t"], vcpus: 3, autostart: true,
          memory: (initial: 100, maximum: 500), devices: ["mic:dom0:mic"], services: {"s": true},
          features: {"f": "1"}, virt_mode: Hvm, restart: Always),
},"#;

fn text(rule: &str) -> String {
    system(&format!(
        "{QUBES} assertions: [(name: \"r\", where: (name: \"a\"), must: {rule})]"
    ))
}

#[track_caller]
fn why(rule: &str) -> String {
    let found = refused_in(&text(rule));
    assert_eq!(found.len(), 1, "{found:?}");
    let start = "qube `a` breaks the assertion `r`: ";
    let (message, _) = found[0].split_once(" @ ").unwrap();
    message
        .strip_prefix(start)
        .expect("the rule and the qube")
        .to_owned()
}

#[test]
fn the_property_that_is_in_the_way_is_told_with_its_value() {
    for (rule, expected) in [
        ("(kind: Template)", "its kind is App"),
        ("(label: [\"red\", \"green\"])", "its label is blue"),
        ("(tag: \"u\")", "its tags is [t]"),
        ("(template: \"fedora*\")", "its template is debian"),
        ("(netvm: None)", "its netvm is net"),
        ("(provides_network: true)", "its provides_network is false"),
        ("(autostart: false)", "its autostart is true"),
        ("(has_devices: false)", "its devices is [mic:dom0:mic]"),
        ("(virt_mode: Pvh)", "its virt_mode is Hvm"),
        ("(restart: Never)", "its restart is Always"),
        ("(default_dispvm: \"*\")", "its default_dispvm is none"),
        (
            "(memory_at_most: 499)",
            "its memory is at most 500 MiB, above 499 MiB",
        ),
        ("(vcpus_at_most: 2)", "it has 3 vcpus, above 2"),
        (
            "(network_through: \"vpn\")",
            "its network does not pass there",
        ),
        ("(name: \"b\")", "its name does not fit"),
        ("Not((tag: \"t\"))", "what is ruled out fits"),
        (
            "Any([(netvm: None), (label: \"red\")])",
            "none of the alternatives fits",
        ),
        ("Any([(netvm: None)])", "its netvm is net"),
        (
            "All([(label: \"blue\"), (vcpus_at_most: 1)])",
            "it has 3 vcpus, above 1",
        ),
    ] {
        assert_eq!(why(rule), expected, "{rule}");
    }
}

#[test]
fn a_bound_holds_at_the_bound() {
    for rule in ["(memory_at_most: 500)", "(vcpus_at_most: 3)"] {
        loaded(&[("system.ron", &text(rule))]);
    }
}

#[test]
fn what_is_ruled_out_points_at_the_property_when_it_is_one() {
    let one = refused_in(&text("Not((service: \"s\"))"));
    assert!(one[0].contains("@ {\"s\": true}"), "{one:?}");
    let two = refused_in(&text("Not((service: \"s\", label: \"blue\"))"));
    assert!(two[0].contains("@ \"a\""), "{two:?}");
}

#[test]
fn any_and_all_hold_one_list() {
    for word in ["Any", "All"] {
        let found = refused_in(&text(&format!("{word}((netvm: None), (netvm: None))")));
        assert!(found[0].starts_with(&format!("`{word}` holds one list of conditions @ {word}(")));
    }
    let found = refused_in(&text("Al([])"));
    assert!(
        found[0].starts_with("`Al` is no condition, did you mean `All`?"),
        "{found:?}"
    );
}

#[test]
fn each_qube_that_breaks_a_rule_is_told_of() {
    let rest = format!("{QUBES} assertions: [(name: \"r\", must: (label: \"black\"))]");
    let found = refused_in(&system(&rest));
    assert_eq!(found.len(), 2, "{found:?}");
}
