//! Commands that need no daemon.

use std::path::Path;
use std::process::Output;

use crate::common::{bulkhead, told, with_input};

fn run(folder: &Path, words: &[&str]) -> Output {
    bulkhead(words).current_dir(folder).output().unwrap()
}

fn tell(folder: &Path, words: &[&str]) -> String {
    told(&run(folder, words), Some(folder))
}

#[test]
fn init_writes_what_check_finds_in_order() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(tell(folder.path(), &["init", "new/place"]), @"Wrote `new/place/system.ron`. Edit it, then `bulkhead check new/place/system.ron` and `bulkhead apply`");
    insta::assert_snapshot!(tell(folder.path(), &["check", "new/place"]), @"`new/place/system.ron` is in order: 4 qubes, 5 rules");
    let path = folder.path().join("new/place/system.ron");
    let before = std::fs::read(&path).unwrap();
    insta::assert_snapshot!(tell(folder.path(), &["init", "new/place"]), @r"
    [stderr]
    error: `new/place/system.ron` exists already
    hint: Name another folder, or move that file away first.
    [exit 1]
    ");
    assert_eq!(
        std::fs::read(&path).unwrap(),
        before,
        "nothing is overwritten"
    );
}

#[test]
fn check_shows_every_error_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let system = r#"(
    templates: {"debian": (source: Host)},
    qubes: {
        "work": (label: "blue", template: "debian", netmv: None),
        "vault": (label: "blak", template: "debian"),
    },
)
"#;
    std::fs::write(folder.path().join("system.ron"), system).unwrap();
    insta::assert_snapshot!(tell(folder.path(), &["check", "system.ron"]), @r#"
    [stderr]
    error: unknown field `netmv`, did you mean `netvm`?
     --> system.ron:4:53
      |
    4 |         "work": (label: "blue", template: "debian", netmv: None),
      |                                                     ^^^^^
      |
      = help: known here: kind, profiles, label, template, netvm, provides_network, memory, vcpus, maxvcpus, cpu_weight, autostart, volumes, kernel, kernelopts, virt_mode, devices, features, services, tags, default_dispvm, restart, default_user, audiovm, guivm, management_dispvm, shutdown_timeout, provides_audio, provides_gui, provides_management

    error: qube `vault` has label `blak`, which does not exist, did you mean `black`?
     --> system.ron:5:26
      |
    5 |         "vault": (label: "blak", template: "debian"),
      |                          ^^^^^^

    2 errors
    error: the description `system.ron` has 2 errors
    [exit 1]
    "#);
    let output = run(folder.path(), &["check", "--json", "system.ron"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["diagnostics"]["list"][0]["place"]["line"], 4);
}

#[test]
fn check_reads_the_policy_too() {
    let folder = tempfile::tempdir().unwrap();
    let system = r#"(
    templates: {"debian": (source: Host)},
    qubes: {"work": (label: "blue", template: "debian")},
    policy: [File("30.policy")],
)
"#;
    std::fs::write(folder.path().join("system.ron"), system).unwrap();
    let policy = "# calls\nqubes.Filecopy * work @anyvm alow\nqubes.GetDate\n";
    std::fs::write(folder.path().join("30.policy"), policy).unwrap();
    insta::assert_snapshot!(tell(folder.path(), &["check"  , "."]), @r"
    [stderr]
    error: unknown action `alow`
     --> 30.policy:2:30
      |
    2 | qubes.Filecopy * work @anyvm alow
      |                              ^^^^
      |
      = help: did you mean `allow`?

    error: rule has 1 of the five fields it needs
     --> 30.policy:3:1
      |
    3 | qubes.GetDate
      | ^^^^^^^^^^^^^
      |
      = help: write `SERVICE ARGUMENT SOURCE TARGET ACTION`, with `*` for any argument

    2 errors
    error: the description `./system.ron` has 2 errors
    [exit 1]
    ");
}

#[test]
fn check_without_a_name_says_where_it_looked_and_what_is_here() {
    let folder = tempfile::tempdir().unwrap();
    let check = || {
        let output = bulkhead(&["check"])
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    if Path::new("/etc/bulkhead/system.ron").exists() {
        return;
    }
    let nothing = check();
    assert!(
        nothing.contains("`/etc/bulkhead/system.ron` does not exist"),
        "{nothing}"
    );
    assert!(
        nothing.contains("hint: Name one with `bulkhead check FILE`"),
        "{nothing}"
    );
    std::fs::write(folder.path().join("system.ron"), "()").unwrap();
    let here = check();
    assert!(
        here.contains("hint: There is a system.ron in this folder: `bulkhead check .`"),
        "{here}"
    );
}

#[test]
fn check_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(tell(folder.path(), &["check", "."]), @r"
    [stderr]
    error: folder `.` has no system.ron
    hint: Write one to start from with `bulkhead init .`.
    [exit 1]
    ");
    insta::assert_snapshot!(tell(folder.path(), &["check", "nonesuch.ron"]), @r"
    [stderr]
    error: `nonesuch.ron` does not exist

    1 error
    error: the description `nonesuch.ron` has 1 error
    [exit 1]
    ");
}

#[test]
fn fmt_changes_only_what_it_must() {
    let folder = tempfile::tempdir().unwrap();
    let _ = tell(folder.path(), &["init"]);
    let _ = tell(folder.path(), &["fmt", "system.ron"]);
    assert_eq!(tell(folder.path(), &["fmt", "--check", "system.ron"]), "");
    let path = folder.path().join("system.ron");
    let tidy = std::fs::read_to_string(&path).unwrap();
    let untidy = tidy.replacen("        \"vault\": (", "\"vault\":   (", 1);
    std::fs::write(&path, &untidy).unwrap();
    insta::assert_snapshot!(tell(folder.path(), &["fmt", "--check", "system.ron"]), @r"
    system.ron
    [stderr]
    error: these files are not in their usual form
    hint: Change them with `bulkhead fmt`.
    [exit 1]
    ");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), untidy);
    insta::assert_snapshot!(tell(folder.path(), &["fmt", "."]), @"system.ron");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), tidy);
    let output = with_input(bulkhead(&["fmt", "-"]), untidy.as_bytes());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), tidy);
}

#[test]
fn fmt_leaves_a_file_with_errors_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("system.ron"), "(qubes: {").unwrap();
    insta::assert_snapshot!(tell(folder.path(), &["fmt", "system.ron"]), @r"
    [stderr]
    error: this `(` is never closed
     --> system.ron:1:1
      |
    1 | (qubes: {
      | ^
      |
      = help: add `)`

    error: this `{` is never closed
     --> system.ron:1:9
      |
    1 | (qubes: {
      |         ^
      |
      = help: add `}`

    2 errors
    error: `system.ron` cannot be read as a description; nothing was changed
    [exit 1]
    ");
    let left = std::fs::read_to_string(folder.path().join("system.ron")).unwrap();
    assert_eq!(left, "(qubes: {");
}

#[test]
fn schema_tells_every_option() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(tell(folder.path(), &["schema", "qubes.*.netvm"]), @r"
    qubes.<name>.netvm: qube name or None
        The qube that provides its network. `None` means no network. In `defaults` it does not count
        for qubes of kind `Template`.
        default: None; since 0.1
    ");
    insta::assert_snapshot!(tell(folder.path(), &["schema", "nonesuch"]), @r"
    [stderr]
    error: there is no option `nonesuch`
    hint: List all of them with `bulkhead schema`.
    [exit 1]
    ");
    let output = run(folder.path(), &["schema", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json.as_array().unwrap().len() > 50);
}
