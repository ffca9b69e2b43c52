//! Which value counts: built in, `defaults`, profiles, the qube's own, and what tools set.

use serde_json::{Value, json};

use crate::{loaded, qube, system};

/// Properties of one value, each with three that differ from each other and from the default.
const SCALARS: &[(&str, [&str; 3])] = &[
    ("label", ["\"red\"", "\"blue\"", "\"green\""]),
    ("vcpus", ["3", "4", "5"]),
    ("maxvcpus", ["8", "None", "16"]),
    ("cpu_weight", ["128", "512", "1024"]),
    ("kernel", ["\"k1\"", "\"k2\"", "\"k3\""]),
    ("kernelopts", ["\"a\"", "\"b\"", "\"c\""]),
    ("default_user", ["\"ann\"", "\"bob\"", "\"cy\""]),
    ("shutdown_timeout", ["11", "12", "13"]),
    ("restart", ["Always", "OnFailure", "Never"]),
    ("virt_mode", ["Hvm", "Pv", "Pvh"]),
    ("netvm", ["\"n1\"", "\"n2\"", "\"n3\""]),
    ("audiovm", ["\"n1\"", "\"n2\"", "\"n3\""]),
    ("guivm", ["\"n1\"", "\"n2\"", "\"n3\""]),
    ("default_dispvm", ["\"d1\"", "\"d2\"", "\"d3\""]),
    ("management_dispvm", ["\"d1\"", "\"d2\"", "\"d3\""]),
    ("template", ["\"debian\"", "\"t2\"", "\"t3\""]),
];

/// Properties that are on or off.
const FLAGS: &[&str] = &[
    "provides_network",
    "autostart",
    "provides_audio",
    "provides_gui",
    "provides_management",
];

/// The property of qube `a`, written in these places; an empty text is not written.
fn layered(property: &str, defaults: &str, profiles: [&str; 2], own: &str) -> Value {
    let say = |value: &str| match value {
        "" => String::new(),
        value => format!("{property}: {value},"),
    };
    // What the values name; each says all of its own, so that `defaults` changes nothing there.
    let mut others = String::new();
    for n in 1..=3 {
        let none = "audiovm: None, guivm: None, netvm: None, default_dispvm: None, \
                    management_dispvm: None";
        others.push_str(&format!(
            "\"n{n}\": (label: \"red\", template: \"debian\", provides_network: true, \
             provides_audio: true, provides_gui: true, {none}),\
             \"d{n}\": (kind: DisposableTemplate, label: \"red\", template: \"debian\", \
             provides_management: true, {none}),"
        ));
    }
    let label = if property == "label" {
        ""
    } else {
        "label: \"black\","
    };
    let text = format!(
        "(templates: {{\"debian\": (source: Host), \"t2\": (source: Host), \"t3\": (source: Host)}},
          defaults: ({}), profiles: {{\"p\": ({}), \"q\": ({})}},
          qubes: {{ {others} \"a\": (profiles: [\"p\", \"q\"], {label} {} {}) }})",
        say(defaults),
        say(profiles[0]),
        say(profiles[1]),
        if property == "template" { "" } else { "template: \"debian\"," },
        say(own),
    );
    let loaded = loaded(&[("system.ron", &text)]);
    let qube = serde_json::to_value(&loaded.description.qubes["a"]).unwrap();
    qube[property].clone()
}

#[track_caller]
fn each_scalar(
    layers: impl Fn([&'static str; 3]) -> (&'static str, [&'static str; 2], &'static str),
) {
    for (property, values) in SCALARS {
        let (defaults, profiles, own) = layers(*values);
        let expected = layered(property, "", ["", ""], values[2]);
        assert_ne!(
            expected,
            layered(property, "", ["", ""], values[1]),
            "{property}"
        );
        let found = layered(property, defaults, profiles, own);
        assert_eq!(found, expected, "{property}");
    }
}

#[test]
fn defaults_count_where_nothing_else_is_written() {
    each_scalar(|[_, _, c]| (c, ["", ""], ""));
}

#[test]
fn a_profile_wins_over_defaults() {
    each_scalar(|[a, _, c]| (a, [c, ""], ""));
}

#[test]
fn a_later_profile_wins_over_an_earlier_one() {
    each_scalar(|[a, b, c]| (a, [b, c], ""));
}

#[test]
fn the_qubes_own_value_wins_over_all() {
    each_scalar(|[a, b, c]| (a, [b, a], c));
}

#[test]
fn a_flag_can_be_taken_back_in_each_layer() {
    for flag in FLAGS {
        for (defaults, profiles, own, expected) in [
            ("", ["", ""], "", false),
            ("true", ["", ""], "", true),
            ("true", ["false", ""], "", false),
            ("false", ["false", "true"], "", true),
            ("true", ["true", "true"], "false", false),
        ] {
            let found = layered(flag, defaults, profiles, own);
            assert_eq!(
                found,
                json!(expected),
                "{flag} {defaults} {profiles:?} {own}"
            );
        }
    }
}

#[test]
fn none_takes_back_what_a_weaker_layer_says() {
    for property in [
        "netvm",
        "audiovm",
        "guivm",
        "default_dispvm",
        "management_dispvm",
        "kernel",
    ] {
        let (_, values) = SCALARS.iter().find(|(name, _)| *name == property).unwrap();
        assert_eq!(layered(property, values[0], ["", ""], "None"), Value::Null);
        assert_eq!(layered(property, values[0], ["None", ""], ""), Value::Null);
        let found = layered(property, "None", ["", values[1]], "");
        assert_ne!(found, Value::Null, "{property}");
    }
}

#[test]
fn the_template_of_defaults_is_for_qubes_with_a_root_of_a_template() {
    let of = |kind: &str, layer: &str| {
        let text = format!(
            r#"{layer}, qubes: {{
                "dvm": (kind: DisposableTemplate, label: "red", template: "debian"),
                "a": (kind: {kind}, label: "red", virt_mode: Hvm, profiles: ["p"]) }}"#
        );
        crate::try_load(&[("system.ron", &system(&text))])
            .map(|loaded| loaded.description.qubes["a"].template.clone())
    };
    let defaults = r#"defaults: (template: "debian"), profiles: {"p": ()}"#;
    for kind in ["App", "DisposableTemplate"] {
        let found = of(kind, defaults).unwrap().unwrap();
        assert_eq!(found.as_str(), "debian", "{kind}");
    }
    assert_eq!(of("Standalone", defaults).unwrap(), None);
    for kind in ["Template", "NamedDisposable"] {
        let found = of(kind, defaults).unwrap_err();
        assert_eq!(found.list[0].message, "qube `a` has no template", "{kind}");
    }
    let profile = r#"profiles: {"p": (template: "debian")}"#;
    for kind in ["App", "DisposableTemplate", "Standalone", "Template"] {
        let found = of(kind, profile).unwrap().unwrap();
        assert_eq!(found.as_str(), "debian", "{kind}");
    }
}

#[test]
fn a_template_has_network_only_where_it_or_its_profile_says_so() {
    let netvm = |profile: &str, own: &str| {
        let rest = format!(
            r#"defaults: (netvm: "net"), profiles: {{"p": ({profile})}}, qubes: {{
                "net": (label: "red", template: "debian", netvm: None, provides_network: true),
                "a": (kind: Template, label: "red", template: "debian", profiles: ["p"], {own}) }}"#
        );
        qube(&rest, "a")["netvm"].clone()
    };
    assert_eq!(netvm("", ""), Value::Null);
    assert_eq!(netvm("netvm: \"net\"", ""), json!("net"));
    assert_eq!(netvm("", "netvm: \"net\""), json!("net"));
}

#[test]
fn a_default_does_not_make_a_qube_serve_itself_but_its_own_word_does() {
    let text = |own: &str| {
        format!(
            r#"defaults: (audiovm: "a", guivm: "a"), qubes: {{
                "a": (label: "red", template: "debian", provides_audio: true, provides_gui: true, {own}),
                "b": (label: "red", template: "debian") }}"#
        )
    };
    let quiet = text("");
    assert_eq!(qube(&quiet, "a")["audiovm"], Value::Null);
    assert_eq!(qube(&quiet, "a")["guivm"], Value::Null);
    assert_eq!(qube(&quiet, "b")["audiovm"], json!("a"));
    assert_eq!(qube(&quiet, "b")["guivm"], json!("a"));
    assert_eq!(qube(&text("audiovm: \"a\""), "a")["audiovm"], json!("a"));
}

#[test]
fn the_most_memory_follows_a_start_above_its_default() {
    let memory = |defaults: &str, own: &str| {
        let rest = format!(
            r#"defaults: ({defaults}), qubes: {{"a": (label: "red", template: "debian", {own})}}"#
        );
        let found = qube(&rest, "a")["memory"].clone();
        (
            found["initial"].as_u64().unwrap(),
            found["maximum"].as_u64().unwrap(),
        )
    };
    assert_eq!(memory("", ""), (400, 4000));
    assert_eq!(memory("", "memory: (initial: 5000)"), (5000, 5000));
    assert_eq!(memory("memory: (initial: 300)", ""), (300, 4000));
    let none = "memory: (maximum: None)";
    assert_eq!(memory(none, "memory: (initial: 300)"), (300, 300));
    assert_eq!(
        memory("memory: (initial: 300, maximum: 900)", none),
        (300, 300)
    );
}

#[test]
fn size_and_revisions_of_a_volume_merge_one_by_one() {
    let rest = r#"
        defaults: (volumes: {"private": (size: 1, revisions_to_keep: 7)}),
        profiles: {"p": (volumes: {"private": (size: 2)})},
        qubes: {
            "a": (label: "red", template: "debian", profiles: ["p"]),
            "b": (label: "red", template: "debian", volumes: {"private": (revisions_to_keep: 0)}),
        }"#;
    let volume = |name: &str| qube(rest, name)["volumes"]["private"].clone();
    assert_eq!(volume("a"), json!({"size": 2, "revisions_to_keep": 7}));
    assert_eq!(volume("b"), json!({"size": 1, "revisions_to_keep": 0}));
}

#[test]
fn volumes_of_defaults_are_no_mistake_of_a_qube_without_them() {
    let rest = r#"
        defaults: (volumes: {"private": (size: 1), "root": (size: 2)}),
        qubes: {
            "dvm": (kind: DisposableTemplate, label: "red", template: "debian"),
            "a": (kind: NamedDisposable, label: "red", template: "dvm"),
            "t": (kind: Template, label: "red", template: "debian"),
        }"#;
    assert_eq!(qube(rest, "a")["volumes"], json!({}));
    assert_eq!(qube(rest, "t")["volumes"]["root"]["size"], json!(2));
}

#[test]
fn a_feature_is_text_or_a_flag_and_none_takes_it_back() {
    let rest = r#"
        defaults: (features: {"a": "1", "b": "text", "c": true}),
        profiles: {"p": (features: {"b": None, "d": false})},
        qubes: {"a": (label: "red", template: "debian", profiles: ["p"], features: {"c": "two", "e": None})}"#;
    let expected = json!({"a": "1", "c": "two", "d": ""});
    assert_eq!(qube(rest, "a")["features"], expected);
}

#[test]
fn a_service_that_a_profile_takes_back_can_be_set_again() {
    let rest = r#"
        defaults: (services: {"one": true, "two": true}),
        profiles: {"p": (services: {"one": None, "two": None})},
        qubes: {"a": (label: "red", template: "debian", profiles: ["p"], services: {"two": false})}"#;
    assert_eq!(qube(rest, "a")["services"], json!({"two": false}));
}

#[test]
fn tags_of_all_layers_are_joined() {
    let rest = r#"
        defaults: (tags: ["d", "x"]), profiles: {"p": (tags: ["p", "x"]), "q": (tags: ["q"])},
        qubes: {"a": (label: "red", template: "debian", profiles: ["q", "p"], tags: ["x", "own"])}"#;
    assert_eq!(qube(rest, "a")["tags"], json!(["d", "own", "p", "q", "x"]));
}

#[test]
fn devices_stand_once_the_weakest_layer_first() {
    let rest = r#"
        defaults: (devices: ["mic:dom0:mic"]),
        profiles: {"p": (devices: ["usb:dom0:1-1", "mic:dom0:mic"])},
        qubes: {"a": (label: "red", template: "debian", profiles: ["p"], devices: ["usb:dom0:1-2", "usb:dom0:1-1"])}"#;
    let expected = json!(["mic:dom0:mic", "usb:dom0:1-1", "usb:dom0:1-2"]);
    assert_eq!(qube(rest, "a")["devices"], expected);
}

#[test]
fn what_tools_set_wins_over_what_is_written_and_keeps_its_profiles() {
    let root = system(
        r#"profiles: {"p": (vcpus: 3, tags: ["p"])}, defaults: (vcpus: 2),
           qubes: {"a": (label: "red", template: "debian", profiles: ["p"], services: {"x": true, "y": true})}"#,
    );
    let managed =
        r#"(qubes: {"a": (vcpus: 7, label: "blue", services: {"x": None}, tags: ["set"])})"#;
    let found = loaded(&[("system.ron", &root), ("system.managed.ron", managed)]);
    let found = serde_json::to_value(&found.description.qubes["a"]).unwrap();
    assert_eq!(
        (&found["vcpus"], &found["label"]),
        (&json!(7), &json!("blue"))
    );
    assert_eq!(found["services"], json!({"y": true}));
    assert_eq!(found["tags"], json!(["p", "set"]));
}

#[test]
fn profiles_that_tools_set_replace_those_that_are_written() {
    let root = system(
        r#"profiles: {"p": (vcpus: 3), "q": (kernelopts: "q")},
           qubes: {"a": (label: "red", template: "debian", profiles: ["p"])}"#,
    );
    let managed = r#"(qubes: {"a": (profiles: ["q"])})"#;
    let found = loaded(&[("system.ron", &root), ("system.managed.ron", managed)]);
    let found = &found.description.qubes["a"];
    assert_eq!((found.vcpus, found.kernelopts.as_str()), (2, "q"));
}
