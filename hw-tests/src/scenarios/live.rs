//! What changes about a qube while it runs, and what waits for its next start.

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::chain::starts;
use super::running::{DESCRIPTION, SYSTEM, TWO_QUBES, both_run, restart_daemon, sh};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "live::memory_changes_while_a_qube_runs_and_the_rest_waits",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&TWO_QUBES),
        run: memory_changes_and_the_rest_waits,
    },
    Scenario {
        name: "live::processors_come_and_go_and_weigh_more_or_less",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&TWO_QUBES),
        run: processors_come_and_go,
    },
];

/// The description, with something said about `work`.
fn with_work(said: &str) -> String {
    SYSTEM.replacen(
        r#""work": (label: "blue","#,
        &format!(r#""work": (label: "blue", {said},"#),
        1,
    )
}

/// Writes the description, and says what a plan makes of it.
fn plan(dom0: &dyn Line, said: &str) -> Result<String> {
    dom0.put(with_work(said).as_bytes(), DESCRIPTION)?;
    dom0.sh("bulkhead plan 2>&1")
}

/// Whether a plan says that this property changes at the next start.
fn waits(planned: &str, property: &str) -> bool {
    let mut lines = planned.lines().filter(|line| line.contains(property));
    lines.any(|line| line.contains("(at next start)"))
}

fn memory_changes_and_the_rest_waits(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let before = dom0.sh("xl domid work; xl domid vault")?;
    let full = seen_inside(dom0)?;

    let planned = plan(dom0, "memory: (initial: 220, maximum: 300)")?;
    ensure!(!waits(&planned, "memory"), "{planned}");
    dom0.sh("bulkhead apply --yes 2>&1")?;
    has(dom0, 220)?;
    let rows = dom0.sh("bulkhead ls --json | tr -d ' \n'")?;
    ensure!(rows.contains(r#""memory":220"#), "{rows}");
    let less = wait_inside(dom0, |seen| seen + 70_000 < full)?;
    eprintln!("MemTotal {full} kB at 300 MiB, {less} kB at 220");

    // A daemon that comes anew knows how it is, and can go on.
    restart_daemon(world)?;
    both_run(world)?;
    let planned = plan(dom0, "memory: (initial: 220, maximum: 300)")?;
    ensure!(planned.contains("othing to do"), "{planned}");
    plan(dom0, "memory: (initial: 280, maximum: 300)")?;
    dom0.sh("bulkhead apply --yes 2>&1")?;
    has(dom0, 280)?;
    wait_inside(dom0, |seen| seen > less + 50_000)?;

    // More than it was made for waits.
    let planned = plan(dom0, "memory: (initial: 320, maximum: 400)")?;
    ensure!(waits(&planned, "memory"), "{planned}");
    dom0.sh("bulkhead apply --yes 2>&1")?;
    has(dom0, 280)?;

    let planned = plan(dom0, "memory: (initial: 320, maximum: 400), vcpus: 2")?;
    ensure!(waits(&planned, "vcpus"), "{planned}");
    let after = dom0.sh("xl domid work; xl domid vault")?;
    ensure!(before == after, "{before}{after}");
    Ok(())
}

/// What Xen asks of `work`, by itself and by its balloon driver.
fn has(dom0: &dyn Line, mib: u32) -> Result<()> {
    let target = dom0.sh("xenstore-read /local/domain/$(xl domid work)/memory/target")?;
    ensure!(target.trim() == (mib * 1024).to_string(), "{target}");
    dom0.wait_until(
        &format!("xl list work | awk 'NR == 2 && $3 >= {mib} - 2 && $3 <= {mib} + 2' | grep ."),
        PATIENCE,
    )
    .map(drop)
}

/// All memory that `work` says it has, in kB.
fn seen_inside(dom0: &dyn Line) -> Result<u64> {
    let said = sh(dom0, "work", "sed -n 's/^MemTotal: *//p' /proc/meminfo")?;
    let number = said.split(' ').next().unwrap_or_default();
    number.parse().with_context(|| said.clone())
}

fn wait_inside(dom0: &dyn Line, fits: impl Fn(u64) -> bool) -> Result<u64> {
    for _ in 0..20 {
        let seen = seen_inside(dom0)?;
        if fits(seen) {
            return Ok(seen);
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    anyhow::bail!("it still has {} kB", seen_inside(dom0)?)
}

/// What loads udev, which takes what dom0 gives into use.
const WITH_UDEV: &str =
    "systemd.unit=qube-agent.service systemd.wants=systemd-udevd.service systemd.show_status=no";

fn processors_come_and_go(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    dom0.sh("timeout 100 bulkhead kill work 2>&1")?;
    let declared = |vcpus: u32, weight: u32| {
        format!(r#"kernelopts: "{WITH_UDEV}", vcpus: {vcpus}, maxvcpus: 2, cpu_weight: {weight}"#)
    };
    plan(dom0, &declared(1, 256))?;
    dom0.sh("bulkhead apply --yes 2>&1")?;
    starts(dom0, "work")?;
    let before = dom0.sh("xl domid work")?;
    uses(dom0, "0")?;
    // The agent is there before udev, which nothing here asks to look at what came earlier.
    let udev = "timeout 60 bulkhead run --user root work -- systemctl is-active systemd-udevd";
    dom0.wait_until(udev, PATIENCE)?;

    let planned = plan(dom0, &declared(2, 512))?;
    for property in ["vcpus", "cpu_weight"] {
        ensure!(!waits(&planned, property), "{planned}");
    }
    dom0.sh("bulkhead apply --yes 2>&1")?;
    uses(dom0, "0-1")?;
    dom0.sh("xl sched-credit2 -d work | awk 'NR == 2' | grep -w 512")?;

    plan(dom0, &declared(1, 256))?;
    dom0.sh("bulkhead apply --yes 2>&1")?;
    uses(dom0, "0")?;
    dom0.sh("xl sched-credit2 -d work | awk 'NR == 2' | grep -w 256")?;
    let after = dom0.sh("xl domid work")?;
    ensure!(before == after, "it was started again: {before}{after}");
    Ok(())
}

/// Waits until `work` uses these processors, by its own count and by Xen's.
fn uses(dom0: &dyn Line, processors: &str) -> Result<()> {
    let inside = format!(
        "test $(timeout 60 bulkhead run work -- cat /sys/devices/system/cpu/online) = {processors}"
    );
    let online = processors.split('-').count();
    let listed = format!(
        "test $(xl vcpu-list work | awk 'NR > 1 && $5 ~ /[rb-]{{3}}/ && $5 !~ /p/' | wc -l) = {online}"
    );
    let said = "xl vcpu-list work; xenstore-ls /local/domain/$(xl domid work)/cpu; \
                bulkhead run --user root work -- 'grep . /sys/devices/system/cpu/*; dmesg | tail' 2>&1";
    dom0.wait_until(&inside, PATIENCE)
        .and_then(|_| dom0.wait_until(&listed, PATIENCE))
        .map(drop)
        .map_err(|error| error.context(dom0.sh(said).unwrap_or_default()))
}
