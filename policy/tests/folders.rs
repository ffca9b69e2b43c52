//! Files in folders: which are read, in which order, what directives insert, and what is wrong.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;

use bulkhead_policy::{
    DiskFolders, Engine, ErrorClass, FILES_MAX, INCLUDE_DEPTH_MAX, Layout, MemoryFolders,
    PolicyError, PolicyErrorKind, RULES_MAX, TEXT_BYTES_MAX,
};

fn folders(files: &[(&str, &str)]) -> MemoryFolders {
    let mut folders = MemoryFolders::default();
    for folder in ["run", "etc", "compat"] {
        assert!(folders.add_folder(Path::new("/p").join(folder)));
    }
    for (path, text) in files {
        assert!(folders.add(Path::new("/p").join(path), text.as_bytes()));
    }
    folders
}

fn read(files: &[(&str, &str)]) -> Result<Engine, Vec<PolicyError>> {
    Engine::read(&folders(files), &Layout::under(Path::new("/p")))
}

/// Place and rule, one a line.
#[track_caller]
fn listed(files: &[(&str, &str)]) -> String {
    let engine = read(files).unwrap();
    let line = |rule: &bulkhead_policy::Rule| format!("{}: {rule}\n", rule.origin);
    engine.rules().iter().map(line).collect()
}

#[track_caller]
fn errors(files: &[(&str, &str)]) -> String {
    let errors = read(files).unwrap_err();
    let line = |error: &PolicyError| format!("{error}; {}\n", error.remedy());
    errors.iter().map(line).collect()
}

#[test]
fn files_are_read_by_name_and_run_hides_etc() {
    let files = [
        ("etc/20-b.policy", "s.A * b b deny"),
        ("etc/100-c.policy", "s.A * c c deny"),
        ("etc/30-a.policy", "s.A * hidden hidden deny"),
        ("run/30-a.policy", "s.A * a a deny"),
        ("etc/.x.policy", "nonsense"),
        ("etc/x.policy.rpmnew", "nonsense"),
        ("etc/sub/y.policy", "nonsense"),
        ("etc/d.policy/z", "nonsense"),
    ];
    insta::assert_snapshot!(listed(&files), @r"
    etc/100-c.policy:1: s.A * c c deny
    etc/20-b.policy:1: s.A * b b deny
    run/30-a.policy:1: s.A * a a deny
    ");
}

#[test]
fn directives_insert_where_they_stand() {
    let files = [
        (
            "etc/10.policy",
            "s.1 * a b deny\n!include include/more\n!include-dir include/dir\n\
             !include-service s.4 +x include/old\ns.5 * a b deny\n",
        ),
        ("etc/include/more", "s.2 * a b deny\n!include include/deep"),
        ("etc/include/deep", "\ns.2b * a b deny"),
        ("etc/include/dir/b.policy", "s.3b * a b deny"),
        ("etc/include/dir/a.policy", "s.3a * a b deny"),
        ("etc/include/dir/ignored", "nonsense"),
        (
            "etc/include/old",
            "# old\n $anyvm\tb  allow,user=u,target=$dispvm\n$include:include/older\n",
        ),
        ("etc/include/older", "a b ask, default_target=c"),
        ("run/20.policy", "!include include/more"),
        ("run/include/more", "s.6 * a b deny"),
    ];
    insta::assert_snapshot!(listed(&files), @r"
    etc/10.policy:1: s.1 * a b deny
    etc/include/more:1: s.2 * a b deny
    etc/include/deep:2: s.2b * a b deny
    etc/include/dir/a.policy:1: s.3a * a b deny
    etc/include/dir/b.policy:1: s.3b * a b deny
    etc/include/old:2: s.4 +x @anyvm b allow target=@dispvm user=u
    etc/include/older:1: s.4 +x a b ask default_target=c
    etc/10.policy:5: s.5 * a b deny
    run/include/more:1: s.6 * a b deny
    ");
}

#[test]
fn files_for_one_service_are_sorted_and_closed_by_denials() {
    let files = [
        ("etc/50.policy", "!compat-4.0"),
        ("compat/s.B", "a b allow"),
        ("compat/s.A", "a b ask"),
        ("compat/s.A+b", "# only this\na b allow"),
        ("compat/s.A+a", "!include include/x"),
        ("compat/include/x", "a c allow"),
        ("compat/s.C.rpmsave", "nonsense"),
        ("compat/.s.D", "nonsense"),
        ("compat/s.E~", "nonsense"),
    ];
    insta::assert_snapshot!(listed(&files), @r"
    compat/include/x:1: s.A +a a c allow
    compat/s.A+a: s.A +a @anyvm @anyvm deny
    compat/s.A+a: s.A +a @anyvm @adminvm deny
    compat/s.A+b:2: s.A +b a b allow
    compat/s.A+b: s.A +b @anyvm @anyvm deny
    compat/s.A+b: s.A +b @anyvm @adminvm deny
    compat/s.A:1: s.A * a b ask
    compat/s.B:1: s.B * a b allow
    ");
}

#[test]
fn every_error_of_every_file_is_told_in_the_order_of_reading() {
    let files = [
        ("etc/Bad.policy", ""),
        (
            "etc/10.policy",
            "!include nope\n!include a b\n!include-dir nope\n!include-service * +x include/old\n\
             !include include/other\n!compat-4.0 now\n!include 10.policy\n",
        ),
        ("etc/include/other", "nonsense\n"),
        ("etc/20.policy", "!include-service s.A * include/old\n"),
        (
            "etc/include/old",
            "a\n  $anyvm, b nope\n!compat-4.0\n!include\n",
        ),
        (
            "etc/30.policy",
            "s.A * a b deny\n\0!include x\n!include x\0y",
        ),
    ];
    insta::assert_snapshot!(errors(&files).replace('\0', "<NUL>"), @r"
    etc/Bad.policy: the name of the file contains `B`; use lower-case letters, digits, `-`, `.` and `_`, or another suffix
    etc/10.policy:1:1: `etc/nope` is not a file; check the path: it counts from the folder of the policy file
    etc/10.policy:2:1: directive `!include` has 2 words after it; write `!include PATH`, without blanks in it
    etc/10.policy:3:1: `etc/nope` is not a folder; name a folder, or include one file by `!include`
    etc/10.policy:4:20: service `*` cannot be limited to argument `+x`; write `* *`, or name the service
    etc/include/other:1:1: rule has 1 of the five fields it needs; write `SERVICE ARGUMENT SOURCE TARGET ACTION`, with `*` for any argument
    etc/10.policy:6:1: directive `!compat-4.0` has 1 words after it; write `!compat-4.0` alone
    etc/10.policy:7:1: `10.policy` includes itself; remove one of the includes
    etc/include/old:1:1: rule has 1 of the three fields it needs; write `SOURCE TARGET ACTION`
    etc/include/old:2:13: unknown action `nope`; write `allow`, `ask` or `deny`
    etc/include/old:3:1: directive `!compat-4.0` cannot stand in a file for one service; only `!include` of another such file is known there
    etc/include/old:4:1: directive `!include` has 0 words after it; write `!include PATH`, without blanks in it
    etc/30.policy:2:1: rule has 2 of the five fields it needs; write `SERVICE ARGUMENT SOURCE TARGET ACTION`, with `*` for any argument
    etc/30.policy:3:1: the included path contains a NUL character; remove the character
    ");
}

#[test]
fn bytes_that_are_no_text_are_an_error_of_their_line() {
    let mut folders = folders(&[]);
    assert!(folders.add("/p/etc/a.policy", *b"# fine\n# \xff\n"));
    let errors = Engine::read(&folders, &Layout::under(Path::new("/p"))).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "etc/a.policy:2:1: the line is not UTF-8 text"
    );
    assert_eq!(errors[0].kind.class(), ErrorClass::Fault);
}

#[test]
fn folders_that_must_exist_are_missed() {
    let mut folders = MemoryFolders::default();
    assert!(folders.add("/p/etc/a.policy", *b"!compat-4.0"));
    let errors = Engine::read(&folders, &Layout::under(Path::new("/p"))).unwrap_err();
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "run: folder `run` does not exist",
            "etc/a.policy:1:1: folder `compat` does not exist"
        ]
    );
    assert_eq!(errors[0].kind.class(), ErrorClass::Refused);
}

#[test]
fn a_disk_is_read_like_memory() {
    let root = tempfile::tempdir().unwrap();
    for folder in ["run", "etc/include", "compat"] {
        std::fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    std::fs::write(root.path().join("etc/a.policy"), "!include include/b\n").unwrap();
    std::fs::write(root.path().join("etc/include/b"), "s.A * a b deny\n").unwrap();
    let engine = Engine::read(&DiskFolders, &Layout::under(root.path())).unwrap();
    assert_eq!(engine.rules()[0].origin.to_string(), "etc/include/b:1");
}

#[test]
fn a_cycle_through_two_files_is_told_once() {
    let files = [
        ("etc/a.policy", "!include include/b\n!include include/b\n"),
        ("etc/include/b", "!include include/c\n"),
        ("etc/include/c", "!include include/b\n!include include/b\n"),
    ];
    let errors = read(&files).unwrap_err();
    assert_eq!(errors.len(), 4);
    assert_eq!(
        errors[0].kind,
        PolicyErrorKind::IncludesItself("include/b".to_owned())
    );
    assert_eq!(errors[0].origin.to_string(), "etc/include/c:1");
}

fn chain(includes: usize) -> Result<Engine, Vec<PolicyError>> {
    let mut folders = folders(&[("etc/a.policy", "!include include/1")]);
    for number in 1..=includes {
        let text = if number == includes {
            "s.A * a b deny".to_owned()
        } else {
            format!("!include include/{}", number + 1)
        };
        assert!(folders.add(format!("/p/etc/include/{number}"), text.into_bytes()));
    }
    Engine::read(&folders, &Layout::under(Path::new("/p")))
}

#[test]
fn one_include_too_deep_is_refused() {
    assert_eq!(chain(INCLUDE_DEPTH_MAX).unwrap().rules().len(), 1);
    let errors = chain(INCLUDE_DEPTH_MAX + 1).unwrap_err();
    assert!(matches!(errors[0].kind, PolicyErrorKind::TooDeep(_)));
}

#[test]
fn one_rule_too_many_is_refused() {
    let rules = |count: usize| "* * a b deny\n".repeat(count);
    let fits = rules(RULES_MAX);
    assert_eq!(
        read(&[("etc/a.policy", &fits)]).unwrap().rules().len(),
        RULES_MAX
    );
    let errors = read(&[("etc/a.policy", &rules(RULES_MAX + 3))]).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].kind, PolicyErrorKind::TooMuch);
}

#[test]
fn one_byte_too_many_is_refused() {
    let text = |count: usize| format!("#{}", " ".repeat(count - 1));
    let half = text(TEXT_BYTES_MAX / 2);
    assert!(read(&[("etc/a.policy", &half), ("etc/b.policy", &half)]).is_ok());
    let more = text(TEXT_BYTES_MAX / 2 + 1);
    let errors = read(&[("etc/a.policy", &half), ("etc/b.policy", &more)]).unwrap_err();
    assert_eq!(errors[0].kind, PolicyErrorKind::TooMuch);
}

#[test]
fn files_that_include_one_another_twice_end_at_a_limit() {
    let mut folders = folders(&[("etc/a.policy", "!include include/0")]);
    for number in 0..40 {
        let next = format!("!include include/{0}\n!include include/{0}\n", number + 1);
        assert!(folders.add(format!("/p/etc/include/{number}"), next.into_bytes()));
    }
    assert!(folders.add("/p/etc/include/40", *b""));
    let errors = Engine::read(&folders, &Layout::under(Path::new("/p"))).unwrap_err();
    assert_eq!(errors[0].kind, PolicyErrorKind::TooMuch);
    // One less than the limit is fine.
    let mut folders = self::folders(&[("etc/include/x", "")]);
    let mut text = "!include include/x\n".repeat(FILES_MAX - 1);
    assert!(folders.add("/p/etc/a.policy", text.clone().into_bytes()));
    assert!(Engine::read(&folders, &Layout::under(Path::new("/p"))).is_ok());
    text += "!include include/x\n";
    assert!(folders.add("/p/etc/a.policy", text.into_bytes()));
    assert!(Engine::read(&folders, &Layout::under(Path::new("/p"))).is_err());
}
