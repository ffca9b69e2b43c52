//! What the daemon says and what its clients read are types of two crates, so that neither waits
//! for the other to change. Here they must agree.

use bulkhead_api::change as client;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::types as daemon;

fn through<T: Serialize + DeserializeOwned>(value: &Value) -> Value {
    let read: T = serde_json::from_value(value.clone()).unwrap();
    serde_json::to_value(read).unwrap()
}

/// A request with every field, none of them as when it is left out: both read all of it.
#[track_caller]
fn request<C, D>(full: Value)
where
    C: Serialize + DeserializeOwned + Default,
    D: Serialize + DeserializeOwned + Default,
{
    assert_eq!(through::<C>(&full), full);
    assert_eq!(through::<D>(&full), full);
    let empty = serde_json::to_value(C::default()).unwrap();
    assert_eq!(serde_json::to_value(D::default()).unwrap(), empty);
    for (field, value) in empty.as_object().unwrap() {
        assert_ne!(&full[field], value, "`{field}` is as when it is left out");
    }
    // A client newer than its daemon is told, and not half obeyed.
    let mut newer = full;
    newer["later"] = json!(1);
    assert!(serde_json::from_value::<D>(newer).is_err());
}

/// Everything that the client reads is there, and is what the daemon said.
#[track_caller]
fn within(part: &Value, whole: &Value) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (name, part) in part {
                let whole = whole.get(name);
                within(
                    part,
                    whole.unwrap_or_else(|| panic!("the daemon says no `{name}`")),
                );
            }
        }
        (Value::Array(part), Value::Array(whole)) => {
            assert_eq!(part.len(), whole.len());
            part.iter()
                .zip(whole)
                .for_each(|(part, whole)| within(part, whole));
        }
        _ => assert_eq!(part, whole),
    }
}

#[track_caller]
fn reply<C, D>(full: Value)
where
    C: Serialize + DeserializeOwned,
    D: Serialize + DeserializeOwned,
{
    let said = through::<D>(&full);
    assert_eq!(said, full, "every field is given, and none that is not");
    within(&through::<C>(&said), &said);
}

#[test]
fn requests_are_the_same_on_both_sides() {
    let plan = json!({
        "system": "/etc/x.ron", "restart": true, "update_templates": true, "keep_volumes": true,
    });
    request::<client::PlanRequest, daemon::PlanRequest>(plan.clone());
    request::<client::ApplyRequest, daemon::ApplyRequest>(json!({
        "plan": plan, "allow_destroy": true, "message": "m", "expect": "f",
    }));
    request::<client::RollbackRequest, daemon::RollbackRequest>(json!({
        "generation": 3, "restart": true, "message": "m", "allow_destroy": true, "dry_run": true,
    }));
    request::<client::GcRequest, daemon::GcRequest>(json!({
        "keep": 3, "generations": [1, 2], "orphan_volumes": true, "dry_run": true,
    }));
}

fn generation() -> Value {
    json!({
        "number": 3, "created": 1700000000, "who": "ann", "message": "m", "digest": "d",
        "qubes": 4, "rollback_of": 1, "current": true, "booted": true,
    })
}

fn applying() -> Value {
    json!({"apply": 1, "who": "ann", "since": 1700000000, "done": 1, "steps": 2})
}

#[test]
fn clients_find_what_they_read_in_what_the_daemon_says() {
    reply::<client::GenerationInfo, daemon::GenerationInfo>(generation());
    reply::<client::Applying, daemon::Applying>(applying());
    reply::<client::Drift, daemon::Drift>(json!({
        "kind": "not_running", "subject": "work", "text": "t", "remedy": "r",
    }));
    reply::<client::PendingRestart, daemon::PendingRestart>(json!({
        "qube": "work", "properties": ["vcpus"],
    }));
    reply::<client::GcReport, daemon::GcReport>(json!({
        "generations": [1], "images": [["0".repeat(64), 5]], "volumes": ["work:private"],
        "kept": ["k"], "freed": 5,
    }));
}

#[test]
fn a_status_is_the_daemons_and_what_the_bus_adds() {
    let status = json!({
        "generation": generation(), "applying": applying(), "drift": [], "pending": [],
        "orphan_volumes": [], "warnings": ["w"],
    });
    let mut said = through::<daemon::Status>(&status);
    assert_eq!(said, status);
    assert!(serde_json::from_value::<client::Status>(said.clone()).is_err());
    said["hypervisor"] = json!("embedded");
    said["notices"] = json!(["n"]);
    said["without_effect"] = json!({ "kernel": ["work"] });
    said["policy"] = json!({
        "rules": 1, "denies_all": false, "faults": [], "folders": [], "blind": "b",
    });
    within(&through::<client::Status>(&said), &said);
}

#[test]
fn outcomes_have_the_same_names() {
    for name in ["nothing", "done", "undone", "partly"] {
        let name = json!(name);
        assert_eq!(through::<client::ApplyOutcome>(&name), name);
        assert_eq!(through::<daemon::ApplyOutcome>(&name), name);
        let outcome: client::ApplyOutcome = serde_json::from_value(name.clone()).unwrap();
        assert_eq!(json!(outcome.as_str()), name);
    }
}
