//! Descriptions of several files.

use crate::{loaded, refused, system};

const QUBES: &str = r#"(qubes: {"a": (label: "red", template: "debian", profiles: ["p"])})"#;

#[test]
fn a_file_uses_what_another_defines_whichever_imports_which() {
    let parts = [
        ("root", r#"templates: {"debian": (source: Host)},"#),
        ("profiles", r#"profiles: {"p": (label: "mauve")},"#),
        ("labels", r#"labels: {"mauve": (color: 0xe0b0ff)},"#),
        (
            "qubes",
            r#"qubes: {"a": (template: "debian", profiles: ["p"])},"#,
        ),
    ];
    for root in 0..parts.len() {
        let mut files = Vec::new();
        for (n, (name, text)) in parts.iter().enumerate() {
            let imports = if n == root {
                "imports: [\"sub/*.ron\"],"
            } else {
                ""
            };
            let name = if n == root {
                "system.ron".to_owned()
            } else {
                format!("sub/{name}.ron")
            };
            files.push((name, format!("({imports} {text})")));
        }
        let files: Vec<_> = files
            .iter()
            .map(|(n, t)| (n.as_str(), t.as_str()))
            .collect();
        assert_eq!(loaded(&files).description.qubes["a"].label, "mauve");
    }
}

#[test]
fn defaults_of_the_root_win_over_those_of_an_import() {
    let root = system(r#"imports: ["x.ron"], defaults: (vcpus: 3)"#);
    let import = r#"(defaults: (vcpus: 4, kernelopts: "x"), profiles: {"p": ()}, qubes: {
        "a": (label: "red", template: "debian")})"#;
    let found = loaded(&[("system.ron", &root), ("x.ron", import)]);
    let found = &found.description.qubes["a"];
    assert_eq!((found.vcpus, found.kernelopts.as_str()), (3, "x"));
}

#[test]
fn files_that_import_each_other_are_read_once() {
    let root = system(r#"imports: ["a.ron"], profiles: {"p": ()}"#);
    let a = r#"(imports: ["b.ron", "system.ron"])"#;
    let b = r#"(imports: ["a.ron", "b.ron", "q.ron"])"#;
    let found = loaded(&[
        ("system.ron", &root),
        ("a.ron", a),
        ("b.ron", b),
        ("q.ron", QUBES),
    ]);
    assert_eq!(found.files.len(), 4);
    assert_eq!(found.description.qubes.len(), 1);
}

#[test]
fn a_mistake_in_an_import_is_shown_in_its_file() {
    let root = system(r#"imports: ["q.ron"]"#);
    let found = refused(&[("system.ron", &root), ("q.ron", QUBES)]);
    assert_eq!(
        found,
        ["qube `a` lists profile `p`, which does not exist @ \"p\""]
    );
}

#[test]
fn a_name_of_two_files_points_at_both() {
    let root = system(
        r#"imports: ["q.ron"], profiles: {"p": ()}, qubes: {"a": (label: "red", template: "debian")}"#,
    );
    let found = refused(&[("system.ron", &root), ("q.ron", QUBES)]);
    let place = format!("system.ron:1:{}", root.find("\"a\"").unwrap() + 1);
    let expected =
        format!("qube `a` is defined a second time @ \"a\" | first defined here at {place}");
    assert_eq!(found, [expected]);
}

#[test]
fn an_image_and_a_qube_share_their_names() {
    let found = refused(&[(
        "system.ron",
        &system(r#"qubes: {"debian": (label: "red")}"#),
    )]);
    assert!(
        found[0].starts_with("qube `debian` is defined a second time"),
        "{found:?}"
    );
}

#[test]
fn where_a_file_is_missing_nothing_is_said_about_names_that_it_may_define() {
    let root = system(
        r#"imports: ["gone.ron"], qubes: {"a": (label: "mauve", template: "x", netvm: "y", profiles: ["z"])}"#,
    );
    let found = refused(&[("system.ron", &root)]);
    assert_eq!(found, ["`gone.ron` does not exist @ \"gone.ron\""]);
}

#[test]
fn an_import_that_is_no_text_says_at_which_byte() {
    let mut reader =
        bulkhead_model::source::MemoryReader::new([("system.ron", r#"(imports: ["x.ron"])"#)]);
    reader.insert("x.ron", b"(\xff)".to_vec());
    let found =
        bulkhead_model::load::load(std::path::Path::new("system.ron"), &reader).unwrap_err();
    assert_eq!(
        found.list[0].message,
        "`x.ron` is not UTF-8 text: byte 1 is wrong"
    );
    assert_eq!(found.list.len(), 1);
}
