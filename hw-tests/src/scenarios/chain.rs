//! Networks that the daemon connects: who reaches what, while netvms come, go and change.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Preparation, Scenario, Start, When, World};
use bulkhead_templates::cache::Key;

use super::network::WORLD;
use super::running::{self, DESCRIPTION, in_qube, sh};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "chain::a_qube_reaches_the_world_through_its_netvms_as_they_are_declared",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&CHAIN),
        run: declared,
    },
    Scenario {
        name: "chain::a_netvm_goes_by_force_alone_and_serves_again_when_it_is_back",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&CHAIN),
        run: comes_again,
    },
    Scenario {
        name: "chain::a_netvm_that_died_while_nobody_watched_serves_again_when_it_is_back",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&CHAIN),
        run: died_unseen,
    },
    Scenario {
        name: "chain::a_qube_without_a_netvm_reaches_nothing",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&CHAIN),
        run: vault_is_alone,
    },
];

/// `work` runs, with the netvms that it needs and a world behind them.
static CHAIN: Preparation = Preparation {
    name: "chain",
    inputs,
    run: prepare,
};

fn inputs() -> Result<Key> {
    let here = [SYSTEM.as_bytes(), WORLD.as_bytes()];
    let made = running::inputs()?;
    Ok(Key::of(here.into_iter().chain([made.as_str().as_bytes()])))
}

const SYSTEM: &str = r#"(
    defaults: (
        template: "debian",
        vcpus: 1,
        memory: (initial: 300, maximum: 300),
        netvm: None,
        // The rest of systemd takes long under emulation, and is not what this is about.
        kernelopts: "systemd.unit=qube-agent.service systemd.wants=qube-network.service systemd.show_status=no",
    ),
    templates: {"debian": (source: Image("/var/tmp/template"))},
    qubes: {
        "sys-net": (label: "red", provides_network: true, volumes: {"private": (size: 64)}),
        "sys-firewall": (label: "green", provides_network: true, netvm: "sys-net", volumes: {"private": (size: 64)}),
        "work": (label: "blue", netvm: "sys-firewall", volumes: {"private": (size: 64)}),
        "vault": (label: "black", volumes: {"private": (size: 64)}),
    },
)"#;

/// How `work` is declared.
const WORK: &str = r#""blue", netvm: "sys-firewall""#;

/// A server behind `sys-net`, which says who called.
const SERVER: (&str, u16) = ("192.0.2.80", 80);

/// Longer than all of them take to start under emulation, beside other work.
pub(super) const STARTS: Duration = Duration::from_secs(500);

/// The whole way from nothing to `work`, by its name alone.
fn prepare(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    running::install(world, SYSTEM)?;
    starts(dom0, "work")?;
    make_world(dom0)
}

/// Runs what may take several starts of qubes.
pub(super) fn long(dom0: &dyn Line, script: &str) -> Result<String> {
    let mut running = dom0.start(&["sh", "-euc", script])?;
    running.close_input()?;
    let ended = running.wait(STARTS)?.ok();
    ended.map_err(|error| error.context(state(dom0)))
}

/// Starts a qube, and again where the emulator brought it down.
pub(super) fn starts(dom0: &dyn Line, qube: &str) -> Result<()> {
    let start = format!("for try in 1 2 3; do bulkhead start {qube} 2>&1 && exit; done; exit 1");
    long(dom0, &start).map(drop)
}

/// Makes what is behind `sys-net`, as often as that starts.
pub(super) fn make_world(dom0: &dyn Line) -> Result<()> {
    dom0.put(WORLD.as_bytes(), "/tmp/world")?;
    dom0.sh("timeout 100 bulkhead run --user root sys-net -- 'sh -eus' < /tmp/world 2>&1")
        .map(drop)
}

/// What a server says to a qube that connects to it; empty where nobody answers.
fn heard(dom0: &dyn Line, qube: &str, (host, port): (&str, u16)) -> Result<String> {
    let script = format!("timeout 5 bash -c 'cat < /dev/tcp/{host}/{port}' 2> /dev/null || true");
    sh(dom0, qube, &script)
}

/// All that explains why something does not answer.
fn state(dom0: &dyn Line) -> String {
    let mut all = dom0
        .sh(
            "bulkhead ls; xl list; tail -n 20 /var/lib/bulkhead/log/qubes/*;
             xenstore-ls -f | grep /vif/ || true; journalctl -u bulkheadd --no-pager | tail -60",
        )
        .unwrap_or_default();
    let own = "systemctl --no-pager status qube-network; journalctl --no-pager -b -u qube-network; \
               lsmod; ip address; ip route; nft list ruleset; qubesdb-multiread /qubes";
    for qube in ["sys-net", "sys-firewall", "work"] {
        let words = [
            "timeout", "100", "bulkhead", "run", "--user", "root", qube, "--", own,
        ];
        let said = dom0.run(&words).map(|said| said.out + &said.err);
        all += &format!("\n=== {qube}\n{}", said.unwrap_or_default());
    }
    all
}

/// A qube reaches the server, which knows `sys-net` alone. What sees to its network may only just have
/// been started.
pub(super) fn reaches(dom0: &dyn Line, qube: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let said = heard(dom0, qube, SERVER)?;
        if said == "80 192.0.2.1\n" {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("{qube} hears `{said}`\n{}", state(dom0));
        }
    }
}

pub(super) fn silent(dom0: &dyn Line, qube: &str) -> Result<()> {
    let said = heard(dom0, qube, SERVER)?;
    ensure!(said.is_empty(), "{qube} hears `{said}`");
    Ok(())
}

pub(super) fn domid(dom0: &dyn Line, qube: &str) -> Result<u32> {
    let said = dom0.sh(&format!("xl domid {qube}"))?;
    said.trim().parse().context("it has no number")
}

/// The domains that the interfaces of a qube lead to, by Xen.
pub(super) fn leads_to(dom0: &dyn Line, qube: &str) -> Result<Vec<u32>> {
    let listed = dom0.sh(&format!(
        "xenstore-ls -f /local/domain/$(xl domid {qube})/device/vif 2> /dev/null \
         | sed -n 's/.*backend-id = \"\\(.*\\)\"/\\1/p'"
    ))?;
    let numbers = listed.lines().map(|line| line.trim().parse());
    numbers.collect::<Result<_, _>>().context(listed.clone())
}

/// Declares `work` anew; what the plan says of it.
fn redeclare(dom0: &dyn Line, work: &str) -> Result<String> {
    let text = SYSTEM.replace(WORK, work);
    dom0.put(text.as_bytes(), DESCRIPTION)?;
    let plan = dom0.run(&["bulkhead", "plan"])?;
    long(dom0, "bulkhead apply --yes 2>&1")?;
    Ok(plan.out)
}

fn declared(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    begins(dom0)?;
    changes_live(dom0)?;
    outlives_the_daemon(dom0)
}

/// One was started, the others because of it, and each leads to the next. Their numbers say nothing: one
/// that the emulator brings down comes again.
fn begins(dom0: &dyn Line) -> Result<()> {
    let (net, firewall) = (domid(dom0, "sys-net")?, domid(dom0, "sys-firewall")?);
    ensure!(leads_to(dom0, "work")? == [firewall], "{}", state(dom0));
    ensure!(leads_to(dom0, "sys-firewall")? == [net], "{}", state(dom0));
    ensure!(leads_to(dom0, "sys-net")?.is_empty(), "{}", state(dom0));
    reaches(dom0, "work")
}

/// Qubes lose, get and change their network while they run.
fn changes_live(dom0: &dyn Line) -> Result<()> {
    let before = domid(dom0, "work")?;
    let plan = redeclare(dom0, r#""blue", netvm: None"#)?;
    ensure!(
        plan.contains("netvm = sys-firewall -> none") && !plan.contains("next start"),
        "{plan}"
    );
    ensure!(leads_to(dom0, "work")?.is_empty(), "{}", state(dom0));
    let told = sh(dom0, "work", "qubesdb-read /qubes-ip || echo nothing")?;
    ensure!(told == "nothing\n", "{told}");
    silent(dom0, "work")?;
    redeclare(dom0, r#""blue", netvm: "sys-net""#)?;
    ensure!(leads_to(dom0, "work")? == [domid(dom0, "sys-net")?]);
    reaches(dom0, "work")?;
    redeclare(dom0, WORK)?;
    ensure!(leads_to(dom0, "work")? == [domid(dom0, "sys-firewall")?]);
    reaches(dom0, "work")?;
    ensure!(domid(dom0, "work")? == before, "it was started again");
    Ok(())
}

fn outlives_the_daemon(dom0: &dyn Line) -> Result<()> {
    let interfaces = "xenstore-ls -f /libxl | grep /vif/";
    let before = dom0.sh(interfaces)?;
    dom0.sh("systemctl restart bulkheadd")?;
    reaches(dom0, "work")?;
    let after = dom0.sh(interfaces)?;
    ensure!(before == after, "{before}{after}");
    Ok(())
}

fn comes_again(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let refused = dom0.run(&["bulkhead", "stop", "sys-firewall"])?;
    ensure!(
        refused.code == 1
            && refused.err.contains("provides network to `work`")
            && refused.err.contains("--force"),
        "{refused:?}"
    );
    let before = domid(dom0, "sys-firewall")?;
    long(dom0, "bulkhead restart --force sys-firewall 2>&1")?;
    ensure!(domid(dom0, "sys-firewall")? != before);
    reaches(dom0, "work")
}

fn died_unseen(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    reaches(dom0, "work")?;
    dom0.sh("systemctl stop bulkheadd; xl destroy sys-net; systemctl start bulkheadd")?;
    let gone =
        "test -z \"$(xenstore-ls -f /libxl/$(xl domid sys-firewall)/device/vif 2> /dev/null)\"";
    dom0.wait_until(gone, PATIENCE)?;
    silent(dom0, "work")?;
    starts(dom0, "sys-net")?;
    make_world(dom0)?;
    reaches(dom0, "work")
}

fn vault_is_alone(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    starts(dom0, "vault")?;
    ensure!(leads_to(dom0, "vault")?.is_empty(), "{}", state(dom0));
    silent(dom0, "vault")?;
    let interfaces = in_qube(dom0, "vault", "ls /sys/class/net; qubesdb-read /qubes-ip")?;
    ensure!(interfaces.out == "lo\n", "{interfaces:?}");
    Ok(())
}
