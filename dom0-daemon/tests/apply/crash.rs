//! Kills the daemon at every step of several plans, in every way, and looks at what is left.
//!
//! The daemon that is killed is this test program itself, run for the one test [`child`].

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use bulkheadd::ops::{ApplyOutcome, RollbackRequest};
use bulkheadd::plan::Action;

use crate::fake::FakeMachine;
use crate::world::{BASE, World, everything};

const CHILD: &str = "BULKHEAD_TEST_CHILD";

/// One change of a machine that has `before` applied (and files in its volumes).
struct Case {
    name: &'static str,
    before: String,
    /// None: a rollback to the first generation instead.
    after: Option<String>,
    /// A file in a volume that must be gone in the end.
    destroyed: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let edit = |from: &str, to: &str| {
        let edited = BASE.replace(from, to);
        assert_ne!(edited, BASE, "`{from}` is in the description");
        edited
    };
    let case = |name, before: &str, after: Option<String>| Case {
        name,
        before: before.to_owned(),
        after,
        destroyed: None,
    };
    let work = r#""work": (netvm: "sys-firewall", label: "blue", autostart: true),"#;
    vec![
        case("the first apply", "", Some(BASE.to_owned())),
        case(
            "a qube is added",
            BASE,
            Some(format!(
                "{BASE} \"mail\": (netvm: \"sys-firewall\", label: \"green\", autostart: true),"
            )),
        ),
        case(
            "properties change",
            BASE,
            Some(
                edit(
                    work,
                    r#""work": (netvm: "sys-net", label: "red", autostart: true, vcpus: 4,
                    tags: ["office"]),
                   "vault": (netvm: None, label: "black", kernelopts: "quiet"),"#,
                )
                .replace("\"vault\": (netvm: None, label: \"black\"),", ""),
            ),
        ),
        case(
            "a netvm restarts",
            BASE,
            Some(edit(
                r#""sys-net": (provides_network: true,"#,
                r#""sys-net": (kernelopts: "quiet", provides_network: true,"#,
            )),
        ),
        case(
            "a volume grows",
            BASE,
            Some(edit(
                work,
                r#""work": (netvm: "sys-firewall", label: "blue", autostart: true,
                    volumes: { "private": (size: "4 GiB") }),"#,
            )),
        ),
        Case {
            destroyed: Some("work/private/letter"),
            ..case("a qube is removed", BASE, Some(edit(work, "")))
        },
        Case {
            destroyed: Some("mail/private/letter"),
            ..case("a rollback", BASE, None)
        },
    ]
}

/// The daemon that gets killed: applies what is described, or rolls back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(root) = std::env::var(CHILD) else {
        return;
    };
    let operations = World { root: root.into() }.operations();
    operations.recover().await.unwrap();
    let report = if std::env::var("BULKHEAD_TEST_ROLLBACK").is_ok() {
        operations.rollback(&rollback(), "alice").await.unwrap()
    } else {
        operations.apply(&everything(), "alice").await.unwrap()
    };
    println!("outcome {:?} {:?}", report.outcome, report.failures);
}

fn rollback() -> RollbackRequest {
    RollbackRequest {
        generation: Some(1),
        restart: true,
        allow_destroy: true,
        ..RollbackRequest::default()
    }
}

fn run_child(world: &World, case: &Case, faults: &[(&str, String)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::child", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, &world.root);
    if case.after.is_none() {
        command.env("BULKHEAD_TEST_ROLLBACK", "1");
    }
    command.envs(faults.iter().map(|(name, value)| (*name, value)));
    command.output().unwrap()
}

#[track_caller]
fn assert_killed(output: &Output, what: &str) {
    use std::os::unix::process::ExitStatusExt;
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.signal(),
        Some(9),
        "{what}: was not killed\n{told}"
    );
}

struct Prepared {
    start: World,
    before: BTreeMap<String, String>,
    after: BTreeMap<String, String>,
    /// What an apply that nothing disturbs does.
    effects: Vec<String>,
    steps: usize,
    /// The step that switches the generation.
    switch: usize,
}

async fn prepare(case: &Case, dir: &Path) -> Prepared {
    let start = World::new(&dir.join("start"));
    start.describe(&case.before);
    if case.after.is_none() {
        // Something to go back from: another qube, and `work` with other values.
        start.apply().await;
        start.describe(&format!(
            "{} \"mail\": (netvm: \"sys-net\", label: \"green\", autostart: true),",
            BASE.replace(
                "label: \"blue\"",
                "label: \"blue\", vcpus: 3, kernelopts: \"quiet\""
            )
        ));
    }
    start.apply().await;
    for qube in ["work", "vault", "mail"] {
        if start.state().join("volumes").join(qube).exists() {
            start.put(&format!("{qube}/private/letter"));
        }
    }
    FakeMachine::new(start.machine()).forget_effects();
    if let Some(after) = &case.after {
        start.describe(after);
    }
    let before = start.picture().await;
    let undisturbed = start.copy(&dir.join("undisturbed"));
    let output = run_child(&undisturbed, case, &[]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("outcome Done []"), "{}: {told}", case.name);
    let operations = start.operations();
    let plan = match case.after {
        Some(_) => operations.plan(&everything().plan).await.unwrap().plan,
        None => {
            let request = RollbackRequest {
                dry_run: true,
                ..rollback()
            };
            operations.rollback(&request, "alice").await.unwrap().plan
        }
    };
    drop(operations);
    let switch = plan
        .steps
        .iter()
        .position(|step| step.action == Action::SwitchGeneration);
    Prepared {
        before,
        after: undisturbed.picture().await,
        effects: FakeMachine::effects(&undisturbed.machine()),
        steps: plan.steps.len(),
        switch: switch.unwrap(),
        start,
    }
}

/// Killed at `point` of every step: the next start finishes it, as if nothing had happened.
async fn finishes(point: &str) {
    for case in cases() {
        let dir = tempfile::tempdir().unwrap();
        let prepared = prepare(&case, dir.path()).await;
        assert!(prepared.steps >= 2, "{} has steps", case.name);
        for step in 0..prepared.steps {
            let what = format!("{}, killed at {point}:{step}", case.name);
            let world = prepared
                .start
                .copy(&dir.path().join(format!("{point}-{step}")));
            let at = ("BULKHEAD_CRASH_AT", format!("{point}:{step}"));
            assert_killed(&run_child(&world, &case, &[at]), &what);
            let operations = world.operations();
            let report = operations
                .recover()
                .await
                .unwrap()
                .expect("something was left");
            assert_eq!(
                report.outcome,
                ApplyOutcome::Done,
                "{what}: {:?}",
                report.failures
            );
            drop(operations);
            assert_eq!(world.picture().await, prepared.after, "{what}");
            let effects = FakeMachine::effects(&world.machine());
            assert_eq!(effects, prepared.effects, "{what}: once, and once only");
            if let Some(file) = case.destroyed {
                assert!(!world.has(file), "{what}");
            }
            converged(&world, &case, &what).await;
            std::fs::remove_dir_all(&world.root).unwrap();
        }
    }
}

/// Nothing is left to do, or to recover.
async fn converged(world: &World, case: &Case, what: &str) {
    let operations = world.operations();
    assert!(
        operations.recover().await.unwrap().is_none(),
        "{what}: recovered twice"
    );
    if case.after.is_some() {
        let again = operations.apply(&everything(), "alice").await.unwrap();
        assert_eq!(
            again.outcome,
            ApplyOutcome::Nothing,
            "{what}: {:?}",
            again.plan.steps
        );
    }
}

#[cfg(any(debug_assertions, feature = "fault-injection"))]
mod kills {
    use super::*;

    #[tokio::test]
    async fn before_a_step_is_journaled_as_begun() {
        finishes("begin").await;
    }

    #[tokio::test]
    async fn before_a_step_is_done() {
        finishes("before").await;
    }

    #[tokio::test]
    async fn after_a_step_is_done() {
        finishes("after").await;
    }

    #[tokio::test]
    async fn after_a_step_is_journaled_as_done() {
        finishes("end").await;
    }

    /// Every step fails in turn: everything is as it was, and the next apply does it all.
    #[tokio::test]
    async fn a_step_that_fails_undoes_all() {
        for case in cases() {
            let dir = tempfile::tempdir().unwrap();
            let prepared = prepare(&case, dir.path()).await;
            for step in 0..prepared.steps {
                let what = format!("{}, step {step} fails", case.name);
                let world = prepared
                    .start
                    .copy(&dir.path().join(format!("fail-{step}")));
                let output = run_child(&world, &case, &[("BULKHEAD_FAIL_AT", step.to_string())]);
                let told = String::from_utf8_lossy(&output.stdout).into_owned();
                if step > prepared.switch {
                    // The generation was switched, and data that should be gone is still there.
                    assert!(told.contains("outcome Partly"), "{what}: {told}");
                    let status = world.operations().status().await.unwrap();
                    assert_eq!(status.warnings.len(), 2, "{what}: {:?}", status.warnings);
                    continue;
                }
                assert!(told.contains("outcome Undone"), "{what}: {told}");
                assert_eq!(world.picture().await, prepared.before, "{what}");
                run_child(&world, &case, &[]);
                assert_eq!(world.picture().await, prepared.after, "{what}");
                std::fs::remove_dir_all(&world.root).unwrap();
            }
        }
    }

    /// The last step before the switch fails, and the daemon is killed while it undoes each of the
    /// others: the next start undoes the rest.
    #[tokio::test]
    async fn while_a_step_is_undone() {
        for case in cases() {
            let dir = tempfile::tempdir().unwrap();
            let prepared = prepare(&case, dir.path()).await;
            for step in 0..prepared.switch {
                for point in ["undo-before", "undo-after"] {
                    let what = format!("{}, killed at {point}:{step}", case.name);
                    let world = prepared
                        .start
                        .copy(&dir.path().join(format!("{point}-{step}")));
                    let faults = [
                        ("BULKHEAD_FAIL_AT", prepared.switch.to_string()),
                        ("BULKHEAD_CRASH_AT", format!("{point}:{step}")),
                    ];
                    let output = run_child(&world, &case, &faults);
                    if String::from_utf8_lossy(&output.stdout).contains("outcome Undone") {
                        // This step needs no undoing.
                        assert!(case.name == "the first apply" && step == 0, "{what}");
                        continue;
                    }
                    assert_killed(&output, &what);
                    let report = world.operations().recover().await.unwrap().unwrap();
                    assert_eq!(
                        report.outcome,
                        ApplyOutcome::Undone,
                        "{what}: {:?}",
                        report.failures
                    );
                    assert_eq!(world.picture().await, prepared.before, "{what}");
                    run_child(&world, &case, &[]);
                    assert_eq!(world.picture().await, prepared.after, "{what}");
                    std::fs::remove_dir_all(&world.root).unwrap();
                }
            }
        }
    }
}
