//! What dom0 does for qubes.

use bulkhead_model::diff::diff;

use crate::{loaded, refused, refused_in};

#[test]
fn a_tool_wins_over_what_is_written_by_hand_and_hands_must_not_differ() {
    let root = ("system.ron", r#"(dom0: (service_user: "ann"))"#);
    let user = |files: &[(&str, &str)]| loaded(files).description.dom0.service_user;
    assert_eq!(user(&[("system.ron", "()")]), None);
    assert_eq!(user(&[root]).as_deref(), Some("ann"));
    let managed = ("system.managed.ron", r#"(dom0: (service_user: "bob"))"#);
    assert_eq!(user(&[root, managed]).as_deref(), Some("bob"));
    let imports = r#"(imports: ["more.ron"], dom0: (service_user: "ann"))"#;
    let more = ("more.ron", r#"(dom0: (service_user: "bob"))"#);
    insta::assert_debug_snapshot!(refused(&[("system.ron", imports), more]), @r#"
    [
        "`dom0.service_user` is written in two files @ \"bob\" | first written here at system.ron:1:46 ? leave one of them",
    ]
    "#);
}

#[test]
fn root_and_what_is_no_name_are_refused() {
    let user = |name: &str| format!("(dom0: (service_user: \"{name}\"))");
    insta::assert_debug_snapshot!(refused_in(&user("root")), @r#"
    [
        "root cannot be the user of dom0's services @ \"root\" ? name an ordinary user here, and write `user=root` into the rules that need root",
    ]
    "#);
    for bad in ["", "-x", ".x", "a b", "a:b", "é", &"u".repeat(33)] {
        let found = refused_in(&user(bad));
        assert!(found[0].contains("cannot be the user"), "{found:?}");
    }
    for good in ["_x", "ann", "Ann.B-1", &"u".repeat(32)] {
        loaded(&[("system.ron", &user(good))]);
    }
}

#[test]
fn a_change_is_a_difference() {
    let of = |text: &str| loaded(&[("system.ron", text)]).description;
    let (none, ann) = (of("()"), of(r#"(dom0: (service_user: "ann"))"#));
    insta::assert_snapshot!(diff(&none, &ann), @r"
    ~ dom0
        service_user: none -> ann
    ");
    assert!(diff(&ann, &ann).is_empty());
    let json = serde_json::to_string(&none).unwrap();
    assert!(
        !json.contains("dom0"),
        "generations from before have no such key"
    );
}
