//! What cannot be read as a description: where it is shown, and what would be right.

use crate::{refused_in, system};

#[track_caller]
fn templates(text: &str) -> Vec<String> {
    refused_in(&format!("(templates: {{\"t\": {text}}})"))
}

#[test]
fn a_template_needs_a_source_of_the_right_form() {
    let help = "`Host`, `Debian(suite: \"…\")`, `Folder(\"…\")` or `Image(\"…\")` is expected";
    assert_eq!(
        templates("()"),
        [
            "template `t` has no source @ \"t\" ? add `source: Host` or `source: Debian(suite: \"trixie\")`"
        ]
    );
    for (text, message) in [
        ("Host()", "`Host` is written otherwise"),
        ("Folder", "`Folder` is written otherwise"),
        ("Debian", "`Debian` is written otherwise"),
        (
            "Debain(suite: \"x\")",
            "`Debain` is no template source, did you mean `Debian`?",
        ),
        ("Zip(\"x\")", "`Zip` is no template source"),
    ] {
        assert_eq!(
            templates(&format!("(source: {text})")),
            [format!("{message} @ {text} ? {help}")]
        );
    }
}

#[test]
fn a_folder_holds_one_path_and_debian_names_a_suite() {
    assert_eq!(
        templates("(source: Folder(\"a\", \"b\"))"),
        ["`Folder` holds one path @ Folder(\"a\", \"b\")"]
    );
    assert_eq!(
        templates("(source: Debian(packages: [\"git\"]))"),
        ["`Debian` names no suite @ Debian(packages: [\"git\"]) ? add `suite: \"trixie\"`"]
    );
}

#[test]
fn a_policy_file_is_one_path() {
    let found = refused_in("(policy: [File(\"a\", \"b\"), File(1)])");
    assert_eq!(
        found[0],
        "`File` holds one path or pattern @ File(\"a\", \"b\")"
    );
    assert!(
        found[1].starts_with("expected a text, found a number @ 1"),
        "{found:?}"
    );
}

#[test]
fn a_colour_is_three_bytes() {
    let help = "write red, green and blue as `0xRRGGBB`, for example 0xcc0000";
    for color in [
        "\"0xcc000\"",
        "\"0xcc00000\"",
        "0x1000000",
        "-1",
        "\"0xgg0000\"",
        "\"cc0000\"",
    ] {
        let found = refused_in(&format!("(labels: {{\"pink\": (color: {color})}})"));
        assert_eq!(found, [format!("this is not a colour @ {color} ? {help}")]);
    }
}

#[test]
fn names_of_labels_and_profiles_are_words_one_byte_short_of_too_long() {
    let with =
        |name: &str| format!("(labels: {{\"{name}\": (color: 0)}}, profiles: {{\"{name}\": ()}})");
    crate::loaded(&[("system.ron", &with(&"w".repeat(63)))]);
    for bad in [&"w".repeat(64), "", "-w", ".w", "a b", "é"] {
        let found = refused_in(&with(bad));
        assert!(found[0].starts_with(&format!("`{bad}` is no name of a label @ \"{bad}\"")));
        assert!(found[1].starts_with(&format!("`{bad}` is no name of a profile @ \"{bad}\"")));
    }
}

#[test]
fn every_reserved_name_is_refused_where_it_stands() {
    for name in bulkhead_model::name::RESERVED_QUBE_NAMES {
        let text = format!("(qubes: {{\"{name}\": (label: \"red\")}})");
        let expected = format!("qube name `{name}` is reserved @ \"{name}\"");
        assert_eq!(refused_in(&text), [expected]);
        let text = format!("(qubes: {{\"a\": (label: \"red\", netvm: \"{name}\")}})");
        assert_eq!(refused_in(&text).len(), 1, "{name} as a reference");
    }
}

#[test]
fn an_empty_file_is_told_what_an_empty_description_is() {
    for text in ["", "  \n", "// nothing\n"] {
        let found = refused_in(text);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("the file is empty"), "{found:?}");
        assert!(
            found[0].ends_with("? an empty description is `()`"),
            "{found:?}"
        );
    }
}

#[test]
fn attributes_of_rust_are_not_those_of_ron() {
    let found = refused_in("#![allow(x)]\n()");
    assert!(
        found[0].starts_with("this attribute is not RON's"),
        "{found:?}"
    );
    assert!(
        found[0].contains("`#![enable(implicit_some)]` is one"),
        "{found:?}"
    );
}

#[test]
fn some_without_a_bracket_is_explained() {
    let found = refused_in(r#"(qubes: {"a": (label: "red", netvm: Some "b")})"#);
    assert!(
        found[0].starts_with("`Some` is followed by a value in `()`"),
        "{found:?}"
    );
}

#[test]
fn a_word_where_a_text_belongs_shows_the_text() {
    let found = refused_in("(qubes: {\"a\": (label: red)})");
    assert_eq!(
        found,
        ["expected a text, found the word `red` @ red ? write it as a text: \"red\""]
    );
}

#[test]
fn a_text_where_a_word_belongs_shows_the_word() {
    let found = refused_in("(qubes: {\"a\": (restart: \"Always\")})");
    assert_eq!(
        found,
        ["expected a word, found a text @ \"Always\" ? write it without quotes: Always"]
    );
}

#[test]
fn a_word_that_is_not_known_shows_all_that_are() {
    let found = refused_in("(qubes: {\"a\": (virt_mode: Pvm)})");
    assert!(
        found[0].starts_with("`Pvm` is not known here, did you mean `"),
        "{found:?}"
    );
    assert!(found[0].contains("@ Pvm ? one of "), "{found:?}");
    for mode in ["Pvh", "Hvm", "Pv"] {
        assert!(found[0].contains(mode), "{found:?}");
    }
}

#[test]
fn options_in_the_wrong_bracket_show_the_right_one() {
    let found = refused_in("(qubes: {\"a\": {\"label\": \"red\"}})");
    assert!(
        found[0].ends_with("? options are written `(name: value)`, without quotes around the name")
    );
    let found = refused_in("(qubes: (a: (label: \"red\")))");
    assert!(
        found[0].ends_with("? a map is written `{\"name\": value}`"),
        "{found:?}"
    );
}

#[test]
fn an_option_written_twice_points_at_the_first() {
    let found = refused_in("(qubes: {}, qubes: {})");
    assert_eq!(
        found,
        ["`qubes` is written twice @ qubes | first written here at system.ron:1:9"]
    );
}

#[test]
fn an_unknown_label_of_a_template_is_shown_with_the_nearest() {
    let found = refused_in("(templates: {\"t\": (source: Host, label: \"gren\")})");
    assert_eq!(
        found,
        ["template `t` has label `gren`, which does not exist, did you mean `green`? @ \"gren\""]
    );
}

#[test]
fn a_profile_that_lists_profiles_is_told_where_they_belong() {
    for (text, owner) in [
        ("(profiles: {\"p\": (profiles: [])})", "a profile"),
        ("(defaults: (profiles: []))", "`defaults`"),
    ] {
        let expected = format!(
            "{owner} lists no profiles @ [] ? list them in the qubes, in the order in which they count"
        );
        assert_eq!(refused_in(text), [expected]);
    }
}

#[test]
fn kinds_that_no_qube_starts_from_are_told_what_to_do() {
    let rest = r#"qubes: {
        "s": (kind: Standalone, label: "red", template: "debian"),
        "d": (kind: DisposableTemplate, label: "red", template: "debian"),
        "n": (kind: NamedDisposable, label: "red", template: "d"),
        "a": (label: "red", template: "s"),
        "b": (label: "red", template: "n"),
        "c": (kind: NamedDisposable, label: "red", template: "n"),
    }"#;
    let found = refused_in(&system(rest));
    let starts = [
        "`s` cannot be the template of `a`: it is a standalone qube @ \"s\" | `s` is described here",
        "`n` cannot be the template of `b`: it is a named disposable @ \"n\" | `n` is described here",
        "`n` cannot be the template of `c`: it is a named disposable @ \"n\" | `n` is described here",
    ];
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}");
        assert!(found.contains(" ? "), "{found}");
    }
    assert_eq!(found.len(), starts.len());
}

#[test]
fn each_of_many_mistakes_is_shown_in_its_line() {
    let mistakes = [
        ("label: \"gren\"", "\"gren\""),
        ("label: \"red\", vcpus: 0", "0"),
        ("label: \"red\", cpu_weight: 0", "0"),
        ("label: \"red\", cpu_weight: 65536", "65536"),
        ("label: \"red\", memory: (initial: \"1 KB\")", "\"1 KB\""),
        ("label: \"red\", netvm: \"x\"", "\"x\""),
        ("label: \"red\", autostrat: true", "autostrat"),
        ("label: \"red\", template: \"a0\"", "\"a0\""),
        ("label: \"red\", shutdown_timeout: 4000", "4000"),
    ];
    let lines: Vec<String> = (mistakes.iter().enumerate())
        .map(|(n, (wrong, _))| match wrong.contains("template") {
            true => format!("\"a{n}\": ({wrong}),"),
            false => format!("\"a{n}\": ({wrong}, template: \"debian\"),"),
        })
        .collect();
    let text = system(&format!("qubes: {{\n{}\n}}", lines.join("\n")));
    let found = crate::try_load(&[("system.ron", &text)]).unwrap_err();
    let places: Vec<_> = found
        .list
        .iter()
        .map(|error| error.place.as_ref().unwrap())
        .collect();
    assert_eq!(places.len(), mistakes.len(), "{found:?}");
    for (n, (place, (_, what))) in places.iter().zip(mistakes).enumerate() {
        assert_eq!(place.line as usize, n + 2, "{place}");
        assert_eq!(&text[place.span.0 as usize..place.span.1 as usize], what);
    }
}
