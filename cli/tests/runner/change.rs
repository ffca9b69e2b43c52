//! Plans, applies and generations.

use bulkhead_api::change::ApplyOutcome;
use bulkhead_api::event::Event;
use bulkhead_api::{ApiError, ErrorKind};
use serde_json::json;

use crate::common::fake::{Fake, Script};
use crate::common::terminal::Terminal;

const TEXT: &str = "\
+ qube work
  ~ qube vault
      memory.initial: 256 -> 512 MiB
  - qube old

Plan: 1 to add, 1 to change, 1 to remove.
";

/// A plan whose qube `vault` has this happen to it.
fn plan(run: &str, destroys: &[&str]) -> String {
    let steps = [
        json!({"action": "declare"}),
        json!({"action": "switch_generation"}),
    ];
    json!({
        "text": TEXT,
        "fingerprint": "f00d",
        "destroys": destroys,
        "steps": 2,
        "plan": {"steps": steps, "qubes": [{"qube": "vault", "run": run}]},
    })
    .to_string()
}

fn report(outcome: ApplyOutcome, failures: &[&str]) -> String {
    json!({
        "outcome": outcome,
        "generation": 4,
        "failures": failures,
        "took_ms": 1234,
        "plan": {"steps": [], "qubes": []},
    })
    .to_string()
}

fn steps() -> Vec<Event> {
    let started = |step, text: &str| Event::StepStarted {
        apply: 1,
        step,
        text: text.into(),
    };
    let finished = |step| Event::StepFinished {
        apply: 1,
        step,
        error: String::new(),
    };
    vec![
        Event::ApplyStarted {
            apply: 1,
            who: "ada".into(),
            steps: 2,
        },
        started(0, "create volume work:private"),
        started(1, "start qube work"),
        finished(0),
        finished(1),
    ]
}

fn script(plan: String) -> Script {
    Script {
        progress: steps(),
        ..Script::default()
            .reply("plan", plan)
            .reply("apply", report(ApplyOutcome::Done, &[]))
    }
}

#[test]
fn plan_is_shown_as_the_daemon_tells_it() {
    let fake = Fake::start(script(plan("none", &[])));
    insta::assert_snapshot!(fake.tell(&["plan"]), @r"
    + qube work
      ~ qube vault
          memory.initial: 256 -> 512 MiB
      - qube old

    Plan: 1 to add, 1 to change, 1 to remove.
    ");
    let coloured = fake.tell(&["plan", "--color", "always"]);
    assert!(
        coloured.contains("\x1b[31m  - qube old\x1b[0m"),
        "{coloured:?}"
    );
    let json = fake.tell(&["plan", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json["plan"]["qubes"][0]["qube"], "vault",
        "nothing is left out"
    );
}

#[test]
fn options_of_a_plan_reach_the_daemon() {
    let fake = Fake::start(script(plan("none", &[])));
    let words = [
        "plan",
        "--system",
        "other.ron",
        "--restart",
        "--update-templates",
        "--keep-volumes",
    ];
    let output = fake.bulkhead(&words).current_dir(fake.folder()).output();
    assert!(output.unwrap().status.success());
    let asked = fake
        .asked()
        .concat()
        .replace(fake.folder().to_str().unwrap(), "$TEST");
    insta::assert_snapshot!(asked, @r#"plan {"system":"$TEST/other.ron","restart":true,"update_templates":true,"keep_volumes":true}"#);
}

#[test]
fn apply_tells_each_step_and_the_generation() {
    let fake = Fake::start(script(plan("none", &[])));
    insta::assert_snapshot!(fake.tell(&["apply", "-m", "more memory"]), @r"
    + qube work
      ~ qube vault
          memory.initial: 256 -> 512 MiB
      - qube old

    Plan: 1 to add, 1 to change, 1 to remove.
    Applied in 1.2 s. This is generation 4
    [stderr]
    [1/2] create volume work:private
    [2/2] start qube work
    ");
    insta::assert_snapshot!(fake.asked().join("\n"), @r#"
    plan {"system":null,"restart":false,"update_templates":false,"keep_volumes":false}
    subscribe changes
    apply {"plan":{"system":null,"restart":false,"update_templates":false,"keep_volumes":false},"allow_destroy":false,"message":"more memory","expect":"f00d"}
    "#);
}

#[test]
fn an_apply_with_nothing_to_do_says_so() {
    let empty = json!({
        "text": "", "fingerprint": "f", "destroys": [], "steps": 0,
        "plan": {"steps": [], "qubes": []},
    });
    let script = Script::default()
        .reply("plan", empty.to_string())
        .reply("apply", report(ApplyOutcome::Nothing, &[]));
    let fake = Fake::start(script);
    insta::assert_snapshot!(fake.tell(&["apply"]), @"Nothing to do: the machine is what its description says.");
    insta::assert_snapshot!(fake.tell(&["plan"]), @"Nothing to do: the machine is what its description says.");
}

#[test]
fn without_a_terminal_only_what_is_grave_needs_a_yes() {
    let grave = Fake::start(script(plan("restart", &[])));
    insta::assert_snapshot!(grave.tell(&["apply", "--color", "never"]), @r"
    + qube work
      ~ qube vault
          memory.initial: 256 -> 512 MiB
      - qube old

    Plan: 1 to add, 1 to change, 1 to remove.
    [stderr]
    error: nothing was changed: this needs a yes, and nobody can be asked
    caused by: it stops vault
    hint: Pass --yes to go ahead without being asked.
    [exit 1]
    ");
    assert_eq!(grave.asked().len(), 1, "nothing but the plan was asked");
    let told = grave.tell(&["apply", "--yes"]);
    assert!(told.contains("generation 4"), "{told}");

    let destroys = Fake::start(script(plan("none", &["old:private"])));
    insta::assert_snapshot!(destroys.tell(&["apply", "--allow-destroy", "--json"]), @r"
    [stderr]
    error: nothing was changed: this needs a yes, and nobody can be asked
    caused by: it destroys the data of old:private
    hint: Pass --yes to go ahead without being asked.
    [exit 1]
    ");
    let told = destroys.tell(&["apply", "--allow-destroy", "--yes"]);
    assert!(told.contains("generation 4"), "{told}");
}

#[test]
fn leave_to_destroy_is_the_daemons_to_refuse() {
    let refusal = ApiError::new(
        ErrorKind::NeedsAllowDestroy,
        "this destroys the data of old:private",
    )
    .hint("Pass --allow-destroy to destroy it, or --keep-volumes to keep it.");
    let fake = Fake::start(script(plan("none", &["old:private"])).fail("apply", refusal));
    insta::assert_snapshot!(fake.tell(&["apply", "--yes"]), @r"
    + qube work
      ~ qube vault
          memory.initial: 256 -> 512 MiB
      - qube old

    Plan: 1 to add, 1 to change, 1 to remove.
    [stderr]
    [1/2] create volume work:private
    [2/2] start qube work
    error: this destroys the data of old:private
    hint: Pass --allow-destroy to destroy it, or --keep-volumes to keep it.
    [exit 1]
    ");
}

#[test]
fn on_a_terminal_the_person_is_asked() {
    let fake = Fake::start(script(plan("none", &[])));
    let mut terminal = Terminal::run(fake.bulkhead(&["apply"]));
    terminal.expect("qube work");
    terminal.expect("[y/N] ");
    terminal.say("maybe");
    let (seen, status) = terminal.end();
    assert_eq!(status.code(), Some(1), "{seen}");
    assert!(seen.contains("nothing was changed"), "{seen}");
    assert_eq!(fake.asked().len(), 1);

    let mut terminal = Terminal::run(fake.bulkhead(&["apply"]));
    terminal.expect("[y/N] ");
    terminal.say("yes");
    let (seen, status) = terminal.end();
    assert!(
        status.success() && seen.contains("This is generation 4"),
        "{seen}"
    );
}

#[test]
fn a_failed_apply_tells_what_is_left() {
    let undone = report(
        ApplyOutcome::Undone,
        &["cannot start `work`", "no memory left"],
    );
    let fake = Fake::start(script(plan("none", &[])).reply("apply", undone));
    insta::assert_snapshot!(fake.tell(&["apply", "--yes"]), @r"
    + qube work
      ~ qube vault
          memory.initial: 256 -> 512 MiB
      - qube old

    Plan: 1 to add, 1 to change, 1 to remove.
    [stderr]
    [1/2] create volume work:private
    [2/2] start qube work
    error: the change failed and was undone; nothing is different from before
    caused by: cannot start `work`
    caused by: no memory left
    [exit 1]
    ");
    let partly = report(ApplyOutcome::Partly, &["cannot destroy `work:private`"]);
    let fake = Fake::start(script(plan("none", &[])).reply("apply", partly));
    insta::assert_snapshot!(fake.tell(&["apply", "--json"]), @r#"
    {
      "failures": [
        "cannot destroy `work:private`"
      ],
      "generation": 4,
      "outcome": "partly",
      "plan": {
        "qubes": [],
        "steps": []
      },
      "took_ms": 1234
    }
    [stderr]
    [1/2] create volume work:private
    [2/2] start qube work
    error: the change is only partly done: a step failed, and so did undoing it
    caused by: cannot destroy `work:private`
    hint: See what is left with `bulkhead status`, then run `bulkhead apply` again.
    [exit 3]
    "#);
}

#[test]
fn a_broken_description_comes_with_its_lines() {
    let mut error = ApiError::new(
        ErrorKind::Description,
        "the description `system.ron` has 1 error(s)",
    );
    error.causes.push(
        "error: unknown field `netmv`\n --> system.ron:4:9\n  |\n4 |         netmv: None,\n  \
         |         ^^^^^\n"
            .into(),
    );
    let fake = Fake::start(Script::default().fail("plan", error));
    insta::assert_snapshot!(fake.tell(&["apply"]), @r"
    [stderr]
    error: the description `system.ron` has 1 error(s)

    error: unknown field `netmv`
     --> system.ron:4:9
      |
    4 |         netmv: None,
      |         ^^^^^
    [exit 1]
    ");
}

#[test]
fn rollback_shows_its_plan_and_goes_back() {
    let dry = json!({
        "text": TEXT, "outcome": "nothing", "failures": [], "took_ms": 0, "generation": 3,
        "plan": {"steps": [{}], "qubes": [{"qube": "vault", "run": "stop"}]},
    });
    let script = Script::default()
        .reply("dry rollback", dry.to_string())
        .reply("rollback", report(ApplyOutcome::Done, &[]));
    let fake = Fake::start(script);
    insta::assert_snapshot!(fake.tell(&["rollback", "2"]), @r"
    + qube work
      ~ qube vault
          memory.initial: 256 -> 512 MiB
      - qube old

    Plan: 1 to add, 1 to change, 1 to remove.
    [stderr]
    error: nothing was changed: this needs a yes, and nobody can be asked
    caused by: it stops vault
    hint: Pass --yes to go ahead without being asked.
    [exit 1]
    ");
    insta::assert_snapshot!(fake.tell(&["rollback", "2", "--yes"]), @r"
    + qube work
      ~ qube vault
          memory.initial: 256 -> 512 MiB
      - qube old

    Plan: 1 to add, 1 to change, 1 to remove.
    Went back in 1.2 s. This is generation 4
    ");
    let _ = fake.tell(&["rollback", "2", "-y", "-m", "too much"]);
    let told = fake.tell(&["rollback", "--dry-run"]);
    assert!(told.contains("+ qube work"), "{told}");
    insta::assert_snapshot!(fake.asked().join("\n"), @r#"
    rollback, dry
    rollback, dry
    subscribe changes
    rollback {"generation":2,"restart":false,"message":"","allow_destroy":false,"dry_run":false}
    rollback, dry
    subscribe changes
    rollback {"generation":2,"restart":false,"message":"too much","allow_destroy":false,"dry_run":false}
    rollback, dry
    "#);
}

#[test]
fn generations_are_a_table() {
    let generations = json!([
        {"number": 1, "created": 1_709_210_096, "who": "root", "message": "", "qubes": 6,
         "rollback_of": null, "current": false, "booted": true},
        {"number": 2, "created": 1_709_213_696, "who": "ada", "message": "more memory\u{1b}[2J",
         "qubes": 6, "rollback_of": null, "current": false, "booted": false},
        {"number": 3, "created": 1_709_217_296, "who": "ada", "message": "", "qubes": 6,
         "rollback_of": 1, "current": true, "booted": false},
    ]);
    let fake = Fake::start(Script::default().reply("generations", generations.to_string()));
    insta::assert_snapshot!(fake.tell(&["generations"]), @r"
       GENERATION  MADE (UTC)           BY    QUBES  MESSAGE
                1  2024-02-29 12:34:56  root      6  [came up with this one]
                2  2024-02-29 13:34:56  ada       6  more memory�[2J
    *           3  2024-02-29 14:34:56  ada       6  rollback to 1
    ");
    let json = fake.tell(&["generations", "--json"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json).unwrap(),
        generations
    );
    let none = Fake::start(Script::default().reply("generations", "[]"));
    insta::assert_snapshot!(none.tell(&["generations"]), @"There is no generation yet: `bulkhead apply` makes the first.");
}

#[test]
fn diff_shows_what_is_different() {
    let diff = json!({"from": 1, "to": 2, "text": "~ qube work\n    label: red -> blue\n"});
    let fake = Fake::start(Script::default().reply("diff", diff.to_string()));
    insta::assert_snapshot!(fake.tell(&["diff", "1", "2"]), @r"
    ~ qube work
        label: red -> blue
    ");
    let _ = fake.tell(&["diff"]);
    assert_eq!(fake.asked(), ["diff 1 2", "diff 0 0"]);
    let same = json!({"from": 1, "to": 2, "text": ""});
    let fake = Fake::start(Script::default().reply("diff", same.to_string()));
    insta::assert_snapshot!(fake.tell(&["diff", "1", "2"]), @"Generations 1 and 2 describe the same machine.");
}

#[test]
fn gc_removes_images_unasked_and_volumes_only_with_a_yes() {
    let report = |volumes: &[&str]| {
        json!({
            "generations": [1, 2], "images": [["sha256:ab", 900]], "volumes": volumes,
            "kept": ["generation 3: the machine came up with it"], "freed": 900,
        })
        .to_string()
    };
    let fake = Fake::start(Script::default().reply("gc", report(&[])));
    insta::assert_snapshot!(fake.tell(&["gc", "--keep", "3", "--dry-run"]), @r"
    would remove generation 1
    would remove generation 2
    would remove image sha256:ab (900 MiB)
    kept generation 3: the machine came up with it
    900 MiB in all.
    ");
    let told = fake.tell(&["gc"]);
    assert!(told.contains("\nremoved generation 2\n"), "{told}");
    let fake = Fake::start(Script::default().reply("gc", report(&["old:private"])));
    insta::assert_snapshot!(fake.tell(&["gc", "--orphan-volumes", "--json"]), @r"
    [stderr]
    error: nothing was changed: this needs a yes, and nobody can be asked
    caused by: it destroys the data of old:private
    hint: Pass --yes to go ahead without being asked.
    [exit 1]
    ");
    assert_eq!(fake.asked().len(), 1, "nothing but a dry run was asked");
}
