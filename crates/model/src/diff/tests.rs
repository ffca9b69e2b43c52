use proptest::prelude::*;

use super::*;
use crate::qube::{Mib, PolicyText, QubeKind, Volume};

fn name(text: &str) -> QubeName {
    QubeName::new(text).unwrap()
}

fn desktop() -> Description {
    let mut description = Description::default();
    for qube in ["sys-net", "work", "vault"] {
        let qube = Qube::new(name(qube), QubeKind::App, "blue");
        description.qubes.insert(qube.name.clone(), qube.into());
    }
    description.policy.push(policy(
        "a.policy",
        1,
        "# head\nx.A * work vault ask\nx.B * * * deny\n",
    ));
    description
}

fn policy(origin: &str, first_line: u32, text: &str) -> PolicyText {
    PolicyText {
        origin: origin.into(),
        first_line,
        text: text.into(),
    }
}

#[test]
fn the_same_description_has_no_diff() {
    let found = diff(&desktop(), &desktop());
    assert!(found.is_empty());
    assert_eq!(found.to_string(), "");
}

#[test]
fn shows_what_came_went_and_changed() {
    let old = desktop();
    let mut new = desktop();
    new.qubes.remove("vault");
    let personal = Qube::new(name("personal"), QubeKind::App, "yellow");
    new.qubes.insert(personal.name.clone(), personal.into());
    let work = new.qube_mut("work").unwrap();
    work.netvm = Some(name("sys-net"));
    work.memory.maximum = Mib(8192);
    work.tags.insert("office".into());
    work.volumes
        .insert("private".into(), Volume::private_default());
    new.policy = vec![policy(
        "b.policy",
        7,
        "x.A  *  work\tvault allow\nx.B * * * deny",
    )];
    new.labels.insert(
        "pink".into(),
        Label {
            name: "pink".into(),
            color: "0xff00ff".into(),
            icon: "appvm-pink".into(),
        },
    );
    insta::assert_snapshot!(diff(&old, &new), @r"
    + label pink
    + qube personal
    - qube vault
    ~ qube work
        netvm: none -> sys-net
        memory.maximum: 4000 MiB -> 8 GiB
        volumes.private.revisions_to_keep: none -> 1
        volumes.private.size: none -> 2 GiB
        tags: [] -> [office]
    - policy x.A * work vault ask  (a.policy:2)
    + policy x.A * work vault allow  (b.policy:7)
    ");
}

#[test]
fn expectations_are_compared_as_rules_are() {
    let mut old = desktop();
    old.policy_tests = vec![policy("a.expect", 1, "# calls\nwork -> vault x.A is ask\n")];
    let mut new = desktop();
    new.policy_tests = vec![policy(
        "b.expect",
        4,
        "work ->  vault x.A is ask\nwork -> dom0 x.A is deny",
    )];
    insta::assert_snapshot!(
        diff(&old, &new),
        @"+ policy test work -> dom0 x.A is deny  (b.expect:5)"
    );
}

#[test]
fn policy_that_only_moved_to_another_file_or_is_spaced_otherwise_is_the_same() {
    let mut new = desktop();
    new.policy = vec![
        policy("b.policy", 1, "x.A * work   vault ask"),
        policy("c.policy", 9, "# other words\n\nx.B * * * deny"),
    ];
    assert!(diff(&desktop(), &new).is_empty());
}

#[test]
fn the_order_of_rules_is_part_of_the_meaning() {
    let mut new = desktop();
    new.policy = vec![policy(
        "a.policy",
        1,
        "x.B * * * deny\nx.A * work vault ask",
    )];
    assert_eq!(diff(&desktop(), &new).policy.len(), 2);
}

#[test]
fn json_names_the_change_and_survives_the_way_back() {
    let mut new = desktop();
    new.qube_mut("work").unwrap().vcpus = 4;
    let found = diff(&desktop(), &new);
    let json = serde_json::to_string(&found).unwrap();
    insta::assert_snapshot!(json, @r#"{"labels":[],"templates":[],"qubes":[{"change":"changed","name":"work","properties":[{"property":"vcpus","old":2,"new":4}]}],"policy":[]}"#);
    assert_eq!(
        serde_json::from_str::<DescriptionDiff>(&json).unwrap(),
        found
    );
}

#[test]
fn a_template_that_comes_from_elsewhere_is_changed() {
    let template = |source| Template {
        name: name("debian"),
        source,
        label: "black".into(),
    };
    let (mut old, mut new) = (desktop(), desktop());
    old.templates
        .insert(name("debian"), template(TemplateSource::Host));
    let source = TemplateSource::Debian {
        suite: "trixie".into(),
        packages: vec!["git".into()],
    };
    new.templates.insert(name("debian"), template(source));
    insta::assert_snapshot!(diff(&old, &new), @r"
    ~ template debian
        source: Host -> Debian(trixie: git)
    ");
}

proptest! {
    /// Read backwards, a diff says the opposite; and it is empty exactly for equal qubes.
    #[test]
    fn a_diff_is_symmetric_and_empty_only_for_equals(
        a in proptest::collection::btree_map("[a-d]", 1_u32..4, 0..4),
        b in proptest::collection::btree_map("[a-d]", 1_u32..4, 0..4),
    ) {
        let build = |qubes: &BTreeMap<String, u32>| {
            let mut description = Description::default();
            for (text, vcpus) in qubes {
                let mut qube = Qube::new(name(text), QubeKind::App, "red");
                qube.vcpus = *vcpus;
                description.qubes.insert(qube.name.clone(), qube.into());
            }
            description
        };
        let (old, new) = (build(&a), build(&b));
        let (there, back) = (diff(&old, &new), diff(&new, &old));
        prop_assert_eq!(there.is_empty(), a == b);
        prop_assert_eq!(there.qubes.len(), back.qubes.len());
        for (x, y) in there.qubes.iter().zip(&back.qubes) {
            prop_assert_eq!(x.name(), y.name());
            match (x, y) {
                (EntryDiff::Changed { properties: x, .. }, EntryDiff::Changed { properties: y, .. }) => {
                    for (x, y) in x.iter().zip(y) {
                        prop_assert_eq!((&x.old, &x.new), (&y.new, &y.old));
                    }
                }
                (EntryDiff::Added { .. }, EntryDiff::Removed { .. })
                | (EntryDiff::Removed { .. }, EntryDiff::Added { .. }) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
