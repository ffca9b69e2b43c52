//! Policy folders that change while the daemon runs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

mod world;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_api::call::{AUDIT_MAX, AuditFilter, AuditRecord};
use bulkhead_api::event::Event;
use world::{PATIENCE, Place, World, eventually, name, qube};

const NO_RULES: &str = "# none\n";

fn path(world: &World, path: &str) -> PathBuf {
    world.dir.path().join(path)
}

async fn open(dir: &Arc<Place>) -> World {
    World::open(Arc::clone(dir), vec![qube("work"), qube("vault")], NO_RULES).await
}

fn rules(world: &World) -> u64 {
    world.runtime.policy_status().rules
}

fn faults(world: &World) -> Vec<String> {
    let status = world.runtime.policy_status();
    let faults = status.faults();
    faults
        .map(|f| format!("{}: {} ({})", f.place, f.message, f.remedy))
        .collect()
}

fn audited(world: &World, decision: &str) -> Option<AuditRecord> {
    let filter = AuditFilter {
        last: 1,
        decision: Some(decision.to_owned()),
        ..AuditFilter::default()
    };
    world.runtime.audit().tail(&filter).unwrap().pop()
}

/// What a call comes to, and by which rule. The answer does not wait for its record.
async fn call(world: &World) -> (i32, String) {
    let decisions = || {
        let filter = AuditFilter {
            last: AUDIT_MAX,
            service: Some("test.Echo".to_owned()),
            ..AuditFilter::default()
        };
        world.runtime.audit().tail(&filter).unwrap()
    };
    let before = decisions().len();
    let (code, _) = world.sh("work", "qrexec-client-vm vault test.Echo").await;
    eventually("the record", || decisions().len() > before).await;
    (code, decisions().pop().unwrap().rule)
}

async fn two_running(dir: &Arc<Place>) -> World {
    let world = open(dir).await;
    world.start("work").await;
    world.start("vault").await;
    world.service("vault", "test.Echo", "echo ok").await;
    world
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_file_name(".beside");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_count_from_the_next_call_on_however_they_are_saved() {
    let dir = Place::with_live_policy(&[("policy.d/30.policy", "test.Echo * work vault deny\n")]);
    let world = two_running(&dir).await;
    let file = path(&world, "policy.d/30.policy");
    let said = call(&world).await;
    assert_eq!(
        said,
        (126, "policy.d/30.policy:1: a rule denies it".to_owned())
    );
    let mut lines = 1;
    for (how, allow) in [
        ("in place", true),
        ("over it", false),
        ("anew", true),
        ("appended", true),
    ] {
        lines += 1;
        let action = if allow { "allow" } else { "deny" };
        let comments = "test.None * work work deny\n".repeat(lines - 1);
        let text = format!("{comments}test.Echo * work vault {action}\n");
        match how {
            "in place" => fs::write(&file, text).unwrap(),
            "over it" => replace(&file, &text),
            "anew" => {
                fs::remove_file(&file).unwrap();
                eventually("the file to be gone", || rules(&world) == 0).await;
                fs::write(&file, text).unwrap();
            }
            _ => {
                let mut file = fs::OpenOptions::new().append(true).open(&file).unwrap();
                file.write_all(b"test.None * work work deny\n").unwrap();
                lines = 4;
            }
        }
        let expected = if how == "appended" { 5 } else { lines as u64 };
        eventually(how, || rules(&world) == expected).await;
        let (code, rule) = call(&world).await;
        assert_eq!(code == 0, allow, "{how}");
        assert!(
            rule.starts_with(&format!("policy.d/30.policy:{lines}")),
            "{how}: {rule}"
        );
    }
    // A file of the runtime folder hides it; what that includes counts too, and tells its place.
    fs::write(
        path(&world, "policy.d/include/more"),
        "\n\ntest.Echo * work vault deny\n",
    )
    .unwrap();
    fs::write(
        path(&world, "runtime.d/30.policy"),
        "!include ../policy.d/include/more\n",
    )
    .unwrap();
    eventually("the override", || rules(&world) == 1).await;
    let said = call(&world).await;
    assert_eq!(
        said,
        (126, "policy.d/include/more:3: a rule denies it".to_owned())
    );
    replace(
        &path(&world, "policy.d/include/more"),
        "test.Echo * work vault allow\n",
    );
    eventually("the included file", || {
        audited(&world, "loaded").is_some_and(|r| r.rule == "1 rules are in force")
    })
    .await;
    eventually("no older rules", || faults(&world).is_empty()).await;
    let mut said = call(&world).await;
    let end = Instant::now() + PATIENCE;
    while said.0 != 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
        said = call(&world).await;
    }
    assert_eq!(said, (0, "policy.d/include/more:1".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_with_errors_keep_their_last_good_rules_also_for_the_next_daemon() {
    let dir = Place::with_live_policy(&[("policy.d/30.policy", "test.Echo * work vault allow\n")]);
    let world = two_running(&dir).await;
    let mut events = world.events.subscribe();
    let file = path(&world, "policy.d/30.policy");
    replace(
        &file,
        "# for now\ntest.Echo * work vault alow\ntest.New * work vault allow\n",
    );
    eventually("the fault", || !faults(&world).is_empty()).await;
    insta::assert_snapshot!(faults(&world).join("\n"), @"policy.d/30.policy:2:24: unknown action `alow` (did you mean `allow`?)");
    assert_eq!(call(&world).await, (0, "policy.d/30.policy:1".to_owned()));
    world.service("vault", "test.New", "echo new").await;
    let (code, _) = world.sh("work", "qrexec-client-vm vault test.New").await;
    assert_eq!(code, 126, "what is new is refused");
    insta::assert_snapshot!(audited(&world, "error").unwrap().rule, @"policy.d/30.policy:2:24: unknown action `alow`: the last good rules stay in force");
    let told = loop {
        if let Event::PolicyChanged { ok, rules, errors } = events.recv().await.unwrap() {
            break (ok, rules, errors.len());
        }
    };
    assert_eq!(told, (false, 1, 1));
    // The next daemon has only what was kept.
    let world = world.reopen(NO_RULES).await;
    let status = world.runtime.policy_status();
    assert!(!status.denies_all && !status.folders[0].ok && status.folders[0].read.is_some());
    eventually("the agent", || {
        let info = world.runtime.info(&name("work")).unwrap();
        info.agent_version.is_some()
    })
    .await;
    assert_eq!(call(&world).await, (0, "policy.d/30.policy:1".to_owned()));
    // Mended.
    replace(&file, "test.Echo * work vault deny\n");
    eventually("it to be mended", || faults(&world).is_empty()).await;
    assert_eq!(call(&world).await.0, 126);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_first_start_folders_with_errors_deny_every_call() {
    let dir = Place::with_live_policy(&[("policy.d/30.policy", "test.Echo * work vault alow\n")]);
    let world = two_running(&dir).await;
    let status = world.runtime.policy_status();
    assert!(status.denies_all);
    assert_eq!(status.rules, 0);
    let (code, rule) = call(&world).await;
    assert_eq!(
        (code, rule.as_str()),
        (126, "the policy has errors, so every call is refused")
    );
    let error = audited(&world, "error").unwrap().rule;
    assert!(error.ends_with("every call is refused"), "{error}");
    replace(
        &path(&world, "policy.d/30.policy"),
        "test.Echo * work vault allow\n",
    );
    eventually("it to be mended", || {
        !world.runtime.policy_status().denies_all
    })
    .await;
    assert_eq!(call(&world).await.0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_may_go_and_come_back() {
    let dir = Place::with_live_policy(&[("policy.d/30.policy", "test.Echo * work vault allow\n")]);
    let world = open(&dir).await;
    assert_eq!(rules(&world), 1);
    for round in 0..3 {
        if round == 1 {
            fs::remove_dir_all(path(&world, "policy.d")).unwrap();
        } else {
            fs::rename(path(&world, "policy.d"), path(&world, "away")).unwrap();
        }
        eventually("the folder to be missed", || !faults(&world).is_empty()).await;
        let said = faults(&world).remove(0);
        assert_eq!(
            said,
            "policy.d: folder `policy.d` does not exist (make the folder; it may be empty)"
        );
        assert_eq!(rules(&world), 1);
        if round == 1 {
            fs::create_dir_all(path(&world, "policy.d/include")).unwrap();
            fs::write(
                path(&world, "policy.d/30.policy"),
                "test.Echo * work vault deny\n",
            )
            .unwrap();
        } else {
            fs::rename(path(&world, "away"), path(&world, "policy.d")).unwrap();
        }
        eventually("the folder to be back", || {
            faults(&world).is_empty() && rules(&world) == 1
        })
        .await;
    }
    // Still seen after all that.
    fs::write(
        path(&world, "policy.d/40.policy"),
        "test.Echo * work vault deny\n",
    )
    .unwrap();
    eventually("the new file", || rules(&world) == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_a_file_is_never_in_force() {
    let deny = "test.Echo * work vault deny\n";
    let dir = Place::with_live_policy(&[
        ("policy.d/10.policy", deny),
        ("policy.d/20.policy", "test.Echo * work vault allow\n"),
    ]);
    let world = two_running(&dir).await;
    let file = path(&world, "policy.d/10.policy");
    let writer = std::thread::spawn(move || {
        for round in 0..8 {
            // Truncated first, and written in two parts: between them nothing denies the call.
            let mut file = fs::File::create(&file).unwrap();
            file.write_all(format!("# {round}\n").as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            file.write_all(deny.repeat(round + 1).as_bytes()).unwrap();
        }
    });
    while !writer.is_finished() {
        let (code, rule) = call(&world).await;
        let faults = faults(&world);
        assert_eq!(code, 126, "{rule}, {faults:?}");
    }
    writer.join().unwrap();
    eventually("the last version", || rules(&world) == 9).await;
    assert_eq!(call(&world).await.0, 126);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_files_are_read_and_one_more_is_an_error() {
    let dir = Place::with_live_policy(&[]);
    for number in 0..10_000 {
        let file = dir.path().join(format!("policy.d/{number:05}.policy"));
        fs::write(file, format!("a.N{number} * work vault deny\n")).unwrap();
    }
    let world = open(&dir).await;
    assert_eq!(rules(&world), 10_000);
    fs::write(path(&world, "policy.d/more.policy"), "").unwrap();
    eventually("one file too many", || !faults(&world).is_empty()).await;
    let said = faults(&world).remove(0);
    assert!(
        said.starts_with("policy.d/more.policy: the policy is longer than"),
        "{said}"
    );
    assert_eq!(rules(&world), 10_000);
    fs::remove_file(path(&world, "policy.d/more.policy")).unwrap();
    replace(&path(&world, "policy.d/00000.policy"), "# none\n");
    eventually("it to be mended", || rules(&world) == 9_999).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_description_with_folders_that_never_were_good_is_refused() {
    let dir = Place::with_live_policy(&[("policy.d/30.policy", "nothing good\n")]);
    fs::remove_file(dir.path().join("policy.d.wanted")).unwrap();
    let world = open(&dir).await;
    fs::write(path(&world, "policy.d.wanted"), "").unwrap();
    let refused = world.declare(NO_RULES).await.unwrap_err().to_string();
    assert!(refused.contains("policy.d/30.policy:1:1"), "{refused}");
    assert!(!world.runtime.policy_status().denies_all);
    replace(
        &path(&world, "policy.d/30.policy"),
        "test.Echo * work vault deny\n",
    );
    world.declare(NO_RULES).await.unwrap();
    assert_eq!(rules(&world), 1);
}
