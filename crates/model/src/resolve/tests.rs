use std::path::Path;

use crate::diagnostic::Color;
use crate::load::{Loaded, load};
use crate::qube::{Mib, Qube};
use crate::source::MemoryReader;

#[track_caller]
fn load_files(files: &[(&str, &str)]) -> Loaded {
    let reader = MemoryReader::new(files.iter().copied());
    load(Path::new("system.ron"), &reader)
        .unwrap_or_else(|found| panic!("{}", found.render(Color::Never)))
}

#[track_caller]
fn qube(system: &str, name: &str) -> Qube {
    load_files(&[("system.ron", system)]).description.qubes[name]
        .as_ref()
        .clone()
}

const LAYERS: &str = r#"(
    defaults: (template: "debian", label: "gray", vcpus: 1, tags: ["all"], netvm: "net", audiovm: "net"),
    profiles: {
        "one": (vcpus: 2, kernelopts: "one", tags: ["one"], services: {"a": true, "b": true}, features: {"x": "1"}),
        "two": (vcpus: 3, services: {"b": false}, memory: (maximum: 900), features: {"y": true}),
    },
    templates: {"debian": (source: Host), "other": (source: Folder("tree"))},
    qubes: {
        "net": (provides_network: true, provides_audio: true, netvm: None),
        "plain": (),
        "both": (profiles: ["one", "two"], services: {"a": None}, features: {"x": None, "z": false}),
        "reversed": (profiles: ["two", "one"]),
        "own": (profiles: ["one", "two"], vcpus: 4, memory: (initial: 100), netvm: Some("net"), audiovm: None),
        "tpl": (kind: Template, template: "debian"),
    },
)"#;

#[test]
fn own_values_win_over_profiles_and_these_over_defaults() {
    assert_eq!(qube(LAYERS, "plain").vcpus, 1);
    assert_eq!(qube(LAYERS, "both").vcpus, 3);
    assert_eq!(qube(LAYERS, "reversed").vcpus, 2);
    assert_eq!(qube(LAYERS, "own").vcpus, 4);
    assert_eq!(qube(LAYERS, "both").kernelopts, "one");
}

#[test]
fn options_inside_options_merge_one_by_one() {
    let own = qube(LAYERS, "own").memory;
    assert_eq!((own.initial, own.maximum), (Mib(100), Mib(900)));
}

#[test]
fn maps_and_lists_are_joined_and_none_takes_back() {
    let both = qube(LAYERS, "both");
    assert_eq!(both.services, [("b".to_owned(), false)].into());
    assert_eq!(
        both.features,
        [
            ("y".to_owned(), "1".to_owned()),
            ("z".to_owned(), String::new())
        ]
        .into()
    );
    assert_eq!(both.tags, ["all".to_owned(), "one".to_owned()].into());
}

#[test]
fn defaults_do_not_reach_where_they_make_no_sense() {
    assert_eq!(qube(LAYERS, "tpl").netvm, None);
    assert_eq!(qube(LAYERS, "net").audiovm, None);
    assert_eq!(qube(LAYERS, "plain").audiovm.unwrap().as_str(), "net");
    assert_eq!(qube(LAYERS, "own").audiovm, None);
}

#[test]
fn kinds_have_their_volumes() {
    let names = |name: &str| {
        qube(LAYERS, name)
            .volumes
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(names("plain"), "private");
    assert_eq!(names("tpl"), "private root");
}

#[test]
fn what_is_written_nowhere_has_the_documented_default() {
    let system =
        r#"(templates: {"t": (source: Host)}, qubes: {"a": (label: "red", template: "t")})"#;
    let mut expected = Qube::new("a".parse().unwrap(), crate::qube::QubeKind::App, "red");
    expected.template = Some("t".parse().unwrap());
    expected
        .volumes
        .insert("private".into(), crate::qube::Volume::private_default());
    assert_eq!(qube(system, "a"), expected);
}

#[test]
fn the_managed_fragment_wins_property_by_property() {
    let managed = r#"(qubes: {
        "plain": (vcpus: 8),
        "added": (label: "red"),
    }, policy: ["x.Late * * * deny"])"#;
    let loaded = load_files(&[("system.ron", LAYERS), ("system.managed.ron", managed)]);
    let plain = &loaded.description.qubes["plain"];
    assert_eq!((plain.vcpus, plain.label.as_str()), (8, "gray"));
    assert!(loaded.description.qubes.contains_key("added"));
    assert_eq!(loaded.description.policy[0].origin, "system.managed.ron");
}

#[test]
fn labels_are_the_eight_of_qubes_and_what_is_added() {
    let system =
        r#"(labels: {"pink": (color: 0xff00ff, icon: "heart"), "red": (color: "0xFF0000")})"#;
    let labels = load_files(&[("system.ron", system)]).description.labels;
    let shown: Vec<_> = labels
        .values()
        .map(|label| format!("{} {} {}", label.name, label.color, label.icon))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    black 0x000000 appvm-black
    blue 0x3465a4 appvm-blue
    gray 0x555753 appvm-gray
    green 0x73d216 appvm-green
    orange 0xf57900 appvm-orange
    pink 0xff00ff heart
    purple 0x75507b appvm-purple
    red 0xff0000 appvm-red
    yellow 0xedd400 appvm-yellow
    "#);
}

#[test]
fn a_template_says_where_its_root_comes_from() {
    let system = r#"(imports: ["sub/*.ron"], templates: {"a": (source: Host, label: "gray")})"#;
    let sub = r#"(templates: {"b": (source: Folder("tree")), "c": (source: Debian(suite: "trixie", packages: ["git"])), "d": (source: Image("disk"))})"#;
    let loaded = load_files(&[("system.ron", system), ("sub/x.ron", sub)]);
    insta::assert_debug_snapshot!(loaded.description.templates.values().map(|t| &t.source).collect::<Vec<_>>(), @r#"
    [
        Host,
        Folder(
            "sub/tree",
        ),
        Debian {
            suite: "trixie",
            packages: [
                "git",
            ],
        },
        Image(
            "sub/disk",
        ),
    ]
    "#);
    assert_eq!(loaded.description.templates["a"].label, "gray");
}

#[test]
fn names_are_defined_once_across_all_files() {
    let system = r#"(
    imports: ["more.ron"],
    profiles: {"p": ()},
    templates: {"a": (source: Host)},
    qubes: {"b": (label: "red", template: "a", profiles: ["q"]), "b": (), "a": ()},
)"#;
    let more = r#"(profiles: {"p": (profiles: ["p"])}, defaults: (profiles: []), qubes: {"b": ()}, templates: {"b": (source: Hots)})"#;
    let reader = MemoryReader::new([("system.ron", system), ("more.ron", more)]);
    let found = load(Path::new("system.ron"), &reader).unwrap_err();
    let shown: Vec<_> = (found.list.iter())
        .map(|error| format!("{} {}", error.place.as_ref().unwrap(), error.message))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    system.ron:5:59 qube `b` lists profile `q`, which does not exist, did you mean `p`?
    system.ron:5:66 this name is written twice in the same map
    system.ron:5:75 qube `a` is defined a second time
    more.ron:1:13 profile `p` is defined a second time
    more.ron:1:59 `defaults` lists no profiles
    more.ron:1:72 qube `b` is defined a second time
    more.ron:1:94 template `b` is defined a second time
    more.ron:1:108 `Hots` is no template source, did you mean `Host`?
    "#);
}
