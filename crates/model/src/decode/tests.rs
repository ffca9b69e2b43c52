use crate::load::check_file;

/// What is said about one property of a qube.
#[track_caller]
fn said(property: &str) -> String {
    let text = format!("(qubes: {{\"a\": ({property})}})");
    let found = check_file("x.ron", &text);
    let messages: Vec<_> = found
        .list
        .iter()
        .map(|error| error.message.as_str())
        .collect();
    messages.join("; ")
}

#[test]
fn values_of_the_wrong_type_say_what_was_expected() {
    let cases = [
        "kind: App, kind: App",
        "kind: \"App\"",
        "kind: Ap",
        "kind: 1",
        "label: red",
        "label: 1",
        "template: [1]",
        "template: \"none\"",
        "netvm: true",
        "netvm: Some(Some(\"a\"))",
        "vcpus: -1",
        "vcpus: 1.5",
        "autostart: 1",
        "memory: 400",
        "memory: {\"initial\": 1}",
        "volumes: ()",
        "volumes: {private: (size: 1)}",
        "volumes: {\"private\": (sise: 1)}",
        "tags: \"a\"",
        "tags: [1, 2]",
        "features: {\"a\": 1}",
        "services: {\"a\": \"yes\", \"a\": true}",
        "Kind: App",
        "completely_unlike_any: 1",
        "restart: always",
        "devices: Cube(x: 1)",
        "memory: Mem(initial: 1)",
        "kernel: '1'",
    ];
    let shown: Vec<_> = cases
        .iter()
        .map(|case| format!("{case} => {}", said(case)))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    kind: App, kind: App => `kind` is written twice
    kind: "App" => expected a word, found a text
    kind: Ap => `Ap` is not known here, did you mean `App`?
    kind: 1 => expected one of App, Template, Standalone, DisposableTemplate, NamedDisposable, found a number
    label: red => expected a text, found the word `red`
    label: 1 => expected a text, found a number
    template: [1] => expected a text, found a list
    template: "none" => qube name `none` is reserved
    netvm: true => expected a text, found a boolean
    netvm: Some(Some("a")) => expected a text, found `Some(…)`
    vcpus: -1 => -1 is out of range
    vcpus: 1.5 => expected a number from 1 to 128, found a number with a fraction
    autostart: 1 => expected true or false, found a number
    memory: 400 => expected options in `()`, found a number
    memory: {"initial": 1} => expected options in `()`, found a map
    volumes: () => expected a map in `{}`, found `()`
    volumes: {private: (size: 1)} => expected a text, found the word `private`
    volumes: {"private": (sise: 1)} => unknown field `sise`, did you mean `size`?
    tags: "a" => expected a list of text, found a text
    tags: [1, 2] => expected a text, found a number; expected a text, found a number
    features: {"a": 1} => expected a text, found a number
    services: {"a": "yes", "a": true} => expected true or false, found a text; this name is written twice in the same map
    Kind: App => unknown field `Kind`, did you mean `kind`?
    completely_unlike_any: 1 => unknown field `completely_unlike_any`
    restart: always => `always` is not known here, did you mean `Always`?
    devices: Cube(x: 1) => expected a list of text, found a variant with values
    memory: Mem(initial: 1) => expected `Memory`, found `Mem`
    kernel: '1' => expected a text, found a character
    "#);
}

#[test]
fn optional_values_are_bare_or_in_some() {
    for property in [
        "netvm: \"a\"",
        "netvm: Some(\"a\")",
        "netvm: None",
        "memory: Memory(maximum: None)",
        "memory: ()",
    ] {
        assert_eq!(said(property), "", "{property}");
    }
}

#[test]
fn sizes_are_numbers_of_mib_or_texts_with_a_unit() {
    for size in [
        "1",
        "0x10",
        "\"1 MiB\"",
        "\"1MiB\"",
        "\"3  GiB\"",
        "\"1 TiB\"",
    ] {
        assert_eq!(said(&format!("memory: (initial: {size})")), "", "{size}");
    }
    for size in [
        "0",
        "-1",
        "\"0 MiB\"",
        "\"1\"",
        "\"1 GB\"",
        "\"GiB\"",
        "\"1.5 GiB\"",
        "\"-1 GiB\"",
        "1.5",
    ] {
        assert_ne!(said(&format!("memory: (initial: {size})")), "", "{size}");
    }
}

#[test]
fn suggestions_are_near_and_run_out() {
    use super::Suggester;
    use super::suggest::SUGGESTIONS_MAX;
    let suggester = Suggester::default();
    let known = ["netvm", "kernel", "kernelopts", "tags"];
    for (wrong, meant) in [
        ("netmv", Some("netvm")),
        ("NetVM", Some("netvm")),
        ("kernelopt", Some("kernelopts")),
        ("tag", Some("tags")),
        ("x", None),
        ("volumes", None),
    ] {
        assert_eq!(suggester.nearest(wrong, known), meant, "{wrong}");
    }
    for _ in 6..SUGGESTIONS_MAX {
        assert!(suggester.nearest("tag", known).is_some());
    }
    assert_eq!(suggester.nearest("tag", known), None);
}
