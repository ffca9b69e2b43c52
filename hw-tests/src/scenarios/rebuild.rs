//! A template that is built anew, and the way back.

use std::time::Duration;

use anyhow::{Result, ensure};
use bulkhead_hw_tests::line::Line;
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{TEMPLATE, TWO_QUBES, sh};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "rebuild::a_qube_takes_a_new_template_at_its_next_start_and_rolls_back",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::All,
    from: Start::Prepared(&TWO_QUBES),
    run: rebuilt,
}];

/// Longer than the daemon takes to read a disk under emulation, or a qube to start.
const LONG: Duration = Duration::from_secs(300);

fn long(dom0: &dyn Line, script: &str) -> Result<String> {
    let mut running = dom0.start(&["sh", "-euc", script])?;
    running.close_input()?;
    running.wait(LONG)?.ok()
}

/// Which edition of the template a qube runs.
fn edition(dom0: &dyn Line) -> Result<String> {
    sh(dom0, "work", "cat /etc/edition 2>/dev/null || echo one")
}

fn rebuilt(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    dom0.sh("bulkhead kill vault")?;
    sh(dom0, "work", "echo mine > ~/mine; sync")?;
    dom0.sh(&format!(
        "mount -o loop {TEMPLATE}/root.ext4 /mnt; echo two > /mnt/etc/edition; umount /mnt"
    ))?;
    // What was locked stays until an update is asked for.
    let plan = dom0.sh("bulkhead plan 2>&1")?;
    ensure!(plan.contains("othing to"), "{plan}");
    long(dom0, "bulkhead apply --yes --update-templates 2>&1")?;
    let pending = "bulkhead status | grep -A 1 'Waiting for a restart' | grep work";
    dom0.sh(pending)?;
    ensure!(edition(dom0)? == "one\n", "it changed under a running qube");
    long(dom0, "bulkhead restart work 2>&1")?;
    ensure!(edition(dom0)? == "two\n", "it has the old template");
    dom0.sh(&format!("! {pending}"))?;

    let back = dom0.run(&["bulkhead", "rollback", "--yes"])?;
    ensure!(back.code == 0, "{back:?}");
    dom0.sh(pending)?;
    // Nothing that is needed is garbage.
    dom0.sh("bulkhead gc 2>&1")?;
    long(dom0, "bulkhead restart work 2>&1")?;
    ensure!(edition(dom0)? == "one\n", "it has the new template");
    ensure!(
        sh(dom0, "work", "cat ~/mine")? == "mine\n",
        "its data is lost"
    );
    Ok(())
}
