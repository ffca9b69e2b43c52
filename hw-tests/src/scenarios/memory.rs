//! A machine without the memory for one more qube.

use anyhow::{Result, ensure};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{TWO_QUBES, apply, both_run, sh, system_with};
use super::traces::{note, nothing_else};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "memory::one_qube_too_many_is_refused_with_the_numbers",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::Always,
    from: Start::Prepared(&TWO_QUBES),
    run: one_qube_too_many_is_refused,
}];

/// More than the whole machine has beside dom0.
const QUBES: &str = r#""large": (label: "red", memory: (initial: 3500, maximum: 3500)),"#;

fn one_qube_too_many_is_refused(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    apply(world, &system_with(QUBES, ""))?;
    note(world)?;
    let refused = dom0.run(&["timeout", "100", "bulkhead", "start", "large"])?;
    ensure!(refused.code == 1, "{refused:?}");
    for part in [
        "`large`",
        "MiB of memory are needed, and",
        "MiB are free",
        "dom0 with Xen has",
        "`work` has ",
        "`vault` has ",
        "bulkhead stop",
    ] {
        ensure!(refused.err.contains(part), "no {part} in: {}", refused.err);
    }
    eprintln!("{}", refused.err);
    nothing_else(world)?;
    both_run(world)?;
    for qube in ["work", "vault"] {
        sh(dom0, qube, "true")?;
    }
    Ok(())
}
