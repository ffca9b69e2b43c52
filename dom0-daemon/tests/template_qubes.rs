//! Template qubes: what is installed in one reaches the qubes based on it once it has stopped.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

mod world;

use std::path::PathBuf;

use bulkhead_api::qube::{QubeInfo, TemplateRoot};
use bulkhead_model::qube::{Mib, Qube, QubeKind, Volume};
use bulkheadd::machine::Machine;
use bulkheadd::runtime::Dependents;
use bulkheadd::storage::Storage;
use world::{World, eventually, name, qube};

/// A template qube whose root has as many earlier revisions.
fn tools(revisions_to_keep: u32) -> Qube {
    let mut tools = Qube {
        kind: QubeKind::Template,
        ..qube("tools")
    };
    let root = Volume {
        size: Mib(100),
        revisions_to_keep,
    };
    tools.volumes.insert("root".to_owned(), root);
    tools
}

fn based_on_tools(text: &str) -> Qube {
    Qube {
        template: Some(name("tools")),
        ..qube(text)
    }
}

async fn world() -> World {
    let qubes = vec![
        tools(0),
        based_on_tools("app"),
        based_on_tools("other"),
        Qube {
            kind: QubeKind::DisposableTemplate,
            ..based_on_tools("dvm")
        },
    ];
    World::new(qubes, "").await
}

async fn stop(world: &World, qube: &str) {
    let (runtime, qube) = (&world.runtime, name(qube));
    let stopped = runtime.stop_qube(&qube, None, Dependents::Respect).await;
    stopped.unwrap();
}

async fn kill(world: &World, qube: &str) {
    let (runtime, qube) = (&world.runtime, name(qube));
    let killed = runtime.kill_qube(&qube, Dependents::Respect).await;
    killed.unwrap();
}

/// Runs `script` in the template qube, which starts for it and stops then.
async fn install(world: &World, script: &str) {
    must(world, "tools", script).await;
    stop(world, "tools").await;
}

async fn must(world: &World, qube: &str, script: &str) -> String {
    let (code, said) = world.sh(qube, &format!("({script}) 2>&1")).await;
    assert_eq!(code, 0, "{qube}: {script}: {said}");
    said
}

/// What a qube that starts for this finds.
async fn finds(world: &World, qube: &str) -> String {
    let said = must(world, qube, "cat /usr/installed 2>/dev/null || echo none").await;
    said.trim().to_owned()
}

fn info(world: &World, qube: &str) -> QubeInfo {
    world.runtime.info(&name(qube)).unwrap()
}

fn root(world: &World, qube: &str) -> (Option<u64>, Option<u64>, bool) {
    let TemplateRoot {
        template,
        revision,
        newest,
        outdated,
    } = info(world, qube).template_root.unwrap();
    assert_eq!(template, "tools");
    (revision, newest, outdated)
}

/// Folders of revisions, by number.
fn revisions(world: &World) -> Vec<u64> {
    let mut found: Vec<u64> = Vec::new();
    for root in std::fs::read_dir(folder(world)).unwrap() {
        let entries = std::fs::read_dir(root.unwrap().path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        found.extend(names.filter_map(|name| name.parse::<u64>().ok()));
    }
    found.sort_unstable();
    found
}

fn folder(world: &World) -> PathBuf {
    world.dir.path().join("state/volumes/.revisions")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_installed_is_there_at_the_next_start_of_the_qubes_based_on_it() {
    let world = world().await;
    let script =
        "echo one > /usr/installed; mkdir -p /etc/tool/deep; echo on > /etc/tool/deep/conf";
    must(&world, "tools", script).await;
    // It runs, so that there is the image alone.
    assert_eq!(finds(&world, "app").await, "none");
    assert_eq!(root(&world, "app"), (None, None, false));
    stop(&world, "tools").await;
    assert_eq!(finds(&world, "app").await, "none", "it runs on what it had");
    assert_eq!(root(&world, "app"), (None, Some(1), true));
    assert!(info(&world, "app").restart_needed);
    stop(&world, "app").await;
    assert_eq!(finds(&world, "app").await, "one");
    assert_eq!(root(&world, "app"), (Some(1), Some(1), false));
    assert!(!info(&world, "app").restart_needed);
    assert_eq!(info(&world, "tools").revisions[0].number, 1);
    let script = "hostname; whoami; cat /etc/hostname /etc/tool/deep/conf";
    let said = must(&world, "app", script).await;
    assert_eq!(said, "app\nuser\napp\non\n");
    // What it does to its root is its own, and gone with it.
    let script = "rm -f /usr/installed; echo mine > /usr/installed; rm -rf /etc/tool";
    must(&world, "app", &format!("{script} 2>/dev/null || true")).await;
    assert_eq!(finds(&world, "app").await, "mine");
    assert_eq!(finds(&world, "other").await, "one");
    let said = must(&world, "other", "cat /etc/tool/deep/conf").await;
    assert_eq!(said, "on\n");
    stop(&world, "app").await;
    assert_eq!(finds(&world, "app").await, "one");
    // A disposable too.
    let base = name("dvm");
    let disposable = world.runtime.create_disposable(Some(&base)).await.unwrap();
    assert_eq!(finds(&world, disposable.as_str()).await, "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_and_removed_there_is_changed_and_removed_for_all() {
    let world = world().await;
    install(
        &world,
        "echo one > /usr/installed; echo a > /usr/gone; mkdir /etc/d; echo b > /etc/d/f; \
         ln -s nowhere /etc/link",
    )
    .await;
    // A qube of which nothing was written to stops as well.
    world.start("tools").await;
    stop(&world, "tools").await;
    install(
        &world,
        "cat /usr/gone /etc/d/f; echo two > /usr/installed; rm /usr/gone; rm -r /etc/d; mkdir /etc/d; \
         echo c > /etc/d/g; rm /etc/link",
    )
    .await;
    let script = "cat /usr/installed; ls /usr/gone /etc/link 2>&1 | wc -l; ls /etc/d; cat /etc/d/g";
    let expect = "two\n2\ng\nc\n";
    assert_eq!(must(&world, "app", script).await, expect);
    // The template qube itself finds the same.
    assert_eq!(must(&world, "tools", script).await, expect);
    stop(&world, "tools").await;
    stop(&world, "app").await;
    assert_eq!(must(&world, "app", script).await, expect);
    assert_eq!(revisions(&world), [4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_template_qube_wrote_waits_for_its_next_clean_stop() {
    let world = world().await;
    install(&world, "echo one > /usr/installed").await;
    must(&world, "tools", "echo two > /usr/installed").await;
    kill(&world, "tools").await;
    assert_eq!(finds(&world, "app").await, "one");
    assert_eq!(root(&world, "app"), (Some(1), Some(1), false));
    assert_eq!(
        world.storage.warnings().await.unwrap(),
        [
            "The root of tools as it was at its last stop is not what its qubes start from: it did \
          not stop in order. The next stop of tools tries again."
        ]
    );
    // One that dies by itself did not stop either.
    must(&world, "tools", "cat /usr/installed").await;
    let first = world.hypervisor_pids().await["tools"];
    rustix::process::kill_process(first, rustix::process::Signal::KILL).unwrap();
    eventually("it to be gone", || {
        !info(&world, "tools").row.state.has_domain()
    })
    .await;
    assert_eq!(finds(&world, "other").await, "one");
    assert_eq!(finds(&world, "tools").await, "two", "its own root stays");
    stop(&world, "tools").await;
    assert!(world.storage.warnings().await.unwrap().is_empty());
    stop(&world, "app").await;
    assert_eq!(finds(&world, "app").await, "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_stays_while_a_qube_runs_on_it_whatever_daemon_there_is() {
    let world = world().await;
    install(&world, "echo one > /usr/installed").await;
    assert_eq!(finds(&world, "app").await, "one");
    let world = world.reopen("").await;
    eventually("its agent", || info(&world, "app").agent_version.is_some()).await;
    assert_eq!(root(&world, "app"), (Some(1), Some(1), false));
    install(&world, "echo two > /usr/installed").await;
    install(&world, "echo three > /usr/installed").await;
    // None is kept beyond the newest, but for that of the one that runs.
    assert_eq!(revisions(&world), [1, 3]);
    assert_eq!(root(&world, "app"), (Some(1), Some(3), true));
    assert_eq!(finds(&world, "app").await, "one");
    let seen = world.runtime.observe().await.unwrap();
    assert_eq!(seen.revisions[&name("tools")].number, 3);
    assert_eq!(seen.running[&name("app")].revision.unwrap().number, 1);
    stop(&world, "app").await;
    eventually("what nobody runs on to go", || revisions(&world) == [3]).await;
    assert_eq!(finds(&world, "app").await, "three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_goes_back_to_an_earlier_revision() {
    let qubes = vec![tools(5), based_on_tools("app")];
    let world = World::new(qubes, "").await;
    for text in ["one", "two", "three"] {
        install(&world, &format!("echo {text} > /usr/installed")).await;
    }
    let revert = async |qube: &str, to| world.runtime.revert_root(&name(qube), to).await;
    must(&world, "tools", "echo lost > /usr/installed").await;
    kill(&world, "tools").await;
    let back = revert("tools", None).await.unwrap();
    assert_eq!((back.to, back.revision), (2, 4));
    assert!(world.storage.warnings().await.unwrap().is_empty());
    assert_eq!(finds(&world, "app").await, "two");
    assert_eq!(finds(&world, "tools").await, "two");
    let refused = async |qube, to| revert(qube, to).await.unwrap_err().to_string();
    assert_eq!(refused("tools", None).await, "qube `tools` runs");
    stop(&world, "tools").await;
    let back = revert("tools", Some(1)).await.unwrap();
    assert_eq!((back.to, back.revision), (1, 6));
    stop(&world, "app").await;
    assert_eq!(finds(&world, "app").await, "one");
    let error = revert("tools", Some(77)).await.unwrap_err();
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(said, "the root of `tools` has no revision 77");
    let said = refused("app", None).await;
    assert_eq!(
        said,
        "qube `app` is not of kind `Template`, so its root has no revisions"
    );
    assert_eq!(revisions(&world), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_of_its_own_begins_as_that_of_a_template_qube() {
    let mut alone = based_on_tools("alone");
    alone.kind = QubeKind::Standalone;
    alone
        .volumes
        .insert("root".to_owned(), tools(0).volumes["root"].clone());
    let world = World::new(vec![tools(0), alone], "").await;
    install(&world, "echo one > /usr/installed").await;
    assert_eq!(finds(&world, "alone").await, "one");
    must(
        &world,
        "alone",
        "rm -f /usr/installed; echo own > /usr/installed",
    )
    .await;
    install(&world, "echo two > /usr/installed").await;
    stop(&world, "alone").await;
    assert_eq!(finds(&world, "alone").await, "own");
    assert!(info(&world, "alone").template_root.is_none());
    assert!(!info(&world, "alone").restart_needed);
}
