//! Disposables: what they do for one command, and that nothing of them stays.

use anyhow::{Result, ensure};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{TWO_QUBES, apply, both_run, in_qube, system_with};
use super::traces::{note, nothing_else};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "disposable::it_serves_one_command_and_leaves_nothing",
    needs: &[Need::Bulkhead],
    when: When::All,
    from: Start::Prepared(&TWO_QUBES),
    run: it_serves_one_command_and_leaves_nothing,
}];

const QUBES: &str = r#""untrusted": (label: "red", kind: DisposableTemplate),"#;
const RULES: &str = r#""qubes.VMShell * work @dispvm:untrusted allow","#;

fn it_serves_one_command_and_leaves_nothing(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    apply(world, &system_with(QUBES, RULES))?;
    note(world)?;
    let ended = dom0.run(&[
        "sh",
        "-c",
        "printf 'to and fro' | timeout 100 bulkhead run --dispvm untrusted -- \
         'cat; cat /proc/sys/kernel/hostname; echo x >&2; exit 6'",
    ])?;
    ensure!(
        ended.code == 6 && ended.out.starts_with("to and frodisp") && ended.err.contains("x\n"),
        "{ended:?}"
    );
    nothing_else(world)?;
    let ended = in_qube(
        dom0,
        "work",
        "echo 'cat /proc/sys/kernel/hostname; exit 7' | \
         qrexec-client-vm @dispvm:untrusted qubes.VMShell",
    )?;
    ensure!(
        ended.code == 7 && ended.out.starts_with("disp"),
        "{ended:?}"
    );
    nothing_else(world)?;
    both_run(world)
}
