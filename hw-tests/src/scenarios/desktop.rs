//! The desktop of the demo on Xen: the description is `examples/desktop`, and its story is the same.

use anyhow::{Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Preparation, Scenario, Start, When, World};
use bulkhead_templates::cache::Key;

use super::asked::waiting;
use super::chain::{STARTS, domid, leads_to, long, make_world, reaches, silent, starts};
use super::network::WORLD;
use super::running::{self, DESCRIPTION, TEMPLATE, domains, in_qube, is, sh};
use super::traces::{note, nothing_else};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "desktop::its_qubes_are_listed_and_call_each_other_as_the_policy_says",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&DESKTOP),
        run: its_qubes_are_listed_and_call_each_other,
    },
    Scenario {
        name: "desktop::its_netvms_are_the_only_way_out",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&DESKTOP),
        run: its_netvms_are_the_only_way_out,
    },
    Scenario {
        name: "desktop::a_disposable_does_one_command",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&DESKTOP),
        run: a_disposable_does_one_command,
    },
    Scenario {
        name: "desktop::a_qube_more_is_applied_and_rolled_back",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&DESKTOP),
        run: a_qube_more_is_applied_and_rolled_back,
    },
];

/// The whole desktop runs, with a world behind it.
static DESKTOP: Preparation = Preparation {
    name: "desktop",
    inputs,
    run: prepare,
};

/// The files of the example, by their paths below its folder. The first is adapted by [`system`].
const FILES: [(&str, &str); 5] = [
    (
        "system.ron",
        include_str!("../../../examples/desktop/system.ron"),
    ),
    (
        "qubes/people.ron",
        include_str!("../../../examples/desktop/qubes/people.ron"),
    ),
    (
        "qubes/services.ron",
        include_str!("../../../examples/desktop/qubes/services.ron"),
    ),
    (
        "policy/30-desktop.policy",
        include_str!("../../../examples/desktop/policy/30-desktop.policy"),
    ),
    (
        "policy/desktop.expect",
        include_str!("../../../examples/desktop/policy/desktop.expect"),
    ),
];

/// What else is said here, and before which words of the example.
const SAID_MORE: [(&str, &str); 2] = [
    // The rest of systemd takes long under emulation, and is not what this is about.
    (
        "        vcpus: 1,\n",
        "        kernelopts: \"systemd.unit=qube-agent.service \
         systemd.wants=qube-network.service systemd.show_status=no\",\n",
    ),
    (
        "        Rule(service: \"qubes.VMShell\"",
        "        \"test.Dom0 * work @adminvm allow user=root\",\n",
    ),
];

/// Qubes that run, and the one that disposables are made from.
const RUNNING: [&str; 5] = ["personal", "sys-firewall", "sys-net", "vault", "work"];
const DISPOSABLE_TEMPLATE: &str = "untrusted";

const RESEARCH: &str = r#"(
    qubes: {
        "research": (label: "orange", autostart: true),
    },
)
"#;

/// What a refused call exits with, as in the Qubes tools.
const EXIT_REFUSED: i32 = 126;

fn inputs() -> Result<Key> {
    let files = FILES.iter().map(|(_, text)| text.as_bytes());
    let here = [include_bytes!("desktop.rs"), WORLD.as_bytes()];
    let made = running::inputs()?;
    let made = [made.as_str().as_bytes()];
    Ok(Key::of(files.chain(here).chain(made)))
}

/// The description of the example, on the template that is here.
fn system(text: &str) -> Result<String> {
    let mut system = text.to_owned();
    for (before, more) in SAID_MORE {
        ensure!(system.contains(before), "`{before}` is not in the example");
        system = system.replacen(before, &format!("{more}{before}"), 1);
    }
    let root = "source: Host";
    ensure!(system.contains(root), "the example has another root");
    Ok(system.replace(root, &format!(r#"source: Image("{TEMPLATE}")"#)))
}

/// What people do on a new machine: describe, apply, start.
fn prepare(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    running::installed(world)?;
    dom0.sh("mkdir -p /etc/bulkhead/qubes /etc/bulkhead/policy")?;
    for (path, text) in FILES {
        let text = match path {
            "system.ron" => system(text)?,
            _ => text.to_owned(),
        };
        dom0.put(text.as_bytes(), &format!("/etc/bulkhead/{path}"))?;
    }
    running::start(dom0)?;
    // The qubes that serve others start with the machine.
    long(
        dom0,
        "for try in 1 2 3; do bulkhead apply --yes -m 'first desktop' 2>&1 && exit; done; exit 1",
    )?;
    for qube in ["work", "personal", "vault"] {
        starts(dom0, qube)?;
    }
    make_world(dom0)?;
    all_run(world)
}

/// The desktop as a person and as Xen see it.
fn all_run(world: &World) -> Result<()> {
    let domains = domains(world)?;
    let names: Vec<_> = domains
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(name, _)| name))
        .collect();
    ensure!(names == RUNNING, "{domains}");
    Ok(())
}

fn its_qubes_are_listed_and_call_each_other(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    all_run(world)?;
    let listed = dom0.sh("bulkhead ls")?;
    ensure!(listed.contains(DISPOSABLE_TEMPLATE), "{listed}");
    let plan = dom0.sh("bulkhead plan 2>&1")?;
    ensure!(plan.contains("othing to"), "{plan}");

    let said = sh(dom0, "work", "echo I am $(id -un) in $(uname -n); ls /home")?;
    ensure!(said == "I am user in work\nuser\n", "{said}");
    dom0.sh(
        "printf '#!/bin/sh\nread line; echo dom0 got $line\n' > /etc/qubes-rpc/test.Dom0
         chmod +x /etc/qubes-rpc/test.Dom0",
    )?;
    let said = sh(dom0, "work", "echo this | qrexec-client-vm dom0 test.Dom0")?;
    ensure!(said == "dom0 got this\n", "{said}");
    // It is allowed unasked, and refused unasked.
    let said = sh(dom0, "vault", "qrexec-client-vm sys-net qubes.GetDate")?;
    ensure!(said.starts_with("20"), "{said}");
    let refused = in_qube(
        dom0,
        "work",
        "echo id | qrexec-client-vm vault qubes.VMShell",
    )?;
    ensure!(refused.code == EXIT_REFUSED, "{refused:?}");
    copies(dom0)
}

/// One copy is asked about, the other is refused.
fn copies(dom0: &dyn Line) -> Result<()> {
    sh(dom0, "work", "echo The report of today. > report.txt")?;
    let (copy, id) = waiting(dom0, "qvm-copy-to-vm vault report.txt")?;
    dom0.sh(&format!("bulkhead ask allow {id}"))?;
    copy.wait(PATIENCE)?.ok()?;
    let arrived = sh(dom0, "vault", "cat QubesIncoming/work/report.txt")?;
    ensure!(arrived == "The report of today.\n", "{arrived}");

    let refused = in_qube(
        dom0,
        "personal",
        "echo x > holiday.txt; qvm-copy-to-vm vault holiday.txt",
    )?;
    ensure!(refused.code == EXIT_REFUSED, "{refused:?}");
    sh(dom0, "vault", "test ! -e QubesIncoming/personal").map(drop)
}

fn its_netvms_are_the_only_way_out(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    for (qube, netvm) in [
        ("work", "sys-firewall"),
        ("personal", "sys-firewall"),
        ("sys-firewall", "sys-net"),
    ] {
        ensure!(
            leads_to(dom0, qube)? == [domid(dom0, netvm)?],
            "{qube} leads elsewhere than to {netvm}"
        );
    }
    reaches(dom0, "work")?;
    reaches(dom0, "personal")?;
    ensure!(leads_to(dom0, "vault")?.is_empty(), "the vault has a way");
    silent(dom0, "vault")
}

fn a_disposable_does_one_command(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    note(world)?;
    let said = long(
        dom0,
        "bulkhead run --dispvm untrusted -- 'echo I am $(uname -n); touch ~/trace'",
    )?;
    ensure!(said.starts_with("I am disp"), "{said}");
    nothing_else(world)?;
    all_run(world)
}

fn a_qube_more_is_applied_and_rolled_back(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let folder = DESCRIPTION.trim_end_matches("system.ron");
    dom0.put(RESEARCH.as_bytes(), &format!("{folder}qubes/research.ron"))?;
    let plan = dom0.run(&["bulkhead", "plan"])?;
    ensure!(plan.out.contains("+ qube research"), "{plan:?}");
    long(dom0, "bulkhead apply --yes -m 'a qube for research' 2>&1")?;
    let domains = domains(world)?;
    ensure!(domains.contains("research "), "{domains}");
    // What still boots when it is stopped has nobody who could stop it in order.
    dom0.wait_until(&is("research", "running"), STARTS)?;
    let again = long(dom0, "bulkhead apply --yes 2>&1")?;
    ensure!(again.contains("othing to"), "{again}");

    long(dom0, "bulkhead rollback --yes 2>&1")?;
    all_run(world)?;
    dom0.sh("! bulkhead ls | grep research")?;
    let generations = dom0.sh("bulkhead generations")?;
    for message in ["first desktop", "a qube for research"] {
        ensure!(generations.contains(message), "{generations}");
    }
    let diff = dom0.sh("bulkhead diff 2 1")?;
    ensure!(diff.contains("research"), "{diff}");

    // Those that provide network stop last, and nobody is killed.
    long(dom0, "bulkhead stop --all --timeout 200 2>&1")?;
    // Xen takes the last one apart yet.
    dom0.wait_until(
        "[ \"$(xl list | awk 'NR > 1 {print $1}')\" = Domain-0 ]",
        PATIENCE,
    )?;
    dom0.sh("! journalctl -u bulkheadd | grep 'did not stop in time'")
        .map(drop)
}
