//! A disk that is really full.

use std::fs;

use bulkhead_api::call::{AuditFilter, AuditRecord};
use bulkhead_testing::{on_a_small_disk, small_disk};
use bulkheadd::audit::Audit;
use bulkheadd::bus::Events;
use bulkheadd::ops::{ApplyOutcome, OperationsError};

use crate::world::{BASE, World, everything};

/// A world whose state folder is the small disk.
fn world() -> Option<World> {
    let small = small_disk()?;
    let root = small.parent()?.to_owned();
    let world = World { root };
    // Whatever the disk is called.
    std::os::unix::fs::symlink(small, world.state()).unwrap();
    Some(world)
}

/// Runs in the namespace, with the state folder on the small disk.
#[tokio::test]
async fn child() {
    let Some(world) = world() else {
        return;
    };
    fs::create_dir_all(world.machine()).unwrap();
    world.describe(BASE);
    let operations = world.operations();
    let first = operations.apply(&everything(), "alice").await.unwrap();
    assert_eq!(first.outcome, ApplyOutcome::Done);
    drop(operations);
    let before = world.picture().await;
    world.describe(&format!(
        "{BASE} \"mail\": (label: \"red\", netvm: None, autostart: true),"
    ));
    // From no room at all to room for some of the steps: wherever it ends, it is told and undone.
    let mut told = Vec::new();
    for room in (0..=96).step_by(4) {
        // One that closes its database has its log written back: each begins with the same room.
        let operations = world.operations();
        fill(&world, room);
        let ended = operations.apply(&everything(), "alice").await;
        drop(operations);
        fs::remove_file(filler(&world)).unwrap();
        match ended {
            Err(OperationsError::Database(error)) => told.push(error.to_string()),
            Err(error) => told.push(error.to_string()),
            Ok(report) if report.outcome == ApplyOutcome::Done => break,
            Ok(report) => {
                assert_eq!(
                    report.outcome,
                    ApplyOutcome::Undone,
                    "{:?}",
                    report.failures
                );
                told.push(report.failures.join("; "));
            }
        }
        let mut after = world.picture().await;
        after.retain(|name, _| name != "status");
        let mut expected = before.clone();
        expected.remove("status");
        assert_eq!(after, expected, "with room for {room} KiB: {told:?}");
    }
    let disk = world.state().display().to_string();
    for text in &told {
        let file = text.contains("no space left") && text.contains(&disk);
        assert!(file && text.contains("free some on that disk"), "{told:#?}");
    }
    // Not only before anything was done, and not only in the folders.
    for doing in [
        "beginning an apply",
        "journaling a step",
        "switching the generation",
    ] {
        let met = told.iter().any(|text| text.contains(doing));
        assert!(met, "no disk was full while {doing}: {told:#?}");
    }
    let done = world.apply().await;
    assert!(matches!(
        done.outcome,
        ApplyOutcome::Done | ApplyOutcome::Nothing
    ));
    assert!(world.picture().await.contains_key("running/mail"));
    println!("refused {} times", told.len());
}

fn filler(world: &World) -> std::path::PathBuf {
    world.state().join("filler")
}

/// Leaves `room` KiB free.
fn fill(world: &World, room: u64) {
    use std::io::Write;
    let mut file = fs::File::create(filler(world)).unwrap();
    let block = [0_u8; 4096];
    while file.write_all(&block).is_ok() {}
    let size = file.metadata().unwrap().len();
    file.set_len(size.saturating_sub(room * 1024)).unwrap();
}

/// Runs in the namespace, with the log on the small disk.
#[test]
fn audit_child() {
    let Some(world) = world() else {
        return;
    };
    let audit = Audit::open(&world.state(), Events::new()).unwrap();
    let record = |source: String| {
        audit.record(AuditRecord {
            time: 0,
            source,
            requested_target: "vault".to_owned(),
            target: "vault".to_owned(),
            service: "qubes.Filecopy".to_owned(),
            decision: "allow".to_owned(),
            by: "policy".to_owned(),
            rule: "policy/30.policy:7".to_owned(),
            notify: false,
            count: 1,
            since: None,
        });
    };
    record("before".to_owned());
    fill(&world, 0);
    // The first fit into the block that the log has already; one is cut short by its end.
    for number in 0..100 {
        record(format!("full-{number}"));
    }
    fs::remove_file(filler(&world)).unwrap();
    record("after".to_owned());
    let text = fs::read_to_string(world.state().join("audit.jsonl")).unwrap();
    for line in text.lines() {
        assert!(
            serde_json::from_str::<AuditRecord>(line).is_ok(),
            "half a record stays: {line}"
        );
    }
    let kept = text.lines().count();
    assert!((3..100).contains(&kept), "{kept} records were kept");
    let filter = AuditFilter {
        last: 1000,
        ..AuditFilter::default()
    };
    let found = audit.tail(&filter).unwrap();
    assert_eq!(found.first().unwrap().source, "before");
    assert_eq!(found.last().unwrap().source, "after");
    println!("refused {} times", 102 - kept);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    on_a_small_disk("full::child");
}

#[test]
fn a_full_disk_costs_no_record_that_was_written_and_none_after_it() {
    on_a_small_disk("full::audit_child");
}
