//! What a person asks for.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bulkheadd::ops::{
    ApplyOutcome, ApplyRequest, DriftKind, GcRequest, OperationsError, PlanRequest, Progress,
    RollbackRequest,
};

use tokio::sync::Semaphore;

use crate::fake::FakeMachine;
use crate::world::{BASE, World, everything};

fn world() -> (tempfile::TempDir, World) {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path());
    world.describe(BASE);
    (dir, world)
}

#[tokio::test]
async fn the_second_apply_does_nothing() {
    let (_dir, world) = world();
    let first = world.apply().await;
    assert_eq!(
        (first.outcome, first.generation),
        (ApplyOutcome::Done, Some(1))
    );
    let effects = FakeMachine::effects(&world.machine());
    let second = world.apply().await;
    assert_eq!(
        (second.outcome, second.generation),
        (ApplyOutcome::Nothing, Some(1))
    );
    assert_eq!(FakeMachine::effects(&world.machine()), effects);
    assert_eq!(world.operations().generations().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_broken_description_changes_nothing_and_says_where() {
    let (_dir, world) = world();
    world.apply().await;
    let before = world.picture().await;
    world.describe(&BASE.replace("netvm: \"sys-firewall\"", "netmv: \"sys-firewall\""));
    let error = world
        .operations()
        .apply(&everything(), "alice")
        .await
        .unwrap_err();
    let OperationsError::Description {
        count, diagnostics, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(count, 1);
    assert!(
        diagnostics.list[0].message.contains("netmv"),
        "{diagnostics:?}"
    );
    assert_eq!(world.picture().await, before);
}

#[tokio::test]
async fn data_is_destroyed_only_with_leave() {
    let (_dir, world) = world();
    world.apply().await;
    world.put("vault/private/letter");
    world.describe(&BASE.replace("\"vault\": (netvm: None, label: \"black\"),", ""));
    let operations = world.operations();
    let plan = operations.plan(&PlanRequest::default()).await.unwrap();
    assert_eq!(plan.destroys, ["vault:private"]);
    let error = operations
        .apply(&ApplyRequest::default(), "alice")
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "this destroys the data of vault:private");
    assert!(error.hint().unwrap().contains("--allow-destroy"));
    assert!(world.has("vault/private/letter"));
    let keep = ApplyRequest {
        plan: PlanRequest {
            keep_volumes: true,
            ..PlanRequest::default()
        },
        ..ApplyRequest::default()
    };
    let kept = operations.apply(&keep, "alice").await.unwrap();
    assert_eq!(kept.outcome, ApplyOutcome::Done);
    assert!(world.has("vault/private/letter"));
    let status = operations.status().await.unwrap();
    assert_eq!(status.orphan_volumes.len(), 1);
    assert!(status.drift.is_empty());
    // Declared again, it finds its data.
    world.describe(BASE);
    operations
        .apply(&ApplyRequest::default(), "alice")
        .await
        .unwrap();
    assert!(world.has("vault/private/letter"));
    assert!(operations.status().await.unwrap().orphan_volumes.is_empty());
}

#[tokio::test]
async fn a_plan_that_is_no_longer_the_one_shown_is_refused() {
    let (_dir, world) = world();
    let operations = world.operations();
    let shown = operations.plan(&PlanRequest::default()).await.unwrap();
    let request = ApplyRequest {
        expect: Some(shown.fingerprint),
        ..ApplyRequest::default()
    };
    world.describe(&BASE.replace("label: \"black\"", "label: \"gray\", vcpus: 7"));
    world.describe(&format!("{BASE} \"new\": (label: \"red\", netvm: None),"));
    let error = operations.apply(&request, "alice").await.unwrap_err();
    assert!(matches!(error, OperationsError::PlanChanged), "{error}");
    world.describe(BASE);
    assert_eq!(
        operations.apply(&request, "alice").await.unwrap().outcome,
        ApplyOutcome::Done
    );
}

#[tokio::test]
async fn a_second_apply_during_the_first_is_told_who_is_at_it() {
    let (_dir, world) = world();
    let mut machine = FakeMachine::new(world.machine());
    let gate = Arc::new(Semaphore::new(0));
    machine.gate = Some(Arc::clone(&gate));
    let operations = Arc::new(world.operations_with(machine));
    let mut progress = operations.progress();
    let first = {
        let operations = Arc::clone(&operations);
        tokio::spawn(async move { operations.apply(&everything(), "alice").await })
    };
    loop {
        if matches!(
            progress.recv().await.unwrap(),
            Progress::StepFinished { .. }
        ) {
            break;
        }
    }
    // Should it begin after all, it waits at the gate.
    let (request, patience) = (everything(), Duration::from_secs(60));
    let second = tokio::time::timeout(patience, operations.apply(&request, "bob")).await;
    let error = second.expect("it is not refused").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("busy: alice has been applying since 20"),
        "{error}"
    );
    assert!(matches!(
        operations.gc(&GcRequest::default()).await.unwrap_err(),
        OperationsError::Busy { .. }
    ));
    // Looking is allowed, and shows it.
    assert_eq!(
        operations.status().await.unwrap().applying.unwrap().who,
        "alice"
    );
    gate.add_permits(Semaphore::MAX_PERMITS);
    assert_eq!(first.await.unwrap().unwrap().outcome, ApplyOutcome::Done);
    assert!(operations.status().await.unwrap().applying.is_none());
    let again = operations.apply(&everything(), "bob").await.unwrap();
    assert_eq!(again.outcome, ApplyOutcome::Nothing);
}

#[tokio::test]
async fn an_apply_goes_on_when_whoever_asked_hangs_up() {
    let (_dir, world) = world();
    let mut machine = FakeMachine::new(world.machine());
    machine.delay = Duration::from_millis(50);
    let operations = Arc::new(world.operations_with(machine));
    let mut progress = operations.progress();
    let asked = {
        let operations = Arc::clone(&operations);
        tokio::spawn(async move { operations.apply(&everything(), "alice").await })
    };
    progress.recv().await.unwrap();
    asked.abort();
    loop {
        if let Progress::ApplyFinished { outcome, .. } = progress.recv().await.unwrap() {
            assert_eq!(outcome, ApplyOutcome::Done);
            break;
        }
    }
    assert_eq!(
        operations
            .status()
            .await
            .unwrap()
            .generation
            .unwrap()
            .number,
        1
    );
}

#[tokio::test]
async fn a_qube_that_does_not_start_undoes_the_apply_and_says_why() {
    let (_dir, world) = world();
    world.apply().await;
    let before = world.picture().await;
    world.describe(&format!(
        "{BASE} \"bad\": (label: \"red\", netvm: None, autostart: true, kernelopts: \"broken\"),"
    ));
    let report = world.apply().await;
    assert_eq!(
        (report.outcome, report.generation),
        (ApplyOutcome::Undone, Some(1))
    );
    assert_eq!(
        report.failures,
        ["could not start bad: qube `bad` cannot be started: its kernel does not boot"]
    );
    assert_eq!(world.picture().await, before);
}

#[tokio::test]
async fn a_policy_that_the_machine_refuses_changes_nothing() {
    let (_dir, world) = world();
    world.apply().await;
    let before = world.picture().await;
    let text = fs::read_to_string(world.system()).unwrap();
    let with = text.trim_end().trim_end_matches(')').to_owned();
    fs::write(
        world.system(),
        format!("{with} policy: [\"unparsable * * * deny\"], )"),
    )
    .unwrap();
    let operations = world.operations();
    let report = operations.apply(&everything(), "alice").await.unwrap();
    assert_eq!(report.outcome, ApplyOutcome::Undone);
    assert!(
        report.failures[0].contains("policy was refused"),
        "{:?}",
        report.failures
    );
    assert_eq!(world.picture().await, before);
}

#[tokio::test]
async fn a_policy_that_does_not_parse_is_found_before_there_is_a_plan() {
    let (_dir, world) = world();
    world.apply().await;
    let before = world.picture().await;
    let text = fs::read_to_string(world.system()).unwrap();
    let with = text.trim_end().trim_end_matches(')').to_owned();
    fs::write(
        world.system(),
        format!("{with} policy: [\"a.B * * * alow\"], )"),
    )
    .unwrap();
    let operations = world.operations();
    let planned = operations.plan(&PlanRequest::default()).await.unwrap_err();
    let applied = operations.apply(&everything(), "alice").await.unwrap_err();
    for error in [planned, applied] {
        let OperationsError::Description { diagnostics, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(diagnostics.list[0].message, "unknown action `alow`");
        assert!(diagnostics.list[0].place.is_some());
    }
    assert_eq!(world.picture().await, before);
}

#[tokio::test]
async fn a_policy_that_decides_otherwise_than_expected_stops_plan_and_apply() {
    let (_dir, world) = world();
    world.apply().await;
    let before = world.picture().await;
    let text = fs::read_to_string(world.system()).unwrap();
    let with = text.trim_end().trim_end_matches(')').to_owned();
    fs::write(
        world.system(),
        format!(
            "{with} policy: [\"a.B * * * deny\"], policy_tests: [\"dom0 -> dom0 a.B is allow\"], )"
        ),
    )
    .unwrap();
    let operations = world.operations();
    let planned = operations.plan(&PlanRequest::default()).await.unwrap_err();
    let applied = operations.apply(&everything(), "alice").await.unwrap_err();
    for error in [planned, applied] {
        let OperationsError::Description { diagnostics, .. } = error else {
            panic!("{error}");
        };
        let found = &diagnostics.list[0];
        assert_eq!(found.message, "expected allow, got deny: a rule denies it");
        assert!(found.notes[0].starts_with("by system.ron:"), "{found:?}");
        assert!(found.place.is_some());
    }
    assert_eq!(world.picture().await, before);
}

#[tokio::test]
async fn rollback_needs_no_description_and_goes_back_further_each_time() {
    let (_dir, world) = world();
    world.apply().await;
    let first = world.picture().await;
    world.describe(&BASE.replace("label: \"blue\"", "label: \"yellow\", vcpus: 5"));
    world.apply().await;
    world.describe(&format!(
        "{BASE} \"new\": (label: \"red\", netvm: None, autostart: true),"
    ));
    world.apply().await;
    fs::remove_file(world.system()).unwrap();
    let operations = world.operations();
    let back = operations
        .rollback(&RollbackRequest::default(), "bob")
        .await
        .unwrap();
    assert_eq!(
        (back.outcome, back.generation),
        (ApplyOutcome::Done, Some(4))
    );
    let info = operations.generation(None).await.unwrap().info;
    assert_eq!((info.rollback_of, info.message.as_str()), (Some(2), ""));
    assert_eq!(operations.diff(Some(2), Some(4)).await.unwrap().text, "");
    let again = RollbackRequest {
        restart: true,
        ..RollbackRequest::default()
    };
    operations.rollback(&again, "bob").await.unwrap();
    assert_eq!(
        operations.generation(None).await.unwrap().info.rollback_of,
        Some(1)
    );
    // The volume of the qube that the third generation added is kept; apart from it all is as then.
    let mut now = world.picture().await;
    now.retain(|name, _| !name.starts_with("volumes/new"));
    assert_eq!(now, first);
    let error = operations
        .rollback(&RollbackRequest::default(), "bob")
        .await
        .unwrap_err();
    assert!(matches!(error, OperationsError::NothingEarlier), "{error}");
    let missing = RollbackRequest {
        generation: Some(99),
        ..RollbackRequest::default()
    };
    let error = operations.rollback(&missing, "bob").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no generation 99");
}

#[tokio::test]
async fn a_rollback_leaves_a_grown_volume_as_it_is_and_so_does_the_next_apply() {
    let (_dir, world) = world();
    world.apply().await;
    let grown = BASE.replace(
        "label: \"black\"",
        "label: \"black\", volumes: { \"private\": (size: \"4 GiB\") }",
    );
    world.describe(&grown);
    world.apply().await;
    let operations = world.operations();
    let back = operations
        .rollback(&RollbackRequest::default(), "bob")
        .await
        .unwrap();
    assert_eq!(back.outcome, ApplyOutcome::Done);
    assert!(
        back.plan.notes[0].contains("stays at 4 GiB"),
        "{:?}",
        back.plan.notes
    );
    world.describe(BASE);
    assert_eq!(world.apply().await.outcome, ApplyOutcome::Nothing);
    // A person who asks for a smaller volume is refused.
    world.describe(&grown);
    world.apply().await;
    world.describe(BASE);
    let error = operations.apply(&everything(), "alice").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the description cannot be applied: \
         volume `vault:private` cannot shrink from 4 GiB to 2 GiB"
    );
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn diff_tells_qubes_and_properties() {
    let (_dir, world) = world();
    world.apply().await;
    world.describe(&BASE.replace("label: \"blue\"", "label: \"yellow\", vcpus: 5"));
    world.apply().await;
    let diff = world.operations().diff(None, None).await.unwrap();
    assert_eq!((diff.from, diff.to), (1, 2));
    insta::assert_snapshot!(diff.text, @r"
    ~ qube work
        label: blue -> yellow
        vcpus: 2 -> 5
    ");
}

#[tokio::test]
async fn drift_shows_and_the_next_apply_repairs_it() {
    let (_dir, world) = world();
    world.apply().await;
    let whole = world.picture().await;
    FakeMachine::new(world.machine()).crash("work");
    fs::remove_dir_all(world.state().join("volumes/vault")).unwrap();
    let operations = world.operations();
    let drift = operations.status().await.unwrap().drift;
    let kinds: Vec<DriftKind> = drift.iter().map(|drift| drift.kind).collect();
    assert_eq!(kinds, [DriftKind::VolumeMissing, DriftKind::NotRunning]);
    let report = world.apply().await;
    assert_eq!(
        (report.outcome, report.generation),
        (ApplyOutcome::Done, Some(1))
    );
    assert_eq!(world.picture().await, whole);
}

#[tokio::test]
async fn gc_keeps_what_is_in_use_and_says_what_it_freed() {
    let (_dir, world) = world();
    for vcpus in 1..=5 {
        world.describe(&BASE.replace(
            "label: \"black\"",
            &format!("label: \"black\", vcpus: {vcpus}"),
        ));
        world.apply().await;
    }
    let operations = world.operations();
    operations.recover().await.unwrap();
    let error = operations
        .gc(&GcRequest {
            generations: vec![1, 5],
            ..GcRequest::default()
        })
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "generation 5 is in use: it is in force");
    let request = GcRequest {
        keep: Some(2),
        dry_run: true,
        ..GcRequest::default()
    };
    assert_eq!(
        operations.gc(&request).await.unwrap().generations,
        [1, 2, 3]
    );
    assert_eq!(
        operations.generations().await.unwrap().len(),
        5,
        "that was a dry run"
    );
    let rollback = RollbackRequest {
        generation: Some(2),
        ..RollbackRequest::default()
    };
    operations.rollback(&rollback, "bob").await.unwrap();
    let request = GcRequest {
        keep: Some(1),
        dry_run: false,
        ..GcRequest::default()
    };
    assert_eq!(
        operations.gc(&request).await.unwrap().generations,
        [1, 2, 3, 4, 5]
    );
    assert_eq!(operations.generations().await.unwrap().len(), 1);
}

#[tokio::test]
async fn gc_frees_images_that_no_kept_generation_names_and_destroys_orphans_when_asked() {
    let (_dir, world) = world();
    let tree = world.root.join("tree");
    for folder in ["usr", "etc"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::write(tree.join("usr/big"), vec![7; 3 << 20]).unwrap();
    let text = fs::read_to_string(world.system()).unwrap();
    let source = format!("(source: Folder({:?}))", tree.to_str().unwrap());
    fs::write(world.system(), text.replace("(source: Host)", &source)).unwrap();
    world.apply().await;
    fs::remove_dir_all(&tree).unwrap();
    // The tree is in the store: nothing needs the folder any more.
    assert_eq!(world.apply().await.outcome, ApplyOutcome::Nothing);
    world.describe("");
    let keep = ApplyRequest {
        plan: PlanRequest {
            keep_volumes: true,
            ..PlanRequest::default()
        },
        ..ApplyRequest::default()
    };
    let operations = world.operations();
    operations.apply(&keep, "alice").await.unwrap();
    let request = GcRequest {
        keep: Some(1),
        orphan_volumes: true,
        ..GcRequest::default()
    };
    let report = operations.gc(&request).await.unwrap();
    assert_eq!(
        (
            report.generations.as_slice(),
            report.images.len(),
            report.freed
        ),
        (&[1][..], 1, 3)
    );
    assert_eq!(report.volumes.len(), 4);
    assert_eq!(
        fs::read_dir(world.state().join("templates"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn a_template_folder_that_vanished_is_told_and_changes_nothing() {
    let (_dir, world) = world();
    world.apply().await;
    let before = world.picture().await;
    let text = fs::read_to_string(world.system()).unwrap();
    fs::write(
        world.system(),
        text.replace("(source: Host)", "(source: Folder(\"/no/such\"))"),
    )
    .unwrap();
    let report = world.apply().await;
    assert_eq!(report.outcome, ApplyOutcome::Undone);
    assert_eq!(
        report.failures,
        ["could not prepare template host: template folder `/no/such` does not exist"]
    );
    assert_eq!(world.picture().await, before);
}

#[tokio::test]
async fn the_machine_comes_up_with_its_generation_once_per_boot() {
    let (_dir, world) = world();
    world.apply().await;
    // The machine boots: nothing runs, and nobody stopped it.
    fs::remove_dir_all(world.machine()).unwrap();
    let operations = world.operations();
    assert!(operations.recover().await.unwrap().is_none());
    let up = operations.bring_up().await.unwrap().unwrap();
    assert_eq!((up.outcome, up.generation), (ApplyOutcome::Done, Some(1)));
    assert_eq!(FakeMachine::records(&world.machine()).len(), 3);
    assert!(
        operations.bring_up().await.unwrap().is_none(),
        "the daemon merely restarted"
    );
    assert!(operations.generations().await.unwrap()[0].booted);
}

#[tokio::test]
async fn bringing_the_machine_up_waits_for_an_apply_under_way() {
    let (_dir, world) = world();
    let mut machine = FakeMachine::new(world.machine());
    let gate = Arc::new(Semaphore::new(0));
    machine.gate = Some(Arc::clone(&gate));
    let operations = Arc::new(world.operations_with(machine));
    let mut progress = operations.progress();
    let apply = {
        let operations = Arc::clone(&operations);
        tokio::spawn(async move { operations.apply(&everything(), "alice").await })
    };
    progress.recv().await.unwrap();
    let up = {
        let operations = Arc::clone(&operations);
        tokio::spawn(async move { operations.bring_up().await })
    };
    // Longer than it takes to be refused; where it is slower than that, it has less to wait for.
    tokio::time::sleep(Duration::from_millis(100)).await;
    gate.add_permits(Semaphore::MAX_PERMITS);
    assert_eq!(apply.await.unwrap().unwrap().outcome, ApplyOutcome::Done);
    // What alice applied is what there is to bring up, and it is up.
    let up = up.await.unwrap().unwrap().unwrap();
    assert_eq!(
        (up.outcome, up.generation),
        (ApplyOutcome::Nothing, Some(1))
    );
}
