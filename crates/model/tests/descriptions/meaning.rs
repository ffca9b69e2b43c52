//! What does not change the meaning of a description: its layout, its order, its files.

use bulkhead_model::diff::diff;
use bulkhead_model::format::format;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::Description;
use proptest::prelude::*;

use crate::{loaded, system};

/// Options of a qube of kind App, in any order, none twice.
fn options() -> impl Strategy<Value = Vec<String>> {
    let text = "[a-z]{1,6}";
    let one = |strategy: BoxedStrategy<String>| prop::option::of(strategy);
    (
        one((1u32..=128).prop_map(|n| format!("vcpus: {n}")).boxed()),
        one((1u32..=65_535)
            .prop_map(|n| format!("cpu_weight: {n}"))
            .boxed()),
        one((1u32..400)
            .prop_map(|n| format!("memory: (initial: {n})"))
            .boxed()),
        one(any::<bool>()
            .prop_map(|on| format!("autostart: {on}"))
            .boxed()),
        one(text
            .prop_map(|t| format!("kernelopts: \"{t} // no comment\""))
            .boxed()),
        one(prop::collection::btree_set(text, 0..4)
            .prop_map(|tags| {
                format!("tags: {tags:?}")
                    .replace('{', "[")
                    .replace('}', "]")
            })
            .boxed()),
        one(prop::collection::btree_map(text, any::<bool>(), 0..4)
            .prop_map(|map| format!("services: {map:?}"))
            .boxed()),
        one(prop::collection::btree_map(text, text, 0..4)
            .prop_map(|map| format!("features: {map:?}"))
            .boxed()),
        one(prop::sample::select(vec!["Never", "Always", "OnFailure"])
            .prop_map(|rule| format!("restart: {rule}"))
            .boxed()),
    )
        .prop_map(|(a, b, c, d, e, f, g, h, i)| {
            [a, b, c, d, e, f, g, h, i].into_iter().flatten().collect()
        })
}

/// Qubes by name, each with its options; all are complete.
fn qubes() -> impl Strategy<Value = Vec<(String, Vec<String>)>> {
    prop::collection::btree_map("q[a-z]{1,6}", options(), 1..8).prop_map(|qubes| {
        let whole = |mut options: Vec<String>| {
            options.push("label: \"red\"".to_owned());
            options.push("template: \"debian\"".to_owned());
            options
        };
        qubes
            .into_iter()
            .map(|(name, options)| (name, whole(options)))
            .collect()
    })
}

fn written(qubes: &[(String, Vec<String>)]) -> String {
    let entries: Vec<String> = (qubes.iter())
        .map(|(name, options)| format!("\"{name}\": ({})", options.join(", ")))
        .collect();
    format!("qubes: {{{}}}", entries.join(",\n"))
}

fn description(text: &str) -> Description {
    loaded(&[("system.ron", text)]).description
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn formatting_keeps_the_meaning(qubes in qubes()) {
        let text = system(&written(&qubes));
        let formatted = format("system.ron", &text).unwrap();
        prop_assert_eq!(&description(&formatted), &description(&text));
        prop_assert_eq!(format("system.ron", &formatted).unwrap(), formatted);
    }

    #[test]
    fn the_order_of_qubes_and_options_means_nothing(qubes in qubes()) {
        let mut turned = qubes.clone();
        turned.reverse();
        turned.iter_mut().for_each(|(_, options)| options.reverse());
        let (a, b) = (system(&written(&qubes)), system(&written(&turned)));
        prop_assert_eq!(description(&a), description(&b));
    }

    #[test]
    fn one_file_or_a_file_for_each_qube_is_the_same(qubes in qubes()) {
        let whole = description(&system(&written(&qubes)));
        let mut files = vec![("system.ron".to_owned(), system("imports: [\"q/*.ron\"]"))];
        for (name, options) in &qubes {
            let qube = written(&[(name.clone(), options.clone())]);
            files.push((format!("q/{name}.ron"), format!("({qube})")));
        }
        let files: Vec<_> = files.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        prop_assert_eq!(loaded(&files).description, whole);
    }

    #[test]
    fn a_profile_of_its_own_is_the_same_as_writing_it_in_the_qube(qubes in qubes()) {
        let whole = description(&system(&written(&qubes)));
        let (mut profiles, mut users) = (Vec::new(), Vec::new());
        for (name, options) in &qubes {
            profiles.push(format!("\"{name}\": ({})", options.join(", ")));
            users.push((name.clone(), vec![format!("profiles: [\"{name}\"]")]));
        }
        let rest = format!("profiles: {{{}}}, {}", profiles.join(","), written(&users));
        prop_assert_eq!(description(&system(&rest)), whole);
    }

    #[test]
    fn what_is_stored_is_what_was_described(qubes in qubes()) {
        let described = description(&system(&written(&qubes)));
        let stored = serde_json::to_string(&described).unwrap();
        let back: Description = serde_json::from_str(&stored).unwrap();
        prop_assert!(diff(&described, &back).is_empty());
        prop_assert_eq!(back, described);
    }

    #[test]
    fn names_are_the_ones_that_fit_the_rule_and_stay_what_they_are(text in "[a-zA-Z0-9_.+é-]{0,33}") {
        let fits = text.len() <= 31
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
            && !text.ends_with("-dm")
            && !["none", "default", "dom0"].contains(&text.as_str());
        match QubeName::new(text.clone()) {
            Ok(name) => {
                prop_assert!(fits, "{}", text);
                prop_assert_eq!(name.to_string(), text.clone());
                let json = serde_json::to_string(&name).unwrap();
                prop_assert_eq!(serde_json::from_str::<QubeName>(&json).unwrap(), name);
            }
            Err(_) => {
                prop_assert!(!fits, "{}", text);
                let json = serde_json::to_string(&text).unwrap();
                prop_assert!(serde_json::from_str::<QubeName>(&json).is_err());
            }
        }
    }
}

#[test]
fn a_stored_description_with_a_name_that_cannot_be_is_refused() {
    let described = description(&system(
        r#"qubes: {"a": (label: "red", template: "debian")}"#,
    ));
    let stored = serde_json::to_string(&described).unwrap();
    let forged = stored.replace("\"a\"", "\"../a\"");
    assert_ne!(forged, stored);
    assert!(serde_json::from_str::<Description>(&forged).is_err());
}
