use std::collections::BTreeSet;

use super::*;
use crate::property::QubeProperty;

#[test]
fn every_option_says_everything_and_stands_once() {
    let options = options();
    let paths: BTreeSet<_> = options.iter().map(|option| option.path.as_str()).collect();
    assert_eq!(paths.len(), options.len());
    for option in &options {
        for said in [
            &option.type_name,
            &option.default,
            &option.meaning,
            &option.since,
        ] {
            assert!(!said.trim().is_empty(), "{option:?}");
        }
        assert!(option.meaning.ends_with('.'), "{option:?}");
    }
}

#[test]
fn every_property_of_a_qube_is_an_option() {
    let paths: BTreeSet<_> = options().into_iter().map(|option| option.path).collect();
    for property in QubeProperty::ALL {
        assert!(
            paths.contains(&format!("qubes.<name>.{property}")),
            "{property}"
        );
    }
    for path in [
        "qubes.<name>.memory.initial",
        "qubes.<name>.volumes.<name>.size",
        "assertions[].must.netvm",
    ] {
        assert!(paths.contains(path), "{path}");
    }
}

#[test]
fn json_has_a_stable_form() {
    let option = options()
        .into_iter()
        .find(|option| option.path == "qubes.<name>.vcpus")
        .unwrap();
    insta::assert_snapshot!(serde_json::to_string(&option).unwrap(), @r#"{"path":"qubes.<name>.vcpus","type":"number from 1 to 128","default":"2","meaning":"Virtual processors. Can change while the qube runs, up to `maxvcpus`.","since":"0.1"}"#);
}
