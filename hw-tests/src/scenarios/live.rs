//! What changes about a qube while it runs, and what waits for its next start.

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{DESCRIPTION, SYSTEM, TWO_QUBES, both_run, restart_daemon, sh};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "live::memory_changes_while_a_qube_runs_and_the_rest_waits",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::All,
    from: Start::Prepared(&TWO_QUBES),
    run: memory_changes_and_the_rest_waits,
}];

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
