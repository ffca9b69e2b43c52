//! The lives of real qubes: starts, ends, restarts, and what outlives them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

mod world;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bulkhead_api::event::Event;
use bulkhead_api::qube::QubeState;
use bulkhead_model::qube::{Memory, Mib, Qube, RestartRule};
use bulkheadd::hypervisor::{DomainEvent, Ending, Hypervisor};
use bulkheadd::machine::{LiveChange, LiveProperty, Machine, MachineError, Reason, Stopped};
use bulkheadd::runtime::Dependents;
use world::forgetful::Forgetful;
use world::{PATIENCE, Place, World, eventually, name, qube, running};

fn state(world: &World, text: &str) -> QubeState {
    world.runtime.info(&name(text)).unwrap().row.state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_this_machine_can_change_is_offered_as_a_live_change() {
    let world = World::new(vec![qube("work")], "").await;
    world.start("work").await;
    let domid = world.hypervisor.list().await.unwrap()[0].spec.domid;
    let live = world.runtime.observe().await.unwrap().live;
    let memory = Memory {
        initial: Mib(300),
        maximum: Mib(300),
    };
    let memory = world.hypervisor.set_memory(domid, memory).await;
    assert_eq!(live.contains(&LiveProperty::Memory), memory.is_ok());
    let vcpus = world.hypervisor.set_vcpus(domid, 1).await;
    assert_eq!(live.contains(&LiveProperty::Vcpus), vcpus.is_ok());
    let weight = world.hypervisor.set_cpu_weight(domid, 512).await;
    assert_eq!(live.contains(&LiveProperty::CpuWeight), weight.is_ok());
    // Where it cannot be done, whoever declares it is told so.
    let heavy = Qube {
        cpu_weight: 512,
        ..qube("work")
    };
    let ignored = |qube| {
        world
            .hypervisor
            .without_effect(qube)
            .contains(&"cpu_weight".to_owned())
    };
    assert_eq!(ignored(&heavy), weight.is_err());
    assert!(!ignored(&qube("work")), "it is as usual");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qube_that_others_have_their_network_from_is_not_stopped() {
    let net = Qube {
        provides_network: true,
        ..qube("net")
    };
    let work = Qube {
        netvm: Some(name("net")),
        ..qube("work")
    };
    let world = World::new(vec![net, work], "").await;
    world.start("work").await;
    let stop = |text, dependents| {
        let (runtime, name) = (world.runtime.clone(), name(text));
        async move { runtime.stop_qube(&name, None, dependents).await }
    };
    let refused = stop("net", Dependents::Respect).await.unwrap_err();
    let said = refused.to_string();
    assert_eq!(said, "qube `net` provides network to `work`, which run");
    let (runtime, net) = (&world.runtime, name("net"));
    let killed = runtime.kill_qube(&net, Dependents::Respect).await;
    assert_eq!(killed.unwrap_err().to_string(), said);
    let restarted = runtime.restart_qube(&net, None, Dependents::Respect).await;
    assert_eq!(restarted.unwrap_err().to_string(), said);
    assert_eq!(running(&world).await.len(), 2);
    let before = runtime.info(&net).unwrap().row.domid;
    let restarted = runtime.restart_qube(&net, None, Dependents::CutOff).await;
    restarted.unwrap();
    assert_ne!(runtime.info(&net).unwrap().row.domid, before);
    runtime.kill_qube(&net, Dependents::CutOff).await.unwrap();
    assert_eq!(running(&world).await, ["work"]);
    world.start("net").await;
    stop("net", Dependents::CutOff).await.unwrap();
    assert_eq!(running(&world).await, ["work"]);
    world.start("net").await;
    stop("work", Dependents::Respect).await.unwrap();
    stop("net", Dependents::Respect).await.unwrap();
    assert!(running(&world).await.is_empty());
}

/// What a qube reads in QubesDB, as soon as that is `expect`.
async fn reads(world: &World, qube: &str, key: &str, expect: &str) {
    let script = format!("qubesdb-read {key} || echo nothing");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, said) = world.sh(qube, &script).await;
        if said.trim() == expect {
            return;
        }
        let late = tokio::time::Instant::now() > deadline;
        assert!(!late, "{qube} reads {said} in {key}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_qube_is_told_of_its_network_whenever_that_changes() {
    let net = Qube {
        provides_network: true,
        ..qube("net")
    };
    let work = Qube {
        netvm: Some(name("net")),
        ..qube("work")
    };
    let world = World::new(vec![net, work], "").await;
    world.start("work").await;
    reads(&world, "work", "/qubes-gateway", "10.138.0.1").await;
    reads(&world, "net", "/connected-ips", "10.137.0.2").await;
    let (runtime, net) = (&world.runtime, name("net"));
    let restarted = runtime.restart_qube(&net, None, Dependents::CutOff).await;
    restarted.unwrap();
    reads(&world, "work", "/qubes-gateway", "10.138.0.3").await;
    reads(&world, "work", "/qubes-ip", "10.137.0.2").await;
    reads(&world, "net", "/connected-ips", "10.137.0.2").await;
    runtime.kill_qube(&net, Dependents::CutOff).await.unwrap();
    reads(&world, "work", "/qubes-gateway", "nothing").await;
    world.start("net").await;
    reads(&world, "work", "/qubes-gateway", "10.138.0.4").await;
    let none = LiveChange::NetVm(None);
    runtime.live_update(&name("work"), &none).await.unwrap();
    reads(&world, "work", "/qubes-ip", "nothing").await;
    reads(&world, "net", "/connected-ips", "").await;
    let again = LiveChange::NetVm(Some(net));
    runtime.live_update(&name("work"), &again).await.unwrap();
    reads(&world, "work", "/qubes-gateway", "10.138.0.4").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_netvm_starts_before_the_qube_that_needs_it() {
    let net = Qube {
        provides_network: true,
        ..qube("net")
    };
    let work = Qube {
        netvm: Some(name("net")),
        ..qube("work")
    };
    let world = World::new(vec![net, work], "").await;
    world.start("work").await;
    assert_eq!(running(&world).await, ["net", "work"]);
    let (code, said) = world
        .sh(
            "work",
            // Calls are served before there are keys.
            "until qubesdb-read /qubes-ip > /run/ip 2> /run/error; do sleep 0.1; done
             qubesdb-read /name; cat /run/ip",
        )
        .await;
    assert_eq!((code, said.as_str()), (0, "work\n10.137.0.2\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_state_is_told_in_order() {
    let world = World::new(vec![qube("work")], "").await;
    let mut events = world.events.subscribe();
    world.start("work").await;
    world.runtime.set_paused(&name("work"), true).await.unwrap();
    assert_eq!(state(&world, "work"), QubeState::Paused);
    world
        .runtime
        .set_paused(&name("work"), false)
        .await
        .unwrap();
    world
        .runtime
        .stop_qube(&name("work"), None, Dependents::Respect)
        .await
        .unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&QubeState::Stopped) {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap();
        if let Event::QubeChanged(row) = event.unwrap() {
            seen.push(row.state);
        }
    }
    seen.dedup();
    let seen: Vec<_> = seen.iter().map(|state| state.as_str()).collect();
    let expect = "starting running paused running stopping stopped";
    assert_eq!(seen.join(" "), expect);
    // Doing again what is done changes nothing.
    world
        .runtime
        .stop_qube(&name("work"), None, Dependents::Respect)
        .await
        .unwrap();
    world
        .runtime
        .kill_qube(&name("work"), Dependents::Respect)
        .await
        .unwrap();
    let paused = world.runtime.set_paused(&name("work"), true).await;
    assert!(matches!(paused, Err(MachineError::NotRunning(_))));
    let unknown = world
        .runtime
        .kill_qube(&name("nobody"), Dependents::CutOff)
        .await;
    assert!(matches!(unknown, Err(MachineError::NoSuchQube(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qube_that_does_not_stop_in_time_is_killed() {
    let world = World::new(vec![qube("work")], "").await;
    world.start("work").await;
    let timeout = Some(Duration::ZERO);
    world
        .runtime
        .stop_qube(&name("work"), timeout, Dependents::Respect)
        .await
        .unwrap();
    assert!(running(&world).await.is_empty());
    assert_eq!(state(&world, "work"), QubeState::Stopped);
    let observed = world.runtime.observe().await.unwrap();
    assert_eq!(observed.stopped[&name("work")], Stopped::ByPerson);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qube_that_lost_what_it_was_asked_is_asked_again_and_is_not_killed() {
    let dir = Arc::new(Place::new());
    let forgetful = OnceLock::new();
    let made = |embedded| {
        let made = forgetful.get_or_init(|| Arc::new(Forgetful::new(embedded)));
        Arc::clone(made) as Arc<dyn Hypervisor>
    };
    let world = World::open_on(dir, vec![qube("work")], "", made).await;
    world.start("work").await;
    let mut deaths = world.hypervisor.subscribe();
    world
        .runtime
        .stop_qube(&name("work"), Some(PATIENCE), Dependents::Respect)
        .await
        .unwrap();
    let DomainEvent::Died { how, .. } = deaths.recv().await.unwrap();
    assert_eq!(how, Ending::Shutdown);
    assert!(forgetful.get().unwrap().asked() >= 2);
    assert_eq!(state(&world, "work"), QubeState::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_qube_whose_rule_says_so_starts_again_after_a_crash() {
    let phoenix = Qube {
        restart: RestartRule::OnFailure,
        ..qube("phoenix")
    };
    let world = World::new(vec![phoenix, qube("work")], "").await;
    for text in ["phoenix", "work"] {
        world.start(text).await;
        let list = world.hypervisor_pids().await;
        rustix::process::kill_process(list[text], rustix::process::Signal::KILL).unwrap();
        eventually("its death", || state(&world, text) == QubeState::Failed).await;
    }
    eventually("it to rise", || {
        state(&world, "phoenix") == QubeState::Running
    })
    .await;
    assert_eq!(state(&world, "work"), QubeState::Failed);
    let observed = world.runtime.observe().await.unwrap();
    assert_eq!(observed.stopped[&name("work")], Stopped::Died);
    // Stopped by a person it stays so.
    world
        .runtime
        .stop_qube(&name("phoenix"), None, Dependents::Respect)
        .await
        .unwrap();
    assert_eq!(state(&world, "phoenix"), QubeState::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_and_limits_change_while_it_runs_and_are_kept() {
    let world = World::new(vec![qube("work")], "").await;
    world.start("work").await;
    let services = LiveChange::Services([("crond".to_owned(), true)].into());
    world
        .runtime
        .live_update(&name("work"), &services)
        .await
        .unwrap();
    let read = "until qubesdb-read /qubes-service/crond; do sleep 0.05; done";
    assert_eq!(world.sh("work", read).await.1, "1\n");
    let memory = Memory {
        initial: Mib(300),
        maximum: Mib(300),
    };
    let changed = world
        .runtime
        .live_update(&name("work"), &LiveChange::Memory(memory))
        .await;
    // Where memory cannot be limited that way, it says so instead of doing nothing.
    let report = world.hypervisor.probe().await.unwrap();
    assert_eq!(changed.is_ok(), report.facts["cgroup"].contains("memory"));
    let world = world.reopen("").await;
    let observed = world.runtime.observe().await.unwrap();
    let spec = &observed.running[&name("work")].spec;
    assert_eq!(spec.services.get("crond"), Some(&true));
    world
        .runtime
        .stop(&name("work"), PATIENCE, Reason::Apply)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_by_a_person_is_remembered_by_the_next_daemon_until_it_starts_again() {
    let world = World::new(vec![qube("work"), qube("vault")], "").await;
    for text in ["work", "vault"] {
        world.start(text).await;
    }
    world
        .runtime
        .stop_qube(&name("work"), None, Dependents::Respect)
        .await
        .unwrap();
    let list = world.hypervisor_pids().await;
    rustix::process::kill_process(list["vault"], rustix::process::Signal::KILL).unwrap();
    eventually("its death", || state(&world, "vault") == QubeState::Failed).await;
    let world = world.reopen("").await;
    let observed = world.runtime.observe().await.unwrap();
    assert_eq!(observed.stopped[&name("work")], Stopped::ByPerson);
    assert_eq!(observed.stopped[&name("vault")], Stopped::Died);
    assert_eq!(state(&world, "vault"), QubeState::Failed);
    world.start("work").await;
    // Taken along by a daemon that ends, it is to start with the next one.
    world.runtime.stop_all().await;
    let world = world.reopen("").await;
    let observed = world.runtime.observe().await.unwrap();
    assert!(!observed.stopped.contains_key(&name("work")));
    assert!(running(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_stops_with_netvms_after_those_that_use_them() {
    let net = |text: &str, netvm: Option<&str>| Qube {
        provides_network: true,
        netvm: netvm.map(name),
        ..qube(text)
    };
    let work = Qube {
        provides_network: false,
        ..net("work", Some("firewall"))
    };
    let qubes = vec![net("net", None), net("firewall", Some("net")), work];
    let world = World::new(qubes, "").await;
    world.start("work").await;
    let mut events = world.events.subscribe();
    world.runtime.stop_all().await;
    let mut stopped = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::QubeChanged(row) = event
            && row.state == QubeState::Stopped
        {
            stopped.push(row.name);
        }
    }
    assert_eq!(stopped, ["work", "firewall", "net"]);
}
