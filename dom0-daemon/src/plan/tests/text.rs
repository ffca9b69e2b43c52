use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_model::qube::{Mib, PolicyText, Qube, QubeKind, TemplateSource, Volume};
use insta::assert_snapshot;

use crate::hypervisor::Reach;
use crate::machine::{LiveProperty, Stopped};
use crate::plan::build::{PlanOptions, Restarts, Undeclared, plan};
use crate::plan::render::{Colour, render};
use crate::plan::sim::*;

fn shown(plan: &crate::plan::Plan) -> String {
    render(plan, Colour::Off)
}

const RESTART: PlanOptions = PlanOptions {
    restarts: Restarts::Now,
    undeclared: Undeclared::Destroy,
    shrink: crate::plan::build::Shrink::Refuse,
    images: crate::plan::build::Images::Locked,
};

#[test]
fn a_new_machine() {
    let mut description = desktop();
    description.qubes.remove("vault");
    description.qubes.remove("sys-firewall");
    description.qube_mut("work").unwrap().netvm = Some(name("sys-net"));
    description.policy.push(PolicyText {
        origin: "system.ron".into(),
        first_line: 1,
        text: "qubes.Filecopy * work vault ask".into(),
    });
    assert_snapshot!(shown(&planned(&description, &all_live(), PlanOptions::default())), @r"
    The first generation:

      + label black
      + label blue
      + label red
      + template host  this machine's own root; new

      + qube sys-net  starts (autostart)
          + kind             = App
          + label            = red
          + template         = host
          + netvm            = none
          + provides_network = true
          + autostart        = true
          + volume private  2 GiB

      + qube work  starts (autostart)
          + kind      = App
          + label     = blue
          + template  = host
          + netvm     = sys-net
          + autostart = true
          + volume private  2 GiB

      ~ policy
          + qubes.Filecopy * work vault ask

    Plan: 2 to add, 0 to change, 0 to remove; 2 to start.
    ");
}

#[test]
fn nothing_to_do() {
    let description = desktop();
    let plan = planned(&description, &applied(&description), PlanOptions::default());
    assert_snapshot!(shown(&plan), @"Nothing to do: the machine is as described.");
}

#[test]
fn expectations_and_new_wording_alone() {
    let before = desktop();
    let observed = applied(&before);
    let mut after = desktop();
    let text = |line| PolicyText {
        origin: "system.ron".into(),
        first_line: line,
        text: "work -> vault qubes.Filecopy is deny".into(),
    };
    after.policy_tests.push(text(1));
    assert_snapshot!(shown(&planned(&after, &observed, PlanOptions::default())), @r"
    From generation 1 to a new one:

      ~ policy tests
          + work -> vault qubes.Filecopy is deny

    Plan: 0 to add, 0 to change, 0 to remove.
    ");
    let observed = applied(&after);
    after.policy_tests = vec![text(2)];
    assert_snapshot!(shown(&planned(&after, &observed, PlanOptions::default())), @r"
    From generation 1 to a new one:

    Only where or how something is written differs; what it means does not.

    Plan: 0 to add, 0 to change, 0 to remove.
    ");
}

#[test]
fn the_user_of_dom0s_services_alone() {
    let before = desktop();
    let observed = applied(&before);
    let mut after = desktop();
    after.dom0.service_user = Some("ann".into());
    assert_snapshot!(shown(&planned(&after, &observed, PlanOptions::default())), @r"
    From generation 1 to a new one:

      ~ dom0  service_user: none -> ann

    Plan: 0 to add, 0 to change, 0 to remove.
    ");
}

#[test]
fn properties_that_change_now_and_at_the_next_start() {
    let before = desktop();
    let mut after = desktop();
    let work = after.qube_mut("work").unwrap();
    work.memory.maximum = Mib(8192);
    work.netvm = None;
    work.label = "black".into();
    work.kernelopts = "quiet".into();
    work.services = BTreeMap::from([("cups".to_owned(), true)]);
    work.tags.insert("office".into());
    work.volumes.get_mut("private").unwrap().size = Mib(4096);
    let observed = applied(&before);
    assert_snapshot!(shown(&planned(&after, &observed, PlanOptions::default())), @r#"
    From generation 1 to a new one:

      ~ qube work  waits for its next start (kernelopts)
          ~ label          = blue -> black
          ~ netvm          = sys-firewall -> none
          ~ memory.maximum = 4000 MiB -> 8 GiB
          ~ kernelopts     = "" -> quiet  (at next start)
          + services.cups  = true
          ~ tags           = [] -> [office]
          ~ volume private  2 GiB -> 4 GiB

    Plan: 0 to add, 1 to change, 0 to remove; 1 to change at next start.
    "#);
    assert_snapshot!(shown(&planned(&after, &observed, RESTART)), @r#"
    From generation 1 to a new one:

      ~ qube work  restarts (for kernelopts)
          ~ label          = blue -> black
          ~ netvm          = sys-firewall -> none
          ~ memory.maximum = 4000 MiB -> 8 GiB
          ~ kernelopts     = "" -> quiet
          + services.cups  = true
          ~ tags           = [] -> [office]
          ~ volume private  2 GiB -> 4 GiB

    Plan: 0 to add, 1 to change, 0 to remove; 1 to restart.
    "#);
}

#[test]
fn what_a_qube_was_not_made_for_waits_for_its_next_start() {
    let before = desktop();
    let mut observed = applied(&before);
    observed.machine.running.get_mut("work").unwrap().reach = Reach {
        memory: Some(Mib(4000)),
        vcpus: Some(4),
    };
    let plan = |maximum: u64, vcpus: u32| {
        let mut after = desktop();
        let work = after.qube_mut("work").unwrap();
        work.memory.maximum = Mib(maximum);
        work.vcpus = vcpus;
        shown(&planned(&after, &observed, PlanOptions::default()))
    };
    assert_snapshot!(plan(3000, 4), @r"
    From generation 1 to a new one:

      ~ qube work
          ~ memory.maximum = 4000 MiB -> 3000 MiB
          ~ vcpus          = 2 -> 4

    Plan: 0 to add, 1 to change, 0 to remove.
    ");
    assert_snapshot!(plan(4001, 5), @r"
    From generation 1 to a new one:

      ~ qube work  waits for its next start (memory, vcpus)
          ~ memory.maximum = 4000 MiB -> 4001 MiB  (at next start)
          ~ vcpus          = 2 -> 5  (at next start)

    Plan: 0 to add, 1 to change, 0 to remove; 1 to change at next start.
    ");
}

#[test]
fn a_share_of_processor_time_changes_at_once_where_it_can() {
    let mut observed = applied(&desktop());
    let mut after = desktop();
    after.qube_mut("work").unwrap().cpu_weight = 512;
    assert_snapshot!(shown(&planned(&after, &observed, PlanOptions::default())), @r"
    From generation 1 to a new one:

      ~ qube work
          ~ cpu_weight = 256 -> 512

    Plan: 0 to add, 1 to change, 0 to remove.
    ");
    observed.machine.live.remove(&LiveProperty::CpuWeight);
    let later = shown(&planned(&after, &observed, PlanOptions::default()));
    assert!(later.contains("256 -> 512  (at next start)"), "{later}");
}

#[test]
fn a_qube_that_waits_for_its_restart_is_not_planned_again() {
    let before = desktop();
    let mut after = desktop();
    after.qube_mut("work").unwrap().kernelopts = "quiet".into();
    let mut sim = Sim::new(applied(&before), &after);
    sim.run(&planned(
        &after,
        &sim.observed.clone(),
        PlanOptions::default(),
    ));
    assert_snapshot!(shown(&planned(&after, &sim.observed, PlanOptions::default())), @r"
    Nothing to do: the machine is as described.
    Note: Qube work runs with old values until its next start (kernelopts); --restart restarts it now.
    ");
    assert_snapshot!(shown(&planned(&after, &sim.observed, RESTART)), @r"
    Back to what generation 2 declares:

      ~ qube work  restarts (for kernelopts)

    Plan: 0 to add, 0 to change, 0 to remove; 1 to restart.
    ");
}

#[test]
fn a_removed_qube_names_the_data_that_goes() {
    let before = desktop();
    let mut after = desktop();
    after.qubes.remove("work");
    let observed = applied(&before);
    assert_snapshot!(shown(&planned(&after, &observed, PlanOptions::default())), @r"
    From generation 1 to a new one:

      - qube work  stops (no longer declared)
          - volume private  2 GiB, DESTROYS ITS DATA, needs --allow-destroy

    Plan: 0 to add, 0 to change, 1 to remove; 1 to stop.
    Destroys the data of work:private: needs --allow-destroy, or --keep-volumes to keep it.
    ");
    let keep = PlanOptions {
        undeclared: Undeclared::Keep,
        ..PlanOptions::default()
    };
    assert_snapshot!(shown(&planned(&after, &observed, keep)), @r"
    From generation 1 to a new one:

      - qube work  stops (no longer declared)
          ~ volume private  2 GiB, kept though no longer declared

    Plan: 0 to add, 0 to change, 1 to remove; 1 to stop.
    Note: The volumes of work are kept and belong to no qube; `bulkhead gc --orphan-volumes` destroys them.
    ");
}

#[test]
fn a_volume_left_by_an_earlier_qube_is_used() {
    let before = desktop();
    let mut without = desktop();
    without.qubes.remove("vault");
    let keep = PlanOptions {
        undeclared: Undeclared::Keep,
        ..PlanOptions::default()
    };
    let mut sim = Sim::new(applied(&before), &without);
    sim.run(&planned(&without, &sim.observed.clone(), keep));
    assert_snapshot!(shown(&planned(&before, &sim.observed, PlanOptions::default())), @r"
    From generation 2 to a new one:

      + qube vault
          + kind     = App
          + label    = black
          + template = host
          + netvm    = none
          ~ volume private  2 GiB, kept from an earlier qube of this name

    Plan: 1 to add, 0 to change, 0 to remove.
    ");
}

#[test]
fn a_volume_never_shrinks_and_every_problem_is_told_at_once() {
    let mut before = desktop();
    let vault = before.qube_mut("vault").unwrap();
    vault.volumes.insert(
        "data".into(),
        Volume {
            size: Mib(100),
            revisions_to_keep: 0,
        },
    );
    let mut after = desktop();
    after.qube_mut("work").unwrap().volumes.clear();
    after
        .qube_mut("vault")
        .unwrap()
        .volumes
        .get_mut("private")
        .unwrap()
        .size = Mib(1024);
    let observed = applied(&before);
    let error = plan(
        &after,
        &lock_of(&observed),
        &observed,
        PlanOptions::default(),
    )
    .unwrap_err();
    assert_snapshot!(error.to_string().replace("; ", "\n"), @r"
    volume `vault:private` cannot shrink from 2 GiB to 1 GiB
    volume `work:private` cannot be removed while qube `work` runs
    ");
}

#[test]
fn drift_is_repaired_without_a_new_generation() {
    let description = desktop();
    let mut observed = applied(&description);
    observed.machine.running.remove("sys-net");
    observed
        .machine
        .stopped
        .insert(name("sys-net"), Stopped::Died);
    observed
        .machine
        .running
        .get_mut("work")
        .unwrap()
        .spec
        .memory
        .maximum = Mib(100);
    observed.volumes.remove("vault");
    let mut stray = observed.machine.running["work"].clone();
    stray.spec.name = name("stray");
    stray.spec.netvm = None;
    observed.machine.running.insert(name("stray"), stray);
    let plan = planned(&description, &observed, PlanOptions::default());
    assert!(!plan.makes_generation());
    assert_snapshot!(shown(&plan), @r"
    Back to what generation 1 declares:

      ~ qube stray  stops (it runs and nobody declares it)

      ~ qube sys-net  starts (it died)

      ~ qube vault
          + volume private  2 GiB

      ~ qube work
          ~ memory.maximum = 100 MiB -> 4000 MiB

    Plan: 0 to add, 2 to change, 0 to remove; 1 to start, 1 to stop.
    Note: Volume vault:private has vanished with its data; an empty one is created in its place.
    ");
}

#[test]
fn what_a_person_stopped_stays_stopped() {
    let description = desktop();
    let mut observed = applied(&description);
    observed.machine.running.remove("work");
    observed
        .machine
        .stopped
        .insert(name("work"), Stopped::ByPerson);
    assert!(planned(&description, &observed, PlanOptions::default()).is_empty());
}

#[test]
fn a_qube_that_starts_takes_its_network_along() {
    let mut before = desktop();
    for qube in before.qubes.values_mut() {
        Arc::make_mut(qube).autostart = false;
    }
    let mut after = before.clone();
    after.qube_mut("work").unwrap().autostart = true;
    let plan = planned(&after, &applied(&before), PlanOptions::default());
    assert_snapshot!(shown(&plan), @r"
    From generation 1 to a new one:

      ~ qube sys-firewall  starts (work needs its network)

      ~ qube sys-net  starts (sys-firewall needs its network)

      ~ qube work  starts (autostart)
          ~ autostart = false -> true

    Plan: 0 to add, 1 to change, 0 to remove; 3 to start.
    ");
    let order: Vec<String> = plan
        .steps
        .iter()
        .map(|step| step.action.describe())
        .collect();
    assert_snapshot!(order.join("\n"), @r"
    declare the new description
    start sys-net
    start sys-firewall
    start work
    switch to the new generation
    ");
}

#[test]
fn a_template_from_another_source() {
    let before = desktop();
    let mut after = desktop();
    let template = after.templates.get_mut("host").unwrap();
    template.source = TemplateSource::Debian {
        suite: "trixie".into(),
        packages: vec!["git".into()],
    };
    assert_snapshot!(shown(&planned(&after, &applied(&before), PlanOptions::default())), @r"
    From generation 1 to a new one:

      ~ template host  Debian trixie with git; its source is another

      ~ qube sys-firewall  waits for its next start (template image)

      ~ qube sys-net  waits for its next start (template image)

      ~ qube work  waits for its next start (template image)

    Plan: 0 to add, 0 to change, 0 to remove; 3 to change at next start.
    ");
}

#[test]
fn colours_only_where_asked_for() {
    let before = desktop();
    let mut after = desktop();
    after.qubes.insert(
        name("new"),
        Qube::new(name("new"), QubeKind::Standalone, "red").into(),
    );
    let plan = planned(&after, &applied(&before), PlanOptions::default());
    assert!(!render(&plan, Colour::Off).contains('\x1b'));
    assert!(render(&plan, Colour::On).contains("\x1b[32m+\x1b[0m qube new"));
}

#[test]
fn json_survives_the_way_back() {
    let plan = planned(&desktop(), &all_live(), PlanOptions::default());
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(
        serde_json::from_str::<crate::plan::Plan>(&json).unwrap(),
        plan
    );
}
