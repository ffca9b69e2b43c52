use super::*;

#[track_caller]
fn set_in(text: &str, qube: &str, property: QubeProperty, value: &str) -> String {
    set(text, &qube.parse().unwrap(), property, value).unwrap()
}

#[test]
fn the_first_change_makes_the_fragment() {
    let text = set_in("", "work", QubeProperty::Netvm, "None");
    insta::assert_snapshot!(text, @r#"
    (
        qubes: {"work": (netvm: None)},
    )
    "#);
}

#[test]
fn later_changes_keep_the_earlier_ones_and_every_comment() {
    let text = r#"// tools write here
(
    qubes: {
        "work": (netvm: None), // because
        "mail": (
            vcpus: 2 // enough
        )
    }
)"#;
    let text = set_in(text, "work", QubeProperty::Netvm, "\"sys-vpn\"");
    let text = set_in(&text, "mail", QubeProperty::Memory, "(initial: \"1 GiB\")");
    let text = set_in(&text, "vault", QubeProperty::Tags, "[\"offline\"]");
    insta::assert_snapshot!(text, @r#"
    // tools write here
    (
        qubes: {
            "work": (netvm: "sys-vpn"), // because
            "mail": (
                vcpus: 2, // enough
                memory: (initial: "1 GiB"),
            ),
            "vault": (tags: ["offline"]),
        },
    )
    "#);
    // The same again changes nothing.
    assert_eq!(
        set_in(&text, "work", QubeProperty::Netvm, "\"sys-vpn\""),
        text
    );
}

#[test]
fn a_value_that_is_none_is_refused_and_so_is_one_that_breaks_out() {
    let work: QubeName = "work".parse().unwrap();
    for value in [
        "",
        "1, label: \"red\"",
        "None), (",
        "\"a",
        "// c",
        "true",
        "Bogus",
    ] {
        let error = set("()", &work, QubeProperty::Netvm, value).unwrap_err();
        assert!(matches!(error, ManagedError::Syntax(_)), "{value}");
    }
    let error = set("(qubes: [", &work, QubeProperty::Vcpus, "1").unwrap_err();
    assert!(matches!(error, ManagedError::Syntax(_)));
    let error = set("(qubes: [])", &work, QubeProperty::Vcpus, "1").unwrap_err();
    assert!(matches!(error, ManagedError::Shape("qubes")));
}

#[test]
fn what_was_set_is_what_loads() {
    let system = r#"(templates: {"t": (source: Host)}, qubes: {"work": (label: "red", template: "t", vcpus: 1)})"#;
    let managed = set_in("", "work", QubeProperty::Vcpus, "3");
    let reader = crate::source::MemoryReader::new([
        ("system.ron", system),
        ("system.managed.ron", managed.as_str()),
    ]);
    let loaded = crate::load::load(std::path::Path::new("system.ron"), &reader).unwrap();
    assert_eq!(loaded.description.qubes["work"].vcpus, 3);
}
