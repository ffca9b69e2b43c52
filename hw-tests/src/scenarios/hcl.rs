//! What `bulkhead hcl` says of the emulated machine.

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::PATIENCE;
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};
use serde_json::Value;

use super::packages::install;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "hcl::the_machine_is_reported_as_far_as_somebody_knows_it",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::Always,
    from: Start::Bare,
    run: the_machine_is_reported,
}];

/// The level of a verdict.
fn level<'r>(report: &'r Value, topic: &str) -> Option<&'r str> {
    let verdicts = report.get("verdicts")?.as_array()?;
    let of = |verdict: &&Value| verdict.get("topic").and_then(Value::as_str) == Some(topic);
    verdicts.iter().find(of)?.get("level")?.as_str()
}

fn the_machine_is_reported(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    install(dom0)?;
    // Nobody knows but Xen, and nobody asks Xen.
    let alone = dom0.run(&["bulkhead", "hcl", "--json"])?;
    ensure!(alone.code == 3, "{alone:?}");
    ensure!(alone.err.contains("no daemon answers"), "{alone:?}");
    let report: Value = serde_json::from_str(&alone.out)?;
    ensure!(level(&report, "iommu") == Some("unknown"), "{report:#}");

    dom0.sh(
        "echo '(qubes: {})' > /tmp/system.ron; setsid bulkheadd --hypervisor xen --system /tmp/system.ron \
         --state-dir /tmp/state > /tmp/bulkheadd.log 2>&1 < /dev/null &",
    )?;
    dom0.wait_until("bulkhead ls", PATIENCE)
        .with_context(|| dom0.sh("cat /tmp/bulkheadd.log").unwrap_or_default())?;
    let report: Value = serde_json::from_str(&dom0.sh("bulkhead hcl --json")?)?;
    for (topic, expect) in [
        ("virtualisation", "works"),
        ("paging", "works"),
        // QEMU has none unless it is asked to.
        ("iommu", "fails"),
        ("tpm", "limited"),
        ("storage", "works"),
    ] {
        ensure!(level(&report, topic) == Some(expect), "{topic}: {report:#}");
    }
    let vendor = report.pointer("/machine/vendor").and_then(Value::as_str);
    ensure!(vendor == Some("QEMU"), "{report:#}");
    let version = report
        .pointer("/hypervisor/version")
        .and_then(Value::as_str);
    let running = dom0.sh("xl info xen_version")?;
    ensure!(
        version == Some(running.trim()),
        "{version:?} is not {running}"
    );
    let text = dom0.sh("bulkhead hcl")?;
    ensure!(text.contains("\nfails    iommu"), "{text}");
    Ok(())
}
