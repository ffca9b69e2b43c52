use std::path::Path;

use bulkhead_model::diagnostic::Color;
use bulkhead_model::qube::PolicyFolder;
use bulkhead_model::source::MemoryReader;

use super::*;
use crate::folders::MemoryFolders;
use crate::load::load;
use crate::testing;

fn texts(text: &str) -> Vec<PolicyText> {
    vec![PolicyText {
        origin: "a.expect".to_owned(),
        first_line: 1,
        text: text.to_owned(),
    }]
}

#[test]
fn every_form_is_read_and_shown_as_it_was_written() {
    let lines = [
        "work -> vault qubes.Filecopy is ask",
        "work -> @default qubes.GetDate is allow to sys-net",
        "work -> @dispvm:fresh qubes.OpenURL+x is allow",
        "@adminvm -> dom0 a.B+ is deny",
    ];
    let text = format!("# a comment\n\n  {}\r\n", lines.join("\n\t"));
    let read = expectations(&texts(&text)).unwrap();
    let shown: Vec<String> = read.iter().map(ToString::to_string).collect();
    assert_eq!(shown, lines);
    assert_eq!(read[1].origin.to_string(), "a.expect:4");
}

#[test]
fn every_error_says_what_is_expected() {
    let text = "work vault a.B is ask\nwork -> vault a.B ask\nwork -> vault a.B is aks\n\
                work -> vault a.B is ask now\nwork ->\nwork -> @tag:x a.B is ask\n\
                work -> vault a/B is ask\nwork -> vault a.B is allow to\nwork -> vault a.B is";
    let errors = expectations(&texts(text)).unwrap_err();
    let shown: Vec<String> = (errors.iter())
        .map(|error| format!("{error}; {}", error.remedy.split(',').next().unwrap()))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    a.expect:1:6: `->` is expected behind the source; write `SOURCE -> TARGET SERVICE is ask`
    a.expect:2:19: `is` is expected behind the service; write `SOURCE -> TARGET SERVICE is ask`
    a.expect:3:22: `aks` is no decision; did you mean `ask`?
    a.expect:4:26: `now` is too much; write `SOURCE -> TARGET SERVICE is ask`
    a.expect:5:8: the line ends too early; write `SOURCE -> TARGET SERVICE is ask`
    a.expect:6:9: no call can ask for `@tag:x`; use a qube's name
    a.expect:7:15: service `a/B` contains `/`; use letters
    a.expect:8:28: `to` is too much; write `SOURCE -> TARGET SERVICE is ask`
    a.expect:9:21: the line ends too early; write `SOURCE -> TARGET SERVICE is ask`
    ");
}

const RULES: &str = "\
a.B * work vault ask
a.B * mail vault deny
a.C * @anyvm @default allow target=mail
a.C +x work @dispvm allow
";

#[test]
fn what_is_met_is_told_from_what_is_not() {
    let (_, engine, view) = testing::desktop(RULES);
    let text = "work -> vault a.B is ask\nwork -> vault a.B is deny\nmail -> vault a.B is deny\n\
                work -> @default a.C is allow\nwork -> @default a.C is allow to mail\n\
                work -> @default a.C is allow to vault\nwork -> ghost a.C is allow to mail\n\
                work -> @dispvm a.C+x is allow to @dispvm:fresh\nvault -> work a.B is allow";
    let read = expectations(&texts(text)).unwrap();
    let shown: Vec<String> = (read.iter())
        .map(|expectation| {
            let checked = expectation.check(&engine, &view);
            let mark = if checked.is_met() { "ok " } else { "BAD" };
            format!("{mark} {expectation}: {}; {}", checked.got, checked.by())
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    ok  work -> vault a.B is ask: ask: vault; by a.policy:1: a.B * work vault ask
    BAD work -> vault a.B is deny: ask: vault; by a.policy:1: a.B * work vault ask
    ok  mail -> vault a.B is deny: deny: a rule denies it; by a.policy:2: a.B * mail vault deny
    ok  work -> @default a.C is allow: allow to mail; by a.policy:3: a.C * @anyvm @default allow target=mail
    ok  work -> @default a.C is allow to mail: allow to mail; by a.policy:3: a.C * @anyvm @default allow target=mail
    BAD work -> @default a.C is allow to vault: allow to mail; by a.policy:3: a.C * @anyvm @default allow target=mail
    ok  work -> ghost a.C is allow to mail: allow to mail; by a.policy:3: a.C * @anyvm @default allow target=mail
    ok  work -> @dispvm a.C+x is allow to @dispvm:fresh: allow to @dispvm:fresh; by a.policy:4: a.C +x work @dispvm allow
    BAD vault -> work a.B is allow: deny: no rule matches; no rule spoke
    ");
}

#[test]
fn names_of_nobody_are_errors_with_a_suggestion() {
    let (_, _, view) = testing::desktop(RULES);
    let read = expectations(&texts(
        "wrok -> vualt a.B is allow to @dispvm:frsh\nx -> dom0 a.B is ask",
    ));
    let errors: Vec<String> = (read.unwrap().iter())
        .flat_map(|expectation| expectation.unknown(&view))
        .map(|error| format!("{error}; {}", error.remedy))
        .collect();
    insta::assert_snapshot!(errors.join("\n"), @r"
    a.expect:1:1: there is no qube `wrok`; did you mean `work`?
    a.expect:1:9: there is no qube `vualt`; did you mean `vault`?
    a.expect:1:31: there is no qube `frsh`; did you mean `fresh`?
    a.expect:2:1: there is no qube `x`; name a declared qube
    ");
}

fn told(rules: &str, more: &str, file: &str) -> String {
    let mut reader: MemoryReader = testing::reader(rules, more);
    reader.insert("a.expect", file);
    match load(Path::new("system.ron"), &reader) {
        Ok(_) => "in order".to_owned(),
        Err(found) => found.render(Color::Never),
    }
}

#[test]
fn a_description_whose_expectations_fail_is_refused_with_place_and_rule() {
    let more = r#"policy_tests: ["work -> vault a.B is allow", File("*.expect")],"#;
    let file =
        "# for us\nmail -> vault a.B is deny\nwork -> vualt a.B is ask\nwork -> vault a.B deny\n";
    insta::assert_snapshot!(told(RULES, more, file), @r"
    error: `is` is expected behind the service
     --> a.expect:4:19
      |
    4 | work -> vault a.B deny
      |                   ^^^^
      |
      = help: write `SOURCE -> TARGET SERVICE is ask`, or `is deny`, `is allow`, `is allow to PLACE`; the service may have an argument: `SERVICE+ARGUMENT`

    1 error
    ");
    let file = file.replace("a.B deny", "a.B is ask");
    insta::assert_snapshot!(told(RULES, more, &file), @r#"
    error: expected allow, got ask: vault
      --> system.ron:11:21
       |
    11 |     policy_tests: ["work -> vault a.B is allow", File("*.expect")],
       |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = note: by a.policy:1: a.B * work vault ask

    error: there is no qube `vualt`
     --> a.expect:3:9
      |
    3 | work -> vualt a.B is ask
      |         ^^^^^
      |
      = help: did you mean `vault`?

    2 errors
    "#);
    let (file, more) = (
        file.replace("vualt", "vault"),
        more.replace("is allow", "is ask"),
    );
    assert_eq!(told(RULES, &more, &file), "in order");
}

#[test]
fn what_a_folder_decides_now_counts_for_a_description_that_is_kept() {
    let more = r#"policy_tests: ["work -> vault live.B is ask"],"#;
    let (loaded, _) = testing::loaded(RULES, &more.replace("is ask", "is deny"));
    let mut kept = loaded.description;
    kept.policy_tests[0].text = "work -> vault live.B is ask".to_owned();
    kept.policy_folders.push(PolicyFolder {
        origin: "system.ron".into(),
        line: 1,
        after: 0,
        folders: vec!["/policy.d".into()],
        legacy: "/compat".into(),
        shown_from: "/".into(),
    });
    let unmet = |rule: &str| {
        let mut folders = MemoryFolders::default();
        assert!(folders.add_folder("/compat"));
        assert!(folders.add("/policy.d/30.policy", rule.as_bytes()));
        !crate::unmet_expectations(&kept, &folders).is_empty()
    };
    assert!(!unmet("live.B * work vault ask"));
    assert!(unmet("live.B * work vault deny"));
    // No fault of the description: it can be gone back to.
    assert!(!unmet("live.B * work vault"));
}

#[test]
fn a_description_that_is_kept_is_checked_again() {
    let more = r#"policy_tests: ["work -> vault a.B is ask"],"#;
    let (loaded, _) = testing::loaded(RULES, more);
    let mut kept = loaded.description;
    assert!(crate::unmet_expectations(&kept, &MemoryFolders::default()).is_empty());
    kept.policy[0].text = RULES.replace("vault ask", "vault deny");
    let found = crate::unmet_expectations(&kept, &MemoryFolders::default());
    insta::assert_snapshot!(found.render(Color::Never), @r"
    error: expected ask, got deny: a rule denies it
      --> system.ron:11:1
       |
    11 | work -> vault a.B is ask
       | ^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = note: by a.policy:1: a.B * work vault deny

    1 error
    ");
}

#[test]
fn there_is_a_limit() {
    let line = "a -> b c is ask\n";
    let most = line.repeat(EXPECTATIONS_MAX);
    assert_eq!(expectations(&texts(&most)).unwrap().len(), EXPECTATIONS_MAX);
    let errors = expectations(&texts(&(most + line))).unwrap_err();
    assert_eq!(errors[0].message, "there are more than 100000 expectations");
}
